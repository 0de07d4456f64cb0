"""What a value of the site file may be.

Each `Read` takes a TOML value and gives the typed one, or raises ValueError with what is allowed. They are allow-lists, because
every value ends in an nginx file or in a command (reliability.md S1 and S3).
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

# Regular expressions of the site file, matched against what a server says.
#
# RE2 takes time linear in the text. Python's own `re` can be made to run for ever by a body of 40 bytes, and holds everything up
# while it does, a way back too.
# Durations as people write them in the site file: one number and one unit.

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
Read = Callable[[object], T]

MOST = 2**31 - 1


def text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text in quotes")  # noqa: TRY004  (one kind of refusal for every value)
    return value


def truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004  (as above)
    return value


def matching(pattern: str, allowed: str) -> Read[str]:
    """Text that `pattern` matches as a whole."""
    compiled = re.compile(pattern)

    def read(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(allowed)
        return value

    return read


def whole(low: int, high: int = MOST) -> Read[int]:
    """A whole number from `low` to `high`, both included."""

    def read(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return read


def word(words: type[E]) -> Read[E]:
    """One word of a closed set."""

    def read(value: object) -> E:
        if not isinstance(value, str) or value not in tuple(words):
            raise ValueError(f"one of {', '.join(words)}")
        return words(value)

    return read


def seconds(value: object) -> float:
    """A duration, 0 included, as seconds."""
    found = parse_duration(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(ALLOWED)
    return found


def some_seconds(value: object) -> float:
    """A duration over 0, as seconds."""
    found = seconds(value)
    if found <= 0:
        raise ValueError(f"more than 0: {ALLOWED}")
    return found


def regex(value: object) -> str:
    """A pattern that RE2 takes; "" is no pattern."""
    pattern = text(value)
    if pattern:
        try:
            compiled(pattern)
        except ValueError as exc:
            raise ValueError(f"a regular expression as RE2 has them: no lookaround, no backreference ({str(exc)!a})") from exc
    return pattern


def path(value: object) -> str:
    """An absolute path. A slash at its end is cut off, so that one folder has one spelling."""
    plain = _PATH(value).rstrip("/")
    if not set(plain.split("/")[1:]).isdisjoint({"", ".", ".."}):
        raise ValueError(_PATH_SAYS)
    return plain


def path_or(*words: str) -> Read[str]:
    """A path, or one of `words`."""

    def read(value: object) -> str:
        return value if isinstance(value, str) and value in words else path(value)

    return read


_PATH_SAYS = "an absolute path of letters, digits and _ . / @ : + , = - without //, . or .. as a part"
_PATH = matching(r"/[A-Za-z0-9_./@:+,=-]{1,4000}", _PATH_SAYS)

LONGEST = 86_400.0
ALLOWED = "a duration up to 24h: one number and one unit of ms, s, m, h, such as 500ms or 1.5s"

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float | None:
    """Seconds, from 0 to 24 hours; None where `text` is no duration."""
    found = _DURATION.fullmatch(text)
    if not found:
        return None
    seconds = float(found[1]) * _SECONDS[found[2]]
    return seconds if seconds <= LONGEST else None


def compiled(pattern: str) -> Any:
    """A compiled pattern, with `search`. ValueError says what is wrong with it."""
    import re2  # noqa: PLC0415  (only a site that checks bodies needs it)

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options)
    except re2.error as exc:
        why = exc.args[0] if exc.args else exc
        raise ValueError(why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)) from exc

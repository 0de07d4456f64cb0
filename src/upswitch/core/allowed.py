"""What a value of the site file may be.

Each `Read` takes a TOML value and gives the typed one, or raises ValueError with what is allowed. They are allow-lists, because
every value ends in an nginx file or in a command (reliability.md S1 and S3).
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from upswitch.core import duration
from upswitch.core.regex import compiled

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
    found = duration.parse_duration(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(duration.ALLOWED)
    return found


def some_seconds(value: object) -> float:
    """A duration over 0, as seconds."""
    found = seconds(value)
    if found <= 0:
        raise ValueError(f"more than 0: {duration.ALLOWED}")
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

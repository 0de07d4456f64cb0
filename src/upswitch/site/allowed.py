"""What a value of the site file may be.

Each `Read` takes a TOML value and gives the typed one, or raises ValueError with what is allowed. They are allow-lists, because
every value ends in an nginx file or in a command (reliability.md S1 and S3).
"""

import functools
import math
import re
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

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
    """A regular expression that `Pattern` takes; "" for none."""
    pattern = text(value)
    if pattern:
        try:
            compiled(pattern)
        except ValueError as exc:
            raise ValueError(f"a regular expression without lookaround and backreferences ({str(exc)!a})") from exc
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


_MOST_REPEATS = 1000
_REPEATS = re.compile(r"\{(?:[0-9]*,)?([0-9]+)\}")


class Pattern:
    """A regular expression, as Hyperscan takes it. A search needs time linear in the text.

    Python's own `re` can run for ever over a body of 40 bytes, and a rollback would wait for it.
    """

    def __init__(self, pattern: str) -> None:
        """ValueError says what is wrong with the pattern."""
        import hyperscan  # noqa: PLC0415  (17 ms; only a site that checks bodies needs it)

        if (
            math.prod(map(int, _REPEATS.findall(pattern))) > _MOST_REPEATS
        ):  # Hyperscan would need minutes and gigabytes to refuse it
            raise ValueError(f"more than {_MOST_REPEATS} repeats")
        flags = hyperscan.HS_FLAG_UTF8 | hyperscan.HS_FLAG_ALLOWEMPTY | hyperscan.HS_FLAG_SINGLEMATCH
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._scratch = functools.partial(hyperscan.Scratch, self._database)
        try:
            self._database.compile(expressions=[pattern.encode()], ids=[0], elements=1, flags=[flags])
        except hyperscan.error as exc:
            raise ValueError(str(exc)) from exc

    def is_in(self, text: str) -> bool:
        """Whether it matches anywhere in the text. Threads may call it at once."""
        found: list[object] = []
        self._database.scan(text.encode(), match_event_handler=lambda *match: found.append(match), scratch=self._scratch())
        return bool(found)


@functools.lru_cache(maxsize=64)
def compiled(pattern: str) -> Pattern:
    """The pattern, compiled once. ValueError as `Pattern`."""
    return Pattern(pattern)

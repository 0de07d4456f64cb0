"""Reading the site file's tables: each key once, with every problem collected, and what each value may be.

Each `Read` takes a TOML value and gives the typed one, or raises ValueError with what the value must be. They are allow-lists,
because every value ends in an nginx file or in a command (reliability.md, S1 and S3).
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import TypeVar

from upswitch.site.model import Problem

T = TypeVar("T")
D = TypeVar("D")
E = TypeVar("E", bound=StrEnum)
Read = Callable[[object], T]

MOST = 2**31 - 1


_LONGEST_SHOWN = 200
# What a request or a header looks like, even in a wrong place (reliability.md, S10).
_SECRETIVE = re.compile(r"check_http_send|check_fastcgi_param|http/1|authorization|cookie|bearer", re.IGNORECASE)


class Reader:
    """One table. Each key is asked for once, and `close` reports the keys that were not.

    A table and the tables inside it share `problems`. A key with a problem reads as its default, so that reading goes on.
    """

    def __init__(self, table: Mapping[str, object], problems: list[Problem], *, name: str = "", is_secret: bool = False) -> None:
        self._table = table
        self._problems = problems
        self._name = name
        self._known: list[str] = []
        self._secret: set[str] = set()
        self._is_secret = is_secret
        self._inner: list[Reader] = []

    def __contains__(self, key: str) -> bool:
        return key in self._table

    @property
    def rest(self) -> tuple[str, ...]:
        """The keys that were not asked for yet, in the order of the file."""
        return tuple(key for key in self._table if key not in self._known)

    def value(self, key: str) -> object:
        """The value as TOML has it, to choose how it is read."""
        return self._table.get(key)

    def take(self, key: str, default: D, read: Callable[[object], T], *, is_secret: bool = False) -> T | D:
        """The value of `key` as `read` gives it. A secret's value is never shown in a problem (reliability.md I11)."""
        self._known.append(key)
        if is_secret:
            self._secret.add(key)
        if key not in self._table:
            return default
        value = self._table[key]
        try:
            return read(value)
        except ValueError as exc:
            self.refuse(key, "(not shown)" if is_secret else shown(value), str(exc))
            return default

    def each(
        self,
        key: str,
        default: D,
        read: Callable[[object], T],
        *,
        listed: Callable[[object], list[object]] | None = None,
    ) -> tuple[T, ...] | D:
        """A list with each item as `read` gives it, and a problem for every item that it refuses. `listed` reads the list."""
        values = self.take(key, None, listed or some)
        if values is None:
            return default
        items = []
        for value in values:
            try:
                items.append(read(value))
            except ValueError as exc:
                self.refuse(key, shown(value), str(exc))
        return tuple(items)

    def inner(self, key: str) -> "Reader":
        """The table at `key`, or an empty one."""
        table = self.take(key, {}, _tabled)
        self._inner.append(Reader(table, self._problems, name=self.dotted(key)))
        return self._inner[-1]

    def tables(self, key: str, *, most: int) -> "tuple[Reader, ...]":
        """The list of tables at `key`, written as [[key]]. A key that is not known there may hold a secret."""
        listed = self.take(key, [], tables_of(key, most), is_secret=True)
        names = (f"{self.dotted(key)}[{at}]" for at in range(1, len(listed) + 1))
        found = tuple(Reader(each, self._problems, name=name, is_secret=True) for each, name in zip(listed, names, strict=True))
        self._inner += found
        return found

    def refuse(self, key: str, value: str, allowed: str) -> None:
        """Add a problem. `key` "" is the table itself. `allowed` says what is wrong, as in "must be ..."."""
        self._problems.append(Problem(key=self.dotted(key), value=value, allowed=allowed))

    def dotted(self, key: str) -> str:
        """The whole name of a key, quoted where TOML needs it."""
        return ".".join(part for part in (self._name, quoted(key)) if part)

    def is_refused(self, key: str) -> bool:
        """Whether `key` has a problem."""
        return any(problem.key == self.dotted(key) for problem in self._problems)

    def close(self) -> None:
        """Add a problem for each key that was not asked for, here and in every table inside."""
        for key in (key for key in self.rest if not self.is_refused(key)):
            near = get_close_matches(key, self._known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f" (the keys here are {', '.join(self._known)})"
            value = "(not shown)" if self._is_secret or self._secret.intersection(near) else shown(self._table[key])
            self.refuse(key, value, f"there is no such key{hint}")
        for table in self._inner:
            table.close()


def quoted(key: str) -> str:
    """A key as TOML writes it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]*", key) else json.dumps(key)


def some(value: object) -> list[object]:
    """A list of at least one."""
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of at least one")
    return value


def shown(value: object) -> str:
    """A value for people: JSON in plain ASCII, cut at 200 characters. The inside of a table is not shown: it may be secret."""
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    try:
        plain = json.dumps(value, default=str).replace("\x7f", "\\u007f")
    except (ValueError, RecursionError):  # a number of over 4300 digits, an endless nesting
        return "(too long to show)"
    if _SECRETIVE.search(plain):
        return "(not shown: it may hold a secret)"
    return plain if len(plain) <= _LONGEST_SHOWN else f"{plain[:_LONGEST_SHOWN]}..."


# ---- what a value may be ----


def of_kind(kind: type[T], allowed: str) -> Read[T]:
    """Any value of this Python type."""

    def read(value: object) -> T:
        if not isinstance(value, kind):
            raise ValueError(allowed)  # noqa: TRY004  (one kind of refusal for every value)
        return value

    return read


text = of_kind(str, "must be text in quotes")
truth = of_kind(bool, "must be true or false")
any_number: Read[list[object]] = of_kind(list, "must be a list")
_tabled: Read[dict[str, object]] = of_kind(dict, "must be a table")


def tables_of(key: str, most: int) -> Read[list[dict[str, object]]]:
    """A list of tables."""

    def read(value: object) -> list[dict[str, object]]:
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value) or len(value) > most:
            raise ValueError(f"must be tables that begin with [[{key}]], at most {most}")
        return value

    return read


def matching(pattern: str, allowed: str) -> Read[str]:
    """Text that `pattern` matches as a whole. `allowed` is what else it must be."""
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
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return read


def word(words: type[E]) -> Read[E]:
    """One word of a closed set."""

    def read(value: object) -> E:
        if not isinstance(value, str) or value not in tuple(words):
            raise ValueError(f"must be one of {', '.join(words)}")
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
        raise ValueError(f"{ALLOWED}; and more than 0")
    return found


_MOST_REPEATS = 1000
_REPEATS = re.compile(r"\{([0-9]+)(?:,[0-9]*)?\}")


def pattern(value: object) -> str:
    """A regular expression as the package `regex` takes it; "" for none."""
    import regex  # noqa: PLC0415  (40 ms; only a site that checks bodies needs it)

    found = text(value)
    repeats = _REPEATS.findall("".join(found.split()))  # (?x) allows spaces in them
    if math.prod(map(int, repeats)) > _MOST_REPEATS:  # regex unrolls them: a{1000000} takes 270 MB
        raise ValueError(f"must be a regular expression with at most {_MOST_REPEATS} repeats")
    try:
        regex.compile(found)
    except (regex.error, RecursionError) as exc:
        raise ValueError(f"must be a regular expression ({str(exc)!a})") from exc
    return found


def path(value: object) -> str:
    """An absolute path. A slash at its end is cut off, so that one folder has one spelling."""
    plain = _PATH(value).rstrip("/")
    if not set(plain.split("/")[1:]).isdisjoint({"", ".", ".."}):
        raise ValueError(_PATH_SAYS)
    return plain


_PATH_SAYS = "must be an absolute path of letters, digits and _ . / @ : + , = - without //, . or .. as a part"
_PATH = matching(r"/[A-Za-z0-9_./@:+,=-]{1,4000}", _PATH_SAYS)


def path_or(pattern: str, allowed: str = _PATH_SAYS) -> Read[str]:
    """A path, or text that `pattern` matches as a whole."""
    compiled = re.compile(pattern)

    def read(value: object) -> str:
        if isinstance(value, str) and compiled.fullmatch(value):
            return value
        try:
            return path(value)
        except ValueError as exc:
            raise ValueError(allowed) from exc

    return read


LONGEST = 86_400.0
ALLOWED = "must be a duration up to 24h: one number and one unit (ms, s, m or h), such as 500ms or 1.5s"

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float | None:
    """Seconds, from 0 to 24 hours; None where `text` is no duration."""
    found = _DURATION.fullmatch(text)
    if not found:
        return None
    seconds = float(found[1]) * _SECONDS[found[2]]
    return seconds if seconds <= LONGEST else None

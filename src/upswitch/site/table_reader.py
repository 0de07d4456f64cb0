"""Reading one TOML table key by key, with every problem collected instead of the first one raised."""

import json
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from upswitch.site.model import Problem

T = TypeVar("T")
D = TypeVar("D")

_LONGEST_SHOWN = 200
# What a request or a header looks like, wherever it was written by mistake (reliability.md, S10).
_SECRETIVE = re.compile(r"check_http_send|check_fastcgi_param|http/1|authorization|cookie|bearer", re.IGNORECASE)


class Reader:
    """One table. Each key is asked for once; `close` reports those that nobody asked for.

    `problems` is shared by a table and the tables inside it. A key with a problem reads as its default, so that reading goes on.
    """

    def __init__(self, table: Mapping[str, object], problems: list[Problem], *, name: str = "") -> None:
        self._table = table
        self._problems = problems
        self._name = name
        self._known: list[str] = []
        self._secret: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._table

    @property
    def rest(self) -> tuple[str, ...]:
        """The keys that were not asked for so far, in the order of the file."""
        return tuple(key for key in self._table if key not in self._known)

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
        """A list, each item as `read` gives it; a problem for every item that it refuses. `listed` says which lists will do."""
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
        """The table at `key`; an empty one where it is missing."""
        table = self.take(key, {}, _tabled)
        return Reader(table, self._problems, name=self.dotted(key))

    def refuse(self, key: str, value: str, allowed: str) -> None:
        """Add a problem; `key` may be "" for the table itself."""
        self._problems.append(Problem(key=self.dotted(key), value=value, allowed=allowed))

    def dotted(self, key: str) -> str:
        """The whole name of a key, quoted where TOML needs it."""
        bare = key if re.fullmatch(r"[A-Za-z0-9_-]*", key) else json.dumps(key)
        return ".".join(part for part in (self._name, bare) if part)

    def is_refused(self, key: str) -> bool:
        """Has a problem with `key` been found?"""
        return any(problem.key == self.dotted(key) for problem in self._problems)

    def close(self) -> None:
        """A problem for each key that nobody asked for."""
        for key in self.rest:
            near = get_close_matches(key, self._known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            value = "(not shown)" if self._secret.intersection(near) else shown(self._table[key])
            self.refuse(key, value, f"no such key; allowed here: {', '.join(self._known)}{hint}")


def some(value: object) -> list[object]:
    """A list of at least one."""
    if not isinstance(value, list) or not value:
        raise ValueError("a list of at least one")
    return value


def any_number(value: object) -> list[object]:
    """A list, which may be empty."""
    if not isinstance(value, list):
        raise ValueError("a list")  # noqa: TRY004  (one kind of refusal for every value)
    return value


def shown(value: object) -> str:
    """A value for a person: JSON, plain ASCII without control characters, cut at 200 characters. A table's inside may be secret."""
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    try:
        plain = json.dumps(value, default=str).replace("\x7f", "\\u007f")
    except (ValueError, RecursionError):  # a number of over 4300 digits, an endless nesting
        return "(too long to show)"
    if _SECRETIVE.search(plain):
        return "(not shown: it may hold a secret)"
    return plain if len(plain) <= _LONGEST_SHOWN else f"{plain[:_LONGEST_SHOWN]}..."


def _tabled(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("a table")  # noqa: TRY004  (one kind of refusal for every value)
    return value

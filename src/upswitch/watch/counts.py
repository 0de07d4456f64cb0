"""Requests by whose they are: what the watch makes of the entries of a log."""

import re
from collections import Counter
from collections.abc import Iterable

from upswitch.basics.result import Failure
from upswitch.basics.value import Value
from upswitch.logs.entries import EntryCounter, Lines, by_second
from upswitch.logs.line import HISTORY_S, Entry, LineReader
from upswitch.watch.attribution import Attribution, Hit, Whose
from upswitch.watch.rule import History, Second


class Counts(Value):
    """Requests by whose they are. `unread` lines are not of the log's format."""

    new: Second = Second()
    former: Second = Second()
    other: int = 0
    unread: int = 0

    @property
    def lines(self) -> int:
        """All of them, of the format or not."""
        return self.new.total + self.former.total + self.other + self.unread

    def __add__(self, more: "Counts") -> "Counts":
        return Counts(
            new=self.new + more.new,
            former=self.former + more.former,
            other=self.other + more.other,
            unread=self.unread + more.unread,
        )


def counter_for(attribution: Attribution, reader: LineReader, *, is_timed: bool = False) -> EntryCounter:
    """Counts a log whose lines are mostly of the generation (or the pool) that is judged."""
    generation = re.escape(attribution.generation.encode())
    pool = rb"\d+-" + re.escape(attribution.pool.encode()) if attribution.pool else b""
    return EntryCounter(reader, expected=generation or pool, is_timed=is_timed)


def counts_of(lines: Iterable[Lines], attribution: Attribution) -> Counts:
    """Lines of any time: their order does not matter."""
    return judged(((each.entry, each.times) for each in lines), attribution)


def judged(entries: Iterable[tuple[Entry | None, int]], attribution: Attribution) -> Counts:
    """Entries and how often each came; None for lines that are not of the format."""
    hits = Counter[Hit | None]()
    for entry, times in entries:
        hits[attribution.classify(entry) if entry else None] += times
    return Counts(
        new=_second(hits, Whose.NEW),
        former=_second(hits, Whose.FORMER),
        other=hits[Hit(whose=Whose.OTHER)],
        unread=hits[None],
    )


def _second(hits: Counter[Hit | None], whose: Whose) -> Second:
    failed = {failure: hits[Hit(whose=whose, failure=failure)] for failure in Failure}
    return Second(total=sum(failed.values()), gateway=failed[Failure.GATEWAY], hung=failed[Failure.HUNG])


class Timeline:
    """What logs say, by the second in which each line was written, by the host's clock."""

    def __init__(self) -> None:
        self._counts: dict[int, Counts] = {}

    def add(self, lines: Iterable[Lines], attribution: Attribution) -> None:
        """Lines without a time are left out."""
        for at, moment in by_second(lines)[0].items():
            self._counts[at] = self.at(at) + judged(moment.items(), attribution)

    @property
    def seen(self) -> range:
        """From the oldest second that has a line to just after the newest; empty without any."""
        return range(min(self._counts), max(self._counts) + 1) if self._counts else range(0)

    def at(self, second: int) -> Counts:
        """A second without lines is a quiet one."""
        return self._counts.get(second, Counts())

    def history(self) -> History:
        """The last 600 s of them at most."""
        return History(seconds=tuple(self.at(each).new for each in self.seen[-HISTORY_S:]))

"""upswitch.watch.count."""

import re
from collections import Counter
from collections.abc import Iterable

import msgspec

from upswitch.basics.value import Value
from upswitch.hosts.count_program import Alike
from upswitch.logs.clock import HISTORY_S, seconds_of
from upswitch.logs.line import CLIENT_LEFT, Entry, LineReader
from upswitch.logs.walk import Walk, clock_of, plain_entry
from upswitch.watch.attribution import Attribution, Hit, Whose, second
from upswitch.watch.rule import History, Second


class Tally(Value):
    """Lines counted by whose they are. `unread`: not of the format."""

    new: Second = Second()
    former: Second = Second()
    other: int = 0
    unread: int = 0

    @property
    def lines(self) -> int:
        """All of them, of the format or not."""
        return self.new.total + self.former.total + self.other + self.unread

    def __add__(self, more: "Tally") -> "Tally":
        return Tally(
            new=self.new + more.new,
            former=self.former + more.former,
            other=self.other + more.other,
            unread=self.unread + more.unread,
        )


Counted = Counter[tuple[str, Hit | None]]
"""Lines by kind: the format's time, to the second where it can be, "" where it was not asked for; and the hit, None for a line
that is not of the format."""


class Timeline:
    """What logs say, by the second in which each line was written, by the host's clock."""

    def __init__(self) -> None:
        self._hits: dict[int, Counter[Hit | None]] = {}

    def add(self, counted: Counted) -> None:
        for (time, hit), times in counted.items():
            at = seconds_of(time)
            if hit is not None and at is not None:
                self._hits.setdefault(int(at), Counter())[hit] += times

    @property
    def seen(self) -> range:
        """From the oldest second that has a line to just after the newest; empty without any."""
        return range(min(self._hits), max(self._hits) + 1) if self._hits else range(0)

    def at(self, second: int) -> Tally:
        """A second without lines is a quiet one."""
        return tally_of(self._hits.get(second, Counter()))

    def history(self) -> History:
        """The last 600 s of them at most."""
        return History(seconds=tuple(self.at(each).new for each in self.seen[-HISTORY_S:]))


_PLAIN_STATUS = rb"(?!%d)\d{3}" % CLIENT_LEFT
_GENERATION = rb"(?:%s|(?P<upswitch_generation>[\w-]++))"
"""Ours is not captured, which is a sixth faster."""
_MOST_REMEMBERED = 1 << 12


class BlockCounter:
    """Counts blocks of one log for one attribution. Memory is constant; cost about 1 us a line (bench/counting.py)."""

    def __init__(self, reader: LineReader, attribution: Attribution, *, is_timed: bool = False) -> None:
        self._reader = reader
        self._attribution = attribution
        self._is_timed = is_timed
        self._walk = Walk(reader, _wishes(reader, attribution, is_timed=is_timed))
        self._hits: dict[tuple[bytes, ...], Hit] = {}

    def count(self, block: bytes) -> Counted:
        """Whole lines, each with its newline."""
        plain, others = self._walk.over(block)
        counted: Counted = Counter(map(self._read, others))
        for values, times in plain:
            counted[values.pop("time", b"").decode(), self._hit(values)] += times
        return counted

    def count_alike(self, alike: Iterable[Alike]) -> Counted:
        """Lines that were counted on the host."""
        counted: Counted = Counter()
        for each in alike:
            for kind in self.count(each.line):
                counted[kind] += each.times
        return counted

    def tally(self, block: bytes, alike: Iterable[Alike] = ()) -> Tally:
        """The lines of one second (their order does not matter), those that were sent and those that were counted on the host."""
        hits: Counter[Hit | None] = Counter()
        for (_, hit), times in (self.count(block) + self.count_alike(alike)).items():
            hits[hit] += times
        return tally_of(hits)

    def _hit(self, values: dict[str, bytes]) -> Hit:
        key = tuple(values.values())
        if key not in self._hits:
            if len(self._hits) >= _MOST_REMEMBERED:
                self._hits.clear()
            self._hits[key] = self._attribution.classify(_unless_ours(plain_entry(values)))
        return self._hits[key]

    def _read(self, line: bytes) -> tuple[str, Hit | None]:
        entry = self._reader.read(line)
        if entry is None:
            return "", None
        return (entry.time or "") if self._is_timed else "", self._attribution.classify(entry)


def _unless_ours(entry: Entry) -> Entry:
    """_GENERATION captures nothing of our own generation."""
    return msgspec.structs.replace(entry, generation=entry.generation or None)


def tally_of(hits: Counter[Hit | None]) -> Tally:
    """Lines counted by their hits; None: not of the format."""
    return Tally(
        new=_second_of(hits, Whose.NEW),
        former=_second_of(hits, Whose.FORMER),
        other=hits[Hit(whose=Whose.OTHER)],
        unread=hits[None],
    )


def _second_of(hits: Counter[Hit | None], whose: Whose) -> Second:
    return sum((second(hit.failure, times) for hit, times in hits.items() if hit and hit.whose is whose), Second())


def _wishes(reader: LineReader, attribution: Attribution, *, is_timed: bool) -> dict[str, bytes]:
    """What a plain line must have, and what decides about it."""
    wishes = {"status": _PLAIN_STATUS if "upstream_status" in reader.variables else b"(?P<status>%s)" % _PLAIN_STATUS}
    wishes["upstream_status"] = b""
    if attribution.addresses:
        wishes["upstream_addr"] = b""
    if attribution.generation:
        wishes["upswitch_generation"] = _GENERATION % re.escape(attribution.generation.encode())
    elif attribution.pool:
        wishes["upswitch_generation"] = _GENERATION % (rb"\d+-" + re.escape(attribution.pool.encode()))
    return wishes | clock_of(reader) if is_timed else wishes

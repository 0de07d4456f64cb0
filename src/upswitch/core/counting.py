"""Access logs counted at full speed: whole blocks of lines, without looking at the plain ones one by one.

Theory. Nearly every line is plain: its client did not leave. One regular expression walks over a block, captures of plain lines
what decides (addresses, upstream statuses, a generation that is not ours; the time where it is asked for) and of the others the
line itself; what was captured is counted by value and each distinct value classified once. The others are read one by one,
exactly. The block is walked in pieces of 64 KiB (half as fast again as 1 MiB: they stay in the processor's cache). Where the walk
found another number of lines than a piece has newlines, something in it is not of this format, and that piece is read one by one.

What nobody wants is skipped, not looked at: a line of another format with the same literals in the same order may pass here where
LineReader refuses it. A client can't write one: the literals are nginx's.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from upswitch.core.accessline import clock_of
from upswitch.core.attribution import CLIENT_LEFT, Attribution, Hit, Whose, second
from upswitch.core.farcount import Alike
from upswitch.core.logformat import MAX_LINE, Entry, LineReader, newlines
from upswitch.core.rule import Second
from upswitch.core.words import Value

_PLAIN_STATUS = rb"(?!%d)\d{3}" % CLIENT_LEFT
_PIECE = MAX_LINE + 1
_GENERATION = rb"(?:%s|(?P<upswitch_generation>[\w-]++))"
"""Ours is not captured, which is a sixth faster."""
_MOST_REMEMBERED = 1 << 12


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


class Walk:
    """Over blocks of one log, without looking at the plain lines one by one."""

    def __init__(self, reader: LineReader, wishes: Mapping[str, bytes]) -> None:
        """`wishes` as LineReader.blocks takes them: what a plain line must have, and what is captured of it."""
        self._plain = reader.blocks(wishes)
        self._names = tuple(self._plain.groupindex)[:-1]

    def over(self, block: bytes) -> tuple[list[tuple[dict[str, bytes], int]], list[bytes]]:
        """Whole lines, each with its newline. What was captured of plain ones, and how often; the others, without it."""
        walked: Counter[tuple[bytes, ...]] = Counter()
        others: list[bytes] = []
        for piece in pieces(block):
            found = self._plain.findall(piece) if len(piece) <= _PIECE else []
            if len(found) == newlines(piece):
                walked.update(found)
            else:
                others += piece.split(b"\n")[:-1]
        plain: list[tuple[dict[str, bytes], int]] = []
        for (*values, line), times in walked.items():
            if line:
                others += [line[:-1]] * times
            else:
                plain.append((dict(zip(self._names, values, strict=True)), times))
        return plain, others


def pieces(block: bytes) -> Iterator[bytes]:
    """Whole lines, at most _PIECE bytes of them; a line that is longer comes alone."""
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + _PIECE) + 1 or block.index(b"\n", start) + 1
        yield block[start:end]
        start = end


def plain_entry(values: Mapping[str, bytes]) -> Entry:
    """What was not captured is as the expression asked for. All is ASCII but what stands in the place of an address."""
    found = {name: value.decode("ascii", "backslashreplace") for name, value in values.items()}
    return Entry(
        status=int(found.get("status", "0")),
        time=found.get("time"),
        generation=found.get("upswitch_generation"),
        upstream_addr=found.get("upstream_addr"),
        upstream_status=found.get("upstream_status"),
    )


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

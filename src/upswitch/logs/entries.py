"""The one counter of access logs: what lines say, and how many say so. Watch, replay and `diagnose` judge its entries.

Theory. Nearly every line is of a good request: answered once, below 500, and complete. One regular expression walks over a block
and takes of good lines only the server, the generation and, if asked for, the time. A second one takes of the others all that
decides. Where no diagnosis is asked for, the first one takes failed requests too. What was taken is counted by value, and each
distinct value becomes an entry once. A line that fits neither is read alone.

Blocks are walked in pieces of 64 KiB, which stay in the processor's cache: half as fast again as 1 MiB. Where a walk finds another
number of lines than the piece has newlines, something in it is not of the format, and its lines are read one by one. While most
requests fail, the first walk is left out; while most lines are of another format, both are: they would cost the square of a line.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from upswitch.hosts.count_program import Alike
from upswitch.logs.line import MAX_LINE, Entry, LineReader, client_of, newlines, seconds_of
from upswitch.logs.walk import (
    EXACT_TIMES,
    GOOD,
    MOST_REMEMBERED,
    Said,
    Values,
    Walk,
    answered,
    clock_of,
    said_by,
    wishes_of,
)

_PIECE = MAX_LINE + 1
MOST_CLIENTS = 256
"""Clients of failed requests that one block names; beyond them no single one decides."""

SAMPLED = 64
"""Lines of a block whose clients are named though nothing failed: by them the shares of the clients are known."""
_UNREAD: tuple[Said, str] = ((None, "", False), "")
_Told = tuple[Said, str, int, Values]  # what lines say, their client, how many, and what was taken of one; () by client


@dataclass(slots=True)
class Lines:
    """Lines that say the same. `entry` is None where they are not of the format. `time` is to the second, as the log writes it.

    What the first expression took has no more in its entry than what that expression captures.
    """

    entry: Entry | None
    time: str
    times: int = 0
    block: bytes = b""
    values: Sequence[Values] = ((),)
    of: Values = ()

    @property
    def sample(self) -> bytes:
        """The first of them without its newline; b"" where the first expression took them all."""
        return self.block.split(b"\n")[self.values.index(self.of)]


_Found = dict[tuple[int, str], Lines]
Moment = Counter[Entry]
"""The lines of one second (or of several) by what they say."""


class EntryCounter:
    """Counts blocks of one log. Memory is constant; cost about 1 us a line (bench/counting.py)."""

    def __init__(
        self,
        reader: LineReader,
        *,
        expected: bytes = b"",
        is_timed: bool = False,
        is_for_diagnosis: bool = False,
        is_by_client: bool = False,
        others: list[bytes] | None = None,
    ) -> None:
        """`expected` is a regular expression: a good line whose generation fits has none in its entry, which is a sixth faster.

        `is_timed`: lines of good requests have times as well as the others. Without `is_for_diagnosis` the first expression takes
        failed requests too, with no more than the watch's rule needs: during an outage that is twice as fast.

        `is_by_client`: entries of failed requests name their client (MOST_CLIENTS of a block), and so do the first SAMPLED lines.
        `others` gets the lines that are not of the format, each with its newline.
        """
        self._reader = reader
        self._literal = max((part.literal for part in reader.parts), key=len)
        self._foreign = others
        self._is_by_client = is_by_client and reader.has_client
        self._clients: dict[bytes, str] = {}
        self._whose: dict[tuple[int, str], tuple[Entry, Entry]] = {}
        self._is_split = is_for_diagnosis or self._is_by_client
        clock = clock_of(reader)
        generation = rb"(?:%b|(?P<upswitch_generation>[\w-]++))" % expected if expected else b""
        unsaid = "upswitch_generation" if expected else ""
        taken = EXACT_TIMES | {"upstream_addr": b"", "upswitch_generation": generation}
        good = (GOOD if self._is_split else answered(reader)) | taken | (clock if is_timed else {})
        self._good = Walk(reader.blocks(good), unsaid=unsaid)
        self._others = Walk(reader.blocks(wishes_of(reader, is_by_client=self._is_by_client) | clock))
        self._walks: tuple[Walk, ...] = (self._others,)
        if self._is_by_client and not is_for_diagnosis:
            wanted = answered(reader) | taken | clock | {"remote_addr": b""}
            self._walks = (Walk(reader.blocks(wanted), unsaid=unsaid), self._others)
        self._is_outage = self._is_foreign = False

    def count(self, block: bytes, alike: Iterable[Alike] = ()) -> list[Lines]:
        """Whole lines, each with its newline; and lines that were counted on the host."""
        good, found, few = Counter[Values](), _Found(), list[bytes]()
        self._clients.clear()
        sampled, rest = _headed(block, SAMPLED) if self._is_by_client else (b"", block)
        for piece in _pieces(sampled):
            self._count_others(piece, found, is_sampled=True)
        for piece in _pieces(rest):
            is_walked = not (self._is_outage or self._is_foreign or len(piece) > _PIECE)
            others = self._without_good(piece, good) if is_walked else piece
            if len(others) * 2 < len(piece):
                few.append(others)
                continue
            failed, unread = self._count_others(others, found)
            half = newlines(piece) / 2
            self._is_outage, self._is_foreign = self._is_split and failed > half, unread > half
        for others in _pieces(b"".join(few)):
            self._count_others(others, found)
        for each in alike:
            said, client = self._read(each.line[:-1])
            _add(found, self._of_client(said, client), each.times).block = each.line
        for values, times in good.items():
            _add(found, self._good.said(values), times)
        return list(found.values())

    def _without_good(self, piece: bytes, good: Counter[Values]) -> bytes:
        """Counts the lines of good requests, and gives the others."""
        values = self._good.over(piece)
        if values is None:
            return piece
        good.update(values)
        return b"".join([each[-1] * good.pop(each) for each in [*good] if each[-1]])

    def _count_others(self, others: bytes, found: _Found, *, is_sampled: bool = False) -> tuple[int, int]:
        """How many of them are not of good requests, and how many are not of the format."""
        failed = unread = 0
        for walk in self._walks:
            values = None if self._is_foreign or len(others) > _PIECE else walk.over(others)
            if values is None and walk is not self._others:
                continue
            values = values or [(line + b"\n",) for line in others.split(b"\n")[:-1]]
            block, others = others, b"".join([each[-1] for each in values if each[-1]]) if walk is not self._others else b""
            for said, client, times, of in self._told(walk, values):
                lines = _add(found, self._of_client(said, client if is_sampled or not said[-1] else ""), times)
                if of and not lines.block:
                    lines.block, lines.values, lines.of = block, values, of
                failed += 0 if said[-1] else times
                unread += times if said[0] is None else 0
            if not others:
                break
        return failed, unread

    def _told(self, walk: Walk, values: Sequence[Values]) -> Iterator[_Told]:
        """What the lines say that a walk matched, by client where that is wanted; else in their order. The last walk reads all."""
        is_last = walk is self._others
        if walk.client_at < 0:
            for each, times in Counter(values).items():
                if not each[-1]:
                    yield walk.said(each), "", times, each
                elif is_last:
                    yield self._read_alone(each, times)
            return
        matched = [each for each in values if not each[-1]]
        addresses = [each[walk.client_at] for each in matched]
        for address in dict.fromkeys(addresses):
            self._named(address)
        names = map(self._clients.get, addresses)
        for (kind, client), times in Counter(zip(map(walk.without_client, matched), names, strict=True)).items():
            yield walk.said((*kind[: walk.client_at], b"", *kind[walk.client_at :])), client or "", times, ()
        for each, times in Counter(each for each in values if is_last and each[-1]).items():
            yield self._read_alone(each, times)

    def _read_alone(self, line: Values, times: int) -> _Told:
        """What a line says that no walk matched."""
        said, client = self._read(line[-1][:-1])
        if said[0] is None and self._foreign is not None:
            self._foreign.append(line[-1] * times)
        return said, client, times, line

    def _named(self, address: bytes) -> str:
        """A client; "" for those beyond MOST_CLIENTS."""
        name = self._clients.get(address)
        if name is None and len(self._clients) < MOST_CLIENTS:
            self._clients[address] = name = client_of(address)
        return name or ""

    def _of_client(self, said: Said, client: str) -> Said:
        """The entry with its client; always the same object for the same two."""
        entry, time, is_good = said
        if entry is None or not client:
            return said
        if len(self._whose) >= MOST_REMEMBERED:
            self._whose.clear()
        whose = self._whose.get((id(entry), client))
        if whose is None or whose[0] is not entry:  # the number may be another entry's by now
            whose = self._whose[id(entry), client] = entry, replace(entry, client=client)
        return whose[1], time, is_good

    def _read(self, line: bytes) -> tuple[Said, str]:
        """What a line says, and its client where that is wanted: the same whatever lines stand beside it."""
        if self._literal not in line:  # nearly all lines of another format
            return _UNREAD
        entry = self._reader.read(line)
        if entry is None:
            return self._walked(line) if len(line) <= MAX_LINE else _UNREAD
        return said_by(entry), self._named(entry.client.encode()) if self._is_by_client and entry.client else ""

    def _walked(self, line: bytes) -> tuple[Said, str]:
        """A line that only one of the two expressions takes, which look at less."""
        for walk in (*reversed(self._walks), self._good):
            values = walk.over(line + b"\n") or []
            if values and not values[0][-1]:
                at = walk.client_at
                return walk.said(values[0]), self._named(values[0][at]) if self._is_by_client and at >= 0 else ""
        return _UNREAD


def _headed(block: bytes, most: int) -> tuple[bytes, bytes]:
    """The first lines of a block, so many at most, and the rest."""
    end = 0
    for _ in range(most):
        end = block.find(b"\n", end) + 1 or end
    return block[:end], block[end:]


def _add(found: _Found, said: Said, times: int) -> Lines:
    entry, time, _ = said
    lines = found.get((id(entry), time))
    if lines is None:
        found[id(entry), time] = lines = Lines(entry, time)
    lines.times += times
    return lines


def by_second(lines: Iterable[Lines]) -> tuple[dict[int, Moment], int]:
    """By Unix time; and how many lines are not of the format, or have no time."""
    counted, unread = dict[int, Moment](), 0
    for each in lines:
        at = seconds_of(each.time)
        if each.entry is None or at is None:
            unread += each.times
        else:
            counted.setdefault(int(at), Counter())[each.entry] += each.times
    return counted, unread


def _pieces(block: bytes) -> Iterator[bytes]:
    """Whole lines, at most _PIECE bytes of them; a line that is longer comes alone."""
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + _PIECE) + 1 or block.index(b"\n", start) + 1
        yield block[start:end]
        start = end

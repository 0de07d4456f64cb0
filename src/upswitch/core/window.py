"""What access logs said around a switch, second by second, kept as what their lines say instead of as whose they are.

Whose a line is can only be told when it is known which pool took over, and when: of a log from elsewhere that comes out of the log
itself. So lines are counted by all that decides about them (generation, addresses, statuses, whether the client hung), which is a
few hundred different ones a second at most, however busy the site; and only the seconds that may still matter are kept.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import msgspec

from upswitch.core.attribution import CLIENT_LEFT, HUNG_S, Attribution, Hit
from upswitch.core.counting import Tally, tally_of
from upswitch.core.history import seconds_of
from upswitch.core.logformat import MAX_LINE, Entry, LineReader, newlines
from upswitch.core.rule import HISTORY_S

LATE_S = 5
"""Seconds by which a line may stand behind its time."""

_TIMES = {"msec": rb"(?P<msec>\d{1,20})\.\d{3}", "time_iso8601": b"", "time_local": b""}
_DECIDING = ("upstream_status", "upstream_addr", "upswitch_generation")
_PIECE = MAX_LINE + 1
_NOT_LEFT = rb"(?P<status>(?!%d)\d{3})" % CLIENT_LEFT

Moment = Counter[Entry]
"""The lines of one second (or of more) by what they say; without times."""


class EntryCounter:
    """Counts blocks of one log by second and by what lines say. About 1 us a line."""

    def __init__(self, reader: LineReader) -> None:
        self._reader = reader
        time = next((name for name in _TIMES if name in reader.variables), "")
        wishes = dict.fromkeys(_DECIDING, b"") | {"status": _NOT_LEFT} | ({time: _TIMES[time]} if time else {})
        self._plain = reader.blocks(wishes)
        self.unread = 0

    def count(self, block: bytes) -> dict[int, Moment]:
        """Whole lines, each with its newline. `unread` grows by those that are not of the format, or have no time."""
        return self._by_second(chain.from_iterable(map(self._piece, _pieces(block))))

    def _piece(self, piece: bytes) -> Iterable[tuple[Entry | None, int]]:
        """Walked over at once, or line by line where something in it is not of the format (counting.py has the theory)."""
        found = self._plain.findall(piece) if len(piece) <= _PIECE else []
        if len(found) != newlines(piece):
            return [(self._read(line), 1) for line in piece.split(b"\n")[:-1]]
        return [(self._entry(values), times) for values, times in Counter(found).items()]

    def _by_second(self, entries: Iterable[tuple[Entry | None, int]]) -> dict[int, Moment]:
        counted: dict[int, Moment] = {}
        for entry, times in entries:
            at = seconds_of(entry.time) if entry and entry.time else None
            if entry is None or at is None:
                self.unread += times
            else:
                counted.setdefault(int(at), Counter())[msgspec.structs.replace(entry, time=None)] += times
        return counted

    def _entry(self, values: tuple[bytes, ...]) -> Entry | None:
        """A plain line's. Everything in it is ASCII but what stands in the place of an address."""
        found = dict(zip(self._plain.groupindex, values, strict=True))
        if line := found.pop("line"):
            return self._read(line[:-1])
        texts = {name: value.decode("ascii", "backslashreplace") for name, value in found.items()}
        return Entry(
            status=int(texts.get("status", "0")),
            time=texts.get("msec") or texts.get("time_iso8601") or texts.get("time_local"),
            generation=texts.get("upswitch_generation"),
            upstream_addr=texts.get("upstream_addr"),
            upstream_status=texts.get("upstream_status"),
        )

    def _read(self, line: bytes) -> Entry | None:
        entry = self._reader.read(line)
        return _rounded(entry) if entry else None


class Window:
    """The seconds that may still matter: ten minutes and the watch around `at`; while that is sought, the last ten minutes.

    `oldest` and `newest` are of all lines, kept or not; None without any.
    """

    def __init__(self, duration: int, *, at: int | None, begins: Callable[[Moment], bool]) -> None:
        """`begins` says of the lines of one second, in their order and after the first one, whether the switch is in it."""
        self.at = at
        self.oldest: int | None = None
        self.newest: int | None = None
        self._duration = duration
        self._begins = begins
        self._seconds: dict[int, list[tuple[int, Moment]]] = {}
        self._looked = 0

    @property
    def since(self) -> int:
        """Nothing before it matters; 0 while that is not known."""
        return max(0, self.at - HISTORY_S) if self.at is not None else 0

    @property
    def until(self) -> int | None:
        return None if self.at is None else self.at + self._duration

    def add(self, source: int, counted: dict[int, Moment]) -> None:
        """What the source of this number said. Lines may come late, but not after `settle` went beyond them."""
        for second, moment in counted.items():
            self.oldest = second if self.oldest is None else min(self.oldest, second)
            self.newest = second if self.newest is None else max(self.newest, second)
            if self.since <= second < (self.until or second + 1):
                self._seconds.setdefault(second, []).append((source, moment))

    def settle(self, upto: int) -> bool:
        """All lines before `upto` have come. True: nothing that matters can come any more."""
        if self.at is None:
            self._seek(upto)
        return self.until is not None and upto >= self.until

    def _seek(self, upto: int) -> None:
        for second in sorted(each for each in self._seconds if self._looked < each < upto):
            self._looked = second
            if self._begins(self.moment(range(second, second + 1))):
                self.at = second
                break
        kept = range(self.since or upto - HISTORY_S, self.until or 1 << 40)
        self._seconds = {each: found for each, found in self._seconds.items() if each in kept}

    def moment(self, seconds: range) -> Moment:
        """All lines of these seconds as one."""
        found: Moment = Counter()
        for _, _, moment in self._of(seconds):
            found.update(moment)
        return found

    def tallies(self, seconds: range, whose: Callable[[int], Attribution]) -> Iterator[Tally]:
        """Second by second; `whose` is by the number of the source. A second without lines is a quiet one."""
        for second in seconds:
            yield sum((_tally(moment, whose(source)) for _, source, moment in self._of(range(second, second + 1))), Tally())

    def _of(self, seconds: range) -> Iterator[tuple[int, int, Moment]]:
        for second in seconds if len(seconds) < len(self._seconds) else sorted(set(seconds) & self._seconds.keys()):
            for source, moment in self._seconds.get(second, ()):
                yield second, source, moment


def _pieces(block: bytes) -> Iterator[bytes]:
    """Whole lines, at most _PIECE bytes of them: the walk over lines of another format costs the square of it."""
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + _PIECE) + 1 or block.index(b"\n", start) + 1
        yield block[start:end]
        start = end


def _tally(moment: Moment, attribution: Attribution) -> Tally:
    hits = Counter[Hit | None]()
    for entry, times in moment.items():
        hits[attribution.classify(entry)] += times
    return tally_of(hits)


def _rounded(entry: Entry) -> Entry:
    """Only whether the client hung matters of its times: else every line would be a kind of its own."""
    if entry.request_time is None:
        return entry
    header = re.sub(r"\d+\.\d+", "0", entry.upstream_header_time) if entry.upstream_header_time else entry.upstream_header_time
    request_time = HUNG_S if entry.request_time >= HUNG_S else 0.0
    is_left = entry.status == CLIENT_LEFT
    return msgspec.structs.replace(
        entry, request_time=request_time if is_left else None, upstream_header_time=header if is_left else None
    )

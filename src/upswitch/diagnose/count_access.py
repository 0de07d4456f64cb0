"""Access logs counted for `diagnose`, at full speed: whole blocks of lines, without looking at those of good requests.

Theory. Blocks are walked in pieces of 64 KiB (counting.py). One regular expression finds the lines of good requests: a status
below 500 that is not 499, at most one server asked, its answer good, the answer complete. Of these only server and time are
counted. Over the others goes a second one, which takes what decides (trouble.py); that is counted by value, and each distinct
value judged once. In an outage, where most requests failed, the second one alone is faster. Where a walk found another number of
lines than there are newlines, or a line did not fit, lines are read one by one, exactly.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from upswitch.basics.value import Value
from upswitch.diagnose.access_patterns import GOOD, TABLES, Exhibit, Found, lines_of, reduced, wishes_of
from upswitch.diagnose.what_went_wrong import DECIDING, Trouble, Wrong, asked, troubles
from upswitch.logs.clock import ALWAYS, seconds_of
from upswitch.logs.format_regex import exact_pattern
from upswitch.logs.kept_lines import MOST_KEPT, OTHERS
from upswitch.logs.line import MAX_LINE, LineReader, newlines
from upswitch.logs.walk import clock_of, pieces

_RACES = "without $upstream_connect_time, $upstream_bytes_sent and the method keep-alive races are not told from other failures"
_LIMITS = {
    "status": "without $status what nginx answered itself is not seen",
    "upstream_status": "without $upstream_status failures that a retry or error_page hid are not seen",
    "upstream_addr": "without $upstream_addr it is not seen which server failed",
    "upstream_header_time": "without $upstream_header_time a 502 of the app is only told from one of nginx by the error log",
    "request_time": "without $request_time clients that left a hanging server are not seen",
    "request_completion": "without $request_completion answers cut short are not seen",
    "time": "without $time_local, $time_iso8601 or $msec no times are told",
}
_MOST_REMEMBERED = 1 << 12
_FAILED = re.compile(rb"[05]\d\d")
_Source = tuple[bytes, list[Found]]  # lines, and the values of each

ALL = frozenset(DECIDING) | {"time"}
"""What is looked at: `request` stands for the method too, `time` for any variable that has one."""


class AccessCount(Value):
    """Requests (OURS, ANSWERED, EITHER: attempts) with which the same went wrong at one server.

    `first` and `last` are times as the log writes them, in its order, "" where it has none. `server` may be OTHERS. `evidence` is
    the first line seen, escaped and cut, without values that may be secrets.
    """

    wrong: Wrong
    server: str
    status: int
    is_last: bool
    count: int
    first: str
    last: str
    evidence: str


class Access(Value):
    """What access logs said in the span. `unread` lines are not of the format. `variables`: those of ALL that every format has.

    `failed` requests have a status of 500 and more, or none of HTTP at all (000, 009). `peers`: attempts by the address asked (of
    "no live upstreams" an upstream's name).
    """

    counts: tuple[AccessCount, ...] = ()
    requests: int = 0
    failed: int = 0
    peers: Mapping[str, int] = msgspec.field(default_factory=dict)
    unread: int = 0
    variables: frozenset[str] = ALL

    def __add__(self, more: "Access") -> "Access":
        """Of two logs."""
        return Access(
            counts=self.counts + more.counts,
            requests=self.requests + more.requests,
            failed=self.failed + more.failed,
            peers=Counter(self.peers) + Counter(more.peers),
            unread=self.unread + more.unread,
            variables=self.variables & more.variables,
        )

    @property
    def limits(self) -> tuple[str, ...]:
        """What can't be told from these logs, a clause each."""
        races = () if self.tells_races else (_RACES,)
        return (*(limit for name, limit in _LIMITS.items() if name not in self.variables), *races)

    @property
    def tells_attempts(self) -> bool:
        """Whether failed attempts at each server are seen."""
        return {"upstream_status", "upstream_addr"} <= self.variables

    @property
    def tells_races(self) -> bool:
        return {"upstream_connect_time", "upstream_bytes_sent", "request"} <= self.variables


@dataclass
class _Count:
    """A count that grows."""

    first: bytes
    evidence: str
    last: bytes = b""
    count: int = 0


@dataclass
class _Alike:
    """Lines that fared alike: where their troubles are counted, whom they asked, and whether the client's status is a failure."""

    kept: tuple[_Count, ...]
    peers: tuple[str, ...]
    is_failed: bool


class AccessCounter:
    """Counts blocks of access logs of one format, the oldest first. Memory is bounded; cost: bench/diagnose.py."""

    def __init__(self, reader: LineReader, *, span: range = ALWAYS) -> None:
        """Only lines of these seconds since 1970 count; with another span than ALWAYS a line without a time does not."""
        self._span = span
        self._exhibit = Exhibit(reader)
        clock = clock_of(reader)
        self._good = reader.blocks(GOOD if span == ALWAYS else GOOD | clock)
        self._deciding = reader.blocks(wishes_of(reader) | clock)
        self._names = tuple(self._deciding.groupindex)
        self._exact = re.compile(exact_pattern(reader.parts, reader.escape, {*self._names, *clock}), re.DOTALL)
        self._variables = ALL.intersection(self._names) | ({"request"} if "request_method" in self._names else set())
        self._time = self._names.index("time") if "time" in self._names else -1
        self._good_names = tuple(self._good.groupindex)
        self._tables = [TABLES.get(name) for name in self._names]
        self._known: dict[Found, _Alike] = {}
        self._known_times: dict[bytes, bool] = {}
        self._counts: dict[Trouble, _Count] = {}
        self._peers = Counter[str]()
        self._requests = self._failed = self._unread = self._hurt = 0
        self._is_outage = self._is_foreign = False

    def count(self, block: bytes) -> None:
        """Whole lines, each with its newline."""
        for piece in pieces(block):
            self._count(piece)

    def _count(self, piece: bytes) -> None:
        """A walk over lines of another format costs the square of their length: after a piece of such they are read one by one."""
        hurt, unread = self._hurt, self._unread
        if self._is_foreign or len(piece) > MAX_LINE:
            self._read_each(lines_of(piece))
        else:
            self._judge(piece if self._is_outage else self._others(piece))
        half = newlines(piece) / 2
        self._is_outage, self._is_foreign = self._hurt - hurt > half, self._unread - unread > half

    def _judge(self, others: bytes) -> None:
        found: list[Found] = self._deciding.findall(others)
        if len(found) != newlines(others):
            self._read_each(lines_of(others))
            return
        for values, times in Counter(found).items():
            if values[-1]:
                self._read_each([values[-1]] * times)
            else:
                self._add(values, times, (others, found))

    def found(self) -> Access:
        """All so far, the commonest first."""
        counts = tuple(_as_value(trouble, count) for trouble, count in self._counts.items())
        return Access(
            counts=tuple(sorted(counts, key=lambda each: -each.count)),
            requests=self._requests,
            failed=self._failed,
            peers=self._peers,
            unread=self._unread,
            variables=self._variables,
        )

    def _others(self, block: bytes) -> bytes:
        """The lines that are not certainly those of good requests; these are counted."""
        found: list[Found] = self._good.findall(block)
        if len(found) != newlines(block):
            return block
        others: list[bytes] = []
        for values, times in Counter(found).items():
            if values[-1]:
                others += [values[-1]] * times
                continue
            good = dict(zip(self._good_names, values, strict=True))
            if self._is_in_span(good.get("time", b"")):
                self._requests += times
                self._ask(asked(good.get("upstream_addr", b"")), times)
        return b"".join(others)

    def _ask(self, peers: Iterable[str], times: int) -> None:
        for peer in peers:
            if peer in self._peers or len(self._peers) < _MOST_REMEMBERED:
                self._peers[peer] += times

    def _is_in_span(self, time: bytes) -> bool:
        if self._span == ALWAYS:
            return True
        if time not in self._known_times:
            if len(self._known_times) >= _MOST_REMEMBERED:
                self._known_times.clear()
            at = seconds_of(time.decode())
            self._known_times[time] = at is not None and int(at) in self._span
        return self._known_times[time]

    def _read_each(self, lines: list[bytes]) -> None:
        for line in lines:
            match = self._exact.fullmatch(line, 0, len(line) - 1) if len(line) <= MAX_LINE else None
            if match is None:
                self._unread += 1
            else:
                values = reduced(match.groupdict(b""), self._names)
                self._add(values, 1, (line, [values]))

    def _add(self, values: Found, times: int, source: _Source) -> None:
        time = values[self._time] if self._time >= 0 else b""
        if not self._is_in_span(time):
            return
        key = tuple(map(bytes.translate, values, self._tables))
        if key not in self._known:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = self._alike(key, values, source)
        alike = self._known[key]
        self._requests += times
        self._failed += times if alike.is_failed else 0
        self._ask(alike.peers, times)
        self._hurt += times if alike.kept else 0
        for counted in alike.kept:
            counted.count += times
            counted.last = time

    def _alike(self, key: Found, values: Found, source: _Source) -> _Alike:
        found = dict(zip(self._names[:-1], key, strict=False))
        return _Alike(
            kept=tuple(self._kept(trouble, values, source) for trouble in troubles(found)),
            peers=asked(found.get("upstream_addr", b"")),
            is_failed=_FAILED.fullmatch(found.get("status", b"")) is not None,
        )

    def _kept(self, trouble: Trouble, values: Found, source: _Source) -> _Count:
        """Where it is counted."""
        if trouble not in self._counts and len(self._counts) >= MOST_KEPT:
            trouble = replace(trouble, server=OTHERS)
        if trouble not in self._counts:
            lines, found = source
            evidence = self._exhibit.shown(lines_of(lines)[found.index(values)][:-1])
            self._counts[trouble] = _Count(first=values[self._time] if self._time >= 0 else b"", evidence=evidence)
        return self._counts[trouble]


def _as_value(trouble: Trouble, count: _Count) -> AccessCount:
    return AccessCount(
        wrong=trouble.wrong,
        server=trouble.server,
        status=trouble.status,
        is_last=trouble.is_last,
        count=count.count,
        first=count.first.decode(),
        last=count.last.decode(),
        evidence=count.evidence,
    )

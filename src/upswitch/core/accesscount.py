"""Access logs counted for `diagnose`, at full speed: whole blocks of lines, without looking at those of good requests.

Theory. One regular expression walks over a block and finds the lines of good requests: a status below 500 that is not 499, at
most one server asked, its answer good, the answer complete. Over the others goes a second one, which takes what decides
(trouble.py); that is counted by value, and each distinct value judged once. In an outage, where most requests failed, the second
one alone is faster. Where a walk found another number of lines than there are newlines, or a line did not fit, lines are read one
by one, exactly.
"""

import re
from collections import Counter
from dataclasses import dataclass

from msgspec.structs import replace

from upswitch.core.accessline import GOOD, TABLES, Found, clock_of, lines_of, reduced, wishes_of
from upswitch.core.evidence import MOST_KEPT, OTHERS, shown
from upswitch.core.history import ALWAYS, seconds_of
from upswitch.core.logformat import MAX_LINE, LineReader, newlines
from upswitch.core.logshape import exact_pattern
from upswitch.core.trouble import DECIDING, Trouble, Wrong, troubles
from upswitch.core.words import Value

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

ALL = frozenset(DECIDING) | {"time"}
"""What is looked at: `request` stands for the method too, `time` for any variable that has one."""


class AccessCount(Value):
    """Requests (OURS, ANSWERED, EITHER: attempts) with which the same went wrong at one server.

    `first` and `last` are times as the log writes them, in its order, "" where it has none. `server` may be OTHERS. `evidence` is
    the first line seen, escaped and cut.
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
    """What access logs said in the span. `unread` lines are not of the format. `variables`: those of ALL that every format has."""

    counts: tuple[AccessCount, ...] = ()
    requests: int = 0
    unread: int = 0
    variables: frozenset[str] = ALL

    def __add__(self, more: "Access") -> "Access":
        """Of two logs."""
        return Access(
            counts=self.counts + more.counts,
            requests=self.requests + more.requests,
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


class AccessCounter:
    """Counts blocks of access logs of one format, the oldest first. Memory is bounded; cost: bench/diagnose.py."""

    def __init__(self, reader: LineReader, *, span: range = ALWAYS) -> None:
        """Only lines of these seconds since 1970 count; with another span than ALWAYS a line without a time does not."""
        self._span = span
        clock = clock_of(reader)
        self._good = reader.blocks(GOOD if span == ALWAYS else GOOD | clock)
        self._deciding = reader.blocks(wishes_of(reader) | clock)
        self._names = tuple(self._deciding.groupindex)
        self._exact = re.compile(exact_pattern(reader.parts, reader.escape, {*self._names, *clock}), re.DOTALL)
        self._variables = ALL.intersection(self._names) | ({"request"} if "request_method" in self._names else set())
        self._time = self._names.index("time") if "time" in self._names else -1
        self._tables = [TABLES.get(name) for name in self._names]
        self._known: dict[Found, tuple[_Count, ...]] = {}
        self._counts: dict[Trouble, _Count] = {}
        self._requests = self._unread = self._hurt = 0
        self._is_outage = False

    def count(self, block: bytes) -> None:
        """Whole lines, each with its newline."""
        hurt = self._hurt
        others = lines_of(block) if self._is_outage else self._others(block)
        self._judge(others)
        self._is_outage = (self._hurt - hurt) * 2 > newlines(block)

    def _judge(self, others: list[bytes]) -> None:
        found: list[Found] = self._deciding.findall(b"".join(others))
        if len(found) != len(others):
            self._read_each(others)
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
            unread=self._unread,
            variables=self._variables,
        )

    def _others(self, block: bytes) -> list[bytes]:
        """The lines that are not certainly those of good requests; these are counted."""
        found: list[Found] = self._good.findall(block)
        if len(found) != newlines(block):
            return lines_of(block)
        if self._span == ALWAYS:
            others = [line for _, line in found if line]
            self._requests += len(found) - len(others)
            return others
        return self._timed_others(Counter(found))

    def _timed_others(self, found: Counter[Found]) -> list[bytes]:
        others: list[bytes] = []
        for (time, line), times in found.items():
            if line:
                others += [line] * times
            elif self._is_in_span(time):
                self._requests += times
        return others

    def _is_in_span(self, time: bytes) -> bool:
        at = None if self._span == ALWAYS else seconds_of(time.decode())
        return self._span == ALWAYS or (at is not None and int(at) in self._span)

    def _read_each(self, lines: list[bytes]) -> None:
        for line in lines:
            match = self._exact.fullmatch(line, 0, len(line) - 1) if len(line) <= MAX_LINE else None
            if match is None:
                self._unread += 1
            else:
                values = reduced(match.groupdict(b""), self._names)
                self._add(values, 1, ([line], [values]))

    def _add(self, values: Found, times: int, source: tuple[list[bytes], list[Found]]) -> None:
        """`source` has the lines that the values are of, and the values of each."""
        time = values[self._time] if self._time >= 0 else b""
        if not self._is_in_span(time):
            return
        self._requests += times
        key = tuple(map(bytes.translate, values, self._tables))
        if key not in self._known:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            lines, found = source
            self._known[key] = self._kept(key, time, lines[found.index(values)])
        kept = self._known[key]
        self._hurt += times if kept else 0
        for counted in kept:
            counted.count += times
            counted.last = time

    def _kept(self, key: Found, time: bytes, line: bytes) -> tuple[_Count, ...]:
        """Where the troubles of such lines are counted."""
        kept = []
        for trouble in troubles(dict(zip(self._names[:-1], key, strict=False))):
            is_new = trouble not in self._counts
            known = replace(trouble, server=OTHERS) if is_new and len(self._counts) >= MOST_KEPT else trouble
            kept.append(self._counts.setdefault(known, _Count(first=time, evidence=shown(line[:-1]))))
        return tuple(kept)


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

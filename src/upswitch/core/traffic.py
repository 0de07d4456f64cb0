"""Who was asked, and how clients fared: every request of access logs, counted by server and by status."""

import re
from collections import Counter
from collections.abc import Mapping

import msgspec

from upswitch.core.foreign import printable
from upswitch.core.history import ALWAYS, seconds_of
from upswitch.core.logformat import LineReader, newlines
from upswitch.core.words import Value

_WISHES = {
    "status": b"",
    "upstream_addr": b"",
    "msec": rb"(?P<msec>\d{1,20})\.\d{3}",
    "time_iso8601": b"",
    "time_local": b"",
}
_TIMES = ("msec", "time_iso8601", "time_local")
_BETWEEN = re.compile(r"\s*,\s*|\s+:\s*")
_MOST_PEERS = 1 << 12
_FAILED = re.compile(r"5\d\d|0\d\d")
_Key = tuple[str, str, str]


class Traffic(Value):
    """Requests in the span by the client's status, and attempts by the address asked (of "no live upstreams" an upstream's name).

    `failed`: of 500 and more, or without a status of HTTP at all (000, 009). `peers` is None where the format has no addresses.
    """

    requests: int = 0
    failed: int = 0
    peers: Mapping[str, int] | None = msgspec.field(default_factory=dict)

    def __add__(self, more: "Traffic") -> "Traffic":
        either = self.peers is not None or more.peers is not None
        return Traffic(
            requests=self.requests + more.requests,
            failed=self.failed + more.failed,
            peers=Counter(self.peers or {}) + Counter(more.peers or {}) if either else None,
        )


class TrafficCounter:
    """Counts blocks of one access log. Memory is bounded; cost about 1 us a line."""

    def __init__(self, reader: LineReader, *, span: range = ALWAYS) -> None:
        self._reader = reader
        self._span = span
        self._time = next((each for each in _TIMES if each in reader.variables), "") if span != ALWAYS else ""
        wanted = {"status", "upstream_addr", self._time} & reader.variables
        self._blocks = reader.blocks({name: shape for name, shape in _WISHES.items() if name in wanted})
        self._names = tuple(self._blocks.groupindex)
        self._requests = self._failed = 0
        self._peers: Counter[str] = Counter()

    def count(self, block: bytes) -> None:
        """Whole lines, each with its newline."""
        counted = Counter(self._blocks.findall(block))
        if counted.total() != newlines(block):
            for line in block.split(b"\n")[:-1]:
                self._add(self._read(line), 1)
            return
        for values, times in counted.items():
            self._add(self._key(dict(zip(self._names, values, strict=True))), times)

    def found(self) -> Traffic:
        peers = self._peers if self._reader.has_upstream_addr else None
        return Traffic(requests=self._requests, failed=self._failed, peers=peers)

    def _key(self, values: Mapping[str, bytes]) -> _Key | None:
        """Time, status and addresses; None for a line that is not of the format."""
        if values["line"]:
            return self._read(values["line"])
        time, status, peers = (printable(values.get(name, b"")) for name in (self._time, "status", "upstream_addr"))
        return time, status, peers

    def _read(self, line: bytes) -> _Key | None:
        entry = self._reader.read(line.removesuffix(b"\n"))
        return (entry.time or "", f"{entry.status:03}", entry.upstream_addr or "") if entry else None

    def _add(self, key: _Key | None, times: int) -> None:
        if key is None or not self._is_in_span(key[0]):
            return
        self._requests += times
        self._failed += times if _FAILED.fullmatch(key[1]) else 0
        for peer in _BETWEEN.split(key[2]):
            if peer not in {"", "-"} and (peer in self._peers or len(self._peers) < _MOST_PEERS):
                self._peers[peer] += times

    def _is_in_span(self, time: str) -> bool:
        if self._span == ALWAYS:
            return True
        at = seconds_of(time)
        return at is not None and int(at) in self._span

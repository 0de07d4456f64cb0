"""nginx's error log in a watch: worker deaths, causes, and failures of a pool's servers that no access log shows.

Theory. nginx logs an answer that the server cut short as complete ($request_completion is OK, nginx 1.22.1 and 1.31.3), chunked or
not; and where `access_log` is off, it logs no request at all. But each attempt that it gave up, and each answer that broke off, has
a line in the error log that names the server. The same lines of the ten minutes before say what is usual.

A client can write whole lines into this log (logs/error_line.py). So a line counts only where its process is a worker of this
nginx: a client does not see its number.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from msgspec.structs import replace

from upswitch.basics.errors import HostError
from upswitch.basics.value import Value
from upswitch.diagnose.causes import Cause, catalogue, cause_of
from upswitch.diagnose.count_errors import FROM_SERVERS, Addresses, ErrorCounter, Errors
from upswitch.hosts.host import Ports
from upswitch.logs import error_line, source
from upswitch.logs.error_line import ErrorLine, parse_error
from upswitch.logs.line import HISTORY_S, client_of
from upswitch.logs.since import ErrorTimes, Since, Span, on_host
from upswitch.nginx import processes, running
from upswitch.watch.logs import READ_FOR, Notes, follow, read

_CRASH_WINDOW = 10  # seconds
_LOOP_S = 4  # different seconds
_CUT = 200
"""What clients got where an answer broke off."""

_MOST_LINES = 2000
"""Lines of one second that are looked at for failures of a pool: beyond them more make no difference."""

_MOST_BEFORE = 8 << 20
"""Bytes of the ten minutes before."""

_OF_UPSTREAM = b', upstream: "'
_UPGRADED = "proxying upgraded connection"
_NOWHERE: Addresses = {}


class Faults(Value):
    """Failures of one pool's servers in some time: attempts that nginx gave up, and, by client, answers cut short."""

    gave_up: int = 0
    cut: Mapping[str, int] = {}


NO_FAULTS = Faults()


class Before(Value):
    """The ten minutes before a moment: attempts that were given up, by second; answers cut short, by Unix time and client."""

    gave_up: tuple[int, ...] = ()
    cut: Mapping[int, Mapping[str, int]] = {}


def faults_of(lines: Iterable[bytes], servers: frozenset[str], pids: frozenset[int] = frozenset()) -> Faults:
    """Those at these servers (addresses, names of upstreams), where one of these processes wrote the line; none: any."""
    gave_up, cut = 0, Counter[str]()
    for line in lines:
        parsed = parse_error(line)
        if parsed is None or parsed.is_stream or parsed.upstream not in servers or (pids and parsed.pid not in pids):
            continue
        cause = _cause_of(replace(parsed, pid=0, connection=1, upstream=""))
        if cause is None or cause.is_benign or not cause.is_of_request or parsed.action == _UPGRADED:
            continue
        if cause.status in FROM_SERVERS:
            gave_up += 1
        elif cause.status == _CUT:
            cut[client_of(line.partition(b", client: ")[2].partition(b",")[0])] += 1
    return Faults(gave_up=gave_up, cut=cut)


@lru_cache(maxsize=1 << 10)
def _cause_of(line: ErrorLine) -> Cause | None:
    code = cause_of(line)
    return catalogue().causes[code] if code else None


class ErrorLog:
    """nginx's error log and its workers, second by second."""

    def __init__(
        self, ports: Ports, path: str, master: int, notes: Notes, *, tells_crashes: bool = True, addresses: Addresses = _NOWHERE
    ) -> None:
        """With the `addresses` of upstreams only an upstream's own failures explain its "no live upstreams"."""
        self._host = ports.host
        self._clock = ports.clock
        self._path = path
        self._master = master
        self.notes = notes
        self._follower = follow(ports.host, path, notes) if path else None
        self._tells_crashes = tells_crashes and self._follower is not None
        self._workers: frozenset[tuple[int, int]] = frozenset()
        self._pids: frozenset[int] = frozenset()
        self._deaths: deque[int] = deque(maxlen=_CRASH_WINDOW)
        self._crashes: deque[int] = deque(maxlen=_CRASH_WINDOW)
        self._respawns: deque[int] = deque(maxlen=_CRASH_WINDOW)
        self._counter = ErrorCounter(addresses=addresses)
        self._lines: list[bytes] = []
        self._is_judged = self._follower is not None
        self.has_new = False

    @property
    def crashes(self) -> int:
        """Worker deaths of the last ten seconds: as many as both the log and /proc tell of. The log may be read late.

        Where the log has no such lines (`error_log ... emerg`), /proc tells alone. A reload replaces all workers too, within a
        second or two; so only deaths in several different seconds count.
        """
        if self._tells_crashes:
            return min(sum(self._crashes), sum(self._respawns))
        return sum(self._deaths) if sum(map(bool, self._deaths)) >= _LOOP_S else 0

    def read(self) -> None:
        """All that was written in the second that has just passed."""
        crashes: list[str] = []
        self.has_new = False
        self._lines = []
        until = self._clock.monotonic() + READ_FOR / 2
        while self._follower and (block := read(self._follower, self._path, self.notes)):
            self.has_new = True
            self._counter.count(block)
            if len(self._lines) < _MOST_LINES:
                self._lines += [line for line in block.split(b"\n") if _OF_UPSTREAM in line]
            if b" exited on signal " in block:
                crashes += error_line.crash_lines(block.split(b"\n"), self._master)
            if self._clock.monotonic() >= until:
                self.notes.add(f"{self._path} grows faster than upswitch can read it, so the causes of failures are late.")
                break
        self._crashes.append(len(crashes))
        self._respawns.append(self._respawned())

    @property
    def errors(self) -> Errors | None:
        """All since it was opened, None without a log."""
        return self._counter.found() if self._follower else None

    def faults(self, servers: frozenset[str]) -> Faults:
        """Of these servers, in the second that was read last."""
        if not (self._is_judged and self._lines):
            return NO_FAULTS
        return faults_of(self._lines[:_MOST_LINES], servers, self._pids)

    def before(self, servers: frozenset[str]) -> Before:
        """The same in the last ten minutes. Where that can't be known, lines of later seconds don't count either."""
        found: dict[int, list[bytes]] = {}
        span = Span()
        try:
            if self._is_judged and servers:
                span = on_host(self._host, Since(seconds=HISTORY_S))
                for at, line in self._lines_since(span):
                    found.setdefault(at, []).append(line)
        except HostError as exc:
            self._is_judged = False
            self.notes.add(f"Failures that only {self._path} has don't count: {exc}")
        faults = {at: faults_of(lines, servers) for at, lines in found.items()}
        seconds = range(span.unix or 0, (span.unix or 0) + HISTORY_S)
        return Before(
            gave_up=tuple(faults.get(at, NO_FAULTS).gave_up for at in seconds),
            cut={at: each.cut for at, each in faults.items() if each.cut},
        )

    def _lines_since(self, span: Span) -> Iterator[tuple[int, bytes]]:
        """Lines that name an upstream, each with its Unix time. HostError where they can't be read, or are too many."""
        times = ErrorTimes(span)
        for log in source.with_rotated(self._host, self._path, times):
            bytes_ = log.span(times, most=_MOST_BEFORE)
            if len(bytes_) == _MOST_BEFORE:
                raise HostError(f"read {log.name}", f"its last ten minutes are more than {_MOST_BEFORE >> 20} MiB")
            for block in source.blocks(self._host, log.name, bytes_):
                for line in block.split(b"\n"):
                    if _OF_UPSTREAM in line and (time := times.of(line)) and not times.is_before(time):
                        yield _unix(time, span), line

    def _respawned(self) -> int:
        """Workers that were not there a second ago. nginx writes a client's URI raw, line breaks and all, so what its log says
        of crashes counts only as far as /proc bears it out."""
        try:
            family = running.read_family(self._host, self._master)
        except HostError:
            return 0
        before, self._workers = self._workers, processes.keys(family.workers)
        self._pids = frozenset(pid for pid, _ in before | self._workers)
        self._deaths.append(len(before - self._workers - processes.keys(family.draining)))
        return len(self._workers - before) if before else 0

    def close(self) -> None:
        if self._follower:
            self._follower.close()


def _unix(time: str, span: Span) -> int:
    """Of a time of the error log, which has no zone: by a moment that is known in both ways."""
    return (span.unix or 0) + error_line.clock(time) - error_line.clock(span.words)

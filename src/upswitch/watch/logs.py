"""The access logs of a watch: opened before the swap, then read once a second; and the errors that nginx wrote in those seconds."""

from collections import deque
from collections.abc import Iterator

from upswitch.basics.errors import HostError
from upswitch.basics.value import Value
from upswitch.diagnose.count_access import Access, AccessCounter
from upswitch.diagnose.count_errors import Addresses, ErrorCounter, Errors
from upswitch.hosts.count_program import Alike
from upswitch.hosts.host import CountingFollower, Follower, Host, Ports
from upswitch.logs import coverage, error_line, source
from upswitch.logs.count_on_host import count_program
from upswitch.logs.entries import EntryCounter, Lines
from upswitch.logs.line import LineReader
from upswitch.nginx import processes, running
from upswitch.nginx.conf_logs import AccessLog
from upswitch.watch import attribution, clients
from upswitch.watch.attribution import Attribution, Counts, Mode, Timeline, counter_for, counts_of
from upswitch.watch.clients import Clients
from upswitch.watch.history import History, Second

SHORT_HISTORY = 300  # seconds; under it false rollbacks on bursty sites become likely (design.md)
_READ_FOR = 0.7  # seconds of each second that may go into reading the logs
_CRASH_WINDOW = 10  # seconds
_LOOP_S = 4  # different seconds


_NOWHERE: Addresses = {}


def short_history(seconds: int) -> str:
    return f"There are only {seconds} s of history ({SHORT_HISTORY} are wanted), so normal bursts of failures may look new."


class Notes:
    """What a person should know of how far the watch saw. Each is told once."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def add(self, text: str) -> None:
        self.all += [] if text in self.all else [text]


class _Log(Value):
    path: str
    reader: LineReader
    follower: Follower
    counter: EntryCounter
    failing: AccessCounter
    silent_after: float


class AccessLogs:
    """All access logs of one host that requests to the site's upstreams end in."""

    def __init__(self, ports: Ports, logs: tuple[AccessLog, ...], whose: Attribution, notes: Notes, *, mark: bytes = b"") -> None:
        """`mark` is in the lines of our own requests, b"" where they can't be told."""
        self._ports = ports
        self._mark = mark
        self._attribution = whose
        self._notes = notes
        for gap in (gap for log in coverage.distinct(logs) for gap in coverage.gaps(log)):
            notes.add(gap.what)
        opened = [self._open_one(same) for same in coverage.beside(logs)]
        self._logs = [log for log in opened if log]
        self.silent_after = max((log.silent_after for log in self._logs), default=0.0)
        self.is_behind = False
        self.has_errors = False
        """Set once the error log has new lines: from then on all that comes is counted for the diagnosis, retries too."""

    def _open_one(self, same: tuple[AccessLog, ...]) -> _Log | None:
        """Of logs that have the same requests the best that can be opened."""
        followed = (self._open(log) for log in same if coverage.can_follow(log))
        return next((log for log in followed if log), None)

    def _open(self, log: AccessLog) -> _Log | None:
        follower = _follow(self._ports.host, log.path, self._notes)
        if follower is None:
            return None
        reader = coverage.reader_of(log)
        if isinstance(follower, CountingFollower):
            self._count_there(log.path, reader, follower)
        return _Log(
            path=log.path,
            reader=reader,
            follower=follower,
            counter=counter_for(self._attribution, reader, is_for_diagnosis=True),
            failing=AccessCounter(reader),
            silent_after=coverage.silent_after(log),
        )

    def _count_there(self, path: str, reader: LineReader, follower: CountingFollower) -> None:
        """Ten MB/s from each of fifty hosts are more than a link carries."""
        if program := count_program(reader, mark=self._mark):
            follower.count(program)
        else:
            self._notes.add(f"{path} can't be counted on its host because of its format, so upswitch fetches every line.")

    @property
    def is_any(self) -> bool:
        return bool(self._logs)

    @property
    def mode(self) -> Mode:
        """The worst of them: how well their lines can be attributed."""
        return max((self._attribution.mode(log.reader) for log in self._logs), key=list(Mode).index)

    def history(self) -> tuple[History, Clients]:
        """The ten minutes before now, or as much of them as there is; and their clients."""
        timeline = Timeline()
        for log in self._logs:
            self._add_history(log, timeline)
        found = timeline.history(self._attribution.taken_back)
        left_out = len(timeline.history().seconds) - len(found.seconds)
        if left_out:
            self._notes.add(f"{left_out} s of the history are left out, because a release served then that was taken back.")
        if self._logs and len(found.seconds) < SHORT_HISTORY:
            self._notes.add(short_history(len(found.seconds)))
        known = timeline.clients(self._attribution.taken_back)
        return clients.usual(found, known), clients.merged(known)

    def _add_history(self, log: _Log, timeline: Timeline) -> None:
        before = self._attribution.before(log.reader)
        try:
            for lines in self._history_lines(log, counter_for(before, log.reader, is_timed=True)):
                timeline.add(lines, before)
                if self._ports.interrupts.count:
                    return
        except HostError as exc:
            self._notes.add(f"There is no history: {exc}")

    def _history_lines(self, log: _Log, counter: EntryCounter) -> Iterator[list[Lines]]:
        """Counted where the log lies, if that is far away; else as much as may be fetched."""
        host, is_far = self._ports.host, isinstance(log.follower, CountingFollower)
        program = count_program(log.reader, is_timed=True) if is_far else None
        if program is None:
            most = source.MOST_FAR if is_far else source.MOST
            yield from map(counter.count, source.last_minutes(host, log.path, log.reader, most=most))
            return
        for found in source.counted_minutes(host, log.path, log.reader, program):
            if found.left:
                self._notes.add(f"{found.left} lines of the history of {log.path} could not be counted on its host.")
            yield counter.count(found.lines, found.alike)

    def read(self) -> Counts:
        """All lines that have come. A log that grows faster than it can be read is said to be, once."""
        found = Counts()
        self.is_behind = False
        for log in self._logs:
            until = self._ports.clock.monotonic() + _READ_FOR / len(self._logs)
            while block := _read(log.follower, log.path, self._notes):
                block, own = self._split(block, log.reader)
                found += self._counted(log, log.counter.count(block), Counts()) + Counts(ours=own)
                if self._ports.clock.monotonic() >= until:
                    self._notes.add(f"{log.path} grows faster than upswitch can read it, so the numbers are late.")
                    self.is_behind = True
                    break
            if isinstance(log.follower, CountingFollower):
                found += self._counted_there(log, log.follower.counts(), found)
        return found

    def _split(self, block: bytes, reader: LineReader) -> tuple[bytes, Second]:
        """The lines of clients, and our own requests."""
        if not self._mark or self._mark not in block:
            return block, Second()
        lines = block.splitlines(keepends=True)
        own = (reader.read(line[:-1]) for line in lines if self._mark in line)
        return b"".join(line for line in lines if self._mark not in line), attribution.ours(own, self._attribution)

    def _counted(self, log: _Log, lines: list[Lines], before: Counts) -> Counts:
        """For the rule; and for the diagnosis where something failed in them, or `before` them in this second."""
        counts = counts_of(lines, self._attribution)
        if self.has_errors or (before.new + counts.new).has_failed:
            log.failing.add(lines)
        return counts

    def _counted_there(self, log: _Log, alike: tuple[Alike, ...], sent: Counts) -> Counts:
        """What was counted on the host. The lines of failed requests were sent whole, unless there were too many."""
        good, failed = ([each for each in alike if each.is_good is is_good] for is_good in (True, False))
        if failed:
            self._notes.add(
                f"{log.path} has more failed requests than upswitch fetched. All of them count, but only some are diagnosed."
            )
        counts = counts_of(log.counter.count(b"", failed), self._attribution)
        return counts + self._counted(log, log.counter.count(b"", good), sent + counts)

    @property
    def failing(self) -> Access | None:
        """What the access logs say of the time since something failed; None without a log."""
        return sum((log.failing.found() for log in self._logs), Access()) if self._logs else None

    def close(self) -> None:
        for log in self._logs:
            log.follower.close()


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
        self._notes = notes
        self._follower = _follow(ports.host, path, notes) if path else None
        self._tells_crashes = tells_crashes and self._follower is not None
        self._workers: frozenset[tuple[int, int]] = frozenset()
        self._deaths: deque[int] = deque(maxlen=_CRASH_WINDOW)
        self._crashes: deque[int] = deque(maxlen=_CRASH_WINDOW)
        self._respawns: deque[int] = deque(maxlen=_CRASH_WINDOW)
        self._counter = ErrorCounter(addresses=addresses)
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
        until = self._clock.monotonic() + _READ_FOR / 2
        while self._follower and (block := _read(self._follower, self._path, self._notes)):
            self.has_new = True
            self._counter.count(block)
            if b" exited on signal " in block:
                crashes += error_line.crash_lines(block.split(b"\n"), self._master)
            if self._clock.monotonic() >= until:
                self._notes.add(f"{self._path} grows faster than upswitch can read it, so the causes of failures are late.")
                break
        self._crashes.append(len(crashes))
        self._respawns.append(self._respawned())

    @property
    def errors(self) -> Errors | None:
        """All since it was opened, None without a log."""
        return self._counter.found() if self._follower else None

    def _respawned(self) -> int:
        """Workers that were not there a second ago. nginx writes a client's URI raw, line breaks and all, so what its log says
        of crashes counts only as far as /proc bears it out."""
        try:
            family = running.read_family(self._host, self._master)
        except HostError:
            return 0
        before, self._workers = self._workers, processes.keys(family.workers)
        self._deaths.append(len(before - self._workers - processes.keys(family.draining)))
        return len(self._workers - before) if before else 0

    def close(self) -> None:
        if self._follower:
            self._follower.close()


def _follow(host: Host, path: str, notes: Notes) -> Follower | None:
    """What can't be followed (a device, no right to read it) is told; the watch goes by what is left to see."""
    try:
        return host.follow(path)
    except HostError as exc:
        notes.add(f"{path} can't be followed: {exc.reason}")
        return None


def _read(follower: Follower, path: str, notes: Notes) -> bytes:
    """What can't be read is no sign of the new pool: the watch goes on with what is left to see."""
    try:
        return follower.read()
    except HostError as exc:
        notes.add(f"{path} can't be read any more: {exc.reason}")
        return b""

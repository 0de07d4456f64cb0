"""The access logs of a watch: opened before the swap, then read once a second."""

from collections.abc import Iterator, Mapping

from upswitch.basics.errors import HostError
from upswitch.basics.value import Value
from upswitch.diagnose.count_access import Access, AccessCounter
from upswitch.hosts.count_program import Alike
from upswitch.hosts.host import CountingFollower, Follower, Host, Ports
from upswitch.logs import coverage, source
from upswitch.logs.count_on_host import count_program
from upswitch.logs.entries import EntryCounter, Lines
from upswitch.logs.line import LineReader
from upswitch.nginx.conf_logs import AccessLog
from upswitch.watch import attribution, clients
from upswitch.watch.attribution import Attribution, Counts, Mode, Timeline, counter_for, counts_of
from upswitch.watch.clients import Clients
from upswitch.watch.history import History, Second

SHORT_HISTORY = 300  # seconds; under it false rollbacks on bursty sites become likely (design.md)
READ_FOR = 0.7  # seconds of each second that may go into reading the logs

_NOTHING: Mapping[int, Mapping[str, int]] = {}


def short_history(seconds: int) -> str:
    return f"There are only {seconds} s of history ({SHORT_HISTORY} are wanted), so normal bursts of failures may look new."


_HIDING = {"log_unwatched", "log_buffered", "log_conditional"}


def left_out(seconds: int) -> str:
    return f"{seconds} s of the history are left out, because a release served then that was taken back."


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
        self._all = coverage.distinct(logs)
        for gap in (gap for log in self._all for gap in coverage.gaps(log)):
            notes.add(gap.what)
        self._unopened: list[str] = []
        opened = [self._open_one(same) for same in coverage.beside(logs)]
        self._logs = [log for log in opened if log]
        self.silent_after = max((log.silent_after for log in self._logs), default=0.0)
        self.is_behind = False
        self.has_errors = False
        """Set once the error log has new lines: from then on all that comes is counted for the diagnosis, retries too."""

    def _open_one(self, same: tuple[AccessLog, ...]) -> _Log | None:
        """Of logs that have the same requests the best that can be opened."""
        can_follow = [log for log in same if coverage.can_follow(log)]
        opened = next(filter(None, map(self._open, can_follow)), None)
        self._unopened += [] if opened else [f"{log.followed} can't be followed" for log in can_follow[:1]]
        return opened

    def _open(self, log: AccessLog) -> _Log | None:
        follower = follow(self._ports.host, log.followed, self._notes)
        if follower is None:
            return None
        reader = coverage.reader_of(log)
        if isinstance(follower, CountingFollower):
            self._count_there(log.followed, reader, follower)
        return _Log(
            path=log.followed,
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
    def unseen(self) -> str:
        """Why requests to the upstreams may be in no log that is followed, or not yet, of each place; "" where all are."""
        hiding = (gap.what for log in self._all for gap in coverage.gaps(log) if gap.code in _HIDING)
        return "; ".join((*hiding, *self._unopened))

    @property
    def shared(self) -> str:
        """Logs that can't tell pools apart (LIMITED MODE) and have requests to other upstreams too; "" without any."""
        ours = self._attribution.upstreams
        limited = (log for log in self._logs if self._attribution.mode(log.reader) is Mode.LIMITED)
        paths = {log.path for log in limited}
        others = {log.followed: sorted({*log.upstreams} - ours - {""}) for log in self._all if log.followed in paths}
        told = (f"{path} has requests to {', '.join(each)} too" for path, each in others.items() if each and ours)
        return "; ".join(told)

    @property
    def mode(self) -> Mode:
        """The worst of them: how well their lines can be attributed."""
        return max((self._attribution.mode(log.reader) for log in self._logs), key=list(Mode).index)

    def history(self, cut: Mapping[int, Mapping[str, int]] = _NOTHING) -> tuple[History, Clients]:
        """The ten minutes before now, or as much of them as there is; and their clients. `cut`: answers cut short, by second."""
        timeline = Timeline()
        for log in self._logs:
            self._add_history(log, timeline)
        for at, each in cut.items():
            timeline.add_cut(at, each)
        found = timeline.history(self._attribution.taken_back)
        without = len(timeline.history().seconds) - len(found.seconds)
        if without:
            self._notes.add(left_out(without))
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
            until = self._ports.clock.monotonic() + READ_FOR / len(self._logs)
            while block := read(log.follower, log.path, self._notes):
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


def follow(host: Host, path: str, notes: Notes) -> Follower | None:
    """What can't be followed (a device, no right to read it) is told; the watch goes by what is left to see."""
    try:
        return host.follow(path)
    except HostError as exc:
        notes.add(f"{path} can't be followed: {exc.reason}")
        return None


def read(follower: Follower, path: str, notes: Notes) -> bytes:
    """What can't be read is no sign of the new pool: the watch goes on with what is left to see."""
    try:
        return follower.read()
    except HostError as exc:
        notes.add(f"{path} can't be read any more: {exc.reason}")
        return b""

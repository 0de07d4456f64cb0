"""Records what a watch sees, for the report: it judges nothing, and what it can't read is left out.

How long requests took is read from the ends of an access log, every few seconds, because the counter of the watch does not look at
it: nearly each line has another time (logs/entries.py). So on a busy site a sample counts.
"""

from msgspec.structs import replace

from upswitch.basics.errors import HostError
from upswitch.hosts.host import Ports
from upswitch.hosts.sh import QUICK_S
from upswitch.logs import coverage
from upswitch.logs.line import CLOCKS, Entry, LineReader, seconds_of
from upswitch.nginx.conf_logs import AccessLog
from upswitch.watch.attribution import Attribution, Counts, Mode, Whose
from upswitch.watch.history import Second
from upswitch.watch.probation import Probation
from upswitch.watch.rule import Judgement
from upswitch.watch.seen import BEFORE_S, Seen, Times, answers, segment

_SAMPLE = 1 << 15  # bytes of the log
_BEFORE_EVERY_S = 20  # seconds
_SHORTEST_GAP_S = 0.2
_ALL = "all requests (LIMITED MODE)"


class Recorder:
    """Of one watch on one host. Made just before the logs are opened, which is before the swap."""

    def __init__(self, ports: Ports, pools: tuple[str, str], whose: Attribution, logs: tuple[AccessLog, ...]) -> None:
        """`pools` are the former one and the new one."""
        self._ports = ports
        former, new = pools
        self._former, self._new = (former, new) if former != new else (f"{former} (former servers)", f"{new} (new servers)")
        self._whose = whose
        self._opened = ports.clock.monotonic()
        self._began, self._began_at = self._opened, ""
        self._gap = Counts()
        self._seconds: list[Second] = []
        self._times = Times()  # its seconds begin when the logs were opened
        self._read_to = 0  # Unix time
        found = (log for log in coverage.distinct(logs) if coverage.can_follow(log) and _has_times(coverage.reader_of(log)))
        self._log = next(found, None)
        self._reader = coverage.reader_of(self._log) if self._log else None
        self._ahead = self._host_ahead() if self._log else None
        self._before()

    def begin(self, gap: Counts) -> None:
        """The watch begins. `gap`: the requests since the logs were opened."""
        self._gap = gap
        self._began, self._began_at = self._ports.clock.monotonic(), self._ports.clock.now()

    def second(self, former: Second) -> None:
        """One more second of the watch. `former`: requests to the former pool in it."""
        self._seconds.append(former)

    def sample(self) -> None:
        """How long the last requests took."""
        self._take(self._read(self._size() - _SAMPLE))

    def seen(self, probation: Probation, look: Judgement) -> Seen:
        is_blind, is_limited = probation.is_log_blind, probation.log_mode == Mode.LIMITED
        named = "upswitch's own requests" if is_blind else _ALL if is_limited else self._new
        whole = probation.history.seconds[1:-1]  # the first second and the last one are not
        before = () if is_blind else whole[-BEFORE_S:]
        new = probation.probes if is_blind else _without(probation.seconds, self._gap.new)
        former = () if is_blind else tuple(self._seconds)
        gap_s = max(self._began - self._opened, _SHORTEST_GAP_S)
        gaps = ((named, self._gap.new), (self._former, self._gap.former))
        found = [
            segment(_ALL if is_limited else self._former, before, begin_s=-gap_s - 0.5 - len(before)),
            *(segment(pool, (each,), begin_s=-gap_s, step_s=gap_s) for pool, each in gaps if each.total and not is_blind),
            segment(named, new, begin_s=0),
            segment(self._former, former if any(each.total for each in former) else (), begin_s=0),
        ]
        latency = (replace(each, at_s=round(each.at_s - gap_s)) for each in self._times.latency)
        return Seen(
            began=self._began_at,
            seconds=probation.at_s,
            mode=probation.mode,
            segments=tuple(each for each in found if each.total),
            latency=tuple(each for each in latency if each.at_s >= -gap_s - BEFORE_S),
            rule=probation.words(look),
            answers=answers(look),
        )

    def _host_ahead(self) -> float | None:
        """The host's Unix time less our monotonic clock."""
        ran = self._ports.host.run(("date", "+%s"), deadline=QUICK_S)
        said = ran.out.strip()
        return int(said) - self._ports.clock.monotonic() if ran.exit == 0 and said.isdigit() else None

    def _before(self) -> None:
        """Samples from before the switch, some seconds apart, as far as the last lines show how fast the log grows."""
        end, entries = self._size(), self._read(self._size() - _SAMPLE)
        times = [at for at, _ in entries]
        if times and (took := times[-1] - times[0]) > 0:
            grown = max(_SAMPLE, int(_SAMPLE / took * _BEFORE_EVERY_S))
            starts = range(end - _SAMPLE - grown, max(0, end - _SAMPLE - grown * (BEFORE_S // _BEFORE_EVERY_S)), -grown)
            entries = [*(each for start in reversed(starts) for each in self._read(start)), *entries]
        self._take(entries)

    def _size(self) -> int:
        """Of the log, in bytes."""
        try:
            end = self._ports.host.read(self._log.followed, limit=0) if self._log else None
        except HostError:
            return 0
        return end.size if end else 0

    def _read(self, offset: int) -> list[tuple[float, Entry]]:
        """The entries from about there on, each with its time; _SAMPLE bytes at most."""
        if self._log is None or self._reader is None:
            return []
        try:
            chunk = self._ports.host.read(self._log.followed, offset=max(0, offset), limit=_SAMPLE)
        except HostError:
            return []
        entries = filter(None, map(self._reader.read, chunk.data.split(b"\n")[:-1] if chunk else ()))
        return [(at, each) for each in entries if (at := seconds_of(each.time or "")) is not None]

    def _take(self, entries: list[tuple[float, Entry]]) -> None:
        """Those that are later than the last ones taken: the ends of a quiet log overlap."""
        if self._reader is None or self._ahead is None:
            return
        is_limited, ahead = self._whose.mode(self._reader) is Mode.LIMITED, self._ahead + self._opened
        for at, entry in entries:
            if at >= self._read_to:
                self._add(entry, at - ahead, is_limited=is_limited)
        self._read_to = max([self._read_to, *(int(at) + 1 for at, _ in entries)])

    def _add(self, entry: Entry, at_s: float, *, is_limited: bool) -> None:
        whose = self._whose.classify(entry).whose
        if entry.request_time is not None and whose is not Whose.OTHER:
            pool = _ALL if is_limited else self._former if whose is Whose.FORMER else self._new
            self._times.add(pool, int(at_s // 1), entry.request_time)


def _has_times(reader: LineReader) -> bool:
    return reader.has_request_time and not reader.variables.isdisjoint(CLOCKS)


def _without(seconds: tuple[Second, ...], gap: Second) -> tuple[Second, ...]:
    """The first second of a watch has the requests since the logs were opened too."""
    if not seconds:
        return ()
    first = seconds[0]
    kept = {name: max(0, getattr(first, name) - getattr(gap, name)) for name in first.__struct_fields__}
    return (replace(first, **kept), *seconds[1:])

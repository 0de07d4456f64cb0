"""The watch on a host: what clients got since the switch, once a second, until it can be judged.

Three guards (docs/design.md): the rule over the access log, the gate, which stays armed, and requests of our own
through nginx, which land in the same log. Logs are opened and history is read before the swap, so that "since the switch"
has no gap and what the watch can't see is known before.
"""

from collections import Counter, deque

from upswitch import survey
from upswitch.core import errorlog, gate, history, processes, rule
from upswitch.core.attribution import Attribution, Mode, tally
from upswitch.core.conflogs import AccessLog
from upswitch.core.errors import HostError
from upswitch.core.gate import Probe, Tally, Target
from upswitch.core.logformat import LineReader, compile_format
from upswitch.core.rule import Failure, Final, History, Judgement, Second, Seen
from upswitch.core.site import Site
from upswitch.core.words import Result, SilencePolicy, SpikePolicy, Value
from upswitch.ports import Follower, Host, Ports
from upswitch.pulse import Pulse

_HISTORY_BYTES = 16 << 20
_SHORT_HISTORY = 300  # seconds; under it false rollbacks on bursty sites become likely (design.md)
_THROUGH_EVERY = 0.5
_ASK_FORMER = 3
_READ_FOR = 0.7  # seconds of each second that may go into reading the log
_BLIND_AFTER = 10  # answered probes of ours without one line in the log
_CRASHES, _CRASH_WINDOW = 3, 10  # more worker deaths than this in so many seconds is a crash loop
_REASONS_OF = 60  # seconds of error log that a verdict is explained with


class Sought(Value):
    """What a watch looks for and where."""

    pool: str
    attribution: Attribution
    access_logs: tuple[AccessLog, ...]
    error_log: str
    master: int


class WatchReport(Value):
    """How a watch ended. `final` is `rollback`, or one of rule.Final. `reasons` is the error log of those seconds in a sentence."""

    result: Result
    final: str
    said: str
    pool: str
    seconds: int
    failed: int
    total: int
    mode: str
    judgement: Judgement | None = None
    peers_down: tuple[str, ...] = ()
    reasons: str = ""
    notes: tuple[str, ...] = ()


class _Log(Value):
    path: str
    reader: LineReader
    follower: Follower


class Watcher:
    """One watch. Made before the swap, run after the confirm."""

    def __init__(self, ports: Ports, site: Site, sought: Sought) -> None:
        self._ports = ports
        self._site = site
        self._sought = sought
        self._notes: list[str] = []
        self._logs = [log for each in sought.access_logs if (log := self._open(each)) is not None]
        self._errors = ports.host.follow(sought.error_log) if sought.error_log else None
        self._errors_seen: deque[errorlog.Failures] = deque(maxlen=_REASONS_OF)
        self._workers: frozenset[tuple[int, int]] = frozenset()
        self._crashes: deque[int] = deque(maxlen=_CRASH_WINDOW)
        self._history = self._read_history()
        self._seconds: list[Second] = []
        self._former = 0
        self._backlog = Second()
        self._lines = 0
        self._is_behind = False
        self._probes: list[Second] = []
        self._tallies: tuple[Tally, ...] = ()
        self._through = ports.through(site.watch.probe) if site.watch.probe else None

    # ---- before the swap ----

    def _open(self, log: AccessLog) -> _Log | None:
        if not log.is_file or log.format is None or log.gzip:
            self._notes.append(f"{log.path or 'access_log off'} ({log.file}:{log.line}) can't be watched")
            return None
        reader = compile_format(log.format.text, log.format.escape)
        if self._sought.attribution.mode(reader) is Mode.LIMITED:
            self._notes.append(f"LIMITED MODE: {log.path} has neither $upswitch_generation nor $upstream_addr")
        return _Log(path=log.path, reader=reader, follower=self._ports.host.follow(log.path))

    def _read_history(self) -> History:
        histories = [_history_of(self._ports.host, log, self._sought.attribution) for log in self._logs]
        found = rule.added_histories(histories)
        if self._logs and len(found.seconds) < _SHORT_HISTORY:
            self._notes.append(
                f"only {len(found.seconds)} s of history (want {_SHORT_HISTORY}): bursts that are normal may look new"
            )
        return found

    # ---- the watch ----

    def run(self, tallies: tuple[Tally, ...], old: tuple[Target, ...]) -> WatchReport:
        """Until a failure, a signal, or the end of `watch.duration`."""
        self._tallies = tallies
        self._backlog = self._read_logs()  # the new pool's first requests; what the former one got until now is no sign
        self._former = 0
        clock = self._ports.clock
        targets = [each.target for each in tallies]
        through = self._through
        gate_pulse = Pulse(lambda: self._ports.prober.round(targets), every=self._site.gate.interval, clock=clock)
        through_pulse = Pulse(through.ask, every=_THROUGH_EVERY, clock=clock) if through else None
        try:
            return self._loop(gate_pulse, through_pulse, old)
        finally:
            gate_pulse.stop()
            if through_pulse:
                through_pulse.stop()

    def _loop(self, gate_pulse: Pulse[tuple[Probe, ...]], through: Pulse[Failure] | None, old: tuple[Target, ...]) -> WatchReport:
        clock = self._ports.clock
        began = clock.monotonic()
        while True:
            self._ports.interrupts.sleep(began + len(self._seconds) + 1 - clock.monotonic())
            self._take_second(through.taken() if through else [])
            for probes in gate_pulse.taken():
                self._tallies = tuple(gate.observe(each, probe) for each, probe in zip(self._tallies, probes, strict=True))
            judgement = rule.judge(self._history, self._effective())
            why = self._failure(judgement)
            self._ports.tell("watch", why or self._progress(judgement), is_passing=True)
            if why:
                return self._failed(judgement, why, old)
            if self._ports.interrupts.count:
                return self._report(Result.INTERRUPTED, "interrupted", f"{self._ports.interrupts.name} during the watch", judgement)
            if len(self._seconds) >= self._site.watch.duration:
                return self._ended(judgement)

    def _take_second(self, through: list[Failure]) -> None:
        """Everything that arrived in the second that has just passed."""
        self._seconds.append(self._backlog + self._read_logs())
        self._backlog = Second()
        gateway, hung = through.count(Failure.GATEWAY), through.count(Failure.HUNG)
        self._probes.append(Second(total=len(through), gateway=gateway, hung=hung))
        lines = self._new_lines(self._sought.error_log, self._errors) if self._errors else []
        self._errors_seen.append(errorlog.failures(lines))
        self._crashes.append(min(len(errorlog.crash_lines(lines, self._sought.master)), self._respawned()))

    def _read_logs(self) -> Second:
        """All new lines. A log that grows faster than it can be read is said to be, once."""
        count = Second()
        self._is_behind = False
        until = self._ports.clock.monotonic() + _READ_FOR
        for log in self._logs:
            while lines := self._new_lines(log.path, log.follower):
                counted = tally(lines, log.reader, attribution=self._sought.attribution)
                count += counted.new
                self._former += counted.former
                self._lines += counted.new.total + counted.former + counted.other
                if self._ports.clock.monotonic() >= until:
                    behind = f"{log.path} grows faster than it can be read: what is told is late"
                    self._note(behind)
                    self._is_behind = True
                    break
        return count

    def _new_lines(self, path: str, follower: Follower) -> list[bytes]:
        """What can't be read is no sign of the new pool: the watch goes on with what is left to see."""
        try:
            return follower.lines()
        except HostError as exc:
            self._note(f"{path} can't be read any more: {exc.why}")
            return []

    def _note(self, text: str) -> None:
        self._notes += [] if text in self._notes else [text]

    def _respawned(self) -> int:
        """Workers that were not there a second ago. nginx writes a client's URI raw, line breaks and all, so what its log says
        of crashes counts only as far as /proc bears it out."""
        try:
            family = survey.read_family(self._ports.host, self._sought.master)
        except HostError:
            return 0
        before, self._workers = self._workers, processes.keys(family.workers)
        return len(self._workers - before) if before else 0

    @property
    def _answered(self) -> int:
        return sum(second.total for second in self._probes)

    @property
    def _is_log_blind(self) -> bool:
        """Nothing to follow, or our own requests don't show up in what we follow."""
        return not self._logs or (self._lines == 0 and self._answered >= _BLIND_AFTER)

    def _effective(self) -> list[Second]:
        """What the rule judges: the log, or our own requests where the log is blind."""
        return self._probes if self._is_log_blind else self._seconds

    def _failure(self, judgement: Judgement) -> str:
        """Why the new pool must not stay; "" while it may."""
        if judgement.is_spike:
            return rule.sentence(judgement, len(self._seconds), self._sought.pool)
        down = gate.down(self._tallies)
        if down:
            return f"t+{len(self._seconds)}s ROLLBACK: the gate saw {down[0].text} ({len(down)} of {len(self._tallies)} down)"
        if sum(self._crashes) > _CRASHES:
            return f"t+{len(self._seconds)}s ROLLBACK: {sum(self._crashes)} nginx workers died in {_CRASH_WINDOW} s"
        return ""

    def _failed(self, judgement: Judgement, why: str, old: tuple[Target, ...]) -> WatchReport:
        """Before going back: is there anything to go back to?"""
        if self._site.watch.on_spike is SpikePolicy.HOLD:
            return self._held(why, 'watch.on_spike = "hold"', judgement)
        answers = self._asked(old)
        if not gate.serves(answers):
            dead = "; ".join(each.text for each in answers)
            return self._held(why, f"the former pool is dead too: {dead}", judgement)
        return self._report(Result.FAILED, "rollback", why, judgement)

    def _asked(self, old: tuple[Target, ...]) -> tuple[Tally, ...]:
        """The former pool, asked until it answers, three times at most: one lost packet must not keep a failing release."""
        answers = gate.begin(old)
        for _ in range(_ASK_FORMER):
            answers = tuple(map(gate.observe, answers, self._ports.prober.round(old)))
            if gate.serves(answers):
                break
        return answers

    def _held(self, why: str, because: str, judgement: Judgement) -> WatchReport:
        """What would have been a rollback must not be called one."""
        return self._report(Result.HOLD, "rollback", f"{why.replace('ROLLBACK', 'SPIKE', 1)} | held: {because}", judgement)

    def _ended(self, judgement: Judgement) -> WatchReport:
        seen = Seen(
            has_log=not self._is_log_blind,
            new=sum(second.total for second in self._seconds),
            former=self._former,
            probes=self._answered,
        )
        final = Final.UNPROVEN if self._is_behind else rule.finish(judgement, seen)
        said = f"{final.replace('_', ' ')}: {self._progress(judgement)}"
        match final:
            case Final.KEEP | Final.KEEP_ELEVATED:
                result = Result.OK
            case Final.NOT_SWITCHED:
                result = Result.FAILED
            case Final.UNPROVEN | Final.BLIND:
                result = _ON_SILENCE[self._site.watch.on_silence]
        return self._report(result, final, said, judgement)

    def _progress(self, judgement: Judgement) -> str:
        seconds = self._effective()
        total, failed = sum(each.total for each in seconds), sum(each.gateway + each.hung for each in seconds)
        source = "our own requests" if self._is_log_blind else "requests"
        before = f"before: {judgement.before_failed} of {judgement.before_total} in {judgement.before_s} s"
        return f"t+{len(self._seconds)}s: {failed} of {total} {source} to {self._sought.pool} failed; {before}"

    def _report(self, result: Result, final: str, said: str, judgement: Judgement) -> WatchReport:
        seconds = self._effective()
        reasons = errorlog.reasons(sum(self._errors_seen, start=Counter()))
        return WatchReport(
            result=result,
            final=final,
            said=f"{said} | nginx's error log: {reasons}" if reasons and result is not Result.OK else said,
            pool=self._sought.pool,
            seconds=len(self._seconds),
            failed=sum(each.gateway + each.hung for each in seconds),
            total=sum(each.total for each in seconds),
            mode=self._mode(),
            judgement=judgement,
            peers_down=tuple(each.target.server for each in gate.down(self._tallies)),
            reasons=reasons,
            notes=tuple(self._notes),
        )

    def _mode(self) -> str:
        if self._is_log_blind:
            return "probes" if self._answered else "blind"
        modes = [self._sought.attribution.mode(log.reader) for log in self._logs]
        return max(modes, key=list(Mode).index)

    def close(self) -> None:
        for follower in [log.follower for log in self._logs] + ([self._errors] if self._errors else []):
            follower.close()
        if self._through:
            self._through.close()


_ON_SILENCE = {SilencePolicy.KEEP: Result.OK, SilencePolicy.ROLLBACK: Result.FAILED, SilencePolicy.HOLD: Result.HOLD}


def _history_of(host: Host, log: _Log, attribution: Attribution) -> History:
    """Ten minutes of one log, from its end and, where that is not enough, from the file rotated before it."""
    lines: list[bytes] = []
    for path in (f"{log.path}.1", log.path):
        try:
            end = host.read(path, limit=0)
            start = max(0, end.size - _HISTORY_BYTES) if end else 0
            chunk = host.read(path, offset=start, limit=_HISTORY_BYTES) if end else None
        except HostError:
            continue  # a rotated log that may not be read only shortens the history, and its length is told
        lines += history.whole_lines(chunk.data, is_cut=start > 0) if chunk else []
    return history.count_history(lines, log.reader, attribution=attribution.before(log.reader))

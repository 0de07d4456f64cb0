"""The watch on a host: what clients got since the switch, once a second, until it can be judged.

Three guards (docs/design.md): the rule over the access log, the gate, which stays armed, and requests of our own
through nginx, which land in the same log. Logs are opened and history is read before the swap, so that "since the switch"
has no gap and what the watch can't see is known before.
"""

from upswitch.core import gate, rule, sight
from upswitch.core.attribution import Attribution
from upswitch.core.conflogs import AccessLog
from upswitch.core.diagnosis import diagnose, sentence
from upswitch.core.finding import Finding
from upswitch.core.gate import Probe, Tally, Target
from upswitch.core.known import Known
from upswitch.core.rule import Failure, Final, Judgement, Second, Seen
from upswitch.core.site import Site
from upswitch.core.words import Result, SilencePolicy, SpikePolicy, Value
from upswitch.ports import Ports
from upswitch.pulse import Pulse
from upswitch.watchlogs import AccessLogs, ErrorLog, Notes

_THROUGH_EVERY = 0.5
_ASK_FORMER = 3
_BLIND_AFTER = 10  # answered requests of ours without one line in the logs
_CRASHES = 3  # more worker deaths than this in ten seconds is a crash loop


class Sought(Value):
    """What a watch looks for and where."""

    pool: str
    attribution: Attribution
    access_logs: tuple[AccessLog, ...]
    error_log: str
    master: int
    known: Known = Known()


class WatchReport(Value):
    """How a watch ended. `final` is `rollback`, or one of rule.Final.

    `findings` are the causes that the logs of those seconds tell, worst first, `reasons` the same in a sentence.
    """

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
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


class Watcher:
    """One watch. Made before the swap, run after the confirm."""

    def __init__(self, ports: Ports, site: Site, sought: Sought) -> None:
        self._ports = ports
        self._site = site
        self._sought = sought
        self._notes = Notes()
        self._access = AccessLogs(ports, sought.access_logs, sought.attribution, self._notes)
        self._errors = ErrorLog(ports, sought.error_log, sought.master, self._notes)
        self._history = self._access.history()
        for line in sight.told(sought.access_logs, sought.attribution, probe=site.watch.probe):
            ports.tell("watch", line)
        self._seconds: list[Second] = []
        self._backlog = Second()
        self._former = 0
        self._silent_s = 0
        self._unseen = 0
        self._probes: list[Second] = []
        self._tallies: tuple[Tally, ...] = ()
        self._through = ports.through(site.watch.probe) if site.watch.probe else None

    def run(self, tallies: tuple[Tally, ...], old: tuple[Target, ...]) -> WatchReport:
        """Until a failure, a signal, or the end of `watch.duration`."""
        self._tallies = tallies
        self._backlog = self._access.read().new  # the new pool's first requests; what the former one got until now is no sign
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
        read = self._access.read()
        self._seconds.append(self._backlog + read.new)
        self._backlog = Second()
        self._former += read.former.total
        gateway, hung = through.count(Failure.GATEWAY), through.count(Failure.HUNG)
        self._probes.append(Second(total=len(through), gateway=gateway, hung=hung))
        self._silent_s = 0 if read.new.total else self._silent_s + 1
        self._unseen = 0 if read.new.total else self._unseen + len(through)
        self._errors.read()

    @property
    def _answered(self) -> int:
        return sum(second.total for second in self._probes)

    @property
    def _is_silent(self) -> bool:
        """Our own requests don't show up in what we follow, or not as the new pool's."""
        return self._access.is_any and self._unseen >= _BLIND_AFTER and self._silent_s >= self._access.silent_after

    @property
    def _is_log_blind(self) -> bool:
        return self._is_silent or not self._access.is_any

    def _effective(self) -> list[Second]:
        """What the rule judges: the logs, or our own requests where those are blind."""
        return self._probes if self._is_log_blind else self._seconds

    def _failure(self, judgement: Judgement) -> str:
        """Why the new pool must not stay; "" while it may."""
        if judgement.is_spike:
            return rule.sentence(judgement, len(self._seconds), self._sought.pool)
        down = gate.down(self._tallies)
        if down:
            return f"t+{len(self._seconds)}s ROLLBACK: the gate saw {down[0].text} ({len(down)} of {len(self._tallies)} down)"
        if self._errors.crashes > _CRASHES:
            return f"t+{len(self._seconds)}s ROLLBACK: {self._errors.crashes} nginx workers died in 10 s"
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
            has_log=self._access.is_any,
            is_silent=self._is_silent,
            new=sum(second.total for second in self._seconds),
            former=self._former,
            probes=self._answered,
        )
        final = Final.UNPROVEN if self._access.is_behind else rule.finish(judgement, seen)
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
        silent = f"; none in the log for {self._silent_s} s, though ours are answered" if self._is_silent else ""
        return f"t+{len(self._seconds)}s: {failed} of {total} {source} to {self._sought.pool} failed; {before}{silent}"

    def _report(self, result: Result, final: str, said: str, judgement: Judgement) -> WatchReport:
        seconds = self._effective()
        diagnosis = diagnose(self._errors.errors, self._access.failing, self._sought.known)
        reasons = sentence(diagnosis)
        return WatchReport(
            result=result,
            final=final,
            said=f"{said} | why: {reasons}" if reasons and result is not Result.OK else said,
            pool=self._sought.pool,
            seconds=len(self._seconds),
            failed=sum(each.gateway + each.hung for each in seconds),
            total=sum(each.total for each in seconds),
            mode=self._mode(),
            judgement=judgement,
            peers_down=tuple(each.target.server for each in gate.down(self._tallies)),
            reasons=reasons,
            findings=diagnosis.findings,
            notes=tuple(self._notes.all),
        )

    def _mode(self) -> str:
        if self._is_log_blind:
            return "probes" if self._answered else "blind"
        return self._access.mode

    def close(self) -> None:
        self._access.close()
        self._errors.close()
        if self._through:
            self._through.close()


_ON_SILENCE = {SilencePolicy.KEEP: Result.OK, SilencePolicy.ROLLBACK: Result.FAILED, SilencePolicy.HOLD: Result.HOLD}

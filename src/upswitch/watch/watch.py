"""The watch on a host: what clients got since the switch, once a second, until it can be judged.

Three guards (docs/design.md): the rule over the access log, the gate, which stays armed, and requests of our own
through nginx, which land in the same log. Logs are opened and history is read before the swap, so that "since the switch"
has no gap and what the watch can't see is known before.
"""

from collections.abc import Callable

import msgspec

from upswitch.basics.errors import HostError
from upswitch.basics.result import Failure, Result, Took, Why
from upswitch.basics.value import Value
from upswitch.diagnose.diagnose import about, diagnose, sentence
from upswitch.diagnose.directives import Known
from upswitch.diagnose.finding import Finding
from upswitch.health import gate
from upswitch.health.gate import ServerHealth
from upswitch.hosts.host import Ports
from upswitch.hosts.wait import Pulse
from upswitch.nginx.conf_logs import AccessLog
from upswitch.nginx.running import ask_marker
from upswitch.site.model import Probe, Site, Target
from upswitch.site.words import SilencePolicy, SpikePolicy
from upswitch.watch import attribution
from upswitch.watch.attribution import Attribution
from upswitch.watch.logs import AccessLogs, ErrorLog, Notes
from upswitch.watch.probation import Brought, Failed, Others, Probation
from upswitch.watch.rule import Final, Judgement, Second

THROUGH_EVERY = 0.5
"""Seconds between requests of our own through nginx."""

_ASK_FORMER = 3
_GUARD_EVERY_S = 5
_LOST_S = 3.0  # without the host; its own dead-man waits 15
_DEAF_S = 8.0  # without an answer of nginx itself; a host that fell silent is found out before


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
    details: tuple[str, ...] = ()
    why: Why = Why.NONE
    judgement: Judgement | None = None
    peers_down: tuple[str, ...] = ()
    reasons: str = ""
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


class _Judged(Value):
    """A look, and what it looked at."""

    probation: Probation
    look: Judgement


class Watcher:
    """One watch. Made before the swap, run after the confirm."""

    def __init__(
        self,
        ports: Ports,
        site: Site,
        sought: Sought,
        *,
        others: Others,
        unguarded: Callable[[], str],
        unready: Callable[[], str],
    ) -> None:
        """Both ask the host. `unguarded`: why it would not take itself back any more if we vanished. `unready`: why it could not
        be left as it is now.
        """
        self._ports = ports
        self._others = others
        self._unguarded = unguarded
        self._unready = unready
        self._site = site
        self._sought = sought
        self._notes = Notes()
        self._lost_since: float | None = None
        self._deaf_since: float | None = None
        self._has_passed = False
        self._access = AccessLogs(ports, sought.access_logs, sought.attribution, self._notes)
        ours = sought.attribution
        addresses = dict.fromkeys(ours.upstreams, ours.addresses | ours.former_addresses) if ours.addresses else {}
        self._errors = ErrorLog(ports, sought.error_log, sought.master, self._notes, addresses=addresses)
        self._history = self._access.history()
        for line in attribution.told(sought.access_logs, sought.attribution, probe=site.watch.probe):
            ports.tell("watch", line)
        self._through = ports.through(site.watch.probe) if site.watch.probe else None

    def run(self, tallies: tuple[ServerHealth, ...], old: tuple[Target, ...]) -> WatchReport:
        """Until a failure, a signal, or the end of `watch.duration`."""
        clock, through = self._ports.clock, self._through
        targets = [each.target for each in tallies]
        probation = Probation(
            pool=self._sought.pool,
            history=self._history,
            tallies=tallies,
            log_mode=self._access.mode if self._access.is_any else "",
            silent_after=self._access.silent_after,
        )
        backlog = self._access.read().new  # the new pool's first requests; what the former one got until now is no sign
        gate_pulse = Pulse(lambda: self._ports.prober.round(targets), every=self._site.gate.interval, clock=clock)
        through_pulse = Pulse(through.ask, every=THROUGH_EVERY, clock=clock) if through else None
        began = clock.monotonic()
        try:
            while True:
                self._ports.interrupts.sleep(began + probation.at_s + 1 - clock.monotonic())
                asked = through_pulse.taken() if through_pulse else []
                probation = probation.after(self._brought(gate_pulse.taken(), asked, backlog))
                backlog = Second()
                report = self._looked(probation, old)
                if report:
                    return report
        finally:
            gate_pulse.stop()
            if through_pulse:
                through_pulse.stop()

    def _brought(self, rounds: list[tuple[Probe, ...]], asked: list[Failure], backlog: Second) -> Brought:
        """Everything that arrived in the second that has just passed."""
        self._errors.read()
        self._access.has_errors |= self._errors.has_new
        read = self._access.read()
        return Brought(
            new=backlog + read.new,
            former=read.former.total,
            through=tuple(asked),
            rounds=tuple(rounds),
            crashes=self._errors.crashes,
        )

    def _looked(self, probation: Probation, old: tuple[Target, ...]) -> WatchReport | None:
        """None while it goes on."""
        look = probation.look()
        failed = probation.failure(look)
        if probation.at_s % _GUARD_EVERY_S == 0 and not self._has_passed:
            self._has_guard()
        lost = self._out_of_reach(probation.at_s)
        deaf = self._deaf(probation.at_s)
        if self._has_passed and self._may_end():
            return self._ended(_Judged(probation=probation, look=look), old, is_over=True)  # decided by all
        judged = _Judged(probation=probation, look=look)
        if lost:
            return self._report("rollback", _took(lost), judged)
        failed = failed or deaf
        self._ports.tell("watch", failed.said() if failed else probation.progress(look), is_passing=True)
        if failed:
            return self._failed(judged, failed, old)
        if self._ports.interrupts.count:
            said = f"{self._ports.interrupts.name} during the watch"
            return self._report("interrupted", Took(result=Result.INTERRUPTED, said=said, why=Why.SIGNAL), judged)
        stop = self._others.heard(probation)
        if stop:
            return self._stopped(judged, stop, old)
        return self._ended(judged, old) if probation.at_s >= self._site.watch.duration else None

    def _stopped(self, judged: _Judged, stop: Took, old: tuple[Target, ...]) -> WatchReport:
        """As the whole fleet is."""
        is_held = stop.result is Result.HOLD
        return self._held(stop, "as the other hosts are", judged) if is_held else self._going_back(judged, stop, stop, old)

    def _may_end(self) -> bool:
        """Whether all hosts may. This one must answer now: its silence would be taken for consent, and its dead-man would act."""
        is_there = self._lost_since is None and self._deaf_since is None
        return is_there and self._has_guard() and self._others.passed()

    def _has_guard(self) -> bool:
        """Whether the host answers; told where nothing would take it back if we vanished."""
        try:
            said = self._unguarded()
        except HostError:
            return False  # what follows from it is `_out_of_reach`'s
        if said and said not in self._notes.all:
            self._notes.add(said)
            self._ports.tell("watch", said)
        return True

    def _out_of_reach(self, at_s: int) -> Failed | None:
        """Why this host is not ours to watch any more: cut off for some seconds, or somebody acted in our place."""
        now = self._ports.clock.monotonic()
        try:
            self._ports.lock.beat()
        except HostError as exc:
            self._lost_since = self._lost_since or now
            lost_s = now - self._lost_since
            what = f"the host is out of reach for {lost_s:.0f} s: {exc}"
            return Failed(why=exc.why or Why.CONNECTION_LOST, at_s=at_s, what=what) if lost_s >= _LOST_S else None
        self._lost_since = None
        return None

    def _deaf(self, at_s: int) -> Failed | None:
        """Why nginx itself is what fails: what it does not answer is in no log, so a dead one would look like a quiet site.

        One that has passed must be as a finish wants it, its master too.
        """
        now = self._ports.clock.monotonic()
        try:
            why = self._unready() if self._has_passed else self._unanswered()
        except HostError:  # says nothing of nginx
            why = ""
        self._deaf_since = (self._deaf_since or now) if why else None
        deaf_s = now - (self._deaf_since or now)
        return Failed(why=Why.NO_ANSWER, at_s=at_s, what=f"for {deaf_s:.0f} s {why}") if deaf_s >= _DEAF_S else None

    def _unanswered(self) -> str:
        return "" if ask_marker(self._ports.host, self._site.nginx) is not None else "nginx itself has not answered"

    def _failed(self, judged: _Judged, failed: Failed, old: tuple[Target, ...]) -> WatchReport:
        held = _took(failed, Result.HOLD)
        if self._site.watch.on_spike is SpikePolicy.HOLD:
            return self._held(held, 'watch.on_spike = "hold"', judged)
        return self._going_back(judged, _took(failed), held, old)

    def _going_back(self, judged: _Judged, took: Took, held: Took, old: tuple[Target, ...]) -> WatchReport:
        """Is there anything to go back to?"""
        answers = self._asked(old)
        if not gate.serves(answers):
            dead = "; ".join(each.text for each in answers)
            held = msgspec.structs.replace(held, result=Result.HOLD, why=Why.NO_WAY_BACK)
            return self._held(held, f"the former pool is dead too: {dead}", judged)
        return self._report("rollback", took, judged)

    def _asked(self, old: tuple[Target, ...]) -> tuple[ServerHealth, ...]:
        """The former pool, asked until it answers, three times at most: one lost packet must not keep a failing release."""
        answers = gate.begin(old)
        for _ in range(_ASK_FORMER):
            answers = tuple(map(gate.observe, answers, self._ports.prober.round(old)))
            if gate.serves(answers):
                break
        return answers

    def _held(self, held: Took, because: str, judged: _Judged) -> WatchReport:
        """What would have been a rollback is not called one."""
        return self._report("rollback", msgspec.structs.replace(held, details=(*held.details, f"held: {because}")), judged)

    def _ended(self, judged: _Judged, old: tuple[Target, ...], *, is_over: bool = False) -> WatchReport | None:
        """None where this host would pass, and others are not so far yet. `is_over`: all are."""
        final = Final.UNPROVEN if self._access.is_behind else judged.probation.final(judged.look)
        said, why = f"{final.replace('_', ' ')}: {judged.probation.progress(judged.look)}", Why.NONE
        match final:
            case Final.KEEP | Final.KEEP_ELEVATED:
                result = Result.OK
            case Final.NOT_SWITCHED:
                result, why = Result.FAILED, Why.NOT_SWITCHED
            case Final.UNPROVEN | Final.BLIND:
                result, why = _ON_SILENCE[self._site.watch.on_silence], Why.UNPROVEN
        if result is Result.OK and self._lost_since is not None:
            return None
        has_asked, self._has_passed = self._has_passed, result is Result.OK
        if self._has_passed and not is_over and (has_asked or not self._may_end()):
            return None
        missed = self._others.judged() if self._has_passed else None
        if missed:
            return self._stopped(judged, missed, old)
        return self._report(final, Took(result=result, said=said, why=why if result is not Result.OK else Why.NONE), judged)

    def _report(self, final: str, took: Took, judged: _Judged) -> WatchReport:
        probation, whole = judged.probation, judged.probation.whole
        diagnosis = diagnose(self._errors.errors, self._access.failing, self._sought.known)
        diagnosis = about(diagnosis, self._sought.attribution.servers)
        reasons = sentence(diagnosis)
        return WatchReport(
            result=took.result,
            final=final,
            said=took.said,
            details=(*took.details, f"cause: {reasons}") if reasons and took.result is not Result.OK else took.details,
            why=took.why,
            pool=self._sought.pool,
            seconds=probation.at_s,
            failed=whole.gateway + whole.hung,
            total=whole.total,
            mode=probation.mode,
            judgement=judged.look,
            peers_down=probation.down,
            reasons=reasons,
            findings=diagnosis.findings,
            notes=tuple(self._notes.all),
        )

    def close(self) -> None:
        self._access.close()
        self._errors.close()
        if self._through:
            self._through.close()


def _took(failed: Failed, result: Result = Result.FAILED) -> Took:
    verdict = "SPIKE" if result is Result.HOLD else "ROLLBACK"
    return Took(result=result, said=failed.said(verdict), details=failed.details, why=failed.why)


_ON_SILENCE = {SilencePolicy.KEEP: Result.OK, SilencePolicy.ROLLBACK: Result.FAILED, SilencePolicy.HOLD: Result.HOLD}

"""The watch on a host: what clients got since the switch, once a second, until it can be judged.

Its guards (docs/design.md): the rule over the access log, the gate, which stays armed, our own requests through nginx, judged
beside the log, and requests that don't end (hang.py). Logs are opened and history is read before the swap, so that "since the
switch" has no gap and what the watch can't see is known before. `upswitch watch` (live.py) has the same seconds and PoolWatch.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import msgspec

from upswitch.basics.errors import HostError
from upswitch.basics.result import Failure, Result, Took, Why
from upswitch.basics.value import Value
from upswitch.diagnose.diagnose import Diagnosis, about, diagnose, sentence
from upswitch.diagnose.directives import Known
from upswitch.health.gate import ServerHealth
from upswitch.hosts.host import Ports, Through
from upswitch.hosts.wait import Pulse
from upswitch.nginx.conf_logs import AccessLog
from upswitch.nginx.running import ask_marker
from upswitch.site.model import Probe, SilencePolicy, Site, SpikePolicy
from upswitch.watch import attribution, ending
from upswitch.watch.attribution import Attribution, Counts
from upswitch.watch.clients import merged
from upswitch.watch.ending import Final
from upswitch.watch.error_log import ErrorLog
from upswitch.watch.hang import HangGuard
from upswitch.watch.logs import AccessLogs, Notes
from upswitch.watch.probation import ENDED, Failed, Others, Probation
from upswitch.watch.recorder import Recorder
from upswitch.watch.report import WatchReport
from upswitch.watch.seen import Seen
from upswitch.watch.tried import Tried

_THROUGH_EVERY = 0.5
"""Seconds between requests of our own through nginx."""

_GUARD_EVERY_S = 5
_LOST_S = 3.0  # without the host; its own dead-man waits 15
_DEAF_S = 8.0  # without an answer of nginx itself; a host that fell silent is found out before


def each_second(ports: Ports, throughs: Sequence[Through]) -> Generator[list[Failure], None, None]:
    """Once a second, on time, what our own requests through nginx got. A second that took longer is made up for."""
    pulses = [Pulse(each.ask, every=_THROUGH_EVERY, clock=ports.clock) for each in throughs]
    next_at = ports.clock.monotonic()
    try:
        while True:
            next_at += 1
            ports.interrupts.sleep(next_at - ports.clock.monotonic())
            yield [asked.failure for pulse in pulses for asked in pulse.taken()]
    finally:
        for pulse in pulses:
            pulse.stop()


class PoolWatch:
    """One pool that is watched: its requests, the checks of its servers, and what they came to so far."""

    def __init__(
        self,
        ports: Ports,
        attribution: Attribution,
        logs: tuple[AccessLog, ...],
        errors: ErrorLog,
        *,
        mark: bytes = b"",
        accepts_elevated: bool = False,
    ) -> None:
        """Opens the logs and reads their history. `mark` is in the lines of our own requests, b"" where they can't be told."""
        self.accepts_elevated = accepts_elevated
        self._errors = errors
        self._ports = ports
        self._attribution = attribution
        self._access = AccessLogs(ports, logs, attribution, errors.notes, mark=mark)
        before = errors.before(attribution.former_servers)
        self._gave_up_before = before.gave_up
        self._history, self._known = self._access.history(before.cut if not attribution.ignores_app else {})
        self._gate: Pulse[tuple[Probe, ...]] | None = None
        self.read = self.opened = Counts()

    def begin(self, pool: str, servers: tuple[ServerHealth, ...], *, every: float) -> None:
        """From now on, what another pool got is no sign. `every` is seconds between checks."""
        self.probation = Probation(
            gave_up_before=self._gave_up_before,
            shared=self._access.shared,
            pool=pool,
            history=self._history,
            known=self._known,
            servers=servers,
            log_mode=self._access.mode if self._access.is_any else "",
            silent_after=self._access.silent_after,
        )
        self.look = self.probation.look()
        self.opened = self._access.read()
        self.read = Counts(new=self.opened.new, clients=self.opened.clients)
        targets = [each.target for each in servers]
        self._gate = Pulse(lambda: self._ports.prober.round(targets), every=every, clock=self._ports.clock)

    def second(self, asked: list[Failure], *, is_endless: bool = False) -> Failed | None:
        """Takes all that arrived in the second that has just passed, and says why the pool must not stay.

        `is_endless`: seconds older than ten minutes become history.
        """
        self._errors.read()
        self._access.has_errors |= self._errors.has_new
        backlog = self.read if not self.probation.at_s else Counts()
        faults = self._errors.faults(self._attribution.servers)
        self.read = self._access.read()
        self.read = self.read if self._attribution.ignores_app else self.read.with_cut(faults.cut)
        probation = self.probation.after(
            new=backlog.new + self.read.new,
            former=self.read.former.total,
            through=asked,
            ours=self.read.ours,
            clients=merged((backlog.clients, self.read.clients)),
            gave_up=faults.gave_up,
            rounds=self._gate.taken() if self._gate else [],
            crashes=self._errors.crashes,
        )
        self.probation = probation.aged() if is_endless else probation
        self.look = self.probation.look()
        return self.probation.failure(self.look)

    @property
    def final(self) -> Final:
        """How the watch ends if it ends now without a failure."""
        found = self.probation.final(self.look, accepts_elevated=self.accepts_elevated)
        return Final.UNPROVEN if self._access.is_behind and found in _KEPT else found

    @property
    def is_hidden(self) -> bool:
        """Whether clients' requests prove nothing, and some go to a log that can't be followed. Our own are no proof of theirs."""
        return bool(self._access.unseen) and self.probation.logged.total < ending.PROVING_REQUESTS

    @property
    def unproven(self) -> str:
        """What the watch did not see, where it ends UNPROVEN, BLIND or `is_hidden`."""
        if self._access.is_behind:
            return "the access log grows faster than upswitch can read it"
        seen = self.probation
        new, has_own = seen.logged.total, seen.asked.total > 0
        because = ending.unproven_because(self.final, has_log=bool(seen.log_mode), new=new, seconds=seen.at_s, has_own=has_own)
        return f"{because}: {unseen}" if (unseen := self._access.unseen) else because

    def diagnosis(self, known: Known) -> Diagnosis:
        """What the logs say of this pool's failures. A log that others share too can't say whose its failures are."""
        failing = None if self._access.shared else self._access.failing
        return about(diagnose(self._errors.errors, failing, known), self._attribution.servers)

    def close(self) -> None:
        if self._gate:
            self._gate.stop()
        self._access.close()


class Watched(Value):
    """What a watch of a switch looks at."""

    former_pool: str
    pool: str
    attribution: Attribution
    access_logs: tuple[AccessLog, ...]
    error_log: str
    master: int
    error_gap: str = ""
    tells_crashes: bool = True
    known: Known = Known()
    tried: Tried = Tried()


class Watcher:
    """One watch. Made before the swap, run after the confirm."""

    def __init__(
        self,
        ports: Ports,
        site: Site,
        watched: Watched,
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
        self._watched = watched
        self._notes = Notes()
        self._lost_since: float | None = None
        self._deaf_since: float | None = None
        self._has_passed = False
        ours, mark, accepts = watched.attribution, watched.tried.mark, site.watch.accepts_elevated
        addresses = dict.fromkeys(ours.upstreams, ours.addresses | ours.former_addresses) if ours.addresses else {}
        self._errors = ErrorLog(
            ports, watched.error_log, watched.master, self._notes, tells_crashes=watched.tells_crashes, addresses=addresses
        )
        self._recorder = Recorder(ports, (watched.former_pool, watched.pool), ours, watched.access_logs)
        self._pool = PoolWatch(ports, ours, watched.access_logs, self._errors, mark=mark, accepts_elevated=accepts)
        self._hang = HangGuard(ports.host, ours, watched.master)
        for line in attribution.told(watched.access_logs, ours, asked=watched.tried.asked if site.watch.probe else ()):
            ports.tell("watch", line)
        for line in (*filter(None, (watched.error_gap,)), *watched.tried.told):
            self._notes.add(line)
            ports.tell("watch", line)
        self._throughs = tuple(map(ports.through, watched.tried.asked))

    def run(self, servers: tuple[ServerHealth, ...]) -> WatchReport:
        """Until a failure, a signal, or the end of `watch.duration`."""
        self._pool.begin(self._watched.pool, servers, every=self._site.gate.interval)
        self._recorder.begin(self._pool.opened)
        with closing(each_second(self._ports, self._throughs)) as seconds:
            return next(report for asked in seconds if (report := self._second(self._pool.second(asked))))

    def _second(self, failed: Failed | None) -> WatchReport | None:
        """None while the watch goes on."""
        probation, look = self._pool.probation, self._pool.look
        self._recorder.second(self._pool.read.former)
        if probation.at_s % _GUARD_EVERY_S == 0 and not self._has_passed:
            self._has_guard()
            self._recorder.sample()
        lost = self._out_of_reach(probation.at_s)
        deaf = self._deaf(probation.at_s)
        if self._has_passed and self._may_end():
            return self._ended(is_over=True)  # decided by all
        if lost:
            return self._report("rollback", _took(lost))
        failed = failed or deaf or self._hang.look(probation)
        self._ports.tell("watch", failed.said() if failed else probation.progress(look), is_passing=True)
        if failed:
            return self._failed(failed)
        if self._ports.interrupts.count:
            said = f"{self._ports.interrupts.name} during the watch"
            return self._report("interrupted", Took(result=Result.INTERRUPTED, said=said, why=Why.SIGNAL))
        stop = self._others.heard(probation)
        if stop:
            return self._stopped(stop)
        return self._ended() if probation.at_s >= self._site.watch.duration else None

    def _stopped(self, stop: Took) -> WatchReport:
        """As the whole fleet is."""
        is_held = stop.result is Result.HOLD
        return self._held(stop, "another host of the fleet is held") if is_held else self._report("rollback", stop)

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
            what = f"upswitch has not reached the host for {lost_s:.0f} s: {exc}"
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

    def _failed(self, failed: Failed) -> WatchReport:
        watch = self._site.watch
        if failed.doubt:
            return self._held(_took(failed, Result.HOLD), failed.doubt)
        if watch.holds(failed.failure):
            key = "on_spike" if watch.on_spike is SpikePolicy.HOLD else "app_errors"
            return self._held(_took(failed, Result.HOLD), f'watch.{key} is "hold", so a person decides')
        return self._report("rollback", _took(failed))

    def _held(self, held: Took, because: str) -> WatchReport:
        """What would have been a rollback is not called one."""
        return self._report("rollback", msgspec.structs.replace(held, details=(*held.details, f"held: {because}")))

    def _ended(self, *, is_over: bool = False) -> WatchReport | None:
        """None where this host would pass, and others are not so far yet. `is_over`: all are."""
        final = self._pool.final
        took = self._took_of(final)
        if took.result is Result.OK and self._lost_since is not None:
            return None
        has_asked, self._has_passed = self._has_passed, took.result is Result.OK
        if self._has_passed and not is_over and (has_asked or not self._may_end()):
            return None
        missed = self._others.judged() if self._has_passed else None
        if missed:
            return self._stopped(missed)
        return self._report(final, took)

    def _took_of(self, final: Final) -> Took:
        """What the watch comes to. A pool that is kept without proof says so by its reason."""
        probation = self._pool.probation
        progress = probation.progress(self._pool.look)
        said = f"{progress}. {ENDED[final]}"
        match final:
            case Final.KEEP | Final.KEEP_ELEVATED if self._pool.is_hidden:
                return Took(result=Result.OK, said=self._pool.unproven, details=(progress,), why=Why.UNPROVEN)
            case Final.KEEP if probation.is_short:
                said = f"{ending.few(0, probation.at_s)}; one that hangs shows only after {probation.silent_after + 1:.0f} s"
                return Took(result=Result.OK, said=said, details=(progress,), why=Why.SHORT_WATCH)
            case Final.KEEP | Final.KEEP_ELEVATED:
                return Took(result=Result.OK, said=said)
            case Final.HELD:
                return _took(probation.held(), Result.HOLD)
            case Final.NOT_SWITCHED:
                return Took(result=Result.FAILED, said=said, why=Why.NOT_SWITCHED)
            case Final.UNPROVEN | Final.BLIND:
                result = _ON_SILENCE[self._site.watch.on_silence]
                return Took(result=result, said=self._pool.unproven, details=(progress,), why=Why.UNPROVEN)

    def _report(self, final: str, took: Took) -> WatchReport:
        probation, whole = self._pool.probation, self._pool.probation.whole
        diagnosis = self._pool.diagnosis(self._watched.known)
        reasons = sentence(diagnosis)
        return WatchReport(
            result=took.result,
            final=final,
            said=took.said,
            details=(*took.details, f"cause: {reasons}") if reasons and took.result is not Result.OK else took.details,
            why=took.why,
            pool=self._watched.pool,
            seconds=probation.at_s,
            failed=whole.failures,
            total=whole.total,
            mode=probation.mode,
            judgement=self._pool.look,
            peers_down=probation.down,
            reasons=reasons,
            findings=diagnosis.findings,
            notes=tuple(self._notes.all),
        )

    def seen(self) -> Seen:
        """For the report, once the watch is over."""
        self._recorder.sample()
        return self._recorder.seen(self._pool.probation, self._pool.look)

    def close(self) -> None:
        self._pool.close()
        self._errors.close()
        for through in self._throughs:
            through.close()


def _took(failed: Failed, result: Result = Result.FAILED) -> Took:
    verdict = "SPIKE" if result is Result.HOLD else "ROLLBACK"
    return Took(result=result, said=failed.said(verdict), details=failed.details, why=failed.why)


_KEPT = (Final.KEEP, Final.KEEP_ELEVATED)
_ON_SILENCE = {SilencePolicy.KEEP: Result.OK, SilencePolicy.ROLLBACK: Result.FAILED, SilencePolicy.HOLD: Result.HOLD}

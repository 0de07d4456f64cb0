"""What each step does to a host. Which one comes next is not decided here (switch/machine.py)."""

from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from upswitch.basics.errors import HostError, NotAppendedError
from upswitch.basics.result import Result, Took, Why
from upswitch.diagnose.directives import known_of
from upswitch.generations import store, survey
from upswitch.generations.generation import MANIFEST, to_prune
from upswitch.health import gate, rounds
from upswitch.hosts import batch
from upswitch.hosts.host import Asking
from upswitch.hosts.wait import until
from upswitch.nginx import commands, running
from upswitch.nginx.conf_logs import tells_crashes
from upswitch.site.model import Verdict
from upswitch.switch import candidate, deadman, proof, warm, way_back
from upswitch.switch.deadman import DeadMan, disarm_argv
from upswitch.switch.job import Job
from upswitch.switch.machine import Step
from upswitch.switch.proof import Finding, Proof
from upswitch.switch.record import Recording
from upswitch.switch.reload import Reloader
from upswitch.switch.session import Meeting, RunPorts
from upswitch.watch.report import WatchReport
from upswitch.watch.tried import Tried, tried
from upswitch.watch.watch import Watched, Watcher

_REACHED_AGAIN = 20.0  # seconds for a host to answer again; by then its dead-man has acted
_FINISH = 80.0  # seconds: 60 for a dead-man that acts
_OTHERS_EVERY = 0.1
_WAY_BACK_DRAIN = 0.3  # seconds; clients are seeing failures, or a person is waiting


class Steps:
    """The steps of one run on one host. They keep what the report needs beyond their results."""

    def __init__(self, ports: RunPorts, job: Job) -> None:
        self._ports = ports
        self._job = job
        self._nginx = job.site.nginx
        self._reloader = Reloader(ports, job.site.nginx, job.facts)
        self._watcher: Watcher | None = None
        self.record = Recording(job.plan)
        self.tried = Tried()
        self._is_armed = False
        self.gate_report: rounds.GateReport | None = None
        self.watch_report: WatchReport | None = None
        self.found: tuple[store.Disk, running.Running] | None = None
        self._finding: Finding | None = None
        self._ask_back = partial(way_back.asked, ports, job.site, job.facts.dialect, job.plan)
        self._asked_back: Took | None = None

    def perform(self, step: Step) -> Took:
        """Do `step`. HostError where the host could not be asked; the driver takes that as UNKNOWN."""
        stopped = self._ports.turn.meet(Meeting.CHANGE) if step in _BEGINNINGS else None
        return msgspec.structs.replace(stopped, result=Result.FAILED) if stopped else _DO[step](self)

    # ---- before the swap ----

    def gate(self) -> Took:
        report = rounds.run_gate(self._ports, self._job.new, self._job.old, each=self.record.round)
        self.gate_report = report
        if report.verdict is Verdict.RUNNING:
            return Took(result=Result.INTERRUPTED, said=f"{self._ports.interrupts.name} during the health checks", why=Why.SIGNAL)
        if report.verdict is not Verdict.PASS:
            return way_back.refused(self._job.plan, report)
        if not report.has_way_back and not self._job.accept_one_way:
            return way_back.none(self._job.plan, report)
        refused = self._try_requests(has_way_back=report.has_way_back)
        if refused:
            return Took(result=Result.FAILED, said=refused, why=Why.PROBE_FAILED)
        up = f"all {len(report.new)} servers of {self._job.plan.pool} are healthy after {report.seconds:.1f} s"
        return Took(result=Result.OK, said=up if report.has_way_back else f"{up}; {self._job.plan.former_pool} is unhealthy")

    def _try_requests(self, *, has_way_back: bool) -> str:
        """Try our own requests of the watch while the former pool serves. Why they can't be used; "" where they can."""
        if Step.WATCH in self._job.plan.skips:
            return ""
        facts, probe = self._job.facts, self._job.site.watch.probe
        self.tried = Tried(asked=(Asking(url=probe),) if probe else ())
        if has_way_back:
            self.tried = tried(self._ports, self._job.site, self._job.live, logs=facts.access_logs, conf=facts.conf)
        if self.tried.refusal and self._job.accept_one_way:
            self._ports.tell("gate", f"{self.tried.refusal}. It is used all the same (--one-way).", is_bad=True)
        return "" if self._job.accept_one_way else self.tried.refusal

    def stage(self) -> Took:
        """The new generation, and the way back beside it: going back must need no new bytes."""
        plan, job = self._job.plan, self._job
        generations = {plan.to: job.files, plan.back: job.back_files, **({plan.warm: job.warm_files} if plan.warm else {})}
        took = store.stage(self._ports.host, self._nginx, generations, back=plan.back)
        if job.adopted and took.result is Result.OK:
            path = f"{self._nginx.dir}/generations/{plan.former}/{MANIFEST}"
            self._ports.host.write(path, job.adopted, mode=0o640)
        said = f"upswitch wrote {self._nginx.dir}/generations/{plan.to}; a rollback makes {plan.back} live"
        return took if took.result is not Result.OK else Took(result=Result.OK, said=said)

    def test(self) -> Took:
        """Test what is to be live, in its order; the result is that of the new generation."""
        plan = self._job.plan
        return candidate.test(self._ports.host, self._nginx, self._job.facts, [*filter(None, (plan.warm, plan.to))])

    def warm(self) -> Took:
        """Wait until nginx's own health check calls the new pool up: else the clients would wait for that."""
        warmth = self._job.warmth
        if self._job.plan.warm:
            self._ports.tell("warm", f"{warmth.why}: one reload with the new pool as a standby")
            took = self._stand_by()
            if took is not None:
                return took
        return warm.wait(self._ports, self._nginx, warmth)

    def _stand_by(self) -> Took | None:
        """Make the warm generation live; None where that is proved. The same pool serves before and after."""
        plan = self._job.plan
        drained = self.drain() if Step.DRAIN not in plan.skips else None
        if drained is not None and drained.result is not Result.OK:
            return drained
        pointed = store.point(self._ports.host, self._nginx, expect=plan.former, to=plan.warm)
        if pointed.result is not Result.OK:
            return pointed
        reloaded = self._reloader.reload()
        if reloaded.result is Result.FAILED:  # nginx was not asked: nothing but the link has changed
            back = store.point(self._ports.host, self._nginx, expect=plan.warm, to=plan.former)
            return reloaded if back.result is Result.OK else back
        proved = self._confirmed(plan.warm)
        return None if proved.result is Result.OK else msgspec.structs.replace(proved, result=Result.UNKNOWN)

    def recheck(self) -> Took:
        """Wait until this host may go, get the watch ready, and look once more at what is live and at the new servers."""
        never = self._ports.turn.meet(Meeting.PREPARED)
        if never is not None:
            return never
        if Step.WATCH not in self._job.plan.skips:
            # Made here, not in the swap: reading history takes time, and from the drain on clients pay for time.
            self._watcher = Watcher(
                self._ports,
                self._job.site,
                self._watched_pool(),
                others=self._ports.turn,
                unguarded=self._unguarded,
                unready=self._unready,
            )
        disk, runs = survey.glance(self._ports.host, self._nginx)
        if runs.problem:
            return Took(result=Result.FAILED, said=runs.problem, why=Why.NO_MASTER)
        if disk.live != self._job.plan.base:
            said = f"the live link points to {disk.live or 'nothing'} now, not to {self._job.plan.base}"
            return Took(result=Result.FAILED, said=said, why=Why.MOVED)
        if disk.drift:
            files = ", ".join(f"{self._nginx.live}/{name}" for name in disk.drift)
            return Took(result=Result.FAILED, said=f"live files were edited since this run began: {files}", why=Why.EDITED)
        bad = rounds.failed_twice(self._ports, self._job.new)
        if bad:
            said = f"{len(bad)} of {len(self._job.new)} servers failed two health checks after the gate had passed"
            return Took(result=Result.FAILED, said=said, details=bad, why=Why.SERVERS_DOWN)
        return Took(result=Result.OK, said="every server is still healthy")

    def arm(self) -> Took:
        """From now on the host rolls itself back when the heartbeats stop; not where the gate found no way back."""
        plan, facts = self._job.plan, self._job.facts
        self._is_armed = self.gate_report is None or self.gate_report.has_way_back
        if not self._is_armed:
            return Took(result=Result.OK, said=f"no dead-man: {plan.former_pool} is unhealthy, so there is no way back")
        master = facts.running.family.master if facts.running.family else None
        return deadman.arm(
            self._ports.host,
            self._nginx,
            DeadMan(
                run=plan.run,
                to=plan.to,
                base=plan.base,
                back=plan.back,
                expect=(plan.to, plan.base, plan.former),
                pid_file=facts.pid_file,
                pid=facts.running.pid,
                start=master.start if master else 0,
                reload=commands.reload(self._nginx, facts.build),
                marker=self._nginx.marker,
                servers=deadman.asked(self._job.old, self._job.new),
            ),
        )

    def _unguarded(self) -> str:
        plan = self._job.plan
        return "" if Step.ARM in plan.skips or not self._is_armed else deadman.unguarded(self._ports.host, self._nginx, plan.run)

    def drain(self) -> Took:
        is_way_back = self._job.plan.copy_of != ""
        limit = min(self._nginx.drain, _WAY_BACK_DRAIN) if is_way_back else self._nginx.drain
        return self._reloader.drain(limit, self._job.plan.run)

    # ---- the swap and its proof ----

    def swap(self) -> Took:
        self._reloader.may_act = False  # what was asked before has been proved
        return store.point(self._ports.host, self._nginx, expect=self._job.plan.base, to=self._job.plan.to)

    def _watched_pool(self) -> Watched:
        return Watched(
            former_pool=self._job.plan.former_pool,
            pool=self._job.plan.pool,
            attribution=self._job.attribution,
            access_logs=self._job.facts.access_logs,
            error_log=self._job.facts.error_log,
            error_gap=self._job.facts.error_gap,
            master=self._job.facts.running.pid,
            tells_crashes=tells_crashes(self._job.facts.conf, self._job.facts.build),
            known=known_of(self._job.facts.conf, self._job.facts.build),
            tried=self.tried,
        )

    def reload(self) -> Took:
        return self._reloader.reload()

    def confirm(self) -> Took:
        proved = self._confirmed(self._job.plan.to)
        edited = store.read_disk(self._ports.host, self._nginx).drift if proved.result is Result.OK else ()
        if edited:
            said = f"files of {self._job.plan.to} were edited after upswitch had tested them: {', '.join(edited)}"
            return Took(result=Result.FAILED, said=said, why=Why.EDITED)
        is_last = proved.result is Result.OK and Step.WATCH in self._job.plan.skips
        return (self._others() if is_last else None) or proved

    def _others(self) -> Took | None:
        """Without a watch, a host waits only for the others: until the last wave is done all of them can still go back."""
        turn, interrupts = self._ports.turn, self._ports.interrupts
        stopped: Took | None = None

        def is_over() -> bool:
            nonlocal stopped
            has_passed = turn.passed()
            stopped = None if has_passed else turn.meet(Meeting.CHANGE)
            return has_passed or stopped is not None

        if not until(bool, is_over, every=_OTHERS_EVERY, clock=self._ports.clock, interrupts=interrupts):
            return Took(result=Result.INTERRUPTED, said=f"{interrupts.name} while the other hosts were switched", why=Why.SIGNAL)
        missed = stopped or turn.judged()
        return msgspec.structs.replace(missed, result=Result.FAILED) if missed else None

    def _confirmed(self, want: str) -> Took:
        self._finding = self._reloader.confirm(want)
        self._lower()
        return proof.took(self._finding)

    def watch(self) -> Took:
        if self._watcher is None:
            return Took(result=Result.UNKNOWN, said="upswitch was killed before the watch ended", why=Why.KILLED)
        servers = self.gate_report.new if self.gate_report else gate.begin(self._job.new)  # the gate goes on from where it passed
        report = self._watcher.run(servers)
        if report.result is Result.FAILED:  # asked before the other hosts hear of it: where this one must stay, all do
            self._asked_back = self._ask_back(live=self._job.plan.to)
            report = way_back.kept(report, self._asked_back)
        self.watch_report = report
        self.record.watched(self._watcher.seen(), report)
        return Took(result=report.result, said=report.said, details=report.details, why=report.why)

    def finish(self) -> Took:
        """Disarm the dead-man, and look for the last time. Done again where the connection broke: all of it may be done twice."""

        def attempt() -> Took:
            try:
                return self._finished()
            except HostError as exc:
                return Took(result=Result.UNKNOWN, said=str(exc), why=exc.why)

        clock = self._ports.clock
        return until(lambda took: took.result is not Result.UNKNOWN, attempt, every=1.0, clock=clock, within=_REACHED_AGAIN)

    def _finished(self) -> Took:
        """One script. What is said at the end was read here, not remembered."""
        plan, host = self._job.plan, self._ports.host
        disarming = () if Step.ARM in plan.skips else (disarm_argv(self._nginx.state, plan.run),)
        ran = batch.run(host, (*disarming, *survey.glance_argvs(self._nginx)), deadline=_FINISH)
        if disarming:
            disarmed = deadman.disarmed(plan.run, ran.pop(0))
            if disarmed.result is not Result.OK:
                return Took(result=disarmed.result, said=disarmed.said, why=Why.DEAD_MAN)
        disk, running = survey.glance_from(host, self._nginx, ran)
        amiss = survey.disagreement(disk, running, want=plan.to)
        if amiss:
            why = Why.NO_MASTER if running.problem else Why.MOVED
            return Took(result=Result.FAILED, said=amiss, why=why)
        self.found = (disk, running)
        return Took(result=Result.OK, said=f"nginx reports generation {plan.to} and the live link points to it")

    def _unready(self) -> str:
        """Why a finish would fail now."""
        disk, running = survey.glance(self._ports.host, self._nginx)
        return survey.disagreement(disk, running, want=self._job.plan.to)

    @property
    def outdated(self) -> tuple[str, ...]:
        """Generations that are not needed any more, after a finish that found everything as it should be."""
        if self.found is None:
            return ()
        disk, _ = self.found
        manifest = disk.manifest
        keep = [disk.live, self._job.plan.former, self._job.plan.base, *((manifest.replaces, manifest.copy_of) if manifest else ())]
        return to_prune(disk.generations, keep)

    # ---- the way back ----

    def restore(self) -> Took:
        """Point at the prepared way back, from wherever the link points within this run. Idempotent."""
        untouched = self._untouched() if self._reloader.is_refused else None
        if untouched is not None:
            return untouched
        plan = self._job.plan
        live = self._read_again().live
        if live not in {plan.former, plan.base, plan.to, plan.back}:
            said = f"the live link points to {live or 'nothing'}, which is not a generation of this run: upswitch did not change it"
            return Took(result=Result.FAILED, said=said, why=Why.MOVED)
        asked = self._asked_back or self._ask_back(live=live)
        if asked.result is Result.HOLD:
            return asked
        # In an outage no client is served, so none has to be drained.
        is_outage = self._finding is not None and self._finding.proof is Proof.OUTAGE
        if Step.DRAIN not in plan.skips and not is_outage:
            self._reloader.drain(min(self._nginx.drain, _WAY_BACK_DRAIN), plan.run)
        is_whole = store.is_whole(self._ports.host, self._nginx, plan.back)
        pointed = store.point(self._ports.host, self._nginx, expect=live, to=plan.back if is_whole else plan.base)
        return msgspec.structs.replace(pointed, details=asked.details)

    def _read_again(self) -> store.Disk:
        """What is on disk. It is waited for: a run often goes back because the host could not be reached."""

        def look() -> store.Disk | HostError:
            try:
                return store.read_disk(self._ports.host, self._nginx)
            except NotAppendedError:  # the host answers: this is about its disk
                raise
            except HostError as exc:
                return exc

        clock = self._ports.clock
        found = until(lambda seen: isinstance(seen, store.Disk), look, every=1.0, clock=clock, within=_REACHED_AGAIN)
        if isinstance(found, HostError):
            raise found
        return found

    def reload_back(self) -> Took:
        took = self._reloader.reload()
        if not self._reloader.is_refused:
            return took
        untouched = self._untouched()
        if untouched is None and self._reloader.may_act:  # the command may have failed after it had sent the signal
            proved = self._reloader.confirm(store.read_disk(self._ports.host, self._nginx).live)
            return proof.took(proved) if proved.proof is Proof.APPLIED else took
        return untouched or took

    def _untouched(self) -> Took | None:
        """See way_back.py. A new binary may have read the new generation, and its workers answer beside the old ones."""
        runs = self._running()
        if runs.upgrade:
            return None
        settle = self._reloader.confirm if self._reloader.may_act and not runs.problem else None
        return way_back.untouched(self._ports.host, self._nginx, self._job.plan, settle=settle)

    def confirm_back(self) -> Took:
        """Of what `restore` put live: the prepared way back, or, where that was damaged, the former generation itself."""
        plan = self._job.plan
        live = store.read_disk(self._ports.host, self._nginx).live
        if live not in {plan.back, plan.base}:
            said = f"the live link points to {live or 'nothing'} now: somebody else changed it"
            return Took(result=Result.FAILED, said=said, why=Why.MOVED)
        finding = self._reloader.confirm(live)
        self._lower()
        if finding.proof is Proof.UNKNOWN and self._running().problem:
            return self._untouched() or proof.took(finding)
        dialect = self._job.facts.dialect
        return way_back.never_left(self._ports.host, self._nginx, plan, finding, live=live, dialect=dialect) or proof.took(finding)

    def _running(self) -> running.Running:
        return running.read_running(self._ports.host, self._nginx, self._job.facts.pid_file)

    def _lower(self) -> None:
        if Step.DRAIN not in self._job.plan.skips:
            self._reloader.lower(self._job.plan.run)

    def close(self) -> None:
        """However the run ended: no flag stays raised, no file stays open. On a host that is gone the flag lowers itself."""
        self._lower()
        if self._watcher is not None:
            self._watcher.close()


_BEGINNINGS = frozenset({Step.ARM, Step.DRAIN, Step.SWAP})  # what is not begun any more once another host has failed

_DO: Mapping[Step, Callable[[Steps], Took]] = {step: getattr(Steps, step) for step in Step}
"""Each step is the method of its name."""

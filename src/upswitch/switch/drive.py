"""Driving a run: under the lock, from its first record to its last; in between the loop of intent, act and result.

The intent is on disk before the step acts (invariant I7): it goes there with the result of the step before, ahead of the first
command of its own step, or at once where a step waits before it acts. What comes next is the machine's decision alone.
A journal that can't be written any more (a full disk) stops a run that has changed nothing, turns one back that has, leaves
one STUCK that was about to end, and never stops one that is on its way back: what it needs was on disk before the swap.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from upswitch.basics.errors import (
    HostError,
    JournalCorruptError,
    LockedError,
    NotAppendedError,
    Owner,
    Refusal,
    RefusedError,
)
from upswitch.basics.result import Result, Took, Why
from upswitch.basics.value import Value
from upswitch.generations import store, survey
from upswitch.generations.generation import Live
from upswitch.generations.store import prune_argv
from upswitch.health import rounds
from upswitch.hosts.host import Lock
from upswitch.hosts.sh import WRITE_S
from upswitch.hosts.wait import Pulse
from upswitch.site.model import Nginx, Site
from upswitch.switch import deadman, machine, outcome, record, run
from upswitch.switch.deadman import Disarmed
from upswitch.switch.job import Job, diff
from upswitch.switch.journal import Journal
from upswitch.switch.machine import Outcome, Phase, Step
from upswitch.switch.run import AnyRecord, Closed, Ended, Intent, Plan, Run, Started, fold
from upswitch.switch.session import Meeting, RunPorts
from upswitch.switch.steps import Steps
from upswitch.watch.report import WatchReport

BEAT_EVERY = 2.0
"""Seconds between two heartbeats: the lease of the lock is five times as long (hosts/local/host.py)."""
Perform = Callable[[Step], Took]
_WAITING = frozenset(
    {Step.GATE, Step.WARM, Step.WATCH}
)  # they take seconds: a process that is killed there must not leave an old journal


class Ending(Value):
    """How a command that may change things ended; cli/views/acted.py turns it into text and JSON.

    `accepted`: what would have refused the run, had the caller not accepted it.
    """

    run: Run
    outcome: Outcome
    live: Live
    headline: str
    hint: str
    details: tuple[str, ...] = ()
    why: Why = Why.NONE
    gate: rounds.GateReport | None = None
    watch: WatchReport | None = None
    accepted: tuple[str, ...] = ()


@contextmanager
def locked(ports: RunPorts, site: Site, owner: Owner, *, is_incident: bool = False) -> Iterator[tuple[str, ...]]:
    """Hold the host's lock, and send heartbeats. LockedError where another process holds it.

    Gives what the result must warn of: in an incident, a folder that others may write.
    """
    open_folder = store.prepare(ports.host, site.nginx, is_incident=is_incident)
    warned = (open_folder.warning,) if open_folder else ()
    for line in warned:
        ports.tell("folders", line, is_bad=True)
    stopped = ports.turn.meet(Meeting.LOCK)
    if stopped is not None:
        hint = "run the command again" if stopped.result is Result.INTERRUPTED else "fix the host named above"
        raise RefusedError(Refusal(what=stopped.said, hint=f"{hint}; nothing was done here", why=stopped.why))
    holder = ports.lock.acquire(owner)
    if holder is not None:
        raise LockedError(holder)
    ports.turn.meet(Meeting.LOCKED)
    beat = Pulse(lambda: _beaten(ports.lock), every=BEAT_EVERY, clock=ports.clock)
    try:
        yield warned
    finally:
        beat.stop()
        ports.lock.release()


def _beaten(lock: Lock) -> bool:
    """False where the host can't be reached now: it may be reachable again before the lease ends."""
    try:
        lock.beat()
    except HostError:
        return False
    return True


# ---- a run, from its first record to its last ----


def start(ports: RunPorts, job: Job, journal: Journal) -> Ending:
    """Begin a run. It is on disk before its first step."""
    started = Started(plan=job.plan, at=ports.clock.now())
    try:
        journal.prepare()
    except HostError as exc:
        hint = "nothing was changed; upswitch switches only if it can write its journal: fix this first"
        raise RefusedError(Refusal(what=str(exc), hint=hint, why=exc.why)) from exc
    journal.note(started)
    return drive_on(ports, run.begin(started), job, journal)


def drive_on(ports: RunPorts, begun: Run, job: Job, journal: Journal) -> Ending:
    steps = Steps(ports, job)
    try:
        over = drive(begun, perform=steps.perform, journal=journal, ports=ports)
    finally:
        steps.close()
    over = _disarmed(ports, over, journal, job.site.nginx)
    seen = survey.live(*steps.found) if steps.found else None
    ending = close(ports, over, journal, job.site.nginx, seen=seen, outdated=steps.outdated)
    if not begun.steps:  # else an earlier process may have kept it
        _keep(ports, job, steps)
    told = (*job.sick, *filter(None, [job.flag_stays_down])) if _has_swapped(over) else ()
    accepted = tuple(_accepted(job, steps)) if _has_swapped(over) else ()
    live = msgspec.structs.replace(ending.live, is_dead=job.is_dead and ending.live.pool == job.plan.pool)
    return msgspec.structs.replace(
        ending, live=live, details=(*ending.details, *told), gate=steps.gate_report, watch=steps.watch_report, accepted=accepted
    )


def _keep(ports: RunPorts, job: Job, steps: Steps) -> None:
    """Keep what the report shows. It changes nothing of how the run ended."""
    try:
        lost = record.keep(ports.host, job.site.nginx.state, steps.record.record(diff(ports.host, job)))
    except HostError as exc:
        lost = str(exc)
    if lost:
        ports.tell("report", lost)


def _accepted(job: Job, steps: Steps) -> Iterator[str]:
    if job.adopted:
        files = ", ".join(f"{job.site.nginx.live}/{name}" for name in job.facts.disk.drift)
        yield f"live files that were edited by hand (--adopt): {files}"
    report = steps.gate_report
    if report is not None and not report.has_way_back and job.accept_one_way:
        yield f"no rollback was possible, because {job.plan.former_pool} was unhealthy before the switch (--one-way)"
    if steps.tried.refusal and job.accept_one_way:
        yield f"{steps.tried.refusal} (--one-way)"


def _has_swapped(over: Run) -> bool:
    return any(each.step is Step.SWAP for each in over.steps)


def _disarmed(ports: RunPorts, over: Run, journal: Journal, nginx: Nginx) -> Run:
    """Disarm the dead-man at the end of a run. Where it has acted already, its record counts and not what this run believes."""
    is_finished = bool(over.steps) and over.steps[-1].step is Step.FINISH and over.steps[-1].result is Result.OK
    if Step.ARM in over.plan.skips or is_finished:  # the finish has seen to it
        return over
    write(journal, None, ports)
    try:
        stood = settle_deadman(ports, over, journal, nginx)
        if stood.result is Result.OK:
            return over
        ports.tell("dead-man", stood.said)
        return next((each for each in journal.read()[::-1] if each.plan.run == over.plan.run and each.fired), over)
    except (HostError, JournalCorruptError) as exc:
        ports.tell("dead-man", f"the dead-man may still roll this host back: {exc}")
        return over


def close(
    ports: RunPorts, over: Run, journal: Journal, nginx: Nginx, *, seen: Live | None = None, outdated: tuple[str, ...] = ()
) -> Ending:
    """End a run: record its outcome, and remove the generations that are not needed any more.

    `seen`: what the last step saw, where nothing has changed since.
    """
    plan = over.plan
    if over.phase in {Phase.REFUSED, Phase.INTERRUPTED}:
        outdated = tuple(filter(None, (plan.to, plan.back, plan.warm)))
    live = seen or survey.live_now(ports.host, nginx)
    ended = machine.ENDINGS[over.phase]
    is_overtaken = ended is Outcome.ROLLED_BACK and live.agrees and live.disk not in {plan.former, plan.base, plan.back}
    ending = _ending(over, Outcome.REFUSED if is_overtaken else ended, live=live)
    closed = Closed(run=plan.run, outcome=ending.outcome, said=ending.headline, at=ports.clock.now())
    write(journal, closed, ports, is_ahead=bool(outdated))
    if outdated:
        _prune(ports, journal, nginx, outdated)
    return ending


def _prune(ports: RunPorts, journal: Journal, nginx: Nginx, names: tuple[str, ...]) -> None:
    """What can't be removed now stays until a later run removes it: the ending stands, whatever happens here."""
    argv = prune_argv(nginx.dir, names)
    try:
        ports.host.run(argv, deadline=WRITE_S, holds_lock=True)
    except NotAppendedError as exc:
        ports.tell("journal", str(exc))
        with contextlib.suppress(HostError):
            ports.host.run(argv, deadline=WRITE_S, holds_lock=True)
    except HostError as exc:
        ports.tell("folders", f"old generations are left: {exc}")
        _send(journal, ports)


def _ending(over: Run, ended: Outcome, *, live: Live) -> Ending:
    return Ending(
        run=over,
        outcome=ended,
        live=live,
        headline=outcome.headline(over, ended, live),
        hint=outcome.hint(over, ended, live),
        details=(*(over.cause.details if over.cause else ()), *over.way_back_details),
        why=over.why if ended is not Outcome.SWITCHED else over.kept_why,
    )


def unchanged(ports: RunPorts, plan: Plan, nginx: Nginx) -> Ending:
    begun = run.begin(Started(plan=plan, at=ports.clock.now()))
    return _ending(begun, Outcome.UNCHANGED, live=survey.live_now(ports.host, nginx))


def settle_deadman(ports: RunPorts, left: Run, journal: Journal, nginx: Nginx) -> Disarmed:
    """Disarm the dead-man of a run; where it has fired, the journal says so. HostError while it still acts."""
    stood = deadman.disarm(ports.host, nginx, left.plan.run)
    if stood.result is Result.UNKNOWN:
        raise HostError("continue the unfinished run", stood.said, why=Why.DEAD_MAN)
    if stood.fired is not None and not any(each.fired for each in journal.read() if each.plan.run == left.plan.run):
        write(journal, stood.fired, ports)  # its disk was full when it fired
    return stood


# ---- the loop ----


def drive(run: Run, *, perform: Perform, journal: Journal, ports: RunPorts) -> Run:
    """The run at its end, whose last result is noted but not written yet. Only a bug leaves this function by an exception."""
    while (step := run.next_step) is not None:
        began = ports.clock.monotonic()
        took = _BUG
        try:
            took = _take(run, step, perform=perform, journal=journal, ports=ports)
        finally:
            ports.turn.saw(step, took)
        record = Ended(
            run=run.plan.run,
            step=step,
            result=took.result,
            said=took.said,
            at=ports.clock.now(),
            seconds=round(ports.clock.monotonic() - began, 3),
            details=took.details,
            why=took.why,
        )
        journal.note(record)
        said = " | ".join((f"{_WORDS[took.result]}{took.said}", *took.details))
        ports.tell(step.replace("_", " "), said, is_bad=took.result in {Result.FAILED, Result.UNKNOWN})
        run = fold(run, record)
    _send(journal, ports)
    return run


_BUG = Took(result=Result.FAILED, said="upswitch itself failed", why=Why.BUG)
"""What other hosts hear of an exception. It is repaired on its own host (cli/main.py), and they do not wait for that."""

_WORDS = {
    Result.OK: "",
    Result.FAILED: "FAILED: ",
    Result.UNKNOWN: "UNKNOWN: ",
    Result.INTERRUPTED: "interrupted: ",
    Result.HOLD: "HOLD: ",
    Result.UNTOUCHED: "",
}


def _take(run: Run, step: Step, *, perform: Perform, journal: Journal, ports: RunPorts) -> Took:
    if ports.interrupts.count and run.can_interrupt:
        return Took(result=Result.INTERRUPTED, said=f"{ports.interrupts.name} before {step}", why=Why.SIGNAL)
    intent = Intent(run=run.plan.run, step=step, at=ports.clock.now())
    lost = write(journal, intent, ports, is_ahead=step not in _WAITING)
    if lost is None:
        try:
            return _performed(perform, step)
        except NotAppendedError as exc:
            journal.was_refused()
            ports.tell("journal", str(exc))
            lost = exc
    if run.phase not in machine.WAY_BACK:
        return Took(result=Result.FAILED, said=f"the journal can't be written: {lost}", why=lost.why)
    return _performed(perform, step)


def _performed(perform: Perform, step: Step) -> Took:
    try:
        return perform(step)
    except NotAppendedError:
        raise
    except HostError as exc:
        return Took(result=Result.UNKNOWN, said=str(exc), why=exc.why)


def _send(journal: Journal, ports: RunPorts) -> None:
    """Write what should have gone ahead of a step that asked the host nothing."""
    try:
        journal.send()
    except HostError as exc:
        journal.was_refused()
        ports.tell("journal", str(exc))


def write(journal: Journal, record: AnyRecord | None, ports: RunPorts, *, is_ahead: bool = False) -> HostError | None:
    """Write the record, and what waits before it. None where it is on disk, or goes ahead; an error is reported and returned."""
    try:
        journal.write(record, is_ahead=is_ahead)
    except HostError as exc:
        ports.tell("journal", str(exc))
        return exc
    return None

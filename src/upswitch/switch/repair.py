"""`repair`: finish or undo what a killed or STUCK run left. A repair that is killed is simply run again."""

from collections.abc import Callable

import msgspec

from upswitch.basics.errors import HostError, Refusal, RefusedError
from upswitch.basics.result import Why
from upswitch.generations import survey
from upswitch.generations.generation import Live
from upswitch.site.model import Site
from upswitch.switch import run
from upswitch.switch.drive import Ending, close, drive_on, settle_deadman, write
from upswitch.switch.job import Job
from upswitch.switch.journal import Journal, journal_of
from upswitch.switch.machine import Outcome, Step
from upswitch.switch.preflight import way_back_facts
from upswitch.switch.run import AnyRecord, Ended, Retried, Run, Settled
from upswitch.switch.session import RunPorts


def repair(ports: RunPorts, site: Site) -> Ending | None:
    """None where nothing was left to do."""
    return repaired(ports, site, journal_of(ports.host, site.nginx))


def repaired(ports: RunPorts, site: Site, journal: Journal) -> Ending | None:
    """The same with a journal that the caller goes on with."""
    left = run.unfinished(journal.open())
    if left is not None and Step.ARM not in left.plan.skips:
        settle_deadman(ports, left, journal, site.nginx)
        left = run.unfinished(journal.open())
    if left is None:
        return _rolled_back_by_host(ports, site, journal)
    plan = left.plan
    ports.tell("repair", f"run {plan.run} ({plan.command} to {plan.pool}) stopped at {left.phase}; repair continues it")
    _prepare(ports, journal)
    live = survey.live_now(ports.host, site.nginx)
    if left.is_over and live.agrees and live.disk != plan.to:  # STUCK, and a person has fixed it since
        write(journal, Settled(run=plan.run, at=ports.clock.now()), ports)
        return None
    left = _taken_up(ports, left, journal, live)
    if left.is_over:
        return close(ports, left, journal, site.nginx)
    job = Job(site=site, plan=plan, facts=way_back_facts(ports.host, site), files={}, back_files={}, new=(), old=())
    return drive_on(ports, left, job, journal)


def told(left: Ending | None, act: Callable[[], Ending]) -> Ending:
    """What `act` comes to, which says too what the repair before it did to an unfinished run."""
    if left is None:
        return act()
    plan = left.run.plan
    said = f"upswitch first repaired the unfinished run {plan.run} ({plan.command} to {plan.pool}): {left.headline}"
    try:
        ending = act()
    except RefusedError as exc:
        raise RefusedError(*exc.refusals, Refusal(what=said, hint="")) from exc
    if ending.outcome is Outcome.UNCHANGED:
        done = f"UNCHANGED: {ending.live.pool or 'the same pool'} is live. {said[0].upper()}{said[1:]}"
        return msgspec.structs.replace(ending, headline=done, hint="`upswitch history` shows that run")
    return msgspec.structs.replace(ending, details=(said, *ending.details))


def _rolled_back_by_host(ports: RunPorts, site: Site, journal: Journal) -> Ending | None:
    """A run that the host itself rolled back, and that no command has recorded yet."""
    last = next(iter(journal.opened[::-1]), None)
    if last is None or last.fired is None or last.closed is not None:
        return None
    ports.tell("repair", f"run {last.plan.run} ({last.plan.command} to {last.plan.pool}): {last.fired.text}")
    return close(ports, last, journal, site.nginx)


def _taken_up(ports: RunPorts, left: Run, journal: Journal, live: Live) -> Run:
    """The run with a result for the step that was cut off, by what the live link says now.

    A run that got STUCK in its finish has passed its watch: where nginx serves the new generation it is finished, not rolled back.
    """
    plan, step = left.plan, left.pending or left.next_step
    record: AnyRecord
    if step is None:
        is_forward = left.steps[-1].step is Step.FINISH and live.agrees and live.disk == plan.to
        record = Retried(run=plan.run, at=ports.clock.now(), is_forward=is_forward)
    elif left.can_interrupt:
        result = run.resolve(left, live.disk, is_proved=live.agrees)
        record = Ended(run=plan.run, step=step, result=result, said="the run was killed here", at=ports.clock.now(), why=Why.KILLED)
    else:
        return left
    write(journal, record, ports)
    return run.fold(left, record)


def _prepare(ports: RunPorts, journal: Journal) -> None:
    """A disk that is full now must not stop a way back: what that needs is on disk already."""
    try:
        journal.prepare()
    except HostError as exc:
        ports.tell("journal", str(exc))

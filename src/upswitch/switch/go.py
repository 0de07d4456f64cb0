"""upswitch.switch.go."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from upswitch.basics.errors import (
    HostError,
    JournalCorruptError,
    LockedError,
    NginxBrokenError,
    NotAppendedError,
    Owner,
    Refusal,
    RefusedError,
)
from upswitch.basics.result import Result, Why
from upswitch.basics.value import Value
from upswitch.generations import store, survey
from upswitch.generations.generation import Live
from upswitch.generations.store import prune_argv
from upswitch.generations.survey import Facts
from upswitch.health import rounds
from upswitch.hosts.host import Host, Lock
from upswitch.hosts.sh import WRITE_S
from upswitch.hosts.wait import Pulse
from upswitch.site.model import Nginx, Site
from upswitch.switch import machine, outcome, preflight, run
from upswitch.switch.deadman import arm
from upswitch.switch.deadman.arm import Disarmed
from upswitch.switch.drive import drive, write
from upswitch.switch.job import Job
from upswitch.switch.journal import Journal
from upswitch.switch.run import Closed, Plan, Run, Started
from upswitch.switch.steps import Steps
from upswitch.switch.turn import Meeting, RunPorts
from upswitch.switch.words import Outcome, Phase, Step
from upswitch.watch.watch import WatchReport

BEAT_EVERY = 2.0
"""Seconds between two signs of life: the lease of the lock is five times as long (hosts/local/lock.py)."""


class Choices(Value):
    """What the caller accepts: live files edited by hand as the way back; a switch with no way back at all."""

    adopt: bool = False
    one_way: bool = False


class Ending(Value):
    """How a command that may change things ended; cli/views/acted.py turns it into text and JSON."""

    run: Run
    outcome: Outcome
    live: Live
    headline: str
    hint: str
    details: tuple[str, ...] = ()
    why: Why = Why.NONE
    gate: rounds.GateReport | None = None
    watch: WatchReport | None = None


@contextmanager
def locked(ports: RunPorts, site: Site, owner: Owner) -> Iterator[None]:
    """Hold the host's lock, and keep saying that we live. LockedError where somebody else does."""
    store.prepare(ports.host, site.nginx)
    stopped = ports.turn.meet(Meeting.LOCK)
    if stopped is not None:
        hint = "run it again when ready" if stopped.result is Result.INTERRUPTED else "see to that host first"
        raise RefusedError(Refusal(what=stopped.said, hint=f"{hint}; nothing was done here", why=stopped.why))
    holder = ports.lock.acquire(owner)
    if holder is not None:
        raise LockedError(holder)
    ports.turn.meet(Meeting.LOCKED)
    beat = Pulse(lambda: _beaten(ports.lock), every=BEAT_EVERY, clock=ports.clock)
    try:
        yield
    finally:
        beat.stop()
        ports.lock.release()


def _beaten(lock: Lock) -> bool:
    """A host that can't be reached now may be so again in time."""
    try:
        lock.beat()
    except HostError:
        return False
    return True


def unchanged(ports: RunPorts, plan: Plan, nginx: Nginx) -> Ending:
    begun = run.begin(Started(plan=plan, at=ports.clock.now()))
    return _ending(begun, Outcome.UNCHANGED, live=survey.live_now(ports.host, nginx))


def settle_deadman(ports: RunPorts, left: Run, journal: Journal, nginx: Nginx) -> Disarmed:
    """From here on nobody else acts; if the host itself has, the journal says so. HostError while it acts still."""
    stood = arm.disarm(ports.host, nginx, left.plan.run)
    if stood.result is Result.UNKNOWN:
        raise HostError("take up a run that was left", stood.said, why=Why.DEAD_MAN)
    if stood.fired is not None and not any(each.fired for each in journal.read() if each.plan.run == left.plan.run):
        write(journal, stood.fired, ports)  # its disk was full when it fired
    return stood


# ---- surveying ----


def surveyed(host: Host, site: Site, *, adopt: bool) -> Facts:
    """The host as it is, fit for a switch; RefusedError where it is not."""
    facts = _survey(host, site)
    refuse_if(preflight.refusals(site.nginx, facts, adopt=adopt))
    return facts


def way_back_facts(host: Host, site: Site) -> Facts:
    """A way back must not need a configuration that passes now: the live generation may be its fault."""
    try:
        return _survey(host, site)
    except RefusedError:
        return survey.survey_without_conf(host, site.nginx)


def _survey(host: Host, site: Site) -> Facts:
    try:
        return survey.survey(host, site.nginx, tuple(upstream.name for upstream in site.upstreams))
    except NginxBrokenError as exc:
        is_ours = any(file.startswith(f"{site.nginx.dir}/") for file in exc.files)
        mend = (
            "the live generation itself does not pass: `upswitch rollback` goes back"
            if is_ours
            else "mend it until `nginx -t` passes"
        )
        hint = f"{mend}; nothing of this run was done"
        raise RefusedError(Refusal(what=f"nginx -T fails: {exc.said}", hint=hint, why=Why.BAD_CONFIG)) from exc


def refuse_if(refusals: tuple[Refusal, ...]) -> None:
    if refusals:
        raise RefusedError(*refusals)


# ---- driving ----


def start(ports: RunPorts, job: Job, journal: Journal) -> Ending:
    """A new run: on disk before its first step."""
    started = Started(plan=job.plan, at=ports.clock.now())
    try:
        journal.prepare()
    except HostError as exc:
        hint = "nothing was done: a run that can't be recorded could not be undone"
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
    return msgspec.structs.replace(ending, gate=steps.gate_report, watch=steps.watch_report)


def _disarmed(ports: RunPorts, over: Run, journal: Journal, nginx: Nginx) -> Run:
    """No run of ours ends with the host ready to act; where it has acted already its word counts, not ours."""
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
        ports.tell("dead-man", f"may still roll this host back: {exc}")
        return over


def close(
    ports: RunPorts, over: Run, journal: Journal, nginx: Nginx, *, seen: Live | None = None, outdated: tuple[str, ...] = ()
) -> Ending:
    """The end of a run: the outcome is written down, and what is not needed goes, what was staged for nothing too.

    `seen`: what the last step saw, where nothing was changed since.
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
        _prune(ports, nginx, outdated)
    return ending


def _prune(ports: RunPorts, nginx: Nginx, names: tuple[str, ...]) -> None:
    argv = prune_argv(nginx.dir, names)
    try:
        ports.host.run(argv, deadline=WRITE_S, holds_lock=True)
    except NotAppendedError as exc:
        ports.tell("journal", str(exc))
        ports.host.run(argv, deadline=WRITE_S, holds_lock=True)


def _ending(over: Run, ended: Outcome, *, live: Live) -> Ending:
    return Ending(
        run=over,
        outcome=ended,
        live=live,
        headline=outcome.headline(over, ended, live),
        hint=outcome.hint(over, ended, live),
        details=over.cause.details if over.cause else (),
        why=Why.NONE if ended is Outcome.SWITCHED else over.why,
    )

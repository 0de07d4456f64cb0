"""switch, rollback, plan and repair: what each does, on one screen."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from upswitch import deadman, gating, jobs, preflight, staging, survey, warming
from upswitch.core import machine, outcome, planning, run, sight
from upswitch.core.errors import (
    HostError,
    JournalCorruptError,
    LockedError,
    NginxBrokenError,
    NotAppendedError,
    Owner,
    Refusal,
    RefusedError,
)
from upswitch.core.outcome import Live
from upswitch.core.planning import Ask
from upswitch.core.run import AnyRecord, Closed, Ended, Plan, Retried, Run, Settled, Started
from upswitch.core.scripts import prune
from upswitch.core.site import Nginx, Site
from upswitch.core.words import Outcome, Phase, Result, Step, Value
from upswitch.deadman import Disarmed
from upswitch.driver import drive, write
from upswitch.journal import Journal, journal_of
from upswitch.ports import Host, Lock, Ports
from upswitch.pulse import Pulse
from upswitch.steps import Job, Steps
from upswitch.survey import Facts
from upswitch.warming import Warmth
from upswitch.watching import WatchReport

BEAT_EVERY = 2.0
"""Seconds between two signs of life: the lease of the lock is five times as long (adapters/lock.py)."""


class Choices(Value):
    """What the caller accepts: live files edited by hand as the way back; a switch with no way back at all."""

    adopt: bool = False
    one_way: bool = False


class Ending(Value):
    """How a command that may change things ended; report.py turns it into text and JSON."""

    run: Run
    outcome: Outcome
    live: Live
    headline: str
    hint: str
    gate: gating.GateReport | None = None
    watch: WatchReport | None = None


class Planned(Value):
    """What a switch would do. `diff` is unified; `gate` is one round of probes taken now; `notes` are about nginx's own check."""

    plan: Plan
    steps: tuple[Step, ...]
    diff: str
    gate: gating.GateReport
    is_unchanged: bool
    warmth: Warmth
    notes: tuple[str, ...]


@contextmanager
def locked(ports: Ports, site: Site, owner: Owner) -> Iterator[None]:
    """Hold the host's lock, and keep saying that we live. LockedError where somebody else does."""
    staging.prepare(ports.host, site.nginx)
    ports.turn.before_lock()
    holder = ports.lock.acquire(owner)
    if holder is not None:
        raise LockedError(holder)
    ports.turn.locked()
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


def switch(ports: Ports, site: Site, ask: Ask, templates: Mapping[str, str], *, choices: Choices) -> Ending:
    """Finish what a killed run left; survey, plan, drive; say what is live by looking."""
    journal = journal_of(ports.host, site.nginx)
    left = _repaired(ports, site, journal)
    if left is not None and left.outcome is Outcome.STUCK:
        return left
    facts = surveyed(ports.host, site, adopt=choices.adopt)
    job = jobs.for_switch(ports, site, ask, jobs.Found(facts=facts, runs=journal.opened, templates=templates))
    if jobs.is_unchanged(ports.host, job):
        ports.turn.stands_by()
        return _unchanged(ports, job.plan, site.nginx)
    return _start(ports, msgspec.structs.replace(job, accept_one_way=choices.one_way), journal)


def rollback(ports: Ports, site: Site, ask: Ask, *, number: int | None) -> Ending:
    """Back to what was live before, or to generation `number`: its files (but for `default_down`), with no gate, template or watch.

    Where a killed switch is repaired, that was the rollback, or it had not gone forward: a second one would go too far.
    """
    journal = journal_of(ports.host, site.nginx)
    left = _repaired(ports, site, journal)
    if left is not None and (left.outcome is Outcome.STUCK or (number is None and not _is_rollback_left(left))):
        return left
    facts = _way_back_facts(ports.host, site)
    _refuse_if(preflight.blockers(site.nginx, facts))
    if number is None and not ports.turn.goes_back(jobs.stand(ports, site, facts)):
        return _unchanged(ports, planning.staying(ask, facts.disk.live, facts.disk.pool), site.nginx)
    job = jobs.for_rollback(ports, site, ask, jobs.Found(facts=facts, runs=journal.opened), number=number)
    return _start(ports, job, journal)


def _is_rollback_left(left: Ending) -> bool:
    """Whether a repair leaves the rollback that was asked for to be done: a switch went forward, or a rollback never began."""
    is_forward = left.outcome is Outcome.SWITCHED
    is_unbegun = left.outcome in {Outcome.REFUSED, Outcome.INTERRUPTED}
    return is_unbegun if left.run.plan.copy_of else is_forward


def _unchanged(ports: Ports, plan: Plan, nginx: Nginx) -> Ending:
    begun = run.begin(Started(plan=plan, at=ports.clock.now()))
    return _ending(begun, Outcome.UNCHANGED, live=survey.live_now(ports.host, nginx))


def repair(ports: Ports, site: Site) -> Ending | None:
    """Finish or undo what a killed or STUCK run left; None where nothing is left. Killed itself, it is simply run again."""
    return _repaired(ports, site, journal_of(ports.host, site.nginx))


def _repaired(ports: Ports, site: Site, journal: Journal) -> Ending | None:
    left = run.unfinished(journal.open())
    if left is not None and Step.ARM not in left.plan.skips:
        _settle_deadman(ports, left, journal, site.nginx)
        left = run.unfinished(journal.open())
    if left is None:
        return _taken_back(ports, site, journal)
    plan = left.plan
    ports.tell("repair", f"run {plan.run} ({plan.command} to {plan.pool}) was left at {left.phase}")
    _prepare(ports, journal)
    live = survey.live_now(ports.host, site.nginx)
    if left.is_over and live.agrees and live.disk != plan.to:
        write(journal, Settled(run=plan.run, at=ports.clock.now()), ports)
        return None
    left = _taken_up(ports, left, journal, live)
    if left.is_over:
        return _close(ports, left, journal, site.nginx)
    job = Job(site=site, plan=plan, facts=_way_back_facts(ports.host, site), files={}, back_files={}, new=(), old=())
    return _drive(ports, left, job, journal)


def _settle_deadman(ports: Ports, left: Run, journal: Journal, nginx: Nginx) -> Disarmed:
    """From here on nobody else acts; if the host itself has, the journal says so. HostError while it acts still."""
    stood = deadman.disarm(ports.host, nginx, left.plan.run)
    if stood.result is Result.UNKNOWN:
        raise HostError("take up a run that was left", stood.said)
    if stood.fired is not None and not any(each.fired for each in journal.read() if each.plan.run == left.plan.run):
        write(journal, stood.fired, ports)  # its disk was full when it fired
    return stood


def _taken_back(ports: Ports, site: Site, journal: Journal) -> Ending | None:
    """A run that the host itself took back, where nobody has been told of it yet."""
    last = next(iter(journal.opened[::-1]), None)
    if last is None or last.fired is None or last.closed is not None:
        return None
    ports.tell("repair", f"run {last.plan.run} ({last.plan.command} to {last.plan.pool}): {last.fired.text}")
    return _close(ports, last, journal, site.nginx)


def _taken_up(ports: Ports, left: Run, journal: Journal, live: Live) -> Run:
    """The run with the step that was cut off counted as what it came to, by what the link says now.

    One that got STUCK in its finish has passed its watch: where nginx serves what it wanted, it is finished and not taken back.
    """
    plan, step = left.plan, left.pending or left.next_step
    record: AnyRecord
    if step is None:
        is_forward = left.steps[-1].step is Step.FINISH and live.agrees and live.disk == plan.to
        record = Retried(run=plan.run, at=ports.clock.now(), is_forward=is_forward)
    elif left.can_interrupt:
        result = run.resolve(left, live.disk, is_proved=live.agrees)
        record = Ended(run=plan.run, step=step, result=result, said="the run was killed here", at=ports.clock.now())
    else:
        return left
    write(journal, record, ports)
    return run.fold(left, record)


def _prepare(ports: Ports, journal: Journal) -> None:
    """A disk that is full now must not stop a way back: what that needs is on disk already."""
    try:
        journal.prepare()
    except HostError as exc:
        ports.tell("journal", str(exc))


def plan(ports: Ports, site: Site, ask: Ask, templates: Mapping[str, str], *, choices: Choices) -> Planned:
    """The switch that `ask` would be, without doing any of it. RefusedError where it would be refused before its first step."""
    facts = surveyed(ports.host, site, adopt=choices.adopt)
    runs = journal_of(ports.host, site.nginx).read()
    if run.unfinished(runs):
        raise RefusedError(_unfinished(ports.lock.holder()))
    job = jobs.for_switch(ports, site, ask, jobs.Found(facts=facts, runs=runs, templates=templates))
    return Planned(
        plan=job.plan,
        steps=machine.way(job.plan.skips),
        diff=jobs.diff(ports.host, job),
        gate=gating.one_round(ports, job.new, job.old),
        is_unchanged=jobs.is_unchanged(ports.host, job),
        warmth=job.warmth,
        notes=(*warming.notes(site, ask.pool, job.warmth, facts), *_seen(site, job)),
    )


def _unfinished(holder: Owner | None) -> Refusal:
    if holder is None:
        return Refusal(what="a killed run is unfinished", hint="`upswitch repair` finishes or undoes it")
    return Refusal(what=f"a run is under way: {holder.text}", hint="wait for its end; `upswitch status` shows what is live")


def _seen(site: Site, job: Job) -> tuple[str, ...]:
    """What the watch would go by, and what it can't see."""
    if Step.WATCH in job.plan.skips:
        return ()
    return sight.told(job.facts.access_logs, job.attribution, probe=site.watch.probe)


# ---- surveying ----


def surveyed(host: Host, site: Site, *, adopt: bool) -> Facts:
    """The host as it is, fit for a switch; RefusedError where it is not."""
    facts = _survey(host, site)
    _refuse_if(preflight.refusals(site.nginx, facts, adopt=adopt))
    return facts


def _way_back_facts(host: Host, site: Site) -> Facts:
    """A way back must not need a configuration that passes now: the live generation may be its fault."""
    try:
        return _survey(host, site)
    except RefusedError:
        return survey.survey_without_conf(host, site.nginx)


def _survey(host: Host, site: Site) -> Facts:
    try:
        return survey.survey(host, site.nginx, tuple(upstream.name for upstream in site.upstreams))
    except NginxBrokenError as exc:
        is_ours = f"{site.nginx.dir}/" in exc.said
        mend = (
            "the live generation itself does not pass: `upswitch rollback` goes back"
            if is_ours
            else "mend it until `nginx -t` passes"
        )
        hint = f"{mend}; nothing of this run was done"
        raise RefusedError(Refusal(what=f"nginx -T fails: {exc.said}", hint=hint)) from exc


def _refuse_if(refusals: tuple[Refusal, ...]) -> None:
    if refusals:
        raise RefusedError(*refusals)


# ---- driving ----


def _start(ports: Ports, job: Job, journal: Journal) -> Ending:
    """A new run: on disk before its first step."""
    started = Started(plan=job.plan, at=ports.clock.now())
    try:
        journal.prepare()
    except HostError as exc:
        hint = "nothing was done: a run that can't be recorded could not be undone"
        raise RefusedError(Refusal(what=str(exc), hint=hint)) from exc
    journal.note(started)
    return _drive(ports, run.begin(started), job, journal)


def _drive(ports: Ports, begun: Run, job: Job, journal: Journal) -> Ending:
    steps = Steps(ports, job)
    try:
        over = drive(begun, perform=steps.perform, journal=journal, ports=ports)
    finally:
        steps.close()
    over = _disarmed(ports, over, journal, job.site.nginx)
    seen = survey.live(*steps.found) if steps.found else None
    ending = _close(ports, over, journal, job.site.nginx, seen=seen, outdated=steps.outdated)
    return msgspec.structs.replace(ending, gate=steps.gate_report, watch=steps.watch_report)


def _disarmed(ports: Ports, over: Run, journal: Journal, nginx: Nginx) -> Run:
    """No run of ours ends with the host ready to act; where it has acted already its word counts, not ours."""
    is_finished = bool(over.steps) and over.steps[-1].step is Step.FINISH and over.steps[-1].result is Result.OK
    if Step.ARM in over.plan.skips or is_finished:  # the finish has seen to it
        return over
    write(journal, None, ports)
    try:
        stood = _settle_deadman(ports, over, journal, nginx)
        if stood.result is Result.OK:
            return over
        ports.tell("dead-man", stood.said)
        return next((each for each in journal.read()[::-1] if each.plan.run == over.plan.run and each.fired), over)
    except (HostError, JournalCorruptError) as exc:
        ports.tell("dead-man", f"may still take this host back by itself: {exc}")
        return over


def _close(
    ports: Ports, over: Run, journal: Journal, nginx: Nginx, *, seen: Live | None = None, outdated: tuple[str, ...] = ()
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


def _prune(ports: Ports, nginx: Nginx, names: tuple[str, ...]) -> None:
    argv = prune(nginx.dir, names)
    try:
        ports.host.run(argv, deadline=20.0, holds_lock=True)
    except NotAppendedError as exc:
        ports.tell("journal", str(exc))
        ports.host.run(argv, deadline=20.0, holds_lock=True)


def _ending(over: Run, ended: Outcome, *, live: Live) -> Ending:
    return Ending(
        run=over,
        outcome=ended,
        live=live,
        headline=outcome.headline(over, ended, live),
        hint=outcome.hint(over, ended, live),
    )

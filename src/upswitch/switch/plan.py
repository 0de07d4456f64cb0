"""`plan`: what a switch would do, with nothing of it done."""

from collections.abc import Iterator, Mapping

from upswitch.basics.errors import Owner, Refusal, RefusedError
from upswitch.basics.result import Why
from upswitch.basics.value import Value
from upswitch.health import rounds
from upswitch.hosts.host import Ports
from upswitch.site.model import Site
from upswitch.sources import there
from upswitch.switch import machine, run, sourced, warm
from upswitch.switch.job import ANOTHER, Job, diff, for_switch, held_down, is_unchanged
from upswitch.switch.journal import journal_of
from upswitch.switch.machine import Step
from upswitch.switch.preflight import surveyed
from upswitch.switch.run import Plan
from upswitch.switch.session import Ask, Choices
from upswitch.switch.warm import Warmth
from upswitch.watch import attribution
from upswitch.watch.tried import Tried, tried


class Planned(Value):
    """What a switch would do. `diff` is unified; `gate` is one round of health checks made now; `notes` say what it can't know.

    `refusals`: why the switch would be refused now.
    """

    plan: Plan
    steps: tuple[Step, ...]
    diff: str
    gate: rounds.GateReport
    is_unchanged: bool
    warmth: Warmth
    notes: tuple[str, ...]
    refusals: tuple[Refusal, ...] = ()


def plan(ports: Ports, site: Site, ask: Ask, templates: Mapping[str, str], *, choices: Choices) -> Planned:
    """The switch that `ask` describes. RefusedError where it can't be planned: it would be refused before its first step."""
    runs, holder = journal_of(ports.host, site.nginx).read(), ports.lock.holder()
    if holder or run.unfinished(runs):
        raise RefusedError(_unfinished(holder))
    facts = surveyed(ports.host, site, adopt=choices.adopt)
    site = there.read(ports, site, ask.pool, facts.conf)
    job = for_switch(ports, site, ask, facts=facts, runs=runs, templates=templates)
    gate, own = rounds.one_round(ports, job.new, job.old), _tried(ports, site, job)
    of_source = sourced.refusals(ports.host, job, accepts_shrink=choices.shrink)
    is_same, refusals = is_unchanged(ports.host, job), (*of_source, *_refusals(site, job, gate, own=own, choices=choices))
    if is_same:
        held = held_down(facts, facts.disk.manifest, otherwise=ANOTHER) if facts.disk.manifest else ()
        refusals = tuple(each for each in refusals if each.why is Why.SERVERS_DOWN) or held
    return Planned(
        plan=job.plan,
        steps=machine.way(job.plan.skips),
        diff=diff(ports.host, job),
        gate=gate,
        is_unchanged=is_same,
        warmth=job.warmth,
        notes=(
            *sourced.notes(site, ask.pool),
            *warm.notes(site, ask.pool, job.warmth, facts),
            *filter(None, [job.flag_stays_down]),
            *_seen(site, job, own),
        ),
        refusals=refusals,
    )


def _unfinished(holder: Owner | None) -> Refusal:
    if holder is None:
        return Refusal(what="a killed run is unfinished", hint="`upswitch repair` finishes or undoes it", why=Why.UNFINISHED)
    return Refusal(what=f"a run is under way: {holder.text}", hint="wait for its end; `upswitch status` shows what is live")


def _refusals(site: Site, job: Job, gate: rounds.GateReport, *, own: Tried, choices: Choices) -> Iterator[Refusal]:
    """What the gate and nginx's own health check would say if nothing changed until then."""
    plan, warmth, down = job.plan, job.warmth, [each for each in gate.new if each.failed]
    if down:
        what = f"{len(down)} of {len(gate.new)} servers of {plan.pool} fail a health check now"
        hint = f"start them; a switch waits for them, at most {site.gate.deadline:g} s"
        yield Refusal(what=what, hint=hint, why=Why.SERVERS_DOWN)
    if warmth.failing and not down:
        many = f"{len(warmth.failing)} of {len(gate.new)} servers"
        what = f"nginx's own health check fails for {many} of {plan.pool} now: {', '.join(warmth.failing)}"
        hint = f"find out why it fails though upswitch's passes; a switch waits for it, at most {warmth.longest:g} s"
        yield Refusal(what=what, hint=hint, why=Why.CHECK_DOWN)
    if not gate.has_way_back and not choices.one_way:
        what = f"the former pool {plan.former_pool} fails its health checks: no rollback is possible"
        yield Refusal(what=what, hint=f"fix {plan.former_pool}, or go on without a way back with --one-way", why=Why.NO_WAY_BACK)
    if own.refusal and not choices.one_way:
        yield Refusal(what=own.refusal, hint="fix watch.probe, or the pool that serves now", why=Why.PROBE_FAILED)


def _tried(ports: Ports, site: Site, job: Job) -> Tried:
    """The watch's own requests, tried now."""
    if Step.WATCH in job.plan.skips:
        return Tried()
    return tried(ports, site, job.live, logs=job.facts.access_logs, conf=job.facts.conf)


def _seen(site: Site, job: Job, own: Tried) -> tuple[str, ...]:
    """What the watch would read and request, and what it can't see."""
    if Step.WATCH in job.plan.skips:
        return ()
    asked = own.asked if site.watch.probe else ()
    gap = (job.facts.error_gap,) if job.facts.error_gap else ()
    return (*attribution.told(job.facts.access_logs, job.attribution, asked=asked), *gap, *own.told)

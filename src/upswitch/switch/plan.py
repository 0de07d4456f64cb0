"""`plan`: what a switch would do, with nothing of it done."""

from collections.abc import Mapping

from upswitch.basics.errors import Owner, Refusal, RefusedError
from upswitch.basics.result import Why
from upswitch.basics.value import Value
from upswitch.health import rounds
from upswitch.hosts.host import Ports
from upswitch.site.model import Site
from upswitch.switch import machine, run, warm
from upswitch.switch.job import Job, diff, for_switch, is_unchanged
from upswitch.switch.journal import journal_of
from upswitch.switch.machine import Step
from upswitch.switch.preflight import surveyed
from upswitch.switch.run import Plan
from upswitch.switch.session import Ask, Choices
from upswitch.switch.warm import Warmth
from upswitch.watch import attribution
from upswitch.watch.tried import tried


class Planned(Value):
    """What a switch would do. `diff` is unified; `gate` is one round of health checks made now; `notes` say what it can't know."""

    plan: Plan
    steps: tuple[Step, ...]
    diff: str
    gate: rounds.GateReport
    is_unchanged: bool
    warmth: Warmth
    notes: tuple[str, ...]


def plan(ports: Ports, site: Site, ask: Ask, templates: Mapping[str, str], *, choices: Choices) -> Planned:
    """The switch that `ask` describes. RefusedError where it would be refused before its first step."""
    facts = surveyed(ports.host, site, adopt=choices.adopt)
    runs = journal_of(ports.host, site.nginx).read()
    if run.unfinished(runs):
        raise RefusedError(_unfinished(ports.lock.holder()))
    job = for_switch(ports, site, ask, facts=facts, runs=runs, templates=templates)
    return Planned(
        plan=job.plan,
        steps=machine.way(job.plan.skips),
        diff=diff(ports.host, job),
        gate=rounds.one_round(ports, job.new, job.old),
        is_unchanged=is_unchanged(ports.host, job),
        warmth=job.warmth,
        notes=(*warm.notes(site, ask.pool, job.warmth, facts), *filter(None, [job.flag_stays_down]), *_seen(ports, site, job)),
    )


def _unfinished(holder: Owner | None) -> Refusal:
    if holder is None:
        return Refusal(what="a killed run is unfinished", hint="`upswitch repair` finishes or undoes it", why=Why.UNFINISHED)
    return Refusal(what=f"a run is under way: {holder.text}", hint="wait for its end; `upswitch status` shows what is live")


def _seen(ports: Ports, site: Site, job: Job) -> tuple[str, ...]:
    """What the watch would read and request, and what it can't see. Its own requests are tried now."""
    if Step.WATCH in job.plan.skips:
        return ()
    own = tried(ports, site, job.live, logs=job.facts.access_logs, conf=job.facts.conf)
    refused = (f"{own.refusal}. A switch is refused.",) if own.refusal else ()
    asked = own.asked if site.watch.probe else ()
    return (*refused, *attribution.told(job.facts.access_logs, job.attribution, asked=asked), *own.told)

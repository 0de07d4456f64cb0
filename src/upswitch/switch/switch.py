"""`switch`: finish what a killed run left, survey the host, plan, drive, and say what is live by looking."""

from collections.abc import Mapping

import msgspec

from upswitch.basics.errors import Refusal, RefusedError
from upswitch.basics.result import Why
from upswitch.health import rounds
from upswitch.site.model import Site
from upswitch.sources import there
from upswitch.switch import sourced
from upswitch.switch.drive import Ending, start, unchanged
from upswitch.switch.job import ANOTHER, Job, for_switch, held_down, is_unchanged, taken_back
from upswitch.switch.journal import Journal, journal_of
from upswitch.switch.machine import Outcome
from upswitch.switch.preflight import refuse_if, surveyed
from upswitch.switch.repair import repaired, told
from upswitch.switch.session import Ask, Choices, Meeting, RunPorts
from upswitch.watch.recent import recent


def switch(ports: RunPorts, site: Site, ask: Ask, templates: Mapping[str, str], *, choices: Choices) -> Ending:
    """Switch to `ask.pool`. RefusedError where nothing was done; every other ending is a value."""
    journal = journal_of(ports.host, site.nginx)
    left = repaired(ports, site, journal)
    if left is not None and left.outcome is Outcome.STUCK:
        return left
    return told(left, lambda: _switched(ports, site, ask, templates, choices=choices, journal=journal))


def _switched(ports: RunPorts, site: Site, ask: Ask, templates: Mapping[str, str], *, choices: Choices, journal: Journal) -> Ending:
    facts = surveyed(ports.host, site, adopt=choices.adopt)
    site = there.read(ports, site, ask.pool, facts.conf)
    job = for_switch(ports, site, ask, facts=facts, runs=journal.opened, templates=templates)
    if is_unchanged(ports.host, job):
        _refuse_unhealthy(ports, job)
        ports.turn.meet(Meeting.UNCHANGED)
        return unchanged(ports, job.plan, site.nginx)
    refuse_if(sourced.refusals(ports.host, job, accepts_shrink=choices.shrink))
    spans = taken_back(ports, journal.opened)
    return start(ports, msgspec.structs.replace(job, accept_one_way=choices.one_way, taken_back=spans), journal)


def _refuse_unhealthy(ports: RunPorts, job: Job) -> None:
    """What is live already is no success where its servers fail."""
    failed = rounds.failed_twice(ports, job.new)
    live = job.facts.disk.manifest
    if live and not failed:
        refuse_if(held_down(job.facts, live, otherwise=ANOTHER))
    seen = recent(ports.host, job.site, job.facts.access_logs, live) if live else None
    if seen and seen.is_failing and not failed:
        hint = "fix the pool, or switch to another one; `upswitch diagnose` shows why its requests fail"
        raise RefusedError(Refusal(what=f"{seen.pool} is live already, and it fails: {seen.text}", hint=hint, why=Why.SPIKE))
    if failed:
        what = (
            f"{job.plan.pool} is live already, and {len(failed)} of its {len(job.new)} servers are unhealthy: {'; '.join(failed)}"
        )
        hint = "fix the servers; or switch to another pool; `upswitch status` shows the health of every pool"
        raise RefusedError(Refusal(what=what, hint=hint, why=Why.SERVERS_DOWN))

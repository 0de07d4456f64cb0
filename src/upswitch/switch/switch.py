"""switch, rollback, plan and repair: what each does, on one screen."""

from collections.abc import Mapping

import msgspec

from upswitch.site.model import Site
from upswitch.switch.go import Choices, Ending, start, surveyed, unchanged
from upswitch.switch.job import Found, for_switch, is_unchanged
from upswitch.switch.journal import journal_of
from upswitch.switch.planning import Ask
from upswitch.switch.repair import repaired
from upswitch.switch.turn import Meeting, RunPorts
from upswitch.switch.words import Outcome


def switch(ports: RunPorts, site: Site, ask: Ask, templates: Mapping[str, str], *, choices: Choices) -> Ending:
    """Finish what a killed run left; survey, plan, drive; say what is live by looking."""
    journal = journal_of(ports.host, site.nginx)
    left = repaired(ports, site, journal)
    if left is not None and left.outcome is Outcome.STUCK:
        return left
    facts = surveyed(ports.host, site, adopt=choices.adopt)
    job = for_switch(ports, site, ask, Found(facts=facts, runs=journal.opened, templates=templates))
    if is_unchanged(ports.host, job):
        ports.turn.meet(Meeting.UNCHANGED)
        return unchanged(ports, job.plan, site.nginx)
    return start(ports, msgspec.structs.replace(job, accept_one_way=choices.one_way), journal)

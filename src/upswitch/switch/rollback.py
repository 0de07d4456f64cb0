"""upswitch.switch.rollback."""

from upswitch.site.model import Site
from upswitch.switch import planning, preflight
from upswitch.switch.go import Ending, refuse_if, start, unchanged, way_back_facts
from upswitch.switch.job import Found, for_rollback, stand
from upswitch.switch.journal import journal_of
from upswitch.switch.planning import Ask
from upswitch.switch.repair import repaired
from upswitch.switch.turn import RunPorts
from upswitch.switch.words import Outcome


def rollback(ports: RunPorts, site: Site, ask: Ask, *, number: int | None) -> Ending:
    """Back to what was live before, or to generation `number`: its files (but for `default_down`), with no gate, template or watch.

    Where a killed switch is repaired, that was the rollback, or it had not gone forward: a second one would go too far.
    """
    journal = journal_of(ports.host, site.nginx)
    left = repaired(ports, site, journal)
    if left is not None and (left.outcome is Outcome.STUCK or (number is None and not _is_rollback_left(left))):
        return left
    facts = way_back_facts(ports.host, site)
    refuse_if(preflight.blockers(site.nginx, facts))
    if number is None and not ports.turn.goes_back(stand(ports, site, facts)):
        return unchanged(ports, planning.staying(ask, facts.disk.live, facts.disk.pool), site.nginx)
    job = for_rollback(ports, site, ask, Found(facts=facts, runs=journal.opened), number=number)
    return start(ports, job, journal)


def _is_rollback_left(left: Ending) -> bool:
    """Whether a repair leaves the rollback that was asked for to be done: a switch went forward, or a rollback never began."""
    is_forward = left.outcome is Outcome.SWITCHED
    is_unbegun = left.outcome in {Outcome.REFUSED, Outcome.INTERRUPTED}
    return is_unbegun if left.run.plan.copy_of else is_forward

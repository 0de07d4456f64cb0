"""`rollback`: back to what was live before, or to one generation: the files that served then, with no template and no watch."""

from collections.abc import Sequence

import msgspec

from upswitch.basics.result import Why
from upswitch.generations import store
from upswitch.hosts.wait import until
from upswitch.nginx.conf_logs import AccessLog
from upswitch.site.model import Site
from upswitch.switch.destination import destination
from upswitch.switch.drive import Ending, start, unchanged
from upswitch.switch.job import for_rollback, stand, staying
from upswitch.switch.journal import Journal, journal_of
from upswitch.switch.machine import Outcome
from upswitch.switch.preflight import blockers, refuse_if, way_back_facts
from upswitch.switch.repair import repaired, told
from upswitch.switch.session import Ask, RunPorts
from upswitch.watch.recent import ENOUGH, Recent, recent

_LOOK_S, _QUIET_S, _LOOK_EVERY = 1.0, 0.3, 0.1  # seconds


def rollback(ports: RunPorts, site: Site, ask: Ask, *, to: str = "", is_forced: bool = False) -> Ending:
    """Make live again what was live before, or what `to` names (destination.py). The files differ only in `default_down`.

    A rollback of a rollback undoes it. Where a killed switch is repaired, that was the rollback, or it had not gone forward: a
    second one would go too far. `is_forced`: into a dead pool, or into a generation that had to be rolled back.
    """
    journal = journal_of(ports.host, site.nginx)
    left = repaired(ports, site, journal)
    if left is not None and (left.outcome is Outcome.STUCK or (not to and not _is_rollback_left(left, is_forced=is_forced))):
        return left
    return told(left, lambda: _gone_back(ports, site, ask, to=to, is_forced=is_forced, journal=journal))


def _gone_back(ports: RunPorts, site: Site, ask: Ask, *, to: str, is_forced: bool, journal: Journal) -> Ending:
    facts = way_back_facts(ports.host, site)
    refuse_if(blockers(site.nginx, facts))
    if not to and not ports.turn.goes_back(stand(ports, site, facts)):
        return unchanged(ports, staying(ask, facts.disk.live, facts.disk.pool), site.nginx)
    live, runs, manifests = facts.disk.live, journal.opened, store.read_manifests(ports.host, site.nginx)
    origin = destination(to, live=live, manifests=manifests, runs=runs, is_forced=is_forced)
    if origin == live and to == facts.disk.pool:
        ending = unchanged(ports, staying(ask, live, to), site.nginx)
        said = f"UNCHANGED: {to} is live already (generation {live}), and no newer generation of it is known good"
        return msgspec.structs.replace(ending, headline=said, hint="`upswitch rollback` goes back to what was live before it")
    job = for_rollback(ports, site, ask, facts=facts, runs=runs, origin=origin, manifests=manifests, is_forced=is_forced)
    return _seen_by_clients(ports, site, start(ports, job, journal), facts.access_logs)


def _seen_by_clients(ports: RunPorts, site: Site, ending: Ending, logs: Sequence[AccessLog]) -> Ending:
    """HELD where the requests to what is live again fail. Its health checks may pass all the same, and no watch follows."""
    manifests = store.read_manifests(ports.host, site.nginx) if ending.outcome is Outcome.SWITCHED else {}
    live, began = manifests.get(ending.run.plan.to), ports.clock.monotonic()
    if live is None:
        return ending

    def is_final(seen: Recent) -> bool:
        return seen.total >= ENOUGH or (not seen.total and ports.clock.monotonic() - began > _QUIET_S)

    seen = until(is_final, lambda: recent(ports.host, site, logs, live), every=_LOOK_EVERY, clock=ports.clock, within=_LOOK_S)
    if not seen.is_failing:
        return ending
    return msgspec.structs.replace(
        ending,
        outcome=Outcome.HELD,
        live=msgspec.structs.replace(ending.live, is_failing=True),
        headline=f"HELD: {live.pool} is live again (generation {live.name}), but its requests FAIL: {seen.text}",
        hint=f"decide now: fix {live.pool}, or `upswitch rollback` undoes this; `upswitch help held`",
        why=Why.SPIKE,
    )


def _is_rollback_left(left: Ending, *, is_forced: bool) -> bool:
    """Whether the rollback still has to be done after a repair: a switch went forward, or a rollback never began."""
    is_unbegun = left.outcome in {Outcome.REFUSED, Outcome.INTERRUPTED}
    is_forward = left.outcome is Outcome.SWITCHED or (is_forced and left.outcome is Outcome.HELD)
    return is_unbegun if left.run.plan.copy_of else is_forward

"""Is there a way back, and is it needed? One short look at the servers that it leads to, and at what nginx serves.

To go back to a dead pool, over one that answers, would be an outage that upswitch makes itself.
"""

from collections.abc import Callable, Sequence

from upswitch.basics.errors import HostError, Refusal, RefusedError
from upswitch.basics.result import Result, Took, Why
from upswitch.generations import store
from upswitch.generations.generation import Manifest
from upswitch.health import rounds
from upswitch.health.rounds import GateReport
from upswitch.hosts.host import Host, Ports
from upswitch.nginx.running import ask_marker
from upswitch.site.model import Dialect, Nginx, Probe, Site, Target
from upswitch.switch.proof import MARKS, Finding, Proof
from upswitch.switch.run import Plan

TIMEOUTS = (0.8, 3.0)
"""Seconds that a health check may take in the first look and in the second. Only a pool that failed the first gets the second."""


def dead(ports: Ports, site: Site, dialect: Dialect, *, back: Manifest, live: Manifest) -> tuple[str, ...]:
    """The failed servers of each upstream that `back` can't serve; () where the way is open.

    An upstream that has the same servers in `live` is passed over. A server that upswitch itself could not ask counts as healthy.
    HostError where the host can't be reached.
    """
    targets = differing(*(rounds.staged_targets(site, each, dialect=dialect) for each in (back, live)))
    failed: tuple[str, ...] = ()
    for timeout in TIMEOUTS:
        seen = look(ports, targets, timeout=timeout)
        served = {target.upstream for target, probe in seen if probe.ok or probe.is_unknown}
        failed = tuple(
            f"{target.upstream} {target.server}: {probe.error}" for target, probe in seen if target.upstream not in served
        )
        if not failed:
            break
    return failed


def stayed(ports: Ports, site: Site, dialect: Dialect, plan: Plan) -> Took | None:
    """HOLD where nginx serves the new pool of `plan` and the former pool is dead. None where the run goes back.

    A host that can't be asked goes back: nothing says that it must not.
    """
    try:
        marker = ask_marker(ports.host, site.nginx)
        manifests = store.read_manifests(ports.host, site.nginx)
        back, live = manifests.get(plan.base), manifests.get(plan.to)
        if marker is None or marker.generation != plan.to or not back or not live:
            return None
        failed = dead(ports, site, dialect, back=back, live=live)
    except HostError as exc:
        ports.tell("restore", f"upswitch could not check the former pool first: {exc}")
        return None
    said = f"the former pool {plan.former_pool} is dead, so upswitch did not go back"
    return Took(result=Result.HOLD, said=said, details=failed, why=Why.NO_WAY_BACK) if failed else None


def never_left(host: Host, nginx: Nginx, plan: Plan, finding: Finding, *, live: str, dialect: Dialect) -> Took | None:
    """Where nginx rejects every reload, it still serves what it served before the run: the link then names that again."""
    marker = ask_marker(host, nginx) if finding.proof is Proof.REJECTED else None
    if marker is None or marker.generation not in {plan.former, plan.base}:
        return None
    took = store.point(host, nginx, expect=live, to=marker.generation)
    if took.result is not Result.OK:
        return took
    # nginx-facts.md, section 6: its globals point into the configuration that was thrown away.
    crash = "; UNTIL A RELOAD SUCCEEDS, A WORKER THAT DIES CRASHES IN A LOOP (a fault of the check module): fix nginx first"
    warned = crash if dialect is not Dialect.NONE else ""
    return Took(result=Result.OK, said=f"nginx rejects every reload and serves {marker.generation}: {finding.said}{warned}")


def none(plan: Plan, report: GateReport) -> Took:
    """The refusal of a switch whose way back is dead already."""
    said = f"{plan.pool} is healthy, but the former pool {plan.former_pool} is not: no rollback is possible (see --one-way)"
    return Took(result=Result.FAILED, said=said, details=tuple(tally.text for tally in report.old), why=Why.NO_WAY_BACK)


def untouched(host: Host, nginx: Nginx, plan: Plan, *, settle: Callable[[str], Finding] | None) -> Took | None:
    """UNTOUCHED where nginx serves what it served before the run: the link then names that again. None where it serves another.

    `settle` waits for what a reload may still do; None where none has reached nginx. The link is put back first, so a late reload
    loads what serves now. One that began earlier is found by asking nginx again.
    """
    served, live = _served(host, nginx), store.read_disk(host, nginx).live
    if served not in {plan.former, plan.base} or live not in {plan.former, plan.base, plan.to, plan.back}:
        return None
    took = store.point(host, nginx, expect=live, to=served) if live != served else None
    if took is not None and took.result is not Result.OK:
        return took
    finding = settle(served) if settle else None
    if (finding is not None and finding.proof is Proof.OUTAGE) or _served(host, nginx) != served:
        return None
    return Took(result=Result.UNTOUCHED, said=f"nginx never left {served}, and the live link points to it again")


def _served(host: Host, nginx: Nginx) -> str:
    """The generation that nginx reports MARKS times in a row; "" where it reports several, or none."""
    marks = [ask_marker(host, nginx) for _ in range(MARKS)]
    names = {mark.generation if mark else "" for mark in marks}
    return names.pop() if len(names) == 1 else ""


def refuse_dead(ports: Ports, site: Site, dialect: Dialect, *, back: Manifest, live: Manifest, is_forced: bool) -> None:
    """RefusedError where a rollback by hand would lead from a pool that answers to a dead one, and is not forced to."""
    seen = look(ports, rounds.staged_targets(site, back, dialect=dialect), timeout=TIMEOUTS[0])
    sick = [f"{target.server}: {probe.error}" for target, probe in seen if not (probe.ok or probe.is_unknown)]
    if sick:
        said = f"{len(sick)} of {len(seen)} servers of pool {back.pool} are unhealthy: {'; '.join(sick)}"
        ports.tell("rollback", said, is_bad=True)
    failed = dead(ports, site, dialect, back=back, live=live) if sick else ()
    targets = rounds.staged_targets(site, live, dialect=dialect) if failed and not is_forced else ()
    if any(probe.ok for _, probe in look(ports, targets, timeout=TIMEOUTS[0])):
        what = f"pool {back.pool} is dead, and pool {live.pool}, which is live, answers: {'; '.join(failed)}"
        hint = f"start the servers of {back.pool}, then try again; `upswitch rollback --force` goes there anyway"
        raise RefusedError(Refusal(what=what, hint=hint, why=Why.NO_WAY_BACK))


def differing(back: Sequence[Target], live: Sequence[Target]) -> tuple[Target, ...]:
    """The targets of `back`, without the upstreams that have the same servers in both."""
    pairs = [{(each.upstream, each.server) for each in targets} for targets in (back, live)]
    changed = {upstream for upstream, _ in pairs[0] ^ pairs[1]}
    return tuple(each for each in back if each.upstream in changed)


def look(ports: Ports, targets: Sequence[Target], *, timeout: float) -> tuple[tuple[Target, Probe], ...]:
    """One short health check of each server, all at once."""
    return tuple(zip(targets, ports.prober.round([rounds.within(target, timeout) for target in targets]), strict=True))

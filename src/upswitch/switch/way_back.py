"""Is there a way back, and is it needed? One short look at the servers that it leads to, and at what nginx serves.

To go back to a dead pool, over one that answers, would be an outage that upswitch makes itself.
"""

from collections.abc import Callable, Sequence

import msgspec

from upswitch.basics.errors import HostError, Refusal, RefusedError
from upswitch.basics.result import Result, Took, Why
from upswitch.basics.value import Value
from upswitch.generations import store
from upswitch.generations.generation import Manifest
from upswitch.health import gate, rounds
from upswitch.health.rounds import GateReport
from upswitch.hosts.host import Host, Ports
from upswitch.nginx.running import ask_marker
from upswitch.site.model import Dialect, Nginx, Probe, Site, Target
from upswitch.switch.proof import MARKS, Finding, Proof
from upswitch.switch.run import Plan
from upswitch.watch.report import WatchReport

TIMEOUTS = (0.8, 3.0)
"""Seconds that a health check may take in the first look and in the second. Only a pool that failed the first gets the second."""


class Side(Value):
    """The servers of one upstream in one pool. `wrong` of them answered wrongly. `sick`: the unhealthy ones, and why."""

    pool: str
    servers: int
    wrong: int
    sick: tuple[str, ...]

    @property
    def alive(self) -> int:
        return self.servers - len(self.sick)


class Look(Value):
    """One upstream by one health check of each server of both pools, all at once."""

    upstream: str
    back: Side
    live: Side

    @property
    def is_dead(self) -> bool:
        """No server is alive; or half answer wrongly, which nginx passes on to clients, and the live pool is healthier."""
        is_healthier = self.live.alive * self.back.servers > self.back.alive * self.live.servers
        return not self.back.alive or (2 * self.back.wrong >= self.back.servers and is_healthier)

    @property
    def text(self) -> str:
        alive = f"{self.back.alive} of {self.back.servers} servers of {self.back.pool} are alive"
        return f"{self.upstream}: {alive}, {self.live.alive} of {self.live.servers} of {self.live.pool}"


def look(ports: Ports, site: Site, dialect: Dialect, *, back: Manifest, live: Manifest) -> tuple[Look, ...]:
    """Each upstream that the two pools serve with different servers; once more where `back` is dead in one.

    A server that upswitch itself could not ask counts as alive. HostError where the host can't be reached.
    """
    old, new = (rounds.staged_targets(site, each, dialect=dialect) for each in (back, live))
    old, new = rounds.differing(old, new), rounds.differing(new, old)
    for timeout in TIMEOUTS:
        probes = iter(ports.prober.round([rounds.within(target, timeout) for target in (*old, *new)]))
        seen = [[(target, next(probes)) for target in targets] for targets in (old, new)]
        looks = tuple(
            Look(upstream=name, back=_side(name, back.pool, seen[0]), live=_side(name, live.pool, seen[1]))
            for name in dict.fromkeys(target.upstream for target in old)
        )
        if not any(each.is_dead for each in looks):
            break
    return looks


def _side(upstream: str, pool: str, seen: Sequence[tuple[Target, Probe]]) -> Side:
    ours = [(target, probe) for target, probe in seen if target.upstream == upstream]
    failed = [(target, probe) for target, probe in ours if not (probe.ok or probe.is_unknown)]
    sick = tuple(f"{upstream} {target.server} of {pool} is unhealthy: {probe.error}" for target, probe in failed)
    return Side(pool=pool, servers=len(ours), wrong=sum(probe.is_wrong for _, probe in failed), sick=sick)


def dead_of(looks: Sequence[Look]) -> tuple[str, ...]:
    """How many servers of each pool are alive, for each upstream that is dead."""
    return tuple(each.text for each in looks if each.is_dead)


def sick_of(looks: Sequence[Look]) -> tuple[str, ...]:
    """The unhealthy servers of the pool that the way leads to."""
    return tuple(line for each in looks for line in each.back.sick)


def asked(ports: Ports, site: Site, dialect: Dialect, plan: Plan, *, live: str) -> Took:
    """HOLD where nginx serves the new pool of `plan` and the former pool is dead; else OK. `details`: its unhealthy servers.

    `live` is the generation that the live link names. A host that can't be asked goes back: nothing says that it must not.
    """
    try:
        marker = ask_marker(ports.host, site.nginx)
        manifests = store.read_manifests(ports.host, site.nginx)
        back, new = manifests.get(plan.base), manifests.get(plan.to)
        is_served = marker is not None and marker.generation == plan.to == live
        looks = look(ports, site, dialect, back=back, live=new) if is_served and back and new else ()
    except HostError as exc:
        ports.tell("restore", f"upswitch could not check the former pool first: {exc}")
        return Took(result=Result.OK, said="")
    dead, sick = dead_of(looks), sick_of(looks)
    if not dead:
        return Took(result=Result.OK, said="", details=sick)
    said = f"the former pool {plan.former_pool} is dead, so upswitch did not go back"
    return Took(result=Result.HOLD, said=said, details=(*dead, *sick), why=Why.NO_WAY_BACK)


def kept(report: WatchReport, asked: Took) -> WatchReport:
    """A watch that would go back, held where there is nothing to go back to."""
    if asked.result is not Result.HOLD:
        return report
    return msgspec.structs.replace(
        report, result=asked.result, details=(*report.details, f"held: {asked.said}", *asked.details), why=asked.why
    )


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


def refused(plan: Plan, report: rounds.GateReport) -> Took:
    down = gate.down(report.new)
    said = f"{len(down)} of {len(report.new)} servers of {plan.pool} are not healthy after {report.seconds:.1f} s"
    details = tuple(tally.text for tally in down)
    if not report.has_way_back:
        details += (f"The live pool {plan.former_pool} fails its health checks too",)
    return Took(result=Result.FAILED, said=said, details=details, why=Why.SERVERS_DOWN)


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


def refuse_dead(ports: Ports, site: Site, dialect: Dialect, *, back: Manifest, live: Manifest, is_forced: bool) -> tuple[Look, ...]:
    """How healthy `back` is. RefusedError where a rollback by hand would lead from a pool that answers to a dead one."""
    looks = look(ports, site, dialect, back=back, live=live)
    dead, sick = dead_of(looks), sick_of(looks)
    if dead and not is_forced and any(each.live.alive for each in looks):
        what = f"pool {back.pool} is dead, and pool {live.pool}, which is live, answers: {'; '.join((*dead, *sick))}"
        hint = f"start the servers of {back.pool}, then try again; `upswitch rollback --force` goes there anyway"
        raise RefusedError(Refusal(what=what, hint=hint, why=Why.NO_WAY_BACK))
    return looks

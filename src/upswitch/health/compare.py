"""nginx's own view of the site's servers, and ours, side by side."""

from collections.abc import Sequence

from upswitch.basics.errors import HostError
from upswitch.basics.text import printable
from upswitch.basics.value import Value
from upswitch.generations.generation import Manifest, served_as
from upswitch.health import rounds
from upswitch.hosts.host import Host, Ports
from upswitch.hosts.sh import QUICK_S
from upswitch.logs import error_line
from upswitch.nginx import commands
from upswitch.nginx.marker import Checked, CheckStatus
from upswitch.nginx.processes import Family
from upswitch.site.model import Dialect, Probe, Site, Target, effective_check

_LOG_TAIL = 1 << 22  # bytes of the error log that are searched for a rejected reload


def last_rejection(host: Host, error_log: str, family: Family | None) -> str | None:
    """What the master said when it rejected a reload since the present workers began; "": it did not; None: nobody can tell."""
    workers = family.workers if family else ()
    pid = family.master.pid if family and family.master else 0
    if not workers:
        return None
    began = host.run(commands.started(min(worker.start for worker in workers)), deadline=QUICK_S)
    since, _, until = printable(began.out.strip()).partition(" - ")
    lines = _log_tail(host, error_log)
    return None if lines is None or not until else error_line.emerg_between(lines, pid, since=since, until=until)


def _log_tail(host: Host, path: str) -> list[bytes] | None:
    try:
        end = host.read(path, limit=0) if path else None
        found = host.read(path, offset=max(0, end.size - _LOG_TAIL)) if end else None
    except HostError:
        return None
    return found.data.splitlines() if found else None


class Compared(Value):
    """One server: what nginx counts, and one probe of ours."""

    upstream: str
    pool: str
    nginx: Checked
    ours: Probe

    @property
    def ours_said(self) -> str:
        return "up" if self.ours.ok else f"down ({self.ours.error})"

    @property
    def is_serving(self) -> bool:
        """Not a standby."""
        return self.nginx.upstream == self.upstream

    @property
    def problem(self) -> str:
        """What of a server that is to serve now is wrong, in either view; "" where both call it up."""
        name = f"{self.upstream} {self.nginx.address} of the live pool {self.pool}"
        if self.nginx.is_up:
            return "" if self.ours.ok else f"{name}: nginx's own check says up, but upswitch's check fails ({self.ours.error})"
        ours = "the check by upswitch passes" if self.ours.ok else f"the check by upswitch fails ({self.ours.error})"
        return f"{name}: nginx's own health check says {self.nginx.state}; {ours}"


class PoolHealth(Value):
    """One pool by one short health check of each of its servers. `failed` are the servers that failed, with what was wrong."""

    pool: str
    is_live: bool
    servers: int
    failed: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        role = "live" if self.is_live else "standby"
        said = f"{self.pool} ({role}): {self.servers - len(self.failed)} of {self.servers} servers are healthy"
        return said + (f"; {'; '.join(self.failed)}" if self.failed else "")


_PROBE_S = 0.8  # seconds that a health check of `status` may take


def sick_pool(compared: Sequence[Compared], probed: Sequence[PoolHealth]) -> tuple[str, ...]:
    """What is wrong with the servers of the live pool; () where they are healthy, or were not asked."""
    unhealthy = (f"servers of the live pool are unhealthy: {pool.text}" for pool in probed if pool.is_live and pool.failed)
    return (*(each.problem for each in compared if each.is_serving and each.problem), *unhealthy)


def both(
    ports: Ports, site: Site, live: Manifest | None, status: CheckStatus | None
) -> tuple[tuple[Compared, ...], tuple[PoolHealth, ...]]:
    """Every server by nginx's own check (`status`) and ours; where nginx has none, by ours alone."""
    compared = compare(ports, site, live.pool if live else "", status)
    return compared, () if compared else probe_pools(ports, site, live)


def probe_pools(ports: Ports, site: Site, live: Manifest | None) -> tuple[PoolHealth, ...]:
    """Every pool of the site, the live one by its generation's own servers. All servers are asked at once."""
    targets = {pool: rounds.targets(site, pool, {}, dialect=Dialect.NONE) for pool in site.pools}
    if live is not None:
        targets[live.pool] = rounds.staged_targets(site, live, dialect=Dialect.NONE)
    asked = [(pool, rounds.within(target, _PROBE_S)) for pool, each in targets.items() for target in each]
    probes = ports.prober.round([target for _, target in asked])
    failed = [
        (pool, f"{target.upstream} {target.server}: {probe.error}")
        for (pool, target), probe in zip(asked, probes, strict=True)
        if not (probe.ok or probe.is_unknown)
    ]
    return tuple(
        PoolHealth(
            pool=pool,
            is_live=live is not None and pool == live.pool,
            servers=len(each),
            failed=tuple(text for of, text in failed if of == pool),
        )
        for pool, each in targets.items()
    )


def compare(ports: Ports, site: Site, live_pool: str, status: CheckStatus | None) -> tuple[Compared, ...]:
    """Every server of the site that nginx checks, live and standing by; () where it has no check, or did not answer."""
    if status is None:
        return ()
    rules = {each.name: effective_check(each, site.gate, status.dialect) for each in site.upstreams if each.check is not None}
    seen = [(each, *served_as(each.upstream, live_pool)) for each in status.servers]
    known = [(each, upstream, pool) for each, upstream, pool in seen if upstream in rules]
    targets: list[Target] = [rounds.target(upstream, each.address, rules[upstream]) for each, upstream, _ in known]
    probes = ports.prober.round(targets)
    return tuple(
        Compared(upstream=upstream, pool=pool, nginx=each, ours=probe)
        for (each, upstream, pool), probe in zip(known, probes, strict=True)
    )

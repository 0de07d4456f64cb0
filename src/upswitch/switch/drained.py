"""`upswitch drain`: whether the pool that served before can be stopped without cutting anybody off."""

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from upswitch.basics.errors import HostError
from upswitch.basics.value import Value
from upswitch.generations import store, survey
from upswitch.generations.generation import Manifest
from upswitch.generations.store import Disk
from upswitch.hosts.host import Host, Ports
from upswitch.hosts.wait import until
from upswitch.nginx import processes
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.processes import OldWorkers
from upswitch.nginx.running import Running, resolve
from upswitch.nginx.uses import uses
from upswitch.site.model import Dialect, Nginx, Site
from upswitch.site.server_line import is_name
from upswitch.switch import way_back
from upswitch.switch.journal import journal_of
from upswitch.watch.recent import recent

_LOOK_EVERY = 0.2
_TABLE = 1 << 26  # bytes; 150 a connection


class DrainReport(Value):
    """What is left of the former pool. `connections` counts the established ones by address; "" in `pool`: there is no former pool.

    `shared` are its addresses that the live pool has too, `used` where else nginx's configuration names them. `requests`: how the
    last ones to the live pool ended. `problem` says why nothing can be known for sure, "" where it can.
    """

    pool: str
    live: str
    addresses: tuple[str, ...] = ()
    old_workers: tuple[int, ...] = ()
    connections: dict[str, int] = msgspec.field(default_factory=dict)
    shared: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    problem: str = ""
    old: OldWorkers = OldWorkers()
    requests: str = ""

    @property
    def is_safe(self) -> bool:
        return bool(self.pool) and not (self.old_workers or self.connections or self.shared or self.used or self.problem)

    @property
    def said(self) -> str:
        if not self.pool:
            return f"{self.problem or 'no other pool was live before'}, so there is no former pool to stop"
        if self.is_safe:
            seen = f"; {self.requests}" if self.requests else ""
            return f"safe to stop {self.pool}: no old worker, no connection to {', '.join(self.addresses)}{seen}"
        return f"not yet safe to stop {self.pool}: {', '.join(_left(self))}"


def drained(ports: Ports, site: Site) -> DrainReport:
    """One look, from the generation that is live and the one it replaced. HostError where the host can't be asked."""
    nginx = site.nginx
    disk, running = survey.glance(ports.host, nginx)
    manifests = store.read_manifests(ports.host, nginx) if disk.generations else {}
    former = _former(disk.manifest, manifests)
    if disk.manifest is None or former is None:
        return DrainReport(pool="", live=disk.live, problem="" if disk.live else f"{nginx.live} points to no generation")
    report = DrainReport(
        pool=former.pool,
        live=disk.live,
        addresses=former.addresses,
        old_workers=running.old.pids,
        old=running.old,
        connections=_connections(ports.host, running, former.addresses),
        shared=tuple(address for address in former.addresses if address in disk.manifest.addresses),
        problem=running.problem
        or _disagreement(disk, running, nginx)
        or _under_way(ports, nginx)
        or _held_down(disk, running, former),
    )
    return _looked(ports, site, report, running.pid, live=disk.manifest, former=former) if report.is_safe else report


def _held_down(disk: store.Disk, running: Running, former: Manifest) -> str:
    names = ", ".join(survey.live(disk, running).held_down)
    down = f"nginx's own health check holds every server of {names} in the live pool {disk.pool} down"
    return f"{down}, so {former.pool} is the way back" if names else ""


def _looked(ports: Ports, site: Site, report: DrainReport, master: int, *, live: Manifest, former: Manifest) -> DrainReport:
    """With what takes longer to find out: who else uses these servers, and whether the live pool can do without them."""
    found = survey.configured(ports.host, site, master=master)
    if found.conf is None:
        problem = f"nginx's configuration can't be read, so nobody knows who else uses these servers: {found.problem}"
        return msgspec.structs.replace(report, problem=problem)
    requests = recent(ports.host, site, found.access_logs, live)
    failing = f"the live pool {live.pool} fails, so {former.pool} is the way back: {requests.text}" if requests.is_failing else ""
    return msgspec.structs.replace(
        report,
        used=_used(ports.host, site.nginx, found.conf, frozenset(former.addresses)),
        requests=requests.text,
        problem=_dead(ports, site, live, former) or failing,
    )


def _used(host: Host, nginx: Nginx, conf: NginxConf, addresses: frozenset[str]) -> tuple[str, ...]:
    """Where the configuration names these servers beside our generation, also by a host name."""
    by_port = {each.rpartition(":")[2] for each in addresses if not each.startswith("unix:")}
    every = tuple(uses(conf, live=nginx.live))
    names = {use.address for use in every if is_name(use.address)}
    asked = {name: _resolved(host, name) for name in names if name.rpartition(":")[2] in by_port}
    found = (use for use in every if not addresses.isdisjoint(asked.get(use.address, (use.address,))))
    return tuple(dict.fromkeys(use.text for use in found))


def _resolved(host: Host, address: str) -> tuple[str, ...]:
    """NAME:PORT as nginx would resolve it; () where it does not resolve."""
    name, _, port = address.rpartition(":")
    try:
        return tuple(f"{each}:{port}" for each in resolve(host, name))
    except HostError:
        return ()


def wait(ports: Ports, site: Site, *, deadline: float) -> DrainReport:
    """Look until it is safe, for at most `deadline` seconds or until a signal. What waiting can't change ends it at once."""

    def look() -> DrainReport:
        report = drained(ports, site)
        ports.tell("drain", report.said, is_passing=not report.is_safe)
        return report

    def is_final(report: DrainReport) -> bool:
        return report.is_safe or not report.pool or bool(report.shared or report.used)

    return until(is_final, look, every=_LOOK_EVERY, clock=ports.clock, within=deadline, interrupts=ports.interrupts)


def _former(live: Manifest | None, manifests: Mapping[str, Manifest]) -> Manifest | None:
    """What the live generation replaced; generations of the very same servers are passed over, for they go on serving."""
    if live is None:
        return None
    unseen = dict(manifests)
    found = unseen.pop(live.replaces, None)
    while found is not None and set(found.addresses) == set(live.addresses):
        found = unseen.pop(found.replaces, None)
    return found


def _connections(host: Host, running: Running, addresses: tuple[str, ...]) -> dict[str, int]:
    """As nginx's own network namespace shows them, where its master is known."""
    net = "/proc/net" if running.problem else f"/proc/{running.pid}/net"
    count = Counter(peer for peer in _peers(host, net) if peer in addresses)
    return {address: count[address] for address in addresses if count[address]}


def _peers(host: Host, net: str) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        table = host.read(f"{net}/{name}", limit=_TABLE)
        yield from processes.peers(table.data) if table else ()
    table = host.read(f"{net}/unix", limit=_TABLE)
    yield from processes.unix_peers(table.data) if table else ()


def _disagreement(disk: Disk, running: Running, nginx: Nginx) -> str:
    answer = running.marker.generation if running.marker else "nothing"
    return "" if answer == disk.live else f"{nginx.live} points to {disk.live}, but nginx reports {answer}"


def _under_way(ports: Ports, nginx: Nginx) -> str:
    """A run that has not ended may still go back to the former pool: by itself, by `repair`, or by its dead-man."""
    last = next(iter(journal_of(ports.host, nginx).read()[::-1]), None)
    if last is None or not last.is_left:
        return ""
    return f"run {last.plan.run} ({last.plan.command} to {last.plan.pool}) has not ended and may go back to {last.plan.former_pool}"


def _dead(ports: Ports, site: Site, live: Manifest, former: Manifest) -> str:
    """Where the live pool is dead, the former one is the way back."""
    looks = way_back.look(ports, site, Dialect.NONE, back=live, live=former)
    dead = way_back.dead_of(looks)
    named = "; ".join((*dead, *way_back.sick_of(looks)))
    return f"the live pool {live.pool} is dead ({named}), so {former.pool} is the way back" if dead else ""


def _left(report: DrainReport) -> Iterator[str]:
    if report.problem:
        yield report.problem
    if report.old_workers:
        yield f"{report.old.text} (pids {', '.join(map(str, report.old_workers))})"
        if report.old.are_piling_up:
            yield "`worker_shutdown_timeout` in nginx.conf would end them"
    if report.connections:
        total = sum(report.connections.values())
        yield f"open connections to {', '.join(report.connections)}: {total}"
    if report.used:
        yield f"nginx's configuration uses these servers elsewhere: {', '.join(report.used)}"
    if report.shared:
        yield f"the live pool uses these servers too: {', '.join(report.shared)}"

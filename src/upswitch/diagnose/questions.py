"""What `diagnose` asks a live host beside its logs: each server itself, names, who listens. Every question has a deadline."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import replace

from upswitch.basics.errors import HostError
from upswitch.basics.value import Value
from upswitch.generations.store import Disk
from upswitch.health.gate import rounds
from upswitch.hosts.host import Host, Ports
from upswitch.nginx import processes, running
from upswitch.site.model import Site
from upswitch.site.probe import Probe, Target
from upswitch.site.server_line import probe_address
from upswitch.site.words import Dialect

_TABLE = 1 << 26  # bytes; 150 a connection
_AT_ONCE = 16


class Asked(Value):
    """One server, asked past nginx. `nearby` says who listens instead of it, "" where nothing can be said."""

    upstream: str
    pool: str
    target: Target
    probe: Probe
    nearby: str = ""

    @property
    def text(self) -> str:
        failed = f"does not answer as it should: {self.probe.error}"
        answer = f"answers ({self.probe.seconds * 1000:.0f} ms)" if self.probe.ok else failed
        head = f'; it began "{self.probe.head}"' if self.probe.head else ""
        return f"{self.target.server} of pool {self.pool} of {self.upstream}{self._place} {answer}{head}{self._nearby}"

    @property
    def _place(self) -> str:
        return "" if self.target.address == self.target.server else f", asked at {self.target.address},"

    @property
    def _nearby(self) -> str:
        return f"; {self.nearby}" if self.nearby else ""


class Names(Value):
    """The host names of the site's pools as the host resolves them now, and those that don't resolve, with the reason."""

    resolved: Mapping[str, tuple[str, ...]]
    failed: Mapping[str, str]


def resolve(host: Host, site: Site) -> Names:
    """All names at once."""
    single = tuple(_single_servers(site))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="name") as pool:
        found = tuple(pool.map(lambda each: _resolved(host, *each), single))
    return Names(
        resolved={name: addresses for names, _ in found for name, addresses in names.items()},
        failed={what: why for _, failure in found for what, why in failure.items()},
    )


def ask_servers(ports: Ports, site: Site, names: Names, *, dialect: Dialect) -> tuple[Asked, ...]:
    """Every server of every pool, all at once, by the gate's rule."""
    found = [(pool, each) for pool in site.pools for each in rounds.targets(site, pool, names.resolved, dialect=dialect)]
    probes = ports.prober.round([target for _, target in found])
    return tuple(
        Asked(upstream=target.upstream, pool=pool, target=target, probe=probe)
        for (pool, target), probe in zip(found, probes, strict=True)
    )


def with_listeners(host: Host, asked: Sequence[Asked], *, pid: int) -> tuple[Asked, ...]:
    """The same with who listens beside those that are refused; as nginx's network namespace (master `pid`, 0: ours) shows it."""
    if not any(_is_refused(each) for each in asked):
        return tuple(asked)
    net = f"/proc/{pid}/net" if pid else "/proc/net"
    listening = [each for name in ("tcp", "tcp6") for each in processes.listening(_table(host, f"{net}/{name}"))]
    own = processes.own_addresses(_table(host, f"{net}/fib_trie"))
    return tuple(
        replace(each, nearby=processes.nearby(each.target.address, listening, own)) if _is_refused(each) else each for each in asked
    )


def moved(site: Site, disk: Disk, names: Names) -> Iterator[str]:
    """A sentence for each upstream whose names lead elsewhere now than when the live generation was made."""
    for what, why in names.failed.items():
        yield f"{what} does not resolve now: {why}"
    manifest = disk.manifest
    if manifest is None or disk.pool not in site.pools or not names.resolved:
        return
    now = rounds.servers(site, disk.pool, names.resolved)
    for upstream in site.upstreams:
        hosts = {probe_address(each, 0).rpartition(":")[0] for each in upstream.servers(disk.pool)}
        then, here = set(manifest.servers.get(upstream.name, ())), set(now[upstream.name])
        if hosts & {*names.resolved} and not hosts & {*names.failed} and then and here != then:
            named = _listed(hosts & {*names.resolved})
            yield (
                f"{upstream.name}: {named} lead to {_listed(here - then)} now, and nginx was given {_listed(then - here)} "
                f"(generation {disk.live}): it looks names up only when it is loaded"
            )


def _listed(addresses: Collection[str]) -> str:
    return ", ".join(sorted(addresses)) or "nothing more"


def _single_servers(site: Site) -> Iterator[tuple[Site, str]]:
    """The site with one server each: one that does not resolve must not hide the others."""
    for upstream in site.upstreams:
        for pool in upstream.pools:
            for server in pool.servers:
                one = replace(upstream, pools=(replace(pool, servers=(server,)),))
                yield replace(site, upstreams=(one,)), pool.name


def _resolved(host: Host, site: Site, pool: str) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, str]]:
    try:
        return running.resolve_names(host, site, pool), {}
    except HostError as exc:
        return {}, {exc.what.removeprefix("resolve "): exc.why}


def _is_refused(asked: Asked) -> bool:
    return not asked.probe.ok and "refused" in asked.probe.error.lower()


def _table(host: Host, path: str) -> bytes:
    try:
        chunk = host.read(path, limit=_TABLE)
    except HostError:
        return b""
    return chunk.data if chunk else b""

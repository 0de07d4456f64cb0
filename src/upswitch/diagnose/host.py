"""What a live host says to `diagnose` besides its logs: how nginx is configured, what it runs, and how each server answers.

Every question to the host has a deadline.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import replace

from upswitch.basics.errors import HostError, NginxBrokenError
from upswitch.basics.value import Value
from upswitch.diagnose import directives, listener
from upswitch.diagnose.directives import Known, known_of
from upswitch.diagnose.finding import Finding
from upswitch.diagnose.listener import Failing, Heard
from upswitch.generations import store, survey
from upswitch.generations.store import Disk
from upswitch.health import rounds
from upswitch.hosts.host import Host, Ports
from upswitch.nginx import conf_logs, configuration, processes, running
from upswitch.nginx.build import Build
from upswitch.nginx.conf_logs import LogFormat
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.marker import Checked
from upswitch.nginx.running import Running
from upswitch.site.model import Dialect, Nginx, Probe, Site, Target
from upswitch.site.server_line import is_address, probe_address

_ENOUGH = 20
"""Requests that each server of an upstream should have had before one without any means something."""

_MOST_NAMED = 10


class Places(Value):
    """Whose an address is. By upstream: `live`, of the pool that serves; `idle`, of the other pools of the site.

    `others` are all that nginx's configuration passes to besides, "" where that could not be read. `is_open`: a `proxy_pass` holds
    a variable or a name, so an address may come from there.
    """

    live: Mapping[str, tuple[str, ...]]
    idle: Mapping[str, tuple[str, ...]]
    others: frozenset[str] = frozenset()
    is_open: bool = False

    @property
    def known(self) -> frozenset[str]:
        pools = (*self.live.values(), *self.idle.values())
        return self.others | {*self.live, *self.idle} | {address for each in pools for address in each}


def strangers(peers: Mapping[str, int], places: Places) -> tuple[str, ...]:
    """A sentence for each address that gets requests and is in no pool, the busiest first."""
    unknown = sorted((peer for peer in peers if peer not in places.known), key=lambda peer: -peers[peer])
    maybe = " (unless a `proxy_pass` with a variable or a name leads there)" if places.is_open else ""
    return tuple(
        f"{peer} gets requests ({peers[peer]} in the access log) and is in no pool{maybe}." for peer in unknown[:_MOST_NAMED]
    )


def unasked(peers: Mapping[str, int], places: Places, *, spared: Collection[str] = ()) -> tuple[str, ...]:
    """A sentence for each server of the live pool that gets nothing while others of its upstream do. `spared`: `down`, `backup`."""
    found = []
    for upstream, addresses in places.live.items():
        total = sum(peers.get(each, 0) for each in addresses)
        if total >= _ENOUGH * len(addresses):
            silent = (each for each in addresses if each not in spared and not peers.get(each, 0))
            found += [f"{each} of the live pool gets no requests, while others of {upstream} got {total}." for each in silent]
    return tuple(found[:_MOST_NAMED])


_TABLE = 1 << 26  # bytes; 150 a connection
_AT_ONCE = 16


class Asked(Value):
    """One server, asked directly and not through nginx. `is_live`: of the pool that serves.

    `nearby` names the listener at its address, or is "" if it is unknown.
    """

    upstream: str
    pool: str
    target: Target
    probe: Probe
    is_live: bool = False
    nearby: str = ""

    @property
    def text(self) -> str:
        failed = f"does not answer as it should: {self.probe.error}"
        answer = f"answers ({self.probe.seconds * 1000:.0f} ms)" if self.probe.ok else failed
        head = f'; it began "{self.probe.head}"' if self.probe.head else ""
        place = "" if self.target.address == self.target.server else f", asked at {self.target.address},"
        nearby = f"; {self.nearby}" if self.nearby else ""
        return f"{self.target.server} of pool {self.pool} of {self.upstream}{place} {answer}{head}{nearby}"


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


def ask_servers(ports: Ports, site: Site, live: "HostSight") -> tuple[Asked, ...]:
    """Every server of every pool, all at once, by the gate's rule."""
    names = live.names.resolved
    found = [(pool, each) for pool in site.pools for each in rounds.targets(site, pool, names, dialect=live.dialect)]
    probes = ports.prober.round([target for _, target in found])
    return tuple(
        Asked(upstream=target.upstream, pool=pool, target=target, probe=probe, is_live=pool == live.disk.pool)
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


def listeners(host: Host, findings: Sequence[Finding], asked: Sequence[Asked], *, pid: int) -> Heard:
    """The processes at failing addresses of the machine, the worst first; as the network of process `pid` shows it."""
    failing = [
        Failing(server=server, first=each.first, last=each.last)
        for each in findings
        for server in each.servers
        if each.is_hurting and is_address(server)
    ]
    failing += [Failing(server=each.target.address) for each in asked if each.is_live and not each.probe.ok]
    return listener.look(host, tuple({each.server: each for each in reversed(failing)}.values())[::-1], pid=pid)


def moved(site: Site, disk: Disk, names: Names) -> Iterator[str]:
    """A sentence for each upstream whose names lead elsewhere now than when the live generation was made."""
    for what, why in names.failed.items():
        yield f"{what} does not resolve now: {why}."
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
                f"{upstream.name}: {named} lead to {_listed(here - then)} now, but nginx has {_listed(then - here)} "
                f"(generation {disk.live}). nginx looks these names up only when it is loaded."
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
        return {}, {exc.what.removeprefix("resolve "): exc.reason}


def _is_refused(asked: Asked) -> bool:
    return not asked.probe.ok and "refused" in asked.probe.error.lower()


def _table(host: Host, path: str) -> bytes:
    try:
        chunk = host.read(path, limit=_TABLE)
    except HostError:
        return b""
    return chunk.data if chunk else b""


NO_CONF = NginxConf(files=(), tree=())


class HostSight(Value):
    """`build` is None and `conf` empty where nginx can't say them; `problems` tells why, and what else is wrong, as sentences.

    `addresses` are those of upstreams by name, as nginx logs them; one with host names is only there where our manifest knows them.
    `held` are the servers of the site that nginx's own health check calls down.
    """

    build: Build | None
    conf: NginxConf
    dialect: Dialect
    disk: Disk
    running: Running
    names: Names
    addresses: Mapping[str, frozenset[str]]
    problems: tuple[str, ...] = ()
    held: tuple[Checked, ...] = ()

    @property
    def master(self) -> int:
        """The verified master's pid, 0 without one."""
        return 0 if self.running.problem else self.running.pid

    @property
    def log_formats(self) -> tuple[LogFormat, ...]:
        return tuple(conf_logs.log_formats(self.conf).values()) if self.build else ()

    @property
    def known(self) -> Known:
        found, failing = known_of(self.conf, self.build), frozenset(each.upstream for each in self.held if each.fall)
        return replace(found, checked=found.checked | {each.upstream for each in self.held}, failing=failing)

    @property
    def spared(self) -> frozenset[str]:
        """Servers that get nothing by right."""
        blocks = configuration.upstream_blocks(self.conf)
        servers = (server for block in blocks for server in block.children("server"))
        return frozenset(directives.full_address(each.args[0]) for each in servers if {"down", "backup"} & {*each.args[1:]})

    def places(self, site: Site) -> Places:
        """Whose addresses are. Those of the live generation by its manifest."""
        staged = self.disk.manifest.servers if self.disk.manifest else {}
        pools = [rounds.servers(site, pool, self.names.resolved) for pool in site.pools]
        idle = {name: tuple(each for pool in pools for each in pool[name]) for name in pools[0]}
        return Places(live=staged, idle=idle, others=frozenset(self._others), is_open=self._is_open)

    @property
    def _others(self) -> Iterator[str]:
        for block in configuration.upstream_blocks(self.conf):
            yield block.args[0]
            yield from directives.addresses_of(block)
        yield from map(directives.target_of, directives.passings_of(self.conf))

    @property
    def _is_open(self) -> bool:
        """A name may lead anywhere, and so may a variable."""
        named = {upstream for upstream, _ in configuration.named_servers(self.conf)} - set(self.addresses)
        blocks = {each.args[0] for each in configuration.upstream_blocks(self.conf)}
        targets = [directives.target_of(each) for each in directives.passings_of(self.conf)]
        passed = {configuration.passed_upstream(each.directive) for each in directives.passings_of(self.conf)} - blocks
        return bool(named) or "" in passed or any(not is_address(each) for each in targets if each.rpartition(":")[0] in passed)


def look(host: Host, site: Site) -> HostSight:
    """HostError where the host can't be asked at all."""
    disk, live = survey.glance(host, site.nginx)
    build, conf, problem = _conf(host, site.nginx)
    names, held = resolve(host, site), _held_down(site, live)
    said = (f"nginx's own health check says {each.text}, so {each.address} gets no requests." for each in held[:_MOST_NAMED])
    return HostSight(
        build=build,
        conf=conf,
        dialect=_dialect(host, site.nginx, build, conf),
        disk=disk,
        running=live,
        names=names,
        addresses=_addresses(conf, disk),
        problems=(*filter(None, (live.problem, problem)), *moved(site, disk, names), *said),
        held=held,
    )


def _held_down(site: Site, live: Running) -> tuple[Checked, ...]:
    names = {upstream.name for upstream in site.upstreams}
    return tuple(each for each in (live.checked.servers if live.checked else ()) if each.upstream in names and not each.is_up)


def ever(host: Host, site: Site, live: HostSight) -> dict[str, frozenset[str]]:
    """The addresses of upstreams, also in other pools and in the generations that are still there: logs are of the past."""
    staged = [manifest.servers for manifest in store.read_manifests(host, site.nginx).values()]
    past = [live.places(site).idle, *staged]
    return {name: now | {each for servers in past for each in servers.get(name, ())} for name, now in live.addresses.items()}


def _conf(host: Host, nginx: Nginx) -> tuple[Build | None, NginxConf, str]:
    """And why they can't be had, "" where they were."""
    try:
        build = running.read_build(host, nginx)
        return build, running.read_conf(host, nginx, build), ""
    except NginxBrokenError as exc:
        return None, NO_CONF, f"nginx can't read its configuration, so the next reload would fail: {exc.said}"


def _dialect(host: Host, nginx: Nginx, build: Build | None, conf: NginxConf) -> Dialect:
    try:
        return running.read_dialect(host, nginx, conf) if build else Dialect.NONE
    except NginxBrokenError:
        return Dialect.NONE


def _addresses(conf: NginxConf, disk: Disk) -> dict[str, frozenset[str]]:
    staged = disk.manifest.servers if disk.manifest else {}
    written = {each.args[0]: directives.addresses_of(each) for each in configuration.upstream_blocks(conf)}
    found = {name: frozenset(staged.get(name, ())) | {*filter(is_address, servers)} for name, servers in written.items()}
    return {name: servers for name, servers in found.items() if name in staged or all(map(is_address, written[name]))}

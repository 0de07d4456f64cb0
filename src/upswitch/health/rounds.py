"""The gate on a host: rounds of probes until the new pool is proved, or can't be.

The former pool is probed beside it until it has answered once: whether there is a way back is known before there is need of one.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from upswitch.basics.value import Value
from upswitch.generations.generation import Manifest
from upswitch.health import gate
from upswitch.health.gate import ServerHealth
from upswitch.hosts.host import Ports
from upswitch.hosts.wait import until
from upswitch.site.model import Dialect, GateRule, Pool, Server, Site, Target, Verdict, effective_check
from upswitch.site.server_line import is_name, probe_address


class GateReport(Value):
    """How the gate ended. `old` are the former pool's servers; `seconds` is how long it took."""

    verdict: Verdict
    new: tuple[ServerHealth, ...]
    old: tuple[ServerHealth, ...] = ()
    seconds: float = 0.0

    @property
    def has_way_back(self) -> bool:
        return bool(self.old) and gate.serves(self.old)


Resolved = Mapping[str, tuple[str, ...]]
"""The IP addresses of host names, as the host resolves them; of a server with `service=`, by its text, IP:PORT of each record."""


def targets(site: Site, pool: str, names: Resolved, *, dialect: Dialect) -> tuple[Target, ...]:
    """Every server of `pool` to probe. A name is probed at each of its addresses, as nginx would use them all."""
    found = []
    for upstream in site.upstreams:
        rule = effective_check(upstream, site.gate, dialect)
        for server in upstream.servers(pool):
            addresses = () if server.is_down else _addresses(server, rule.port, names)
            found += [Target(upstream=upstream.name, server=server.address, address=each, rule=rule) for each in addresses]
    return tuple(found)


def servers(site: Site, pool: str, names: Resolved) -> dict[str, tuple[str, ...]]:
    """Where nginx itself sends requests, by upstream and as its log names them: the servers' own ports, `down` ones too."""
    return {
        upstream.name: tuple(each for server in upstream.servers(pool) for each in _addresses(server, 0, names))
        for upstream in site.upstreams
    }


def checked(site: Site, pool: str, names: Resolved) -> dict[str, tuple[str, ...]]:
    """Those of `servers` that nginx's own check asks: of upstreams with a check table, without the `down` ones."""
    return {
        upstream.name: tuple(
            each for server in upstream.servers(pool) if not server.is_down for each in _addresses(server, 0, names)
        )
        for upstream in site.upstreams
        if upstream.check is not None
    }


def without_names(site: Site, pool: str, names: Resolved) -> Site:
    """The site with addresses for the names of `pool`, as nginx would resolve them. One with `resolve` stays: nginx follows it."""

    def fixed(server: Server) -> tuple[Server, ...]:
        if not is_name(server.address) or "resolve" in server.params:
            return (server,)
        return tuple(msgspec.structs.replace(server, address=each) for each in _addresses(server, 0, names))

    def served(each: Pool) -> Pool:
        servers = tuple(server for old in each.servers for server in fixed(old))
        return msgspec.structs.replace(each, servers=servers) if each.name == pool else each

    upstreams = (msgspec.structs.replace(each, pools=tuple(map(served, each.pools))) for each in site.upstreams)
    return msgspec.structs.replace(site, upstreams=tuple(upstreams))


def _addresses(server: Server, port: int, names: Resolved) -> tuple[str, ...]:
    if server.text in names:
        return tuple(f"{each.rpartition(':')[0]}:{port}" if port else each for each in names[server.text])
    address = probe_address(server, port)
    name, _, own = address.rpartition(":")
    return tuple(f"{each}:{own}" for each in names.get(name, ())) or (address,)


def staged_targets(site: Site, manifest: Manifest, *, dialect: Dialect) -> tuple[Target, ...]:
    """The servers of a generation that was staged before, by today's rule. The site file may name others by now.

    One that the site file marks `down` gets no requests, so it is left out.
    """
    found: list[Target] = []
    for upstream in site.upstreams:
        rule = effective_check(upstream, site.gate, dialect)
        unused = (
            {each.address for each in upstream.servers(manifest.pool) if each.is_down} if manifest.pool in site.pools else set()
        )
        found += [target(upstream.name, each, rule) for each in manifest.servers.get(upstream.name, ()) if each not in unused]
    return tuple(found)


def differing(ours: Sequence[Target], others: Sequence[Target]) -> tuple[Target, ...]:
    """`ours`, without the upstreams that have the same servers in both."""
    pairs = [{(each.upstream, each.server) for each in targets} for targets in (ours, others)]
    changed = {upstream for upstream, _ in pairs[0] ^ pairs[1]}
    return tuple(each for each in ours if each.upstream in changed)


def within(target: Target, timeout: float) -> Target:
    """The same target with at most `timeout` seconds for a health check."""
    return msgspec.structs.replace(target, rule=msgspec.structs.replace(target.rule, timeout=min(target.rule.timeout, timeout)))


def target(upstream: str, address: str, rule: GateRule) -> Target:
    """One server by its address in nginx: the check may ask another port."""
    host, _, port = address.rpartition(":")
    probed = address if address.startswith("unix:") else f"{host}:{rule.port or port}"
    return Target(upstream=upstream, server=address, address=probed, rule=rule)


def run_gate(
    ports: Ports, new: tuple[Target, ...], old: tuple[Target, ...], *, each: Callable[[GateReport], None] | None = None
) -> GateReport:
    """Probe every `interval` until the verdict or a signal (then the verdict is RUNNING). `each` gets every round."""
    began = ports.clock.monotonic()
    report = GateReport(verdict=Verdict.RUNNING, new=gate.begin(new), old=gate.begin(old))

    def look() -> GateReport:
        nonlocal report
        report = _round(ports, report, began)
        if each:
            each(report)
        ports.tell("gate", _progress(report), is_passing=True)
        return report

    every, interrupts = _interval(new), ports.interrupts
    return until(lambda seen: seen.verdict is not Verdict.RUNNING, look, every=every, clock=ports.clock, interrupts=interrupts)


def one_round(ports: Ports, new: tuple[Target, ...], old: tuple[Target, ...]) -> GateReport:
    """One look at both pools, for `plan`: RUNNING where `rise` asks for more than one."""
    return _round(ports, GateReport(verdict=Verdict.RUNNING, new=gate.begin(new), old=gate.begin(old)), ports.clock.monotonic())


def failed_twice(ports: Ports, targets: tuple[Target, ...]) -> tuple[str, ...]:
    """The servers that fail two health checks in a row now, with what is wrong: one lost packet must not stop a switch."""
    failed = dict.fromkeys(targets, "")
    for _ in range(2):
        probes = zip(failed, ports.prober.round(tuple(failed)), strict=True)
        failed = {target: probe.error for target, probe in probes if not (probe.ok or probe.is_unknown)}
    return tuple(f"{target.server}: {error}" for target, error in failed.items())


def _round(ports: Ports, report: GateReport, began: float) -> GateReport:
    asked = [*report.new, *(server for server in report.old if not server.ok)]
    probes = ports.prober.round([server.target for server in asked])
    seen = [gate.observe(server, probe) for server, probe in zip(asked, probes, strict=True)]
    new, old = seen[: len(report.new)], iter(seen[len(report.new) :])
    elapsed = ports.clock.monotonic() - began
    return GateReport(
        verdict=gate.verdict(new, elapsed=elapsed),
        new=tuple(new),
        old=tuple(server if server.ok else next(old) for server in report.old),
        seconds=round(elapsed, 3),
    )


def _interval(new: tuple[Target, ...]) -> float:
    return min((target.rule.interval for target in new), default=1.0)


def _progress(report: GateReport) -> str:
    down = gate.down(report.new)
    said = f"{len(report.new) - len(down)} of {len(report.new)} servers are healthy after {report.seconds:.1f} s"
    return said + (f"; {down[0].text}" if down else "")

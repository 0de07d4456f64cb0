"""The sources that are asked from the machine that nginx runs on: once a host, when its nginx was read."""

from upswitch.basics.errors import HostError
from upswitch.hosts.host import Ports
from upswitch.nginx.dump import NginxConf
from upswitch.site.model import Server, Site, Upstream
from upswitch.site.server_line import is_name
from upswitch.site.source import ContainersSource, DnsSource, Source, SrvSource
from upswitch.sources import containers, listed


def read(ports: Ports, site: Site, pool: str, conf: NginxConf) -> Site:
    """The site with the servers of `pool`. RefusedError."""
    return listed.filled(site, pool, lambda upstream, source: _servers(ports, upstream, source, conf))


def followed(ports: Ports, site: Site, pool: str, conf: NginxConf) -> dict[str, tuple[str, ...]]:
    """What nginx's name servers say now of servers that nginx follows (`resolve`): by name, and by `Server.text` with `service=`.

    HostError where one is not known.
    """
    found: dict[str, tuple[str, ...]] = {}
    for upstream in site.upstreams:
        for server in (each for each in upstream.servers(pool) if "resolve" in each.params and is_name(each.address)):
            from upswitch.sources import resolver  # noqa: PLC0415  (as below)

            try:
                asked = resolver.of_nginx(conf, upstream)
                found |= resolver.followed(ports.host, ports.clock, asked, server)
            except listed.SourceError as exc:
                raise HostError(f"resolve {server.text}", str(exc)) from exc
    return found


def _servers(ports: Ports, upstream: Upstream, source: Source, conf: NginxConf) -> tuple[Server, ...] | None:
    if isinstance(source, ContainersSource):
        return containers.read(ports.host, source)
    if not isinstance(source, DnsSource | SrvSource):
        return None
    from upswitch.sources import resolver  # noqa: PLC0415  (dnspython: only these sources need it)

    asked = resolver.Resolver(servers=(source.resolver,)) if source.resolver else resolver.of_nginx(conf, upstream)
    if isinstance(source, DnsSource):
        found = resolver.addresses(ports.host, ports.clock, asked, source.name)
        return listed.parsed((source.name, f"{each}:{source.port}") for each in found)
    services = resolver.services(ports.host, ports.clock, asked, source.name)
    return listed.parsed((source.name, line) for line in resolver.lines(services))

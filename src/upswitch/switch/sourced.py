"""What a switch asks of servers that a source gave: a wrong list is an outage that no health check sees."""

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from upswitch.basics.errors import HostError, Refusal
from upswitch.basics.result import Why
from upswitch.generations.generation import MANIFEST, Manifest, decode_manifest
from upswitch.generations.store import read_manifests
from upswitch.hosts.host import Host
from upswitch.site.model import Pool, Server, Site, Upstream, parse_names
from upswitch.site.server_line import identity
from upswitch.switch.job import Job


def remembered(host: Host, site: Site, *, but: str) -> Site:
    """The site with what their last generations had for pools whose source is not read now: all `but` this one."""
    try:
        manifests = read_manifests(host, site.nginx).values()
    except HostError:
        return site

    def filled(pool: Pool, upstream: str) -> Pool:
        last = _last(pool.name, upstream, manifests) if pool.source and not pool.servers and pool.name != but else ()
        return replace(pool, servers=tuple(Server(address=each) for each in last)) if last else pool

    upstreams = (replace(each, pools=tuple(filled(pool, each.name) for pool in each.pools)) for each in site.upstreams)
    return replace(site, upstreams=tuple(upstreams))


def notes(site: Site, pool: str) -> Iterator[str]:
    """Where the servers of the pool come from, if not from the site file."""
    for upstream in site.upstreams:
        found = upstream.pool(pool)
        if found.source:
            yield f"{upstream.name}.{pool} has {len(found.servers)} servers, read just now from {found.source.text}"


def refusals(host: Host, job: Job, *, accepts_shrink: bool) -> tuple[Refusal, ...]:
    """Why the new pool's servers are refused, where they come from a source. HostError."""
    new = decode_manifest(job.files[MANIFEST])
    if new is None or not new.sources:
        return ()
    known = {} if accepts_shrink else read_manifests(host, job.site.nginx)
    taken = tuple(_taken(job.site, new, job.facts.disk.manifest))
    return taken or tuple(shrunk(new, known))


def _taken(site: Site, new: Manifest, live: Manifest | None) -> Iterator[Refusal]:
    for upstream in site.upstreams:
        source = new.sources.get(upstream.name, "")
        owners = _owners(upstream, new.pool, live)
        own = {identity(each) for each in upstream.servers(new.pool) if "backup" not in each.params}
        for address in sorted({*own, *new.servers[upstream.name]} & owners.keys()) if source else ():
            what = f"{address} of {upstream.name}.{new.pool} ({source}) is a server of pool {owners[address]} too"
            yield Refusal(what=what, hint="remove it from one of the two pools", why=Why.SOURCE)


def _owners(upstream: Upstream, pool: str, live: Manifest | None) -> dict[str, str]:
    """The other pools' servers in the site file, and what serves now if that is another pool."""
    written = [each for each in upstream.pools if each.name != pool and each.source is None]
    others = {identity(server): each.name for each in written for server in each.servers}
    serving = live.servers.get(upstream.name, ()) if live and live.pool != pool else ()
    return {**dict.fromkeys(serving, live.pool if live else ""), **others}


def shrunk(new: Manifest, manifests: Mapping[str, Manifest]) -> Iterator[Refusal]:
    """An upstream with fewer than half of the servers that its pool had in the last generation."""
    for upstream, source in new.sources.items():
        before = len(_last(new.pool, upstream, manifests.values()))
        count = len(new.servers[upstream])
        if count * 2 < before:
            what = f"{source} gives {count} servers for {upstream}.{new.pool}, which had {before} the last time"
            hint = "find out whether servers are missing there; --accept-shrink switches to those that are left"
            yield Refusal(what=what, hint=hint, why=Why.SHRUNK)


def _last(pool: str, upstream: str, manifests: Iterable[Manifest]) -> tuple[str, ...]:
    """The servers that it had; () where no generation is known."""
    found = {each.name: each.servers[upstream] for each in manifests if each.pool == pool and upstream in each.servers}
    return next((found[each.name] for each in reversed(parse_names(found))), ())

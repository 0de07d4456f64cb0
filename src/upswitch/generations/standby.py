"""Standbys: the idle pools as upstreams that no location uses, so that nginx's own check proves them before they serve.

The module carries a server's state over a reload by its address, whatever upstream it stood in (docs/nginx-facts.md, section 6):
a server that is up as a standby is up from the first request after the swap.
"""

from collections.abc import Mapping

from upswitch.basics.value import Value
from upswitch.generations.check_lines import trusted
from upswitch.generations.generation import Manifest
from upswitch.site.model import Check, Site, Upstream
from upswitch.site.server_line import is_address, probe_address
from upswitch.site.words import BETWEEN

STANDBY = "standby.conf"

Addresses = Mapping[str, tuple[str, ...]]
"""By upstream: IP:PORT, [IP6]:PORT or unix:/path."""


class Standby(Value):
    """One unused upstream. It holds addresses only: a name that stops resolving would keep nginx from starting."""

    name: str
    addresses: tuple[str, ...]
    check: Check


def standby_name(upstream: str, pool: str) -> str:
    return f"{upstream}{BETWEEN}{pool}"


def served_as(name: str, live_pool: str) -> tuple[str, str]:
    """The upstream and the pool that an upstream of ours stands for."""
    upstream, _, pool = name.partition(BETWEEN)
    return upstream, pool or live_pool


def standbys(site: Site, serving: Addresses, *, known: Mapping[str, Addresses], former: Manifest | None) -> tuple[Standby, ...]:
    """For a generation whose upstreams have the servers `serving`: all others of the site, and those that serve now (`former`).

    `known` is by pool. An upstream without a check needs none: nginx takes its servers as up. What serves now is trusted: the
    way back must find it up. So servers that are new in its pool stay out until a switch to them proves them.
    """
    pools = {**known, **({former.pool: former.servers} if former else {})}
    found = []
    for upstream in site.upstreams:
        for pool, servers in pools.items():
            check = trusted(upstream.check) if former and former.pool == pool else upstream.check
            others = _addresses(upstream, servers) - set(serving.get(upstream.name, ()))
            if check is not None and others:
                found.append(Standby(name=standby_name(upstream.name, pool), addresses=tuple(sorted(others)), check=check))
    return tuple(found)


def _addresses(upstream: Upstream, servers: Addresses) -> set[str]:
    """Not those that the site marks `down` now: nobody is to ask them."""
    off = {probe_address(server, 0) for pool in upstream.pools for server in pool.servers if server.is_down}
    return {each for each in servers.get(upstream.name, ()) if is_address(each) and each not in off}

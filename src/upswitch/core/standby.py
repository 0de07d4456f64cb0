"""Standbys: the idle pools as upstreams that no location uses, so that nginx's own check proves them before they serve.

The module carries a server's state over a reload by its address, whatever upstream it stood in (docs/nginx-facts.md, section 6):
a server that is up as a standby is up from the first request after the swap.
"""

import ipaddress
from collections.abc import Mapping

from upswitch.core.checklines import trusted
from upswitch.core.generation import Manifest
from upswitch.core.serverline import probe_address
from upswitch.core.site import Check, Site, Upstream
from upswitch.core.words import Value

STANDBY = "standby.conf"
BETWEEN = "__standby_"

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
    way back must find it up.
    """
    found = []
    for upstream in site.upstreams:
        for pool in dict.fromkeys((*known, *((former.pool,) if former else ()))):
            is_former = former is not None and former.pool == pool
            check = trusted(upstream.check) if is_former else upstream.check
            addresses = _addresses(upstream, known.get(pool, {}), former if is_former else None)
            others = tuple(sorted(set(addresses).difference(serving.get(upstream.name, ()))))
            if check is not None and others:
                found.append(Standby(name=standby_name(upstream.name, pool), addresses=others, check=check))
    return tuple(found)


def _addresses(upstream: Upstream, known: Addresses, former: Manifest | None) -> list[str]:
    """Not those that the site marks `down` now: nobody is to ask them."""
    served = former.servers.get(upstream.name, ()) if former else ()
    off = {probe_address(server, 0) for pool in upstream.pools for server in pool.servers if server.is_down}
    return [each for each in (*known.get(upstream.name, ()), *served) if is_address(each) and each not in off]


def is_address(text: str) -> bool:
    """Whether `text` is an IP address with a port, or a unix socket: not a name."""
    return text.startswith("unix:") or canonical(text) != ""


def canonical(text: str) -> str:
    """One spelling for one address, as nginx prints it or as the site file writes it; "" for a name."""
    if text.startswith("unix:"):
        return text
    host, _, port = text.rpartition(":")
    try:
        return f"{ipaddress.ip_address(host.strip('[]'))}:{port}"
    except ValueError:
        return ""

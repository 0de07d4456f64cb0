"""Standbys: the idle pools as upstreams that no location uses, so that nginx's own check proves them before they serve.

The module carries a server's state over a reload by its address, whatever upstream it stood in (docs/nginx-facts.md, section 5):
a server that is up as a standby is up from the first request after the swap.
"""

import ipaddress
from collections.abc import Mapping

from upswitch.core.generation import Manifest
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


def standbys(site: Site, serving: Addresses, *, idle: Mapping[str, Addresses], former: Manifest | None) -> tuple[Standby, ...]:
    """For a generation whose upstreams have the servers `serving`: every other pool's, and those that serve now (`former`).

    `idle` is by pool. An upstream without a check needs none: nginx takes its servers as up.
    """
    found = []
    for upstream in site.upstreams:
        for pool in dict.fromkeys((*idle, *((former.pool,) if former else ()))):
            addresses = _addresses(upstream, pool, idle=idle, former=former)
            others = tuple(each for each in addresses if each not in serving.get(upstream.name, ()))
            if upstream.check is not None and others:
                found.append(Standby(name=standby_name(upstream.name, pool), addresses=others, check=upstream.check))
    return tuple(found)


def _addresses(upstream: Upstream, pool: str, *, idle: Mapping[str, Addresses], former: Manifest | None) -> tuple[str, ...]:
    own = idle.get(pool, {}).get(upstream.name, ())
    served = former.servers.get(upstream.name, ()) if former and former.pool == pool else ()
    return tuple(dict.fromkeys(each for each in (*own, *served) if is_address(each)))


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

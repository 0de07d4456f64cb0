"""Addresses that get requests and are of nobody's, and servers of the live pool that get none."""

from collections.abc import Collection, Mapping

from upswitch.basics.value import Value

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
    maybe = ", unless a `proxy_pass` with a variable or a name leads there" if places.is_open else ""
    return tuple(
        f"{peer} gets requests ({peers[peer]} in the access log) and is in no pool{maybe}" for peer in unknown[:_MOST_NAMED]
    )


def unasked(peers: Mapping[str, int], places: Places, *, spared: Collection[str] = ()) -> tuple[str, ...]:
    """A sentence for each server of the live pool that gets nothing while others of its upstream do. `spared`: `down`, `backup`."""
    found = []
    for upstream, addresses in places.live.items():
        total = sum(peers.get(each, 0) for each in addresses)
        if total >= _ENOUGH * len(addresses):
            silent = (each for each in addresses if each not in spared and not peers.get(each, 0))
            found += [f"{each} of the live pool gets no request ({total} went to others of {upstream})" for each in silent]
    return tuple(found[:_MOST_NAMED])

"""Finds the release in a log: which pool took over, from which, and when. Uses generations, else the addresses of the pools."""

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from upswitch.basics.value import Value
from upswitch.logs.entries import Moment
from upswitch.logs.line import Entry
from upswitch.site import model
from upswitch.site.model import Site
from upswitch.site.server_line import probe_address
from upswitch.watch.attribution import Attribution

ALL = "all"
"""Stands for the pool in LIMITED MODE."""

_NO_NAME = re.compile(r"unix:|\[|[\d.]+:\d+\Z")
_MOST_FOUND = 64


class Pools(Value):
    """The addresses of each pool as nginx logs them; none where the site file has host names, whose addresses change."""

    addresses: Mapping[str, frozenset[str]] = {}
    upstreams: frozenset[str] = frozenset()
    ignores_app: bool = False

    def of(self, peers: frozenset[str]) -> str:
        """The pool that one of these addresses is in, "" for none."""
        return next((pool for pool, addresses in self.addresses.items() if addresses & peers), "")


def pools_of(site: Site | None) -> Pools:
    """Without a site file no pool is known by its addresses."""
    if site is None:
        return Pools()
    return Pools(
        addresses={pool: _addresses(site, pool) for pool in site.pools},
        upstreams=frozenset(upstream.name for upstream in site.upstreams),
        ignores_app=site.watch.ignores_app,
    )


def _addresses(site: Site, pool: str) -> frozenset[str]:
    found = frozenset(probe_address(server, 0) for upstream in site.upstreams for server in upstream.servers(pool))
    return found if all(map(_NO_NAME.match, found)) else frozenset()


class Serving(Value):
    """The pool that served a request, and its generation. Each is "" where the log does not show it."""

    pool: str = ""
    generation: str = ""

    @property
    def number(self) -> int:
        """Numbers only go up: what drains has a lower one. 0 without a generation."""
        known = model.parse_name(self.generation)
        return known.number if known else 0


class Opening:
    """Looks for seconds in which somebody serves who did not before, and who is no older: `found`, the last of them."""

    def __init__(self, pools: Pools, pool: str) -> None:
        """`pool` "" is any."""
        self.found: deque[tuple[int, Serving]] = deque(maxlen=_MOST_FOUND)
        self._pools = pools
        self._pool = pool
        self._newest = -1
        self._unnumbered: set[Serving] = set()

    def __call__(self, second: int, moment: Moment) -> bool:
        """Seconds in their order; True where the pool took over. A second in which nobody known serves says nothing."""
        serving = sorted((each for each in served(moment, self._pools) if each.pool), key=lambda each: (each.number, each.pool))
        new = [each for each in serving if self._is_new(each)]
        is_first = self._newest < 0
        self._newest = max([self._newest, *(each.number for each in serving)])
        self._unnumbered.update(each for each in serving if each.number == 0)
        if is_first:
            return False
        self.found.extend((second, each) for each in new)
        return any(self._pool in {"", each.pool} for each in new)

    def _is_new(self, each: Serving) -> bool:
        return each.number > self._newest if each.number else each not in self._unnumbered


class Release(Value):
    """What took over from what. `pool` is ALL in LIMITED MODE."""

    pool: str
    attribution: Attribution


def release(pools: Pools, before: Sequence[Moment], since: Moment, *, pool: str) -> Release:
    """Of the requests of the seconds before a moment, the oldest first, and since then.

    The former is who served last: of the generations the highest, for numbers only go up. `pool` "" is whose requests are new since
    then: the first generation above the former one (a release that was taken back after ten seconds got the fewest requests of
    all), the pool with the most of those that did not serve before; else the former itself.
    """
    was, now = _by_second(before, pools), served(since, pools)
    former = _last(was)
    new = _taking_over(now, former, pool) or _most(now, pool=pool) or Serving(pool=pool)
    if former in {None, new}:
        former = _last(was, but=new) or _most(now, but=new)
    former = former or Serving(pool=_other(pools, new.pool))
    if not new.pool:
        return Release(pool=ALL, attribution=Attribution(ignores_app=pools.ignores_app))
    return Release(
        pool=new.pool,
        attribution=Attribution(
            generation=new.generation,
            pool=new.pool,
            addresses=_addresses_of(new, pools, since),
            former_generation=former.generation,
            former_addresses=_addresses_of(former, pools, chain.from_iterable(before)),
            upstreams=pools.upstreams,
            ignores_app=pools.ignores_app,
        ),
    )


def _by_second(before: Sequence[Moment], pools: Pools) -> list[tuple[int, int, Serving]]:
    """Tuples of second, number of requests, and the pool that served them."""
    return [(at, times, each) for at, moment in enumerate(before) for each, times in served(moment, pools).items() if each.pool]


def _last(was: Iterable[tuple[int, int, Serving]], *, but: Serving | None = None) -> Serving | None:
    found = [(each.number, at, times, each) for at, times, each in was if each != but]
    return max(found, key=lambda each: each[:3])[-1] if found else None


def _taking_over(now: Counter[Serving], former: Serving | None, pool: str) -> Serving | None:
    """The pool that took over. A generation older than the former one is ignored: it still drains."""
    found = [each for each in now if each.pool and each != former and pool in {"", each.pool}]
    least = former.number if former else 0
    numbered = [each for each in found if each.number > least]
    rest = [each for each in found if each.number == 0]
    return min(numbered, key=lambda each: each.number) if numbered else max(rest, key=lambda each: now[each], default=None)


def served(moment: Moment, pools: Pools) -> Counter[Serving]:
    """Counts requests by the pool that served them."""
    found = Counter[Serving]()
    for entry, times in moment.items():
        found[_server(entry, pools)] += times
    return found


def _server(entry: Entry, pools: Pools) -> Serving:
    peers = _peers(entry)
    if entry.upstream_addr is not None and not peers:
        return Serving()  # nginx's own answer
    known = model.parse_name(entry.generation or "")
    return Serving(pool=known.pool, generation=known.name) if known else Serving(pool=pools.of(peers))


def _most(counted: Counter[Serving], *, pool: str = "", but: Serving | None = None) -> Serving | None:
    found = [each for each in counted if each.pool and each != but and pool in {"", each.pool}]
    return max(found, key=lambda each: counted[each], default=None)


def _other(pools: Pools, pool: str) -> str:
    """The former pool, where there are only two."""
    others = [each for each in pools.addresses if each != pool]
    return others[0] if len(others) == 1 else ""


def _addresses_of(server: Serving, pools: Pools, entries: Iterable[Entry]) -> frozenset[str]:
    """The site file's; where it says nothing of what a generation's requests went to, all those."""
    written = pools.addresses.get(server.pool, frozenset())
    if not server.generation:
        return written
    seen = frozenset(_all_peers(entry for entry in entries if entry.generation == server.generation))
    return written if written & seen or not seen else seen


def _all_peers(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        yield from _peers(entry)


def _peers(entry: Entry) -> frozenset[str]:
    """Of `A, B : C`; the upstream's name where no server was live."""
    return frozenset((entry.upstream_addr or "").replace(",", " ").split()) - {":", "-"}

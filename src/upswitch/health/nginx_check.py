"""nginx's own health check: which upstreams it looks at, how long it takes to call them up, and how much memory it needs.

The time: with `default_down=true` a server that nginx does not know by its address starts down, after a start as after a reload
that brings it in, and its upstream answers 502 until one server has been proved. Both modules then do this, in every worker process
for itself (yaoweibin's module, lines 1011, 1047 and 1078; Tengine's is the same):

- the first look at a server comes `random() % max(interval, 1000)` ms after the start of the worker;
- each further look comes half an interval after the one before;
- a look starts a check when the last result is an interval old or more. Only whole looks count, so the checks that one worker
  makes are 1.0 to 1.5 intervals apart: 1.5 as soon as a check takes a millisecond, because the look one interval after the
  start of the check then comes too early. With w workers whoever looks first checks, and the mean gap is 1 + 1/(2w);
- `rise` successes in a row make the server up. The requests find a server again with the first one that is up.

The memory: nginx's slab pool and the modules' structs on a 64-bit Linux with pages of 4 KiB (ngx_slab.c and
ngx_http_upstream_check_init_shm_zone). Checked on both modules: the number of servers at which `nginx -t` begins to refuse is this
one to the server, for IPv4, IPv6 and unix.
"""

import re
from collections.abc import Iterable

from upswitch.basics.value import Value
from upswitch.nginx import configuration
from upswitch.nginx.dump import Directive, NginxConf
from upswitch.nginx.upstream_file import read_check
from upswitch.site.model import BETWEEN, Check, Dialect, Server, Site, Upstream
from upswitch.site.server_line import identity


class CheckedUpstream(Value):
    """One of them. `place` is where its check stands; `servers` are addresses, without those marked `down`: nobody asks them.

    `balancer` is a `random` or `hash` line, "" for another. `lines` are its check family as written, none out of a site file.
    `together` of them begin at one time: of a site file the servers of one pool. `is_warm`: upswitch has its servers proved
    before they serve, or it is a standby, which serves nobody.
    """

    name: str
    place: str
    check: Check
    servers: tuple[str, ...]
    balancer: str = ""
    lines: tuple[Directive, ...] = ()
    together: int = 1
    is_warm: bool = False

    def named(self, name: str) -> tuple[Directive, ...]:
        """The lines that are this directive."""
        return tuple(each for each in self.lines if each.name == name)

    @property
    def at(self) -> Directive | None:
        """The `check` line that counts; None out of a site file."""
        return (self.named("check") or (None,))[-1]

    @property
    def said(self) -> str:
        return f"{self.place}: upstream {self.name}"


def checked_of_conf(conf: NginxConf) -> tuple[CheckedUpstream, ...]:
    """Those of an nginx configuration, in its order."""
    blocks = configuration.upstream_blocks(conf)
    names = tuple(block.args[0] for block in blocks)
    found = (_block(block, names) for block in blocks)
    return tuple(each for each in found if each is not None)


def checked_of_site(site: Site) -> tuple[CheckedUpstream, ...]:
    """Those with a check table, each with the servers of all its pools: the idle ones are checked as standbys."""
    return tuple(_table(each, each.check) for each in site.upstreams if each.check is not None)


def _block(block: Directive, names: tuple[str, ...]) -> CheckedUpstream | None:
    inner = block.block or ()
    lines = tuple(each for each in inner if each.name == "check" or each.name.startswith("check_"))
    check, _ = read_check([(each.name, *each.args) for each in lines])
    if check is None:
        return None
    name = block.args[0]
    servers = tuple(checked_address(each.args[0]) for each in block.children("server") if each.args and "down" not in each.args)
    return CheckedUpstream(
        name=name,
        place=[each for each in lines if each.name == "check"][-1].place,
        check=check,
        servers=servers,
        together=len(servers) or 1,
        balancer=_balancer(tuple((each.name, *each.args) for each in inner)),
        lines=lines,
        is_warm=BETWEEN in name or any(other.startswith(name + BETWEEN) for other in names),
    )


def _table(upstream: Upstream, check: Check) -> CheckedUpstream:
    pools = [tuple(checked_address(server.address) for server in pool.servers if not server.is_down) for pool in upstream.pools]
    return CheckedUpstream(
        name=upstream.name,
        place=f"site file, [upstreams.{upstream.name}.check]",
        check=check,
        servers=tuple(each for pool in pools for each in pool),
        together=min(filter(None, map(len, pools)), default=1),  # a pool whose source was never read has none
        balancer=_balancer(tuple(tuple(line.split()) for line in upstream.directives)),
        is_warm=True,
    )


def checked_address(text: str) -> str:
    """One spelling for one address, with its port; as it is where nginx may know more than we do."""
    try:
        return identity(Server(address=text))
    except ValueError:
        return text


def _balancer(lines: tuple[tuple[str, ...], ...]) -> str:
    return next((" ".join(words) for words in lines if words[0] in {"random", "hash"}), "")


_LEAST_FIRST_MS = 1000
_WIDEST_GAP = 1.5


class Blackout(Value):
    """Seconds of 502. `worst` is never reached by quick checks; `likely` is the mean over many starts."""

    worst: float
    likely: float


NO_BLACKOUT = Blackout(worst=0.0, likely=0.0)


def blackout_of(check: Check, *, servers: int, workers: int) -> Blackout:
    """For an upstream of so many servers, none of them known to nginx, all of them well, each check quick.

    `default_down=false` has none; its price is that a server which nobody has asked yet gets requests at once.
    `likely` is a closed form: the first of servers x workers random looks, then the mean gap. A simulation of the timers stays
    within 10 % of it (tests/health/test_blackout.py), and so did both real modules, 40 starts each at interval=1000 rise=3, 1 or 2
    servers, 1, 2 or 4 workers, checks of 3 ms. Checks of less than a millisecond ended it up to 23 % sooner.
    """
    if not check.default_down:
        return NO_BLACKOUT
    first = _first_ms(check) / (servers * workers + 1)
    gap = 1 + 0.5 / workers
    return Blackout(worst=_up_ms(check) / 1000, likely=(first + (check.rise - 1) * gap * check.interval_ms) / 1000)


def longest_to_up(check: Check) -> float:
    """Seconds until each server of a pool that is well is up, whatever its checks take of their `timeout`: a deadline.

    Also with `default_down=false`: that says what counts before the proof, not when the proof is there. The servers of a pool
    are checked side by side, so their number does not matter.
    """
    return (_up_ms(check) + check.rise * check.timeout_ms) / 1000


def _up_ms(check: Check) -> float:
    return _first_ms(check) + (check.rise - 1) * _WIDEST_GAP * check.interval_ms


def _first_ms(check: Check) -> int:
    return max(check.interval_ms, _LEAST_FIRST_MS)


DEFAULT_ZONE = 1 << 20
"""Bytes: the default, and the least that counts; a smaller `check_shm_size` is taken for it."""

_PAGE = 4096
_POOL = 704  # bytes of ngx_slab_pool_t with its nine slots and their counters
_PAGE_ENTRY = 24  # ngx_slab_page_t
_SIZE = re.compile(r"([0-9]{1,12})([kKmM]?)")
_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20}
# How many addresses (sockaddr_in, _in6, _un in slots of 16, 32, 128 bytes) one page holds beside its own bitmap.
_IN, _IN6, _UN = 254, 127, 32


class _Layout(Value):
    """Bytes of a module's head and of each server; `spare` is the room that it takes for servers that may come at run time."""

    head: int
    server: int
    spare: int


_LAYOUTS = {
    Dialect.YAOWEIBIN: _Layout(head=24, server=216, spare=0),
    Dialect.TENGINE: _Layout(head=32, server=240, spare=4096),  # MAX_DYNAMIC_PEER: 960 KiB of the default 1 MiB
}


def zone_size(text: str) -> int:
    """Bytes of a `check_shm_size` argument; the default where it is none that nginx takes."""
    found = _SIZE.fullmatch(text)
    return max(int(found[1]) * _FACTOR[found[2].lower()], DEFAULT_ZONE) if found else DEFAULT_ZONE


def is_zone_enough(size: int, addresses: Iterable[str], dialect: Dialect) -> bool:
    """Whether a zone of `size` bytes holds these servers. A host name is counted as one IPv4 address."""
    return _pages_needed(tuple(addresses), _LAYOUTS[dialect]) <= _pages_of(size)


def least_zone(addresses: Iterable[str], dialect: Dialect) -> int:
    """The whole MiB that hold them."""
    found, size = tuple(addresses), 1
    while not is_zone_enough(size << 20, found, dialect):
        size += 1
    return size


def advised_zone(addresses: Iterable[str], dialect: Dialect) -> str:
    """An argument for `check_shm_size` with room to grow."""
    return f"{2 * least_zone(addresses, dialect)}m"


def _pages_needed(addresses: tuple[str, ...], layout: _Layout) -> int:
    kinds = [_UN if each.startswith("unix:") else _IN6 if each.startswith("[") else _IN for each in addresses]
    servers = layout.head + (len(kinds) + layout.spare) * layout.server
    return _rounded_up(servers, _PAGE) + sum(_rounded_up(kinds.count(each), each) for each in (_IN, _IN6, _UN))


def _pages_of(size: int) -> int:
    """ngx_slab_init: the entries of the pages stand before the first page."""
    pages = (size - _POOL) // (_PAGE + _PAGE_ENTRY)
    first = _rounded_up(_POOL + pages * _PAGE_ENTRY, _PAGE) * _PAGE
    return min(pages, (size - first) // _PAGE)


def _rounded_up(count: int, unit: int) -> int:
    return -(-count // unit)

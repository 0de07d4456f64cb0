"""How much shared memory the check modules need: nginx's slab pool and the modules' structs as arithmetic.

Sizes are those of a 64-bit Linux with pages of 4 KiB: ngx_slab.c and ngx_http_upstream_check_init_shm_zone of both modules.
Checked on both: the number of servers at which `nginx -t` begins to refuse is this one to the server, for IPv4, IPv6 and unix.
"""

import re
from collections.abc import Iterable

from upswitch.basics.value import Value
from upswitch.site.words import Dialect

DEFAULT = 1 << 20
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
    return max(int(found[1]) * _FACTOR[found[2].lower()], DEFAULT) if found else DEFAULT


def is_enough(size: int, addresses: Iterable[str], dialect: Dialect) -> bool:
    """Whether a zone of `size` bytes holds these servers. A host name is counted as one IPv4 address."""
    return _pages_needed(tuple(addresses), _LAYOUTS[dialect]) <= _pages_of(size)


def least_size(addresses: Iterable[str], dialect: Dialect) -> int:
    """The whole MiB that hold them."""
    found, size = tuple(addresses), 1
    while not is_enough(size << 20, found, dialect):
        size += 1
    return size


def advised(addresses: Iterable[str], dialect: Dialect) -> str:
    """An argument for `check_shm_size` with room to grow."""
    return f"{2 * least_size(addresses, dialect)}m"


def _pages_needed(addresses: tuple[str, ...], layout: _Layout) -> int:
    kinds = [_UN if each.startswith("unix:") else _IN6 if each.startswith("[") else _IN for each in addresses]
    servers = layout.head + (len(kinds) + layout.spare) * layout.server
    return _up(servers, _PAGE) + sum(_up(kinds.count(each), each) for each in (_IN, _IN6, _UN))


def _pages_of(size: int) -> int:
    """ngx_slab_init: the entries of the pages stand before the first page."""
    pages = (size - _POOL) // (_PAGE + _PAGE_ENTRY)
    first = _up(_POOL + pages * _PAGE_ENTRY, _PAGE) * _PAGE
    return min(pages, (size - first) // _PAGE)


def _up(count: int, unit: int) -> int:
    return -(-count // unit)

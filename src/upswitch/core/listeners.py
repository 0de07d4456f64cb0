"""Who listens on a machine, and which addresses are its own, as the kernel lists them (proc_pid_net(5))."""

import re
from collections.abc import Collection, Iterator

from upswitch.core import sockets

_LISTEN = b"0A"
_OWN = re.compile(rb"\|-- (\S+)\n\s+/32 host LOCAL")
_WILDCARDS = ("0.0.0.0", "[::]")  # noqa: S104  (what is read, not what is bound)


def listening(table: bytes) -> Iterator[str]:
    """IP:PORT or [IP6]:PORT of every listening socket in /proc/net/tcp or tcp6: the peers of a table whose ends are exchanged."""
    rows = (line.split() for line in table.splitlines()[1:])
    swapped = (b" ".join((row[0], row[2], row[1], b"01")) for row in rows if len(row) > 3 and row[3] == _LISTEN)  # noqa: PLR2004
    return sockets.peers(b"\n".join((b"", *swapped)))


def own_addresses(trie: bytes) -> frozenset[str]:
    """The machine's IPv4 addresses, by /proc/net/fib_trie."""
    return frozenset(found.decode() for found in _OWN.findall(trie))


def nearby(address: str, listeners: Collection[str], own: Collection[str]) -> str:
    """Who listens instead, where `address` (IP:PORT) is this machine's own and nobody is there; "" where that can't be told."""
    host, _, port = address.rpartition(":")
    if host not in own and host != "[::1]":
        return ""
    same_port = sorted(each for each in set(listeners) if each.rpartition(":")[2] == port)
    if not same_port:
        return f"nobody listens on port {port} of this machine"
    if any(each in same_port for each in (address, *(f"{any_host}:{port}" for any_host in _WILDCARDS))):
        return ""
    return f"{' and '.join(same_port)} listens, not {address}"

"""Established connections, as the kernel lists them in /proc/net/tcp, tcp6 and unix (proc_pid_net(5); net/ipv4/tcp_ipv4.c).

An address there is hexadecimal, in 32-bit words of the machine's byte order (little-endian on everything we run on), and the
port is in plain order after a colon. An IPv4 peer of an IPv6 socket has a mapped address; here it is the IPv4 one.
"""

import ipaddress
import re
from collections.abc import Collection, Iterator

# Who listens on a machine, and which addresses are its own, as the kernel lists them (proc_pid_net(5)).

_ESTABLISHED = b"01"
_UNIX_CONNECTED = b"03"  # SS_CONNECTED, linux/net.h
_UNIX_FIELDS = 8


def peers(table: bytes) -> Iterator[str]:
    """The far end of every established connection in /proc/net/tcp or tcp6: `IP:PORT` or `[IP6]:PORT`, as nginx logs it."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == _ESTABLISHED:  # noqa: PLR2004  (sl local_address rem_address st)
            yield _address(fields[2].decode("ascii"))


def unix_peers(table: bytes) -> Iterator[str]:
    """`unix:/path` of every connected socket in /proc/net/unix that has a name: the server's ends."""
    for line in table.splitlines()[1:]:
        fields = line.split(maxsplit=_UNIX_FIELDS - 1)
        if len(fields) == _UNIX_FIELDS and fields[5] == _UNIX_CONNECTED:
            yield f"unix:{fields[7].decode('utf-8', 'replace')}"


def _address(text: str) -> str:
    digits, _, port = text.partition(":")
    words = bytes.fromhex(digits)
    packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    ip = ipaddress.ip_address(packed)
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    host = f"[{ip}]" if isinstance(ip, ipaddress.IPv6Address) else str(ip)
    return f"{host}:{int(port, 16)}"


_LISTEN = b"0A"
_OWN = re.compile(rb"\|-- (\S+)\n\s+/32 host LOCAL")
_WILDCARDS = ("0.0.0.0", "[::]")  # noqa: S104  (what is read, not what is bound)


def listening(table: bytes) -> Iterator[str]:
    """IP:PORT or [IP6]:PORT of every listening socket in /proc/net/tcp or tcp6: the peers of a table whose ends are exchanged."""
    rows = (line.split() for line in table.splitlines()[1:])
    swapped = (b" ".join((row[0], row[2], row[1], b"01")) for row in rows if len(row) > 3 and row[3] == _LISTEN)  # noqa: PLR2004
    return peers(b"\n".join((b"", *swapped)))


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

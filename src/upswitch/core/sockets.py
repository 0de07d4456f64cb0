"""Established connections, as the kernel lists them in /proc/net/tcp, tcp6 and unix (proc_pid_net(5); net/ipv4/tcp_ipv4.c).

An address there is hexadecimal, in 32-bit words of the machine's byte order (little-endian on everything we run on), and the
port is in plain order after a colon. An IPv4 peer of an IPv6 socket has a mapped address; here it is the IPv4 one.
"""

import ipaddress
from collections.abc import Iterator

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

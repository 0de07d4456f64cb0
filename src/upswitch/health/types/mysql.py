"""A MySQL or MariaDB server's greeting. It speaks first, so a probe sends nothing.

Source: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html (3 bytes of length, 1 of number).
"""

from upswitch.health.types import ALIVE, MORE, Answer, ProbeType, dead

_HEADER = 4  # bytes
_NUMBER = 3  # where the packet's number stands


def read(data: bytes) -> Answer:
    """A first packet with number 0 and at least one byte in it is alive, whatever it says (mysql_parse, both modules).

    So `Host ... is not allowed to connect`, `Host ... is blocked` and `Too many connections` count as alive, as in the module.
    """
    if len(data) <= _HEADER:
        return MORE
    return dead("the MySQL greeting does not begin with packet 0", data) if data[_NUMBER] else ALIVE


TYPE = ProbeType(part="the MySQL greeting", send=lambda _rule, _hello: b"", read=lambda data, _: read(data))

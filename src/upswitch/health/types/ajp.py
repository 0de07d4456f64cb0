"""CPing and CPong of AJP13: "are you there" and "yes", without a request.

Source: https://tomcat.apache.org/connectors-doc/ajp/ajpv13a.html (magic, 2 bytes of length, the packet's code).
"""

from upswitch.health.types import ALIVE, MORE, Answer, ProbeType, dead

CPING = b"\x12\x34\x00\x01\x0a"
CPONG = b"AB\x00\x01\x09"


def read(data: bytes) -> Answer:
    """CPong, and nothing else, is alive; what follows it does not count (ajp_parse, both modules)."""
    if data.startswith(CPONG):
        return ALIVE
    return MORE if CPONG.startswith(data) else dead("the answer to an AJP CPing is not CPong", data)


TYPE = ProbeType(part="the AJP CPong", send=lambda _rule, _hello: CPING, read=lambda data, _: read(data))

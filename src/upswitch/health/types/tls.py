"""TLS hellos: those that the check modules send, and the rule over the answer.

Each module sends one fixed hello, so a server can be up for any browser and down for the module: yaoweibin's offers TLS 1.2 at
most, Tengine's SSLv3, which no current OpenSSL answers (nginx-facts, section 6). A probe that must agree with a module has to
send what it sends. Where there is no module the probe sends the hello of Python's ssl, made in the adapter.

Sources: RFC 5246, sections 7.4.1.2 (ClientHello), 7.4.1.4.1 (hashes), 7.2 (alerts); RFC 8422, section 5.1.1 (curves).
"""

from collections.abc import Iterable

from upswitch.basics.value import Value
from upswitch.health.types import ALIVE, MORE, Answer, ProbeType, dead
from upswitch.site.model import Dialect

RANDOM = 32  # bytes that a hello needs

_ALERT, _HANDSHAKE = 0x15, 0x16
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_WHOLE = 47  # bytes: the record's head, the message's, version, and, as the module's struct has it, 8 for the time and 28 random
_TYPE = 5  # where the first message's type stands
_ALERT_WHOLE, _REASON = 7, 6
_SSL3, _TLS10, _TLS12 = 0x0300, 0x0301, 0x0303
_SUPPORTED_GROUPS, _SIGNATURE_ALGORITHMS = 0x000A, 0x000D

_ALERTS = {40: "handshake failure", 47: "illegal parameter", 50: "decode error", 70: "protocol version"}
_ALERTS |= {71: "insufficient security", 80: "internal error", 86: "inappropriate fallback", 112: "unrecognized name"}


class Offer(Value):
    """What a ClientHello offers. `record` and `version` are protocol versions as on the wire, the lists are IANA's numbers."""

    record: int
    version: int
    ciphers: tuple[int, ...]
    groups: tuple[int, ...] = ()
    signatures: tuple[int, ...] = ()


_YAOWEIBIN = Offer(
    record=_TLS10,
    version=_TLS12,
    ciphers=(
        *(0xC02B, 0xC02F, 0xCCA9, 0xCCA8),  # ECDHE with AES-128-GCM, then with ChaCha20; ECDSA and RSA
        *(0xC00A, 0xC009, 0xC013, 0xC014),  # ECDHE with AES-CBC
        *(0x0033, 0x0039, 0x002F, 0x0035),  # DHE and RSA with AES-CBC
        0x000A,  # RSA with 3DES
    ),
    groups=(0x0017, 0x0018, 0x0019),  # P-256, P-384, P-521
    signatures=(
        *(0x0401, 0x0501, 0x0601, 0x0201),  # RSA with SHA-256, -384, -512, -1
        *(0x0403, 0x0503, 0x0603, 0x0203),  # ECDSA with the same
        *(0x0502, 0x0402, 0x0202),  # DSA with SHA-384, -256, -1
    ),
)
_TENGINE = Offer(record=_SSL3, version=_SSL3, ciphers=(*range(0x0001, 0x001C), *range(0x002F, 0x003B)))
_OFFERS = {Dialect.YAOWEIBIN: _YAOWEIBIN, Dialect.TENGINE: _TENGINE}


def hello(dialect: Dialect, random: bytes) -> bytes:
    """The ClientHello that this module sends, with our own RANDOM bytes. KeyError for NONE: that has no hello of its own."""
    offer = _OFFERS[dialect]
    body = _number(offer.version) + random + b"\0"  # no session to resume
    body += _list(offer.ciphers) + b"\x01\0"  # one compression: none
    body += _extensions(offer)
    message = bytes((_CLIENT_HELLO,)) + len(body).to_bytes(3) + body
    return bytes((_HANDSHAKE,)) + _number(offer.record) + _sized(message)


def read(data: bytes) -> Answer:
    """A handshake record that begins with a ServerHello (ssl_hello_parse, both modules); a retry request has the same number.

    The module waits for 47 bytes before it looks; an alert, or an answer that is not TLS, is named as soon as it is there.
    """
    if data[:1] == bytes((_ALERT,)):
        return MORE if len(data) < _ALERT_WHOLE else dead(_alert(data[_REASON]))
    if data and data[0] != _HANDSHAKE:
        return dead("the answer is not TLS", data)
    if len(data) < _WHOLE:
        return MORE
    return ALIVE if data[_TYPE] == _SERVER_HELLO else dead("the TLS handshake does not begin with a ServerHello")


def _alert(reason: int) -> str:
    return f"the server answered with TLS alert {reason}" + (f" ({_ALERTS[reason]})" if reason in _ALERTS else "")


def _extensions(offer: Offer) -> bytes:
    lists = ((_SUPPORTED_GROUPS, offer.groups), (_SIGNATURE_ALGORITHMS, offer.signatures))
    extensions = b"".join(_number(kind) + _sized(_list(numbers)) for kind, numbers in lists if numbers)
    return _sized(extensions) if extensions else b""


def _list(numbers: Iterable[int]) -> bytes:
    return _sized(b"".join(map(_number, numbers)))


def _sized(data: bytes) -> bytes:
    return _number(len(data)) + data


def _number(number: int) -> bytes:
    return number.to_bytes(2)


TYPE = ProbeType(
    part="the TLS hello",
    send=lambda rule, make_hello: make_hello(rule.dialect),
    read=lambda data, _: read(data),
)

"""What one line of an access log says went wrong, by what nginx writes into its upstream variables.

Seen on nginx 1.22 and 1.31: an attempt that nginx itself gave up has 502 or 504 in `$upstream_status` and `-` in
`$upstream_header_time`, an answer of the server has a time there. Lists are `A, B` over retries and `A : B` over internal
redirects; one that ends in ` : ` was redirected to where no server is asked (`error_page 502 = @sorry`), which heals nothing.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

from upswitch.basics.text import printable
from upswitch.basics.value import Value
from upswitch.logs.line import CLIENT_LEFT

DECIDING = (
    "status",
    "request_time",
    "upstream_addr",
    "upstream_status",
    "upstream_header_time",
    "upstream_connect_time",
    "upstream_bytes_sent",
    "request_completion",
    "request_method",
    "request",
)
"""The variables that `troubles` looks at."""

UNREPEATABLE = frozenset({b"POST", b"LOCK", b"PATCH"})
"""Methods that nginx does not send twice (ngx_http_upstream_next)."""

_GATEWAY = frozenset({b"502", b"503", b"504"})
_NOTHING = frozenset({b"", b"-"})
_SEPARATOR = re.compile(rb", | : ?")
_SHUT, _RAW, _CUT, _OWN = 0, 9, (200, 206), 500


class Wrong(StrEnum):
    """What went wrong with a request, or with one of its attempts at a server."""

    OURS = "ours"  # nginx gave up on the server
    ANSWERED = "answered"  # the server said 502, 503 or 504
    EITHER = "either"  # one of these
    UNASKED = "unasked"  # 5xx without a server
    LEFT = "left"  # the client left after 1 s or more with no answer
    CUT = "cut"  # an answer broke off
    SHUT = "shut"  # status 000
    RAW = "raw"  # status 009
    RACED = "raced"  # also OURS: at once on a connection that took no time, of a method that is not sent twice
    DIED = "died"  # also OURS: after the request was sent, of any other method


class Trouble(Value):
    """`server` as in `$upstream_addr`, or ""; `status` the attempt's, else the client's; `is_last`: none was asked after it."""

    wrong: Wrong
    server: str
    status: int
    is_last: bool = True


def troubles(found: Mapping[str, bytes]) -> tuple[Trouble, ...]:
    """By variable; one that the format lacks is missing. `request_time` is b"" for under a second, `request` the method."""
    status = int(found["status"]) if "status" in found else None
    answers, peers = _answers(found), _split(found.get("upstream_addr", b""))
    servers = [_name(peer) for peer in peers] if len(peers) >= len(answers) else [""] * len(answers)
    server = servers[len(answers) - 1]
    if status == CLIENT_LEFT:
        return (Trouble(wrong=Wrong.LEFT, server=server, status=CLIENT_LEFT),) if _is_hung(found, answers[-1]) else ()
    if status in {_SHUT, _RAW}:
        return (Trouble(wrong=Wrong.SHUT if status == _SHUT else Wrong.RAW, server=server, status=status or 0),)
    failed = _failed(found, answers, servers)
    if failed or status is None:
        return failed
    if status >= _OWN and answers[-1] in _NOTHING:
        return (Trouble(wrong=Wrong.OURS if server else Wrong.UNASKED, server=server, status=status),)
    is_cut = status in _CUT and found.get("request_completion", b"OK") in _NOTHING
    return (Trouble(wrong=Wrong.CUT, server=server, status=status),) if is_cut else ()


def asked(peers: bytes) -> tuple[str, ...]:
    """The servers in a list of `$upstream_addr`."""
    return tuple(name for peer in _split(peers) if (name := _name(peer)))


def _failed(found: Mapping[str, bytes], answers: list[bytes], servers: list[str]) -> tuple[Trouble, ...]:
    """The attempts that failed."""
    headers = _split(found.get("upstream_header_time", b""))
    failed = []
    for index, (answer, server) in enumerate(zip(answers, servers, strict=False)):
        if answer in _GATEWAY:
            wrong = Wrong.EITHER if len(headers) < len(answers) else _whose(headers[index])
            failed.append(Trouble(wrong=wrong, server=server, status=int(answer), is_last=index == len(answers) - 1))
    if failed and failed[-1] == Trouble(wrong=Wrong.OURS, server=failed[-1].server, status=502):
        failed += _after_sending(found, failed[-1])
    return tuple(failed)


def _whose(header: bytes) -> Wrong:
    if not header:
        return Wrong.EITHER
    return Wrong.OURS if header == b"-" else Wrong.ANSWERED


def _after_sending(found: Mapping[str, bytes], ours: Trouble) -> list[Trouble]:
    """A keep-alive race or its counterproof, where the format tells: nginx tries again what may be sent twice, and heals it."""
    sent, connected = _last(found, "upstream_bytes_sent"), _last(found, "upstream_connect_time")
    method = found.get("request_method", found.get("request", b""))
    if not method or sent in {b"", b"-", b"0"} or connected in _NOTHING:
        return []
    if method not in UNREPEATABLE:
        return [Trouble(wrong=Wrong.DIED, server=ours.server, status=ours.status)]
    return [Trouble(wrong=Wrong.RACED, server=ours.server, status=ours.status)] if connected == b"0.000" else []


def _answers(found: Mapping[str, bytes]) -> list[bytes]:
    """The servers' statuses, without the end of a list that leads to no server; `$status` where the format has no list."""
    if "upstream_status" not in found:
        return [found.get("status", b"")]
    answers = _split(found["upstream_status"])
    while len(answers) > 1 and not answers[-1]:
        answers.pop()
    return answers


def _is_hung(found: Mapping[str, bytes], answer: bytes) -> bool:
    has_peer = found.get("upstream_addr", b"?") not in _NOTHING
    is_unanswered = _last(found, "upstream_header_time") in _NOTHING and answer in {b"", b"-", b"499"}
    return has_peer and is_unanswered and found.get("request_time", b"") != b""


def _last(found: Mapping[str, bytes], name: str) -> bytes:
    return _split(found.get(name, b""))[-1]


def _split(text: bytes) -> list[bytes]:
    return _SEPARATOR.split(text)


def _name(peer: bytes) -> str:
    return "" if peer in _NOTHING else printable(peer)

"""What one line of an access log says went wrong, by what nginx writes into its upstream variables.

Seen on nginx 1.22 and 1.31: an attempt that nginx itself gave up has 502 or 504 in `$upstream_status` and `-` in
`$upstream_header_time`, an answer of the server has a time there. Lists are `A, B` over retries and `A : B` over internal
redirects; one that ends in ` : ` was redirected to where no server is asked (`error_page 502 = @sorry`), which heals nothing.
"""

from enum import StrEnum

from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.logs.line import CLIENT_LEFT, GATEWAY, UNREPEATABLE, Entry, elements

_GATEWAY = frozenset(map(str, GATEWAY))
_NOTHING = frozenset({None, "", "-"})
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


def troubles(entry: Entry) -> tuple[Trouble, ...]:
    """What went wrong with a request and with its attempts, as far as its entry says."""
    status, answers, peers = entry.status, _answers(entry), elements(entry.upstream_addr)
    servers = [_name(peer) for peer in peers] if len(peers) >= len(answers) else [""] * len(answers)
    server = servers[len(answers) - 1]
    if status == CLIENT_LEFT:
        is_hung = entry.upstream_addr not in {"", "-"} and entry.has_left_unanswered(answers[-1])
        return (Trouble(wrong=Wrong.LEFT, server=server, status=CLIENT_LEFT),) if is_hung else ()
    if status in {_SHUT, _RAW}:
        return (Trouble(wrong=Wrong.SHUT if status == _SHUT else Wrong.RAW, server=server, status=status or 0),)
    failed = _failed(entry, answers, servers)
    if failed or status is None:
        return failed
    if status >= _OWN and answers[-1] in _NOTHING:
        return (Trouble(wrong=Wrong.OURS if server else Wrong.UNASKED, server=server, status=status),)
    is_cut = status in _CUT and entry.request_completion in {"", "-"}
    return (Trouble(wrong=Wrong.CUT, server=server, status=status),) if is_cut else ()


def asked(entry: Entry) -> tuple[str, ...]:
    """The servers that got the request, as `$upstream_addr` names them."""
    return tuple(name for peer in elements(entry.upstream_addr) if (name := _name(peer)))


def _failed(entry: Entry, answers: list[str], servers: list[str]) -> tuple[Trouble, ...]:
    """The attempts that failed."""
    headers = elements(entry.upstream_header_time)
    failed = []
    for index, (answer, server) in enumerate(zip(answers, servers, strict=False)):
        if answer in _GATEWAY:
            wrong = Wrong.EITHER if len(headers) < len(answers) else _whose(headers[index])
            failed.append(Trouble(wrong=wrong, server=server, status=int(answer), is_last=index == len(answers) - 1))
    if failed and failed[-1] == Trouble(wrong=Wrong.OURS, server=failed[-1].server, status=GATEWAY[0]):
        failed += _after_sending(entry, failed[-1])
    return tuple(failed)


def _whose(header: str) -> Wrong:
    if not header:
        return Wrong.EITHER
    return Wrong.OURS if header == "-" else Wrong.ANSWERED


def _after_sending(entry: Entry, ours: Trouble) -> list[Trouble]:
    """A keep-alive race or its counterproof, where the format tells: nginx tries again what may be sent twice, and heals it."""
    sent, connected = elements(entry.upstream_bytes_sent)[-1], elements(entry.upstream_connect_time)[-1]
    if not entry.method or sent in {"", "-", "0"} or connected in _NOTHING:
        return []
    if entry.method not in UNREPEATABLE:
        return [Trouble(wrong=Wrong.DIED, server=ours.server, status=ours.status)]
    return [Trouble(wrong=Wrong.RACED, server=ours.server, status=ours.status)] if connected == "0" else []


def _answers(entry: Entry) -> list[str]:
    """The servers' statuses, without the end of a list that leads to no server; `$status` where the format has no list."""
    if entry.upstream_status is None:
        return ["" if entry.status is None else f"{entry.status:03}"]
    answers = elements(entry.upstream_status)
    while len(answers) > 1 and not answers[-1]:
        answers.pop()
    return answers


def _name(peer: str) -> str:
    return "" if peer in _NOTHING else plain(peer)

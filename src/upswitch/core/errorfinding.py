"""Findings that the error log gives, weighed by what the access log says of the same servers.

Each attempt that nginx gave up has one line in the error log and one element in `$upstream_status`: what the error log has more
than the access log was not written by such attempts. A URI with newlines can forge whole lines of it (errorlog.py).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from msgspec.structs import replace

from upswitch.core.accesscount import Access, AccessCount
from upswitch.core.causes.catalogue import CAUSES
from upswitch.core.causes.cause import Code
from upswitch.core.errorcount import FROM_SERVERS, ErrorCount, Errors
from upswitch.core.evidence import OTHERS
from upswitch.core.finding import Finding, Told, Words, errors_told, explained, unexplained
from upswitch.core.trouble import Wrong

_ATTEMPTS = frozenset({Wrong.OURS, Wrong.EITHER})
_MAY_RACE = frozenset({Code.UPSTREAM_RESET, Code.UPSTREAM_PREMATURE_CLOSE})
_NO_REQUESTS = frozenset({Code.HEALTH_CHECK_DOWN, Code.DNS_SERVER_DOWN})
_HURTS_NOBODY = _NO_REQUESTS | {Code.NONE_TOLERATED, Code.NONE_BUFFERING_NOTICE, Code.CLIENT_CLOSED}
_RACED = "likely: requests that nginx does not send twice failed at once, on connections that took no time to make"
_MAY_HAVE_RACED = (
    "likely, where connections are kept and these requests are not sent twice; "
    "a log format with $upstream_connect_time, $upstream_bytes_sent and $request would tell"
)
_FORGED = "it has none for subrequests (auth_request), the logs may be of different times, or a URI forged lines of the error log"


def from_errors(errors: Errors, access: Access | None, *, keeps_alive: bool | None) -> list[Finding]:
    """All but "no live upstreams"."""
    counts = [each for each in errors.counts if each.code is not Code.NO_LIVE_ALL_DOWN]
    raced = _raced(counts, access, keeps_alive=keeps_alive)
    return [_finding(list(group), access) for _, group in groupby(sorted(raced, key=_kind), key=_kind)]


def is_of_server(count: ErrorCount) -> bool:
    """Whether such a line is of an attempt at a server."""
    return count.code is None or (count.code not in _NO_REQUESTS and CAUSES[count.code].status in FROM_SERVERS)


def is_without_server(count: ErrorCount, status: int) -> bool:
    """Whether such a line is of a request that got this status and has no server in the access log."""
    if count.code is None or count.code in _NO_REQUESTS:
        return False
    return CAUSES[count.code].status == status and (status not in FROM_SERVERS or not count.server)


def _attempts(access: Access, servers: Sequence[str]) -> list[AccessCount]:
    """What the access log has of attempts at these servers that nginx may have given up."""
    return [each for each in access.counts if each.wrong in _ATTEMPTS and each.server in servers]


def _kind(count: ErrorCount) -> tuple[str, str]:
    return (count.code or "", count.words)


def _raced(counts: Iterable[ErrorCount], access: Access | None, *, keeps_alive: bool | None) -> list[ErrorCount]:
    """With those set apart that were likely keep-alive races."""
    races = Counter[str]()
    for seen in access.counts if access else ():
        races[seen.server] += {Wrong.RACED: seen.count, Wrong.DIED: -seen.count}.get(seen.wrong, 0)
    parts = []
    for each in counts:
        likely = 0
        if each.code in _MAY_RACE and keeps_alive is not False:
            known = races[each.server] if _tells_races(access) else each.unrepeatable if keeps_alive else 0
            likely = max(0, min(each.unrepeatable, known))
            races[each.server] -= likely
        if likely:
            parts.append(replace(each, code=Code.KEEPALIVE_RACE, count=likely))
        if each.count > likely:
            parts.append(replace(each, count=each.count - likely))
    return parts


def _tells_races(access: Access | None) -> bool:
    return access is not None and access.tells_races


def _finding(counts: list[ErrorCount], access: Access | None) -> Finding:
    """Of one kind."""
    counts.sort(key=lambda each: -each.count)
    told, code = errors_told(counts), counts[0].code
    clients, note = weighed(told, access) if access and is_of_server(counts[0]) else (told.count, "")
    if code is None:
        return unexplained(told, _unknown(counts[0].words), clients, note=note)
    if code is Code.KEEPALIVE_RACE:
        return explained(code, told, told.count, note=_RACED if _tells_races(access) else _MAY_HAVE_RACED)
    return explained(code, told, 0 if code in _HURTS_NOBODY else clients, note=note)


def weighed(told: Told, access: Access) -> tuple[int, str]:
    """How many clients got, and what the access log has to say against it."""
    if not access.tells_attempts or not told.servers or OTHERS in told.servers:
        return told.count, ""
    found = _attempts(access, told.servers)
    seen, last = sum(each.count for each in found), sum(each.count for each in found if each.is_last)
    if told.count > seen:
        return min(last, told.count), f"the access log shows {seen} of these {told.count}: {_FORGED}"
    if last == seen:
        return told.count, ""
    return min(last, told.count), f"after {seen - last} of {seen} failed attempts at these servers another one was asked"


def _unknown(words: str) -> Words:
    return Words(
        status=502,
        why=f"no known cause has these words: {words}",
        check="the whole line, and the server's own log at that time",
        fix="unknown; please report the line, so that it gets a name",
    )

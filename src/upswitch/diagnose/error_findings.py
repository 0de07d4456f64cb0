"""Findings that the error log gives, weighed by what the access log says of the same servers.

Each attempt that nginx gave up has one line in the error log and one element in `$upstream_status`: what the error log has more
than the access log was not written by such attempts. So it is, by status, with errors that nginx answers of its own. A URI with
newlines can forge whole lines of the error log (errorlog.py).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from msgspec.structs import replace

from upswitch.diagnose.causes.catalogue import CAUSES
from upswitch.diagnose.causes.cause import Code
from upswitch.diagnose.count_access import Access
from upswitch.diagnose.count_errors import FROM_SERVERS, ErrorCount, Errors
from upswitch.diagnose.evidence import OTHERS
from upswitch.diagnose.finding import Finding, Words, errors_told, explained, unexplained
from upswitch.diagnose.troubles import Wrong

_ATTEMPTS = frozenset({Wrong.OURS, Wrong.EITHER})
_OWN_ERRORS = frozenset({Wrong.OURS, Wrong.UNASKED})
_MAY_RACE = frozenset({Code.UPSTREAM_RESET, Code.UPSTREAM_PREMATURE_CLOSE})
_NO_REQUESTS = frozenset({Code.HEALTH_CHECK_DOWN, Code.DNS_SERVER_DOWN})
_RACED = "likely: requests that nginx does not send twice failed at once, on connections that took no time to make"
_MAY_HAVE_RACED = (
    "likely, where connections are kept and these requests are not sent twice; "
    "a log format with $upstream_connect_time, $upstream_bytes_sent and $request would tell"
)
_FORGED = "it has none for subrequests (auth_request), the logs may be of different times, or a URI forged lines of the error log"
_FORGED_OWN = (
    "it may show another status (limit_req_status, error_page), or have no line (no connection was accepted); or a URI forged them"
)
_OWN = 500  # nginx's own errors, where they are not of a server
UNTOLD = frozenset({"", OTHERS})
"""Lines of these may be of any server."""

_Place = tuple[str, int]  # a server, and the status of an attempt there; of nginx's own errors "", and the client's status


class Attempts:
    """What the access log shows of attempts that nginx gave up, dealt out to the causes that the error log has: each goes to one.

    Which line is of which attempt no log says. By server and status each cause gets its share, as many of them reached clients.
    Lines of OTHERS share the attempts at servers of which the error log has no line.
    """

    def __init__(self, errors: Errors, access: Access | None) -> None:
        self._is_told = access is not None and access.tells_attempts and access.requests > 0
        self._seen, self._last, self._lines = Counter[_Place](), Counter[_Place](), Counter[_Place]()
        named = {line.server for line in errors.counts}
        for seen in access.counts if access else ():
            if seen.status in FROM_SERVERS:
                place = (seen.server if seen.server in named else OTHERS, seen.status)
                is_one = seen.wrong in _ATTEMPTS
            else:
                place, is_one = ("", seen.status), seen.wrong in _OWN_ERRORS
            if is_one:
                self._seen[place] += seen.count
                self._last[place] += seen.count if seen.is_last else 0
        for line in errors.counts:
            self._lines[self._place(line)] += line.count if is_of_server(line) or is_own(line) else 0

    def weigh(self, counts: Sequence[ErrorCount]) -> tuple[int, str]:
        """How many of these reached clients, and what the access log has to say against the others."""
        shares = [self._share(each) for each in counts]
        lines, seen, clients = sum(each.count for each in counts), sum(each[0] for each in shares), sum(each[1] for each in shares)
        if lines > seen:
            return clients, f"the access log shows {seen} of these {lines}: {_FORGED_OWN if is_own(counts[0]) else _FORGED}"
        return clients, f"after {lines - clients} of these {lines} another server was asked" if clients < lines else ""

    def _share(self, count: ErrorCount) -> tuple[int, int]:
        """Of these lines those that the access log shows, and of those the ones after which no other server was asked."""
        if not self._is_told or not (count.server or is_own(count)):
            return count.count, count.count
        place = self._place(count)
        seen = min(count.count, round(self._seen[place] * count.count / max(self._lines[place], 1)))
        last = round(self._last[place] * seen / max(self._seen[place], 1))
        self._lines[place] -= count.count
        self._seen[place] -= seen
        self._last[place] -= last
        return seen, last

    def _place(self, count: ErrorCount) -> _Place:
        """By the status of the cause; where the access log has only the other one there, by that."""
        status = CAUSES[count.code].status if count.code else None
        if is_own(count):
            return "", status or 0
        both = sorted(FROM_SERVERS, key=lambda each: each != status)
        return next(((count.server, each) for each in both if (count.server, each) in self._seen), (count.server, both[0]))


def from_errors(errors: Errors, access: Access | None, attempts: Attempts, *, keeps_alive: bool | None) -> list[Finding]:
    """All but "no live upstreams"."""
    counts = [each for each in errors.counts if each.code is not Code.NO_LIVE_ALL_DOWN]
    raced = _raced(counts, access, keeps_alive=keeps_alive)
    tells_races = _tells_races(access)
    return [_finding(list(group), attempts, tells_races=tells_races) for _, group in groupby(sorted(raced, key=_kind), key=_kind)]


def is_of_server(count: ErrorCount) -> bool:
    """Whether such a line is of an attempt at a server."""
    return count.code is None or (count.code not in _NO_REQUESTS and CAUSES[count.code].status in FROM_SERVERS)


def is_own(count: ErrorCount) -> bool:
    """Whether such a line is of a request that nginx itself answered with an error, 500 or 503."""
    status = CAUSES[count.code].status if count.code and count.code not in _NO_REQUESTS else None
    return status is not None and status >= _OWN and status not in FROM_SERVERS


def is_without_server(count: ErrorCount, status: int) -> bool:
    """Whether such a line is of a request that got this status and has no server in the access log."""
    if count.code is None or count.code in _NO_REQUESTS:
        return False
    return CAUSES[count.code].status == status and (status not in FROM_SERVERS or not count.server)


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


def _finding(counts: list[ErrorCount], attempts: Attempts, *, tells_races: bool) -> Finding:
    """Of one kind."""
    counts.sort(key=lambda each: -each.count)
    told, code = errors_told(counts), counts[0].code
    clients, note = attempts.weigh(counts) if is_of_server(counts[0]) or is_own(counts[0]) else (told.count, "")
    if code is None:
        return unexplained(told, _unknown(counts[0].words), clients, note=note)
    if code is Code.KEEPALIVE_RACE:
        return explained(code, told, told.count, note=_RACED if tells_races else _MAY_HAVE_RACED)
    return explained(code, told, 0 if code in _NO_REQUESTS or CAUSES[code].is_benign else clients, note=note)


def _unknown(words: str) -> Words:
    return Words(
        status=502,
        why=f"no known cause has these words: {words}",
        check="the whole line, and the server's own log at that time",
        fix="unknown; please report the line, so that it gets a name",
    )

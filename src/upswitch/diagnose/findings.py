"""Findings that the logs give: the error log's, weighed by what the access log says of the same servers; and the access log's own.

Each attempt that nginx gave up has one line in the error log and one element in `$upstream_status`: what the error log has more
than the access log was not written by such attempts. The same holds, by status, for errors that nginx answers of its own. A URI
with newlines can forge whole lines of the error log (logs/error_line.py).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeVar

from msgspec.structs import replace

from upswitch.diagnose.causes import Code, catalogue
from upswitch.diagnose.count_access import Access, AccessCount, Wrong
from upswitch.diagnose.count_errors import FROM_SERVERS, ErrorCount, Errors
from upswitch.diagnose.evidence import OTHERS, UNEXPLAINED
from upswitch.diagnose.finding import Finding, finding

_ATTEMPTS = frozenset({Wrong.OURS, Wrong.EITHER})
_OWN_ERRORS = frozenset({Wrong.OURS, Wrong.UNASKED})
_FAILED = _ATTEMPTS | _OWN_ERRORS | {Wrong.ANSWERED}
_CLOSED = frozenset({Code.UPSTREAM_RESET, Code.UPSTREAM_PREMATURE_CLOSE, Code.FASTCGI_PREMATURE_CLOSE})
_ENOUGH = 3
_TIMEOUTS = (
    "Raise the server's timeout above its slowest answer: gunicorn --timeout, uWSGI harakiri, php-fpm request_terminate_timeout, "
    "Go's WriteTimeout, Node's server.requestTimeout."
)
_MAY_RACE = frozenset({Code.UPSTREAM_RESET, Code.UPSTREAM_PREMATURE_CLOSE})
_RACED = "This is likely: requests that nginx does not send twice failed at once, on connections that took no time to make."
_MAY_HAVE_RACED = (
    "This is likely: connections are kept, and nginx does not send these requests twice. "
    "A log format with $upstream_connect_time, $upstream_bytes_sent and $request would prove it."
)
_SUBREQUESTS = "These are subrequests, which nginx makes itself (auth_request, mirror). No client got their answers."
_FORGED = "It has none for subrequests (auth_request). Or the logs are of different times, or a URI forged lines of the error log."
_FORGED_OWN = (
    "It may show another status (limit_req_status, error_page), or none (no connection was accepted). Or a URI forged the lines."
)
_LOOKS_THE_SAME = "limit_req, limit_conn and names that do not resolve look the same here. The error log tells them apart."
_OWN = 500  # nginx's own errors, where they are not of a server
UNTOLD = frozenset({"", OTHERS})
"""Lines of these may be of any server."""

_Place = tuple[str, int]  # a server, and the status of an attempt there; of nginx's own errors "", and the client's status


class Attempts:
    """What the access log shows of attempts that nginx gave up, dealt out to the causes that the error log has: each goes to one.

    Which line is of which attempt no log says. By server and status each cause gets its share, as many of them reached clients.
    Lines of OTHERS share the attempts at servers of which the error log has no line. Where the log's format has no attempts, its
    failed requests are dealt out, by status.
    """

    def __init__(self, errors: Errors, access: Access | None) -> None:
        self._is_told = access is not None and bool({"status", "upstream_status"} & access.variables) and access.requests > 0
        self._has_attempts = access is not None and access.tells_attempts
        self._seen, self._last, self._lines = Counter[_Place](), Counter[_Place](), Counter[_Place]()
        named = {line.server for line in errors.counts}
        for seen in access.counts if access else ():
            if not self._has_attempts:
                place, is_one = ("", seen.status), seen.wrong in _FAILED
            elif seen.status in FROM_SERVERS:
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
        if self._is_told and not self._has_attempts and not is_own(counts[0]):
            note = f"The access log shows {clients} failed requests for these {lines} lines. The others were tried again."
            return clients, note if clients < lines else ""
        if lines > seen:
            return clients, f"The access log shows {seen} of these {lines}. {_FORGED_OWN if is_own(counts[0]) else _FORGED}"
        return clients, f"After {lines - clients} of these {lines} nginx asked another server." if clients < lines else ""

    def _share(self, count: ErrorCount) -> tuple[int, int]:
        """Of these lines those that the access log shows, and of those the ones after which no other server was asked."""
        if not self._is_told or (self._has_attempts and not (count.server or is_own(count))):
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
        status = count.status
        if not self._has_attempts:
            seen = [each for _, each in self._seen]
            others = [each for each in seen if is_own(count) <= (each not in FROM_SERVERS)]
            return "", (status or 0) if status in seen or not others else max(others, key=lambda each: each in FROM_SERVERS)
        if is_own(count):
            return "", status or 0
        both = sorted(FROM_SERVERS, key=lambda each: each != status)
        return next(((count.server, each) for each in both if (count.server, each) in self._seen), (count.server, both[0]))


def from_errors(errors: Errors, access: Access | None, attempts: Attempts, *, keeps_alive: bool | None) -> list[Finding]:
    """All but "no live upstreams"."""
    counts = [each for each in errors.counts if each.code != Code.NO_LIVE_ALL_DOWN]
    raced = _raced(counts, access, keeps_alive=keeps_alive)
    tells_races = _tells_races(access)
    found = [_finding(list(group), attempts, tells_races=tells_races) for _, group in groupby(sorted(raced, key=_kind), key=_kind)]
    return [_with_timeout(each, access) if access and each.code in _CLOSED else each for each in found]


def _with_timeout(found: Finding, access: Access) -> Finding:
    """What is closed after the same time again and again was not closed by a crash."""
    seen = [each for each in access.counts if each.wrong in _ATTEMPTS and (not each.server or each.server in found.servers)]
    least, most = min((each.least_s for each in seen), default=0), max((each.most_s for each in seen), default=0)
    if least == 0 or most > least + 1 or sum(each.count for each in seen) < _ENOUGH:
        return found
    why = f"Each time the server closed the connection after {least} s. That is its own timeout, and no crash."
    return replace(found, why=why, fix=_TIMEOUTS)


def is_of_server(count: ErrorCount) -> bool:
    """Whether such a line is of an attempt at a server."""
    return count.cause.is_of_request and count.status in FROM_SERVERS


def is_own(count: ErrorCount) -> bool:
    """Whether such a line is of a request that nginx itself answered with an error, 500 or 503."""
    status = count.status
    return count.cause.is_of_request and status is not None and status >= _OWN and status not in FROM_SERVERS


def is_without_server(count: ErrorCount, status: int) -> bool:
    """Whether such a line is of a request that got this status and has no server in the access log."""
    is_known = count.code is not None and count.cause.is_of_request
    return is_known and count.status == status and (status not in FROM_SERVERS or not count.server)


def _kind(count: ErrorCount) -> tuple[str, str, str, int]:
    return (count.code or "", count.words, count.family, -1 if count.is_subrequest else count.status or 0)


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
    worst, count = counts[0], sum(each.count for each in counts)
    clients, note = attempts.weigh(counts) if is_of_server(worst) or is_own(worst) else (count, "")
    if worst.code is None:
        words, clients = worst.cause, 0 if worst.is_subrequest else clients
        return finding(UNEXPLAINED, counts, clients, said=replace(words, why=f"{words.why} {worst.words}"), note=note)
    if worst.code == Code.KEEPALIVE_RACE:
        return finding(worst.code, counts, count, note=_RACED if tells_races else _MAY_HAVE_RACED)
    if worst.is_subrequest:
        return finding(worst.code, counts, 0, note=_SUBREQUESTS)
    is_nobodys = worst.cause.is_benign or not worst.cause.is_of_request
    return finding(worst.code, counts, 0 if is_nobodys else clients, note=note)


T = TypeVar("T")
_ADDRESS = re.compile(r":\d+$|^unix:|[\[.]")
_GATEWAY = frozenset({502, 503, 504})
_CUT, _RAW = 200, 9  # what clients get of an answer that breaks off, or is no HTTP
_UNFINISHED = frozenset({Code.INVALID_CHUNKED, Code.TEMP_PATH_PERMISSION})
"""nginx's own reasons to leave an answer unfinished (NGX_ABORT in ngx_event_pipe.c)."""


def from_access(access: Access, errors: Errors | None) -> list[Finding]:
    found = (
        *_answered(access, errors),
        _gave_up(access, errors),
        _left(access),
        _cut(access, errors),
        _shut(access),
        _raw(access, errors),
        *(_unasked(access, errors, status) for status in sorted({each.status for each in _of(access, Wrong.UNASKED)})),
    )
    return [each for each in found if each]


def _answered(access: Access, errors: Errors | None) -> list[Finding]:
    """The servers' own words, by status: by header time, else what the error log has no line for."""
    said, either = _of(access, Wrong.ANSWERED), _of(access, Wrong.EITHER)
    if either and (errors is None or not errors.lines):
        return [_by_either(counts) for counts in _by_status(said + either)]
    beyond = _beyond(either, access, errors) if errors else []
    found = []
    for counts in _by_status(said + beyond):
        note = "The error log has no line for these." if any(each.wrong is Wrong.EITHER for each in counts) else ""
        each = finding(Code.UPSTREAM_ANSWERED, counts, _clients(counts), note=_retried(counts, note))
        found.append(replace(each, status=counts[0].status))
    return found


def _by_either(counts: Sequence[AccessCount]) -> Finding:
    """An address that is the name of an upstream says that no server of it was left."""
    if all(each.server and not _ADDRESS.search(each.server) for each in counts):
        return finding(Code.NO_LIVE_ALL_DOWN, counts, _clients(counts))
    return replace(_unexplained("answered_by_either", counts), status=counts[0].status)


def _by_status(counts: Sequence[AccessCount]) -> list[list[AccessCount]]:
    """The commonest first."""
    found = dict[int, list[AccessCount]]()
    for each in sorted(counts, key=lambda each: -each.count):
        found.setdefault(each.status, []).append(each)
    return list(found.values())


def _gave_up(access: Access, errors: Errors | None) -> Finding | None:
    """What nginx gave up without a line in the error log."""
    ours = _of(access, Wrong.OURS)
    if errors:
        known = {each.server for each in errors.counts}
        may_be_any = any(is_of_server(each) and each.server in UNTOLD for each in errors.counts)
        ours = [] if may_be_any else [each for each in ours if each.server not in known]
    if not ours:
        return None
    return _unexplained("gave_up" if errors else "gave_up_without_error_log", ours, note=_retried(ours, ""))


def _left(access: Access) -> Finding | None:
    """Whoever waited and left was hurt, however few. Where no time is known, only where half of all requests end so."""
    left = _of(access, Wrong.LEFT)
    if not left:
        return None
    count = sum(each.count for each in left)
    if "request_time" in access.variables or count * 2 >= access.requests:
        return finding(Code.CLIENT_CLOSED, left, count, said=catalogue().words["hangs"])
    return finding(Code.CLIENT_CLOSED, left, 0)


def _cut(access: Access, errors: Errors | None) -> Finding | None:
    """Answers that nginx left unfinished: the client left, or nginx gave up with a line of its own.

    Answers that a server cut short are not among them: nginx logs those as complete.
    """
    cut = _of(access, Wrong.CUT)
    if not cut:
        return None
    if errors is None:
        return _unexplained("broke_off", cut)
    note = "The answer had begun, and the error log has no line about why nginx stopped."
    found = finding(Code.CLIENT_CLOSED, cut, 0, note=note)
    count = found.count - sum(each.count for each in errors.counts if each.code in _UNFINISHED)
    return replace(found, count=count, status=_CUT) if count > 0 else None


def _shut(access: Access) -> Finding | None:
    shut = _of(access, Wrong.SHUT)
    return finding(Code.WORKER_SHUTDOWN_TIMEOUT, shut, _clients(shut)) if shut else None


def _raw(access: Access, errors: Errors | None) -> Finding | None:
    raw = _of(access, Wrong.RAW)
    is_known = errors is not None and any(each.status == _RAW for each in errors.counts)
    return finding(Code.NOT_HTTP, raw, _clients(raw)) if raw and not is_known else None


def _unasked(access: Access, errors: Errors | None, status: int) -> Finding | None:
    """Without a server, by status; what the error log explains is left out."""
    counts = [each for each in _of(access, Wrong.UNASKED) if each.status == status]
    explained = sum(each.count for each in (errors.counts if errors else ()) if is_without_server(each, status))
    left = sum(each.count for each in counts) - explained
    if left <= 0:
        return None
    if status in _GATEWAY:
        found = finding(Code.NGINX_RETURN, counts, left, note="" if errors else _LOOKS_THE_SAME)
    else:
        found = _unexplained("own_error", counts)
    return replace(found, status=status, count=left, clients=left)


def _of(access: Access, wrong: Wrong) -> list[AccessCount]:
    return [each for each in access.counts if each.wrong is wrong]


def _beyond(counts: Sequence[AccessCount], access: Access, errors: Errors) -> list[AccessCount]:
    """Attempts beyond the lines that the error log has of the same server; a line cut before the server may be of any.

    Where the access log has no servers, and of errors that are no gateway's, the lines of the same status count.
    """
    has_servers = "upstream_addr" in access.variables
    servers, statuses = Counter[str](), Counter[int]()
    for each in errors.counts:
        if has_servers and each.status in FROM_SERVERS:
            servers[each.server] += each.count if is_of_server(each) else 0
        elif each.status and each.status >= _OWN and each.cause.is_of_request:
            statuses[each.status] += each.count
    unasked = sum(each.count for each in _of(access, Wrong.UNASKED) if each.status in FROM_SERVERS)
    cut = max(0, servers.pop("", 0) - unasked)
    rest = []
    for attempt in counts:
        left = attempt.count - _take(attempt.count, servers, attempt.server) - _take(attempt.count, statuses, attempt.status)
        any_ = min(left, cut)
        cut -= any_
        left -= any_
        if not has_servers and attempt.status in _GATEWAY:  # an error page may have changed the status
            left -= sum(_take(left, statuses, status) for status in sorted(_GATEWAY))
        if left > 0:
            rest.append(replace(attempt, count=left))
    return rest


def _take(most: int, lines: Counter[T], of: T) -> int:
    """So many lines at most, taken out of those that are left."""
    taken = min(most, lines[of])
    lines[of] -= taken
    return taken


def _unexplained(words: str, counts: Sequence[AccessCount], *, note: str = "") -> Finding:
    """`words` names those of the catalogue."""
    return finding(UNEXPLAINED, counts, _clients(counts), said=catalogue().words[words], note=note)


def _clients(counts: Sequence[AccessCount]) -> int:
    return sum(each.count for each in counts if each.is_last)


def _retried(counts: Sequence[AccessCount], note: str) -> str:
    again = sum(each.count for each in counts if not each.is_last)
    return f"{note} After {again} of them nginx asked another server.".strip() if again else note

"""Findings that the access log gives: what the error log has no line for, or whose error log was not given."""

from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from upswitch.diagnose.causes.cause import Code
from upswitch.diagnose.count_access import Access, AccessCount
from upswitch.diagnose.count_errors import FROM_SERVERS, Errors
from upswitch.diagnose.error_findings import UNTOLD, is_of_server, is_without_server
from upswitch.diagnose.finding import Finding, Words, explained, requests_told, unexplained
from upswitch.diagnose.troubles import Wrong
from upswitch.logs.line import BIG_PERCENT, ENOUGH_FAILED

_CUT = frozenset(
    {
        Code.UPSTREAM_PREMATURE_CLOSE_BODY,
        Code.UPSTREAM_RESET_BODY,
        Code.READ_TIMEOUT_BODY,
        Code.INVALID_CHUNKED,
        Code.TEMP_PATH_PERMISSION,
    }
)
_RAW = frozenset({Code.NOT_HTTP, Code.PLAIN_TO_TLS_PORT})
_GATEWAY = frozenset({502, 503, 504})
_GAVE_UP = Words(
    status=502,
    why="nginx gave up on these servers, and no line of the error log says why",
    check="the error log of that time: give it with --error-log; its level must be error or lower",
    fix="see the error log",
)
_UNTOLD = Words(
    status=502,
    why="the servers, or nginx in their place, answered 502, 503 or 504: this log format does not tell which",
    check="the error log of that time: what it has no line for the servers said themselves",
    fix="put $upstream_header_time into the log format",
)
_BROKE_OFF = Words(
    status=200,
    why="answers broke off after their header: the server stopped, or the client left",
    check="the error log of that time: it has a line where the server stopped",
    fix="see the error log",
)
_HANG = Words(
    status=499,
    why="these servers hang: clients waited 1 s or more, got no answer and left",
    check="the servers themselves: do their workers wait (for a database, a lock, another service), are all of them busy?",
    fix="restart or take out what hangs; a shorter `proxy_read_timeout` lets nginx ask another server before clients leave",
)
_ITS_OWN = Words(
    status=500,
    why="nginx itself answered with an error and asked no server",
    check="the error log of that time, and `nginx -T | grep -n 'return 5\\|error_page'`",
    fix="see the error log",
)


def from_access(access: Access, errors: Errors | None) -> list[Finding]:
    found = (
        _answered(access, errors),
        _gave_up(access, errors),
        _left(access),
        _cut(access, errors),
        _shut(access),
        _raw(access, errors),
        *(_unasked(access, errors, status) for status in sorted({each.status for each in _of(access, Wrong.UNASKED)})),
    )
    return [finding for finding in found if finding]


def _answered(access: Access, errors: Errors | None) -> Finding | None:
    """The servers' own words: by header time, else what the error log has no line for."""
    said = _of(access, Wrong.ANSWERED)
    either = _of(access, Wrong.EITHER)
    if either and (errors is None or not errors.lines):
        return unexplained(requests_told(said + either), _UNTOLD, _clients(said + either))
    rest = _beyond(either, access, errors) if errors else []
    if not said and not rest:
        return None
    note = "as many as the error log has no line for" if rest else ""
    return _explained(Code.UPSTREAM_ANSWERED, said + rest, note=_retried(said + rest, note))


def _gave_up(access: Access, errors: Errors | None) -> Finding | None:
    """What nginx gave up without a line in the error log."""
    ours = _of(access, Wrong.OURS)
    if errors:
        known = {each.server for each in errors.counts}
        may_be_any = any(is_of_server(each) and each.server in UNTOLD for each in errors.counts)
        ours = [] if may_be_any else [each for each in ours if each.server not in known]
    if not ours:
        return None
    words = _GAVE_UP if errors else replace(_GAVE_UP, why="nginx gave up on these servers: the error log says why")
    return unexplained(requests_told(ours), words, _clients(ours), note=_retried(ours, ""))


def _left(access: Access) -> Finding | None:
    left = _of(access, Wrong.LEFT)
    if not left:
        return None
    told = requests_told(left)
    hangs = told.count >= ENOUGH_FAILED and told.count * 100 >= access.requests * BIG_PERCENT
    found = explained(Code.CLIENT_CLOSED, told, told.count if hangs else 0)
    return replace(found, why=_HANG.why, check=_HANG.check, fix=_HANG.fix) if hangs else found


def _cut(access: Access, errors: Errors | None) -> Finding | None:
    """Answers that broke off, and not by a server of which the error log tells."""
    cut = _of(access, Wrong.CUT)
    if not cut:
        return None
    if errors is None:
        return unexplained(requests_told(cut), _BROKE_OFF, _clients(cut))
    told = requests_told(cut)
    left = told.count - sum(each.count for each in errors.counts if each.code in _CUT)
    note = "the answer had begun; the error log has no line of a server that stopped"
    return replace(explained(Code.CLIENT_CLOSED, replace(told, count=left), 0, note=note), status=200) if left > 0 else None


def _shut(access: Access) -> Finding | None:
    shut = _of(access, Wrong.SHUT)
    return _explained(Code.WORKER_SHUTDOWN_TIMEOUT, shut) if shut else None


def _raw(access: Access, errors: Errors | None) -> Finding | None:
    raw = _of(access, Wrong.RAW)
    is_known = errors is not None and any(each.code in _RAW for each in errors.counts)
    return _explained(Code.NOT_HTTP, raw) if raw and not is_known else None


def _unasked(access: Access, errors: Errors | None, status: int) -> Finding | None:
    """Without a server, by status; what the error log explains is left out."""
    counts = [each for each in _of(access, Wrong.UNASKED) if each.status == status]
    told = requests_told(counts)
    lines = [each.count for each in (errors.counts if errors else ()) if is_without_server(each, status)]
    left = replace(told, count=told.count - sum(lines))
    if left.count <= 0:
        return None
    if status not in _GATEWAY:
        return unexplained(left, replace(_ITS_OWN, status=status), left.count)
    note = "" if errors else "limit_req, limit_conn and names that do not resolve look the same: the error log tells"
    return replace(explained(Code.NGINX_RETURN, left, left.count, note=note), status=status)


def _of(access: Access, wrong: Wrong) -> list[AccessCount]:
    return [each for each in access.counts if each.wrong is wrong]


def _beyond(counts: Sequence[AccessCount], access: Access, errors: Errors) -> list[AccessCount]:
    """Attempts beyond the lines that the error log has of the same server; a line cut before the server may be of any."""
    lines = Counter[str]()
    for each in errors.counts:
        lines[each.server] += each.count if is_of_server(each) else 0
    unasked = sum(each.count for each in _of(access, Wrong.UNASKED) if each.status in FROM_SERVERS)
    cut = max(0, lines.pop("", 0) - unasked)
    rest = []
    for attempt in counts:
        taken = min(attempt.count, lines[attempt.server])
        lines[attempt.server] -= taken
        any_ = min(attempt.count - taken, cut)
        cut -= any_
        if attempt.count > taken + any_:
            rest.append(replace(attempt, count=attempt.count - taken - any_))
    return rest


def _explained(code: Code, counts: Sequence[AccessCount], *, note: str = "") -> Finding:
    return explained(code, requests_told(counts), _clients(counts), note=note)


def _clients(counts: Sequence[AccessCount]) -> int:
    return sum(each.count for each in counts if each.is_last)


def _retried(counts: Sequence[AccessCount], note: str) -> str:
    again = sum(each.count for each in counts if not each.is_last)
    return f"{note}{'; ' if note else ''}after {again} of them another server was asked" if again else note

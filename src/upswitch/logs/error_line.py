"""Lines of nginx's error log, read so that what a client wrote into them proves nothing.

A line is (ngx_log.c, ngx_http_log_error_handler):

    DATE TIME [level] PID#TID: *CONN message (errno: text) while ACTION, client: C, server: S, request: "R"[, subrequest: "U"]
    [, upstream: "U"][, host: "H"][, referrer: "F"]

nginx writes R, H, F and paths in messages raw. So we read from the left and stop where a client's words could begin: the
cause is what stands before `, client: `; where it quotes something, errno and action count only before the quote; the
upstream counts only directly behind a request without blanks (nginx 1.21.1 and later refuse others), before host and
referrer. A line is cut at 2048 bytes: then the upstream may be missing.
"""

import re
from calendar import timegm
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from upswitch.basics.text import printable
from upswitch.basics.value import Value

TIMELESS = (b"nginx: [", b"[")
"""How lines without a time begin: on a terminal (what `nginx -t` says, and a start that failed), and as people paste them."""

_HEAD = re.compile(
    rb"(?:(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )?\[([a-z]+)\] (\d+)#\d+: (?:\*(\d+) )?|nginx: \[([a-z]+)\] )(.*)", re.DOTALL
)
_CAUSE = re.compile(
    rb"(.*?)(?: \((\d+): ([^()]*(?:\([^()]*\)[^()]*)*)\))?(?: while ([a-zA-Z ]+)(?:\([a-z_]+\))?)?(?:, [^:]*: .*)?", re.DOTALL
)
_CONTEXT = re.compile(
    rb'[^,"]*, server: [^,"]*(?:, request: "\S+ [^\s"]*(?:"[^\s"]*)* HTTP/[\d.]+"(, subrequest: "[^\s"]*")?)?'
    rb'(?:, upstream: "(?:(passenger):(?!//)(?:unix:)?(/[^:"\s]*)|(?:([a-z]+)://)?(unix:[^:"\s]*|[^/"\s]*)))?'
)
"""Phusion Passenger has names of servers of its own: `passenger:unix:/path:`, and before its version 5 `passenger:/path:`."""
_TO_ADDRESS = re.compile(r"(connect|bind)\(\) to \S+ failed|(\S+) (could not be resolved)")
_NO_LIVE = "no live upstreams"
_BENIGN = ("an upstream response is buffered", "a client request body is buffered", "upstream server temporarily disabled")
_QUIET = frozenset({"debug", "info", "notice", "warn"})
_REPORTED = re.compile(rb"(?:epoll_wait|kevent)\(\) reported that (?!client )")
_OTHERS_NAMES = re.compile(rb"WSA(Recv|Send)(?=\(\) )")
"""Windows' names of functions."""
_BSD = {35: 11, 49: 99, 51: 101, 54: 104, 60: 110, 61: 111, 65: 113}
_WINDOWS = {10051: 101, 10053: 104, 10054: 104, 10060: 110, 10061: 111, 10065: 113}
_LINUX = _BSD | _WINDOWS
"""Linux's number of a network error. Linux's own errors of these numbers come from no socket."""
_SHOWN = 160
_TIME = 19  # bytes of a line's time
_LONGEST = 2048
"""Bytes: NGX_MAX_ERROR_STR. What is longer was not written by nginx in one go."""


class ErrorLine(Value):
    """One line. Text is printable ASCII. `errno` 0, `connection` 0, `upstream` and `action` "": the line has none.

    `message` is all of the cause but errno (Linux's number, whatever the system) and action; `upstream` is `IP:PORT`, `unix:/path`,
    or an upstream's name; `scheme` is what stands before it (`fastcgi`), if anything does. `is_stream`: it has an upstream and no
    request. `is_subrequest`: of one that nginx made itself (auth_request, mirror).
    """

    level: str
    pid: int
    connection: int
    message: str
    errno: int = 0
    errno_text: str = ""
    upstream: str = ""
    scheme: str = ""
    action: str = ""
    is_stream: bool = False
    is_subrequest: bool = False

    @property
    def text(self) -> str:
        """The cause as nginx wrote it."""
        errno = f" ({self.errno}: {self.errno_text})" if self.errno else ""
        return f"{self.message}{errno}" + (f" while {self.action}" if self.action else "")


def parse_error(line: bytes) -> ErrorLine | None:
    """None where it is no line of nginx's (a continuation, another program's)."""
    match = _HEAD.fullmatch(line[:_LONGEST])
    if match is None:
        return None
    level, pid, connection, console, rest = match.groups()
    cause, _, context = rest.partition(b", client: ")
    message, errno, errno_text, action = _cause(_usual(cause))
    number = int(errno[:9]) if errno else 0
    subrequest, scheme, upstream = _upstream(cause, context)
    return ErrorLine(
        level=(level or console).decode(),
        pid=int(pid[:18]) if pid else 0,
        connection=int(connection[:18]) if connection else 0,
        message=printable(message),
        errno=_LINUX.get(number, number),
        errno_text=printable(errno_text or b""),
        upstream=upstream,
        scheme=scheme,
        is_stream=bool(upstream) and b", request: " not in context,
        is_subrequest=bool(subrequest),
        action=printable(action or b""),
    )


def emerg_lines(lines: Iterable[bytes], pid: int) -> tuple[str, ...]:
    """What this process, the master, said at `[emerg]`: a failing `nginx -t` writes its own into the same log."""
    return tuple(line.text for line in _of_process(lines, pid) if line.level == "emerg")


def emerg_between(lines: Iterable[bytes], pid: int, *, since: str, until: str) -> str:
    """The last `[emerg]` of this process in these times (`YYYY/MM/DD HH:MM:SS`, as nginx writes them), with its time; "" for none.

    A line that a client forged may say so too: it explains, and decides nothing.
    """
    found = [line for line in lines if since.encode() <= line[:_TIME] <= until.encode() and emerg_lines((line,), pid)]
    return f"{found[-1][:_TIME].decode()} {emerg_lines(found[-1:], pid)[0]}" if found else ""


def fatal_lines(lines: Iterable[bytes], pid: int) -> tuple[str, ...]:
    """What this process, the master, said about workers that it can't start (ngx_process_cycle.c, ngx_reap_children)."""
    return tuple(line.text for line in _of_process(lines, pid) if line.message.endswith("cannot be respawned"))


def crash_lines(lines: Iterable[bytes], pid: int) -> tuple[str, ...]:
    """What this process, the master, said about workers killed by a signal (a crash, the OOM killer)."""
    return tuple(line.text for line in _of_process(lines, pid) if " exited on signal " in line.message)


def clock(words: str) -> int:
    """Seconds of a line's time (`YYYY/MM/DD HH:MM:SS`), to subtract from one another: of a clock without a zone.

    Whoever forges a line may name a month that is none.
    """
    year, month, *rest = map(int, re.split("[/ :]", words))
    return timegm((max(year, 1), min(max(month, 1), 12), *rest))


def failure_of(line: bytes) -> tuple[str, str] | None:
    """A failure towards an upstream: what is the same in all lines of its kind, and the server (`IP:PORT`, an upstream's name)."""
    parsed = parse_error(line)
    return (_name(parsed), parsed.upstream) if parsed and _is_failure(parsed) else None


def _of_process(lines: Iterable[bytes], pid: int) -> Iterator[ErrorLine]:
    return (parsed for line in lines if (parsed := parse_error(line)) and parsed.pid == pid)


def _usual(cause: bytes) -> bytes:
    """As nginx writes it on Linux."""
    named = _OTHERS_NAMES.match(cause)
    return named[1].lower() + cause[named.end() :] if named else _REPORTED.sub(b"", cause, count=1)


def _cause(cause: bytes) -> tuple[bytes, bytes | None, bytes | None, bytes | None]:
    """Message, errno, its text and action. Where something is quoted the message is everything: the quote may hold anything."""
    if b'"' in cause:
        return cause, None, None, None
    match = _CAUSE.fullmatch(cause)
    return (match[1], match[2], match[3], match[4]) if match else (cause, None, None, None)


def _upstream(cause: bytes, context: bytes) -> tuple[str, str, str]:
    """Subrequest, scheme and server. A cause that quotes and is not about the upstream may hold a client's forged context."""
    match = _CONTEXT.match(context)
    if not match or (b'"' in cause and not cause.startswith((b"upstream ", b"FastCGI "))):
        return "", "", ""
    subrequest, passenger, path, scheme, upstream = (printable(each or b"") for each in match.groups())
    return subrequest, passenger or scheme, f"unix:{path}" if path else upstream


def _is_failure(line: ErrorLine) -> bool:
    """Some failures are `[crit]`, and TLS alerts changed their level; none is below `[error]`, or ends in "ignored"."""
    is_upstreams = "upstream" in line.action or (line.upstream and line.action != "sending to client")
    is_said = line.level not in _QUIET and not line.message.endswith(", ignored")
    return bool(is_upstreams) and is_said and not line.message.startswith(_BENIGN)


def _name(line: ErrorLine) -> str:
    """What is the same in lines of one kind: no address, no action where it goes without saying."""
    message = _TO_ADDRESS.sub(
        lambda found: f"{found[1]}() failed" if found[1] else "a name could not be resolved", line.message, count=1
    )
    if message.startswith(_NO_LIVE):
        return _NO_LIVE
    is_plain = message == "connect() failed"
    return replace(line, message=message, action="" if is_plain else line.action).text[:_SHOWN]

"""What kind of line each line of an error log is, at full speed.

Theory. One regular expression walks over a block and takes of each line its time, its cause (what stands before `, client: `),
the method and the upstream: where the line is so plain that errorlog.py would certainly find the same. What was taken is counted
by value, and each distinct cause read once, by errorlog.py and the rules, from a short line that has only it. Any other line is
read as it is. Both ways give what errorlog.parse_error gives.

Busy sites write causes that differ in every line (a path, a size, an excess): their shape is what is left without that, where no
rule looks at it.
"""

import re
from collections import Counter
from collections.abc import Iterator

from upswitch.core.causes.catalogue import cause_of
from upswitch.core.causes.cause import Code
from upswitch.core.errorlog import failures, parse_error
from upswitch.core.words import Value

_QUICK = re.compile(
    rb"^(?:(?=.{0,2000}$)(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[[a-z]+\] \d+#\d+: (?>(?:\*\d+ )?)"
    rb"((?>[^,\n]*(?:,(?! client: )[^,\n]*)*))"
    rb'(?:, client: [^,"\n]*, server: [^,"\n]*'
    rb'(?:, request: "(\S+) \S* HTTP/[\d.]+"(?>(?:, subrequest: "[^\s"]*")?)'
    rb'(?:, upstream: "(?>(?:[a-z]+://)?)(unix:[^:"\s]*|[^/"\s]*).*|(?!, (?:upstream|subrequest): ").*))?)?'
    rb"|(.*))\n",
    re.MULTILINE,
)
_HEAD, _CONTEXT = b"0000/00/00 00:00:00 [a] 0#0: *0 ", b', client: , server: , request: "G  HTTP/1", upstream: "a://%s"'
_METHOD = re.compile(rb'[^,"]*, server: [^,"]*, request: "(\S+) ')
_VARIABLE = re.compile(
    rb"((?:limiting|delaying) requests?(?:, dry run)?, excess: )[\d.]+"
    rb"|(client intended to send too large (?:chunked )?body: )\d+"
    rb"|(an? (?:upstream response|client request body) is buffered to a temporary file )[\w./-]+"
    rb'|(open\(\) ")[^"]*(?=" failed \(2: [A-Za-z ]*\)$)'
)
_UNREPEATABLE = frozenset({b"POST", b"LOCK", b"PATCH"})  # ngx_http_upstream_next: not sent twice
_PEER = re.compile(r"(?:.* with|disable check) peer: (\S+)")
_TIME = 19

Values = tuple[bytes, bytes, bytes, bytes, bytes]
"""Of a plain line its time, cause, method and upstream; of any other the line, without its newline."""


class Kind(Value):
    """What a failure is: a cause, or, where the code is None, in `words` what no rule knows. `server` "": the line names none."""

    code: Code | None
    words: str
    server: str


def shape(cause: bytes) -> bytes:
    """The cause without what changes from line to line: causes of one shape are of one kind."""
    variable = _VARIABLE.match(cause)
    return variable[variable.lastindex or 0] + cause[variable.end() :] if variable else cause


def kind_of(values: Values) -> Kind | None:
    """None: a line that tells of no failure."""
    _, cause, _, upstream, line = values
    return _kind(line or _HEAD + cause + (_CONTEXT % upstream if upstream else b""))


def walk(block: bytes) -> Iterator[tuple[Values, int]]:
    """Each distinct line of a block of whole lines, and how often; the times in the order in which they came."""
    yield from Counter(_QUICK.findall(block)).items()


def first(block: bytes, values: Values) -> bytes:
    """The first line that has these values."""
    return next(match[0][:-1] for match in _QUICK.finditer(block) if match.groups(b"") == values)


def time_of(values: Values) -> bytes:
    """`YYYY/MM/DD HH:MM:SS`; b"" for a line that is none of nginx's."""
    time, _, _, _, line = values
    return time or (line[:_TIME] if parse_error(line) else b"")


def is_unrepeatable(values: Values) -> bool:
    """Of a request that nginx does not send twice."""
    _, _, method, _, line = values
    found = _METHOD.match(line.partition(b", client: ")[2]) if line else None
    return (found[1] if found else method) in _UNREPEATABLE


def _kind(line: bytes) -> Kind | None:
    parsed = parse_error(line)
    code = cause_of(parsed) if parsed else None
    if parsed and code:
        checked = _PEER.match(parsed.message) if code is Code.HEALTH_CHECK_DOWN else None
        return Kind(code=code, words="", server=checked[1] if checked else parsed.upstream)
    return next((Kind(code=None, words=words, server=server) for words, server in failures((line,))), None)

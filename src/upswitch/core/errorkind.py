"""What kind of line each line of an error log is, at full speed.

Theory. A regular expression walks over a block and takes of each line its time, its cause (what stands before `, client: `), the
method and the upstream: where the line is so plain that errorlog.py would certainly find the same. (One for the usual line is
twice as fast as one for all plain lines, which walks over what is left.) What was taken is counted by value, and each distinct
cause read once, by errorlog.py and the rules, from a short line that has only it. Any other line is read as it is. All ways give
what errorlog.parse_error gives; nothing counts beyond the 2048 bytes that it reads.

Busy sites write causes that differ in every line (a path, a size, an excess): their shape is what is left without that, where no
rule looks at it.
"""

import re
from collections import Counter

from upswitch.core.causes.catalogue import cause_of
from upswitch.core.causes.cause import Code
from upswitch.core.errorlog import failure_of, parse_error
from upswitch.core.trouble import UNREPEATABLE
from upswitch.core.words import Value

_HEADED = rb"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[[a-z]{1,10}+\] \d{1,20}+#\d{1,20}+: "
_USUAL = re.compile(
    rb"^(?:" + _HEADED + rb"\*\d{1,20}+ ([^,\n]{0,600}+), client: [^," + rb'"\n]{0,100}+, server: [^,"\n]{0,256}+'
    rb', request: "([A-Z]{1,20}+) \S{0,700}+ HTTP/\d\.\d", upstream: "[a-z]{1,10}+://(?!unix:)([^/"\s]{0,120}+)(?=[/"\s]).*|(.*))\n',
    re.MULTILINE,
)
_PLAIN = re.compile(
    rb"^(?:(?=.{0,2000}$)" + _HEADED + rb"(?>(?:\*\d+ )?)"
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


def walk(block: bytes) -> list[tuple[Values, int]]:
    """Each distinct line of a block of whole lines, and how often: by time, "no live upstreams" after what failed in its second."""
    found: Counter[Values] = Counter(_USUAL.findall(block))
    others = [values for values in found if values[-1] or not values[0]]
    rest = b"".join([b"%s\n" % values[-1] * found.pop(values) for values in others])
    found.update(_PLAIN.findall(rest))
    return sorted(found.items(), key=_order)


def first(block: bytes, values: Values) -> bytes:
    """The first line that has these values."""
    return next(match[0][:-1] for match in _PLAIN.finditer(block) if match.groups(b"") == values)


def time_of(values: Values) -> bytes:
    """`YYYY/MM/DD HH:MM:SS`; b"" for a line that is none of nginx's."""
    time, _, _, _, line = values
    return time or (line[:_TIME] if parse_error(line) else b"")


def is_unrepeatable(values: Values) -> bool:
    """Of a request that nginx does not send twice."""
    _, _, method, _, line = values
    found = _METHOD.match(line.partition(b", client: ")[2]) if line else None
    return (found[1] if found else method) in UNREPEATABLE


def _order(item: tuple[Values, int]) -> tuple[bytes, bool]:
    values, _ = item
    return time_of(values), values[1].startswith(b"no live upstreams ")


def _kind(line: bytes) -> Kind | None:
    parsed = parse_error(line)
    code = cause_of(parsed) if parsed else None
    if parsed and code:
        checked = _PEER.match(parsed.message) if code is Code.HEALTH_CHECK_DOWN else None
        return Kind(code=code, words="", server=checked[1] if checked else parsed.upstream)
    failed = failure_of(line)
    return Kind(code=None, words=failed[0], server=failed[1]) if failed else None

"""nginx's `log_format`, compiled to one regular expression over bytes that captures what the watch needs and nothing else.

Theory. A line is literals and variables in turn. Most variables cannot contain what follows them, and are matched possessively:
- those with a grammar of their own (status, times, addresses, numbers, lists of upstream answers);
- any, where the next literal begins with a character that nginx escapes in values: `"` and control characters
  (ngx_http_log_escape and ngx_escape_json), or where the line ends.

What is left is free text before an ordinary character ($remote_user before a blank). Such a one is matched shortest first, inside
an atomic group with all that follows up to the next free one, so a line that does not match costs time linear in its length for
each. Only the last free one may try further: it must, because a user named `a [b` or a URI ` 502 ` has to be read to its true
end. Two free ones before `$status` (never so in nginx's own formats) can be shifted by whoever writes the first; such lines are
misread or dropped.
"""

import re

from upswitch.core.conflogs import COMBINED
from upswitch.core.words import Value

MAX_LINE = 1 << 16
"""Bytes. Longer lines are not read."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
_CAPTURED = (
    "status",
    "request_time",
    "upstream_status",
    "upstream_addr",
    "upstream_header_time",
    "upswitch_generation",
    "time_local",
    "time_iso8601",
    "msec",
)
_EXACT = {
    "status": rb"\d{3}",
    "msec": rb"\d{1,20}\.\d{3}",
    "request_time": rb"\d{1,20}\.\d{3}",
    "time_local": rb"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}",
    "time_iso8601": rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d",
    "body_bytes_sent": rb"\d{1,20}",
    "bytes_sent": rb"\d{1,20}",
    "request_length": rb"\d{1,20}",
    "connection": rb"\d{1,20}",
    "connection_requests": rb"\d{1,20}",
    "pid": rb"\d{1,20}",
    "pipe": rb"[.p]",
}
_WORDS = {
    "remote_addr",
    "binary_remote_addr",
    "remote_port",
    "server_addr",
    "server_port",
    "request_id",
    "scheme",
    "upswitch_generation",
}
_ELEMENTS = {
    "upstream_status": rb"\d{1,3}",
    "upstream_header_time": rb"\d{1,20}\.\d{3}",
    "upstream_response_time": rb"\d{1,20}\.\d{3}",
    "upstream_connect_time": rb"\d{1,20}\.\d{3}",
    "upstream_bytes_sent": rb"\d{1,20}",
    "upstream_bytes_received": rb"\d{1,20}",
    "upstream_response_length": rb"\d{1,20}",
}
_IN_ADDRESSES = re.compile(rb"[\w.:/\[\]-]")


class Entry(Value):
    """What one line says. None: the format lacks it; "" or "-": nginx had nothing to say. Lists are as written, `A, B : C`.

    `status` is 0 where the format lacks it. `time` is `$msec`, else `$time_iso8601`, else `$time_local`. `request_time` is
    in seconds.
    """

    status: int
    time: str | None = None
    request_time: float | None = None
    generation: str | None = None
    upstream_addr: str | None = None
    upstream_status: str | None = None
    upstream_header_time: str | None = None


class LineReader(Value):
    """A compiled `log_format`. `variables` are those of the captured ones that it has."""

    pattern: re.Pattern[bytes]
    variables: frozenset[str]

    @property
    def has_generation(self) -> bool:
        return "upswitch_generation" in self.variables

    @property
    def has_upstream_addr(self) -> bool:
        return "upstream_addr" in self.variables

    @property
    def has_upstream_status(self) -> bool:
        return "upstream_status" in self.variables

    @property
    def has_request_time(self) -> bool:
        """Without it a hung client can't be told from an impatient one: HUNG is never seen."""
        return "request_time" in self.variables

    def read(self, line: bytes) -> Entry | None:
        """The entry of one line without its newline; None where it is not of this format."""
        match = self.pattern.fullmatch(line) if len(line) <= MAX_LINE else None
        if match is None:
            return None
        found = {name: value.decode("ascii", "backslashreplace") for name, value in match.groupdict(b"").items()}
        return Entry(
            status=int(found.get("status", "0")),
            time=found.get("msec") or found.get("time_iso8601") or found.get("time_local"),
            request_time=float(found["request_time"]) if "request_time" in found else None,
            generation=found.get("upswitch_generation"),
            upstream_addr=found.get("upstream_addr"),
            upstream_status=found.get("upstream_status"),
            upstream_header_time=found.get("upstream_header_time"),
        )


class _Part(Value):
    """A variable ("" before the first literal) and the literal behind it."""

    variable: str
    literal: bytes


def compile_format(text: str, escape: str = "default") -> LineReader:
    """The reader of a `log_format`: its strings joined, without name and `escape=` (that is default, json or none).

    `combined` is built in.
    """
    parts = _parts(COMBINED if text == "combined" else text)
    names = frozenset(part.variable for part in parts if part.variable in _CAPTURED)
    return LineReader(pattern=re.compile(_pattern(parts, escape), re.DOTALL), variables=names)


def _parts(text: str) -> list[_Part]:
    pieces = _VARIABLE.split(text)
    parts = [_Part(variable="", literal=pieces[0].encode())]
    for braced, bare, literal in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        parts.append(_Part(variable=(braced or bare).lower(), literal=literal.encode()))
    return parts


def _pattern(parts: list[_Part], escape: str) -> bytes:
    last = len(parts) - 1
    shapes = [_shape(part, escape, is_last=index == last) for index, part in enumerate(parts)]
    free = [index for index, shape in enumerate(shapes) if shape is None]
    out: list[bytes] = []
    captured: set[str] = set()
    for index, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        out.append(_opening(index, free) if shape is None else _captured(part.variable, shape, captured))
        out.append(re.escape(part.literal))
    return b"".join(out)


def _opening(index: int, free: list[int]) -> bytes:
    """A free variable: closes the atomic group of the one before it, and opens its own unless it is the last."""
    before = b")" if index > free[0] else b""
    return before + (b".*?" if index == free[-1] else b"(?>.*?")


def _captured(variable: str, shape: bytes, captured: set[str]) -> bytes:
    """The first of each wanted variable is captured, a repetition only matched."""
    if variable not in _CAPTURED or variable in captured:
        return shape
    captured.add(variable)
    return b"(?P<%s>%s)" % (variable.encode(), shape)


def _shape(part: _Part, escape: str, *, is_last: bool) -> bytes | None:
    """The expression of one variable; None where it is free text that nothing delimits."""
    if part.variable == "":
        return b""
    follower = part.literal[:1]
    if part.variable in _EXACT:
        return b"(?>(?:%s|-)?)" % _EXACT[part.variable] if part.variable not in _CAPTURED else _EXACT[part.variable]
    if part.variable in _ELEMENTS:
        return _list(rb"(?:%s|-)" % _ELEMENTS[part.variable], part.literal)
    if part.variable == "upstream_addr":
        return _addresses(part.literal)
    if part.variable in _WORDS and not (follower and re.match(rb"[\w.:/-]", follower)) and (follower or is_last):
        return rb'[^\s"%s]*+' % re.escape(follower)
    return _delimited(follower, escape, is_last=is_last)


def _list(element: bytes, literal: bytes) -> bytes:
    """`A, B : C`, atomic unless the literal behind it begins like a separator. A redirect without a peer ends in ` : `.

    Atomic groups, not possessive quantifiers: those match wrongly over a group before Python 3.11.5 (CPython issue 101955).
    """
    opening = b"(?:" if literal.startswith((b",", b" :")) else b"(?>"
    return rb"%s(?:%s(?:(?:, | : )%s)*(?: : )?)?)" % (opening, element, element)


def _addresses(literal: bytes) -> bytes:
    """Addresses, and the upstream's name of "no live upstreams". Backs off where the next literal may be part of an address."""
    follower = literal[:1]
    if not follower or _IN_ADDRESSES.match(follower):
        return rb'(?:[^\s,"]+(?:(?:, | : )[^\s,"]+)*(?: : )?)?'
    return _list(rb'[^\s,"%s]++' % re.escape(follower), literal)


def _delimited(follower: bytes, escape: str, *, is_last: bool) -> bytes | None:
    if not follower:
        return b".*+" if is_last else None
    if follower == b'"' and escape == "json":
        return rb'(?>(?:[^"\\]+|\\.)*)'
    is_escaped = follower < b" " or (escape == "default" and (follower == b'"' or follower > b"~"))
    return rb"[^%s]*+" % re.escape(follower) if is_escaped and escape != "none" else None

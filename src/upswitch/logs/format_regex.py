"""Makes the regular expression for the lines of a `log_format`, from one expression for each variable.

Theory. A line is literals and variables in turn. Most variables cannot contain what follows them, and are matched possessively:
- those with a grammar of their own (status, times, addresses, numbers, lists of upstream answers);
- any, where the next literal begins with a character that nginx escapes in values: `"` and control characters
  (ngx_http_log_escape and ngx_escape_json), or where the line ends.

What is left is free text before an ordinary character ($remote_user before a blank). Such a one is matched shortest first, inside
an atomic group with all that follows up to the next free one, so a line that does not match costs time linear in its length for
each. Only the last free one may try further: it must, because a user named `a [b` or a URI ` 502 ` has to be read to its true
end. Two free ones before `$status` (never so in nginx's own formats) can be shifted by whoever writes the first; such lines are
misread or dropped.

A variable that nobody asks for is skipped, not matched. The skip ends at the first character of the next literal, where the
variable cannot contain this character. One negated character is the fastest thing that Python's `re` does (0.7 ns a byte; a set
of two is seven times slower). So a skip does not stop at a newline, and users of `quick_pattern` must prove afterwards that each
match was one line. Times are skipped by their width: one follows the free $remote_user, and is tried at each of its characters.
"""

import re
from collections.abc import Collection, Iterable, Mapping

from upswitch.basics.value import Value

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
_GENERATION = "upswitch_generation"
_NUMBER, _SECONDS = rb"\d{1,20}", rb"\d{1,20}\.\d{3}"
_EXACT = {
    "status": rb"\d{3}",
    **dict.fromkeys(("msec", "request_time"), _SECONDS),
    "time_local": rb"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}",
    "time_iso8601": rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d",
    **dict.fromkeys(("body_bytes_sent", "bytes_sent", "request_length", "connection", "connection_requests", "pid"), _NUMBER),
    "pipe": rb"[.p]",
}
_WORDS = {
    "remote_addr",
    "binary_remote_addr",
    "remote_port",
    "server_addr",
    "server_port",
    "request_id",
    "request_method",
    "request_completion",
    "server_protocol",
    "scheme",
    "upswitch_pool",
    _GENERATION,
}
_ELEMENTS = {
    "upstream_status": rb"\d{1,3}",
    **dict.fromkeys(("upstream_header_time", "upstream_response_time", "upstream_connect_time"), _SECONDS),
    **dict.fromkeys(("upstream_bytes_sent", "upstream_bytes_received", "upstream_response_length"), _NUMBER),
}
_ALWAYS_THERE = {"status", "msec", "request_time", "time_local", "time_iso8601"}
_IN_ADDRESSES = re.compile(rb"[\w.:/\[\]-]")
_IN_LISTS = re.compile(rb"[\w.:/\[\], -]")
_IN_WORDS = re.compile(rb"[\w.:/-]")
_WIDTHS = {"time_local": rb".{26}", "time_iso8601": rb".{25}"}
_IN_NUMBERS = re.compile(rb"[\d.p-]")
_JSON_STRING = rb'[^"]*+(?:(?<!\\)|(?>(?:(?<=[^\\]\\)"[^"]*+)+)(?<!\\))'
"""As far as the quote that ends it. Where two backslashes stand before a quote it does not match: that is for the exact pattern.

Most strings have no quote inside: the first branch is theirs, a quarter faster than the second alone."""


class Part(Value):
    """A variable ("" before the first literal) and the literal behind it."""

    variable: str
    literal: bytes


def parts_of(text: str) -> tuple[Part, ...]:
    """The parts of a `log_format`: its strings joined."""
    pieces = _VARIABLE.split(text)
    parts = [Part(variable="", literal=_bytes(pieces[0]))]
    for braced, bare, literal in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        parts.append(Part(variable=(braced or bare).lower(), literal=_bytes(literal)))
    return tuple(parts)


def _bytes(text: str) -> bytes:
    """Restores the bytes of a configuration or a command line, whatever their encoding."""
    return text.encode("utf-8", "surrogateescape")


def exact_pattern(parts: tuple[Part, ...], escape: str, wanted: Iterable[str]) -> bytes:
    """One line without its newline; the first of each wanted variable is captured by its name. For re.DOTALL and fullmatch."""
    shapes = [_shape(part, escape, is_last=part is parts[-1]) for part in parts]
    return _joined(parts, shapes, dict.fromkeys(wanted, b""))


def quick_pattern(parts: tuple[Part, ...], escape: str, wishes: Mapping[str, bytes]) -> bytes:
    """Matches one line without its newline, and skips variables that are not in `wishes`.

    `wishes` holds an expression for each variable; b"" stands for the usual one.
    """
    shapes = [_skip(part, escape, is_last=part is parts[-1]) or _shape(part, escape, is_last=part is parts[-1]) for part in parts]
    return _joined(parts, shapes, wishes)


def forgeable(parts: tuple[Part, ...], escape: str, deciding: Collection[str]) -> tuple[str, ...]:
    """Free text in front of a variable that decides, with no `"` between them, which nginx escapes in values: what a client writes
    there can look like the other's. ($host and $request_uri have no blanks since nginx 1.21.1.)"""
    found: list[str] = []
    open_: list[str] = []
    for part in parts:
        found += [name for name in open_ if part.variable in deciding and name not in found]
        is_free = part.variable not in {"", "host", "server_name", "request_uri"} and _shape(part, escape, is_last=False) is None
        open_ = [] if b'"' in part.literal and escape != "none" else [*open_, *([part.variable] if is_free else [])]
    return tuple(found)


def _joined(parts: tuple[Part, ...], shapes: list[bytes | None], wishes: Mapping[str, bytes]) -> bytes:
    free = [index for index, shape in enumerate(shapes) if shape is None]
    left = dict(wishes)
    out: list[bytes] = []
    for index, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        if shape is None:
            out.append(_opening(index, free))
        elif part.variable in left:
            out.append(left.pop(part.variable) or b"(?P<%s>%s)" % (part.variable.encode(), shape))
        else:
            out.append(shape)
        out.append(re.escape(part.literal))
    return b"".join(out)


def _opening(index: int, free: list[int]) -> bytes:
    """Free text: closes the atomic group of the free text before it. Opens a new group unless this one is the last."""
    before = b")" if index > free[0] else b""
    return before + (b".*?" if index == free[-1] else b"(?>.*?")


def _skip(part: Part, escape: str, *, is_last: bool) -> bytes | None:
    """Skips to the next literal; None where the variable may contain the first character of it.

    None for the generation too, which is always looked at: only so no end of a list before it (` : `) passes for one.
    """
    if part.variable == _GENERATION:
        return None
    if part.variable in _WIDTHS:
        return _WIDTHS[part.variable]
    follower = part.literal[:1]
    if not follower:
        return None
    if alphabet := _alphabet(part.variable):
        return None if alphabet.match(follower) else b"[^%s]*+" % re.escape(follower)
    if follower == b'"' and escape == "json":
        return _JSON_STRING
    return b"[^%s]*+" % re.escape(follower) if _delimited(follower, escape, is_last=is_last) else None


def _alphabet(variable: str) -> re.Pattern[bytes] | None:
    if variable in _EXACT:
        return _IN_NUMBERS
    if variable in _WORDS:
        return _IN_WORDS
    return _IN_LISTS if variable in _ELEMENTS or variable == "upstream_addr" else None


def _shape(part: Part, escape: str, *, is_last: bool) -> bytes | None:
    """The expression of one variable; None where it is free text that nothing delimits."""
    if part.variable == "":
        return b""
    follower = part.literal[:1]
    if part.variable in _EXACT:
        is_needed = part.variable in _ALWAYS_THERE
        return _EXACT[part.variable] if is_needed else b"(?>(?:%s|-)?)" % _EXACT[part.variable]
    if part.variable in _ELEMENTS:
        return _list(rb"(?:%s|-)" % _ELEMENTS[part.variable], part.literal)
    if part.variable == "upstream_addr":
        return _addresses(part.literal)
    if part.variable in _WORDS and not (follower and re.match(rb"[\w.:/-]", follower)) and (follower or is_last):
        return rb"[\w-]*+" if part.variable == _GENERATION else rb'[^\s"%s]*+' % re.escape(follower)
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

"""What the walks over an access log take of its lines (accesscount.py has the theory)."""

import re

from upswitch.diagnose.what_went_wrong import DECIDING, UNREPEATABLE
from upswitch.logs.format_regex import exact_pattern
from upswitch.logs.kept_lines import shown, without_secrets
from upswitch.logs.line import LineReader
from upswitch.logs.walk import TIMES

GOOD = {
    "status": rb"(?!499)[1-4]\d\d",
    "upstream_status": rb"(?:[1-4]\d\d|-)?",
    "upstream_addr": b"",
    "request_completion": b"OK",
}
"""What a good request has, where the format has the variable; and whom it asked."""
_ELEMENTS = rb"(?>(?:(?:[\d.]+|-)(?:(?:, | : )(?:[\d.]+|-))*(?: : )?)?)"
_LIST = rb"(?P<%b>(?>(?:[-0], )*)(?:-|\d)(?=[\d.]*+(?!, | : ))|" + _ELEMENTS + rb")[\d.]*+"
"""Of a number its first digit, also behind attempts with none or 0: lines that fared alike are counted at once."""

_STATUS = rb"(?P<status>\d{3})"
_SECONDS = rb"(?:0\.\d{3}|(?P<request_time>\d)\d{0,19}\.\d{3})"
_METHOD = rb"(?P<%%b>(?:%b)(?![A-Z_-])|[A-Z]?+)" % b"|".join(sorted(UNREPEATABLE))
"""One that is not sent twice, else its first letter: a client may make up any number of methods."""


_SHOWN = frozenset(DECIDING) | {
    "body_bytes_sent",
    "bytes_sent",
    "connection",
    "connection_requests",
    "host",
    "hostname",
    "http_host",
    "http_referer",
    "http_user_agent",
    "msec",
    "pid",
    "pipe",
    "remote_addr",
    "remote_port",
    "request_id",
    "request_length",
    "request_uri",
    "scheme",
    "server_addr",
    "server_name",
    "server_port",
    "server_protocol",
    "ssl_cipher",
    "ssl_protocol",
    "time_iso8601",
    "time_local",
    "upstream_bytes_received",
    "upstream_cache_status",
    "upstream_response_length",
    "upstream_response_time",
    "upswitch_generation",
    "upswitch_pool",
    "uri",
}
"""Variables that hold no secret once queries and userinfo are cut. Any other may: headers, cookies, names from a `map`."""

_SAME = bytes(256)
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_ONES = bytes.maketrans(b"23456789", b"11111111")
TABLES = {"time": _SAME, "upstream_header_time": _ZEROS, "upstream_connect_time": _ONES, "upstream_bytes_sent": _ONES}
"""By which numbers of lines that fared alike become the same: what is nothing, 0 or more stays so."""

Found = tuple[bytes, ...]
"""What decides about a line, in the order of the format, and the line itself where it did not fit."""


class Exhibit:
    """Shows lines of one format: `...` in the place of each value that may be a secret, or that nothing delimits."""

    def __init__(self, reader: LineReader) -> None:
        self._parts = reader.parts
        self._pattern = re.compile(exact_pattern(reader.parts, reader.escape, _SHOWN), re.DOTALL)

    def shown(self, line: bytes) -> str:
        """A line without its newline, escaped and cut."""
        match = self._pattern.fullmatch(line)
        found = {"": b""} | (match.groupdict(b"") if match else {})
        values = (without_secrets(found.get(part.variable, b"...")) + part.literal for part in self._parts)
        return shown(b"".join(values))


def lines_of(block: bytes) -> list[bytes]:
    """Each with its newline."""
    return [line + b"\n" for line in block.split(b"\n")[:-1]]


def wishes_of(reader: LineReader) -> dict[str, bytes]:
    """What decides about a line; the method of a request only where that stands between quotes, which nginx escapes."""
    is_quoted = any(part.variable == "request" and part.literal.startswith(b'"') for part in reader.parts)
    wishes = dict.fromkeys(DECIDING, b"") | {
        "status": _STATUS,
        "request_time": _SECONDS,
        "request": _METHOD % b"request" + rb'[^"\\\n]*+',
    }
    wishes["request_method"] = _METHOD % b"request_method" + rb"[A-Z_-]*+"
    wishes |= {name: _LIST % name.encode() for name in ("upstream_header_time", "upstream_bytes_sent")}
    if not is_quoted or reader.escape == "none":
        del wishes["request"]
    return wishes


def reduced(found: dict[str, bytes], names: tuple[str, ...]) -> Found:
    """What the quick walk takes of the same line."""
    time = next((found[name] for name in TIMES if name in found), b"").partition(b".")[0]
    seconds = found.get("request_time", b"0.")
    methods = {name: re.match(_METHOD % b"method", found.get(name, b"")) for name in ("request", "request_method")}
    taken = found | {
        "time": time,
        "request_time": b"" if seconds.startswith(b"0.") else seconds[:1],
        "nothing": b"",
        "line": b"",
    }
    taken |= {name: method[0] for name, method in methods.items() if method}
    return tuple(taken[name] for name in names)

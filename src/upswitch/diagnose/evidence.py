"""What counters of logs keep to show: one line of each kind without its secrets, and a bounded number of kinds."""

import re

from upswitch.basics.text import printable
from upswitch.logs.format_regex import exact_pattern
from upswitch.logs.line import CAPTURED, LineReader

MOST_KEPT = 1 << 9
"""Kinds that a counter keeps apart; whoever can forge lines can make any number."""

OTHERS = "others"
"""Stands for the servers (and the words) beyond those that are kept apart."""

UNEXPLAINED = "unexplained"
"""Stands for the code of a failure that no rule knows, or whose log was not given."""

_LONGEST = 300
_SHOWN = CAPTURED | {
    "body_bytes_sent",
    "bytes_sent",
    "connection",
    "connection_requests",
    "host",
    "hostname",
    "http_host",
    "http_referer",
    "http_user_agent",
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
    "upstream_bytes_received",
    "upstream_cache_status",
    "upstream_response_length",
    "upstream_response_time",
    "upswitch_pool",
    "uri",
}
"""Variables that hold no secret once queries and userinfo are cut. Any other may: headers, cookies, names from a `map`."""

_USERINFO = re.compile(rb'//[^\s"/?]*@')
_QUERY = re.compile(rb'\?[^\s"]+')
_QUERY_OF_VALUE = re.compile(rb"\?.+?(?= HTTP/\d\.\d$|$)", re.DOTALL)


def shown(line: bytes) -> str:
    """A line, escaped, of at most 300 characters, without what its URIs hold of queries and userinfo: both may be secrets."""
    text = printable(_QUERY.sub(b"?...", _USERINFO.sub(b"//...@", line))[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def without_secrets(value: bytes) -> bytes:
    """One value of a line, which ends where its query does: a quote or a blank in that ends nothing."""
    return _QUERY_OF_VALUE.sub(b"?...", _USERINFO.sub(b"//...@", value), count=1)


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

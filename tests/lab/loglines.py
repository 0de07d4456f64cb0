"""Lines as nginx writes them in many formats, whatever a client sends; and how the watch counts them."""

import re
from collections import Counter

from hypothesis import strategies as st

from upswitch.logs.format_regex import parts_of
from upswitch.logs.line import MAX_LINE, seconds_of
from upswitch.nginx import conf_logs
from upswitch.nginx.build import Build
from upswitch.nginx.conf_logs import COMBINED
from upswitch.watch.attribution import Attribution, counter_for, counts_of

FIELDS = "$status $upstream_status $upstream_addr $request_time $upstream_header_time $upswitch_generation"
FORMATS = {
    "main": (
        "",
        '$remote_addr - $remote_user [$time_local] "$request" $status "$upstream_addr" "$upstream_status" $upswitch_generation',
    ),
    "bare": ("", f"{FIELDS} $msec $request_uri"),
    "behind": ("", "$http_x_forwarded_for - $remote_user [$time_iso8601] ${request} $status $upstream_status, $upstream_addr|"),
    "json": (
        "escape=json",
        (
            '{"t":"$msec","uri":"$request_uri","ua":"$http_user_agent","status":"$status","generation":"$upswitch_generation",'
            '"upstream_addr":"$upstream_addr","upstream_status":"$upstream_status","rt":$request_time,"uht":"$upstream_header_time"}'
        ),
    ),
    "none": ("escape=none", "$request_uri\t$http_user_agent\t$time_iso8601\t$status\t[$upstream_addr] $upstream_status"),
}
HOSTILE = (
    b"GET / HTTP/1.0\r\n\r\n",
    b'GET /a?"status":"200","upstream_status":"502" HTTP/1.0\r\nUser-Agent: ","status":"502\\\r\n\r\n',
    b"GET /" + b"%20502%20" * 800 + b" HTTP/1.0\r\nUser-Agent: " + b'" 502 "' * 500 + b"\r\n\r\n",
    b"GET /\xff\xfe\xe2\x80\xae HTTP/1.0\r\nUser-Agent: \xff\t502\t\\x22\r\n\r\n",
    (
        b"GET / HTTP/1.0\r\nX-Forwarded-For: 1 - 2 - [\r\n"
        b"Authorization: Basic YSBbMjAvTm92LzIwMjY6MTc6MzQ6MDAgKzAwMDBdICJHRVQgLyIgNTAyOng=\r\n\r\n"
    ),
)
ADVISED = re.search("'(.*)'", conf_logs.log_format_line())[1]
ALL = {
    **{name: (escape.removeprefix("escape=") or "default", text) for name, (escape, text) in FORMATS.items()},
    "advised": ("json", ADVISED),
    "our own": ("default", re.search("'(.*)'", conf_logs.own_format_line("upswitch", Build(name="nginx", version=(1, 31, 0))))[1]),
    "combined": ("default", COMBINED),
    "combined and upstreams": ("default", f'{COMBINED} rt=$request_time "$upstream_addr" "$upstream_status" $upswitch_generation'),
    "upstreams twice": (
        "default",
        "$upstream_addr $upstream_status $status $upstream_addr $upstream_status $msec $upstream_header_time",
    ),
    "no upstream status": ("json", '{"s":$status,"a":"$upstream_addr","g":"$upswitch_generation","u":"$http_user_agent"}'),
    "json without escape": ("none", '{"u":"$request_uri","s":$status,"a":"$upstream_addr","us":"$upstream_status"}'),
    "no status at all": ("default", '$remote_addr "$request"'),
    "generation in the middle": ("default", "[$time_local] $upswitch_generation|$status|$request_time|$request_uri"),
}
ATTRIBUTIONS = (
    Attribution(),
    Attribution(generation="000042-B"),
    Attribution(generation="000042-B", addresses=frozenset({"b:1", "unix:/b"}), former_addresses=frozenset({"a:1"})),
    Attribution(pool="B", addresses=frozenset({"b:1"}), upstreams=frozenset({"app"})),
    Attribution(addresses=frozenset({"b:1", "b:2"}), former_addresses=frozenset({"a:1"}), upstreams=frozenset({"app"})),
)
OF_NGINX = {
    "status": ("200", "404", "499", "502", "503", "504", "000", "009"),
    "upstream_status": ("200", "502", "502, 200", "200 : 504", "502 : ", "-", "499", "504, 502, 502"),
    "upstream_addr": ("b:1", "b:2", "a:1", "b:1, b:2", "a:1 : b:1", "unix:/b", "[::1]:80", "app", "b:1, app", "-", "c:1 : "),
    "upswitch_generation": ("000042-B", "000041-A", "000042-B2", "000041-B", "-"),
    "request_time": ("0.000", "0.999", "1.000", "75.123"),
    "upstream_header_time": ("-", "0.001", "-, 0.200", "0.001 : -"),
    "msec": ("1795262400.000", "1795262400.999", "1795262401.500"),
    "time_local": ("21/Nov/2026:12:00:00 +0000", "21/Nov/2026:12:00:01 +0100"),
    "time_iso8601": ("2026-11-21T12:00:00+00:00", "2026-11-21T12:00:01-05:30"),
    "remote_addr": ("127.0.0.1", "::1", "unix:"),
    "body_bytes_sent": ("0", "1234567"),
    "request_method": ("GET", "-"),
    "request_completion": ("OK", "-"),
    "upswitch_pool": ("B", "A"),
}
"""Variables that nginx alone fills, and what it fills them with. All others a client can write."""
NUMBERS = {"pid", "connection", "connection_requests", "upstream_bytes_sent", "upstream_bytes_received"}

UNITS = (
    b'"',
    b"\\",
    b" ",
    b" 502 ",
    b'" 502 "',
    b'","upstream_status":"502',
    b" [",
    b"] ",
    b"\x00",
    b"\xff\xfe",
    b"\t",
    b"/a",
    b"-",
    b"\\\\",
)
of_client = st.one_of(
    st.lists(st.sampled_from(UNITS), max_size=6).map(b"".join),
    st.sampled_from((b"/" + b"x" * 8192, b"/" + b"\xff" * 8192, b'"\\' * 4096, b"x" * (MAX_LINE + 1))),
    st.binary(max_size=30).map(lambda value: value.replace(b"\n", b"")),
)


def escaped(value, escape):
    """As ngx_http_log_escape and ngx_escape_json write it."""
    if escape == "none":
        return value
    written = b"".join(map((DEFAULT if escape == "default" else JSON).__getitem__, value))
    return written or (b"-" if escape == "default" else b"")


SHORT = {34: b'\\"', 92: b"\\\\", 8: b"\\b", 9: b"\\t", 12: b"\\f", 13: b"\\r"}
DEFAULT = [b"\\x%02X" % byte if byte in b'"\\' or byte < 32 or byte > 126 else bytes((byte,)) for byte in range(256)]
JSON = [SHORT.get(byte) or (b"\\u00%02X" % byte if byte < 32 else bytes((byte,))) for byte in range(256)]


@st.composite
def line_of(draw, name):
    """A line as nginx would write it in this format."""
    escape, text = ALL[name]
    out = b""
    for part in parts_of(text):
        if part.variable in OF_NGINX:
            value = draw(st.sampled_from(OF_NGINX[part.variable]))
            out += b"" if escape == "json" and value == "-" else value.encode()
        elif part.variable in NUMBERS:
            out += b"17"
        elif part.variable.startswith("upstream_"):
            out += b"0.001"
        elif part.variable:
            out += escaped(draw(of_client), escape)
        out += part.literal
    return out


def any_line(name):
    """Of this format; of another one; cut off; or no line of nginx's at all."""
    own = line_of(name)
    other = st.sampled_from(sorted(ALL)).flatmap(line_of)
    torn = st.tuples(own, st.integers(1, 60)).map(lambda cut: cut[0][: cut[1]])
    return st.one_of(own, own, own, other, torn, st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")))


def hostile_line(name, unit, size):
    escape, text = ALL[name]
    value = escaped(unit * (size // len(unit)), escape)
    fields = (OF_NGINX[part.variable][0].encode() if part.variable in OF_NGINX else value for part in parts_of(text))
    return (
        b"".join((field if part.variable else b"") + part.literal for field, part in zip(fields, parts_of(text), strict=True))
        + b"\n"
    )


def joined(lines):
    return b"".join(line + b"\n" for line in lines)


def counted(reader, attribution, block, alike=()):
    """As the watch counts a second."""
    return counts_of(counter_for(attribution, reader).count(block, alike), attribution)


def hits_of(lines, attribution, *, is_timed=False):
    """Lines that were counted, by second (None: without a time) and by whose they are."""
    found = Counter()
    for each in lines:
        hit = attribution.classify(each.entry) if each.entry else None
        found[at(each.time) if is_timed and hit else None, hit] += each.times
    return found


def at(time_text):
    seconds = seconds_of(time_text)
    return None if seconds is None else int(seconds)

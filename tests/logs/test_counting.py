"""Counting by blocks against reading line by line: the same lines, the same kinds, whatever a client put into them."""

import re
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_logformat import FORMATS

from upswitch.basics.result import Failure
from upswitch.logs.clock import seconds_of
from upswitch.logs.format_regex import parts_of
from upswitch.logs.line import MAX_LINE, compile_format
from upswitch.nginx import advice
from upswitch.nginx.conf_logs import COMBINED
from upswitch.watch.attribution import Attribution, Hit, Whose
from upswitch.watch.count import BlockCounter
from upswitch.watch.rule import Second

ADVISED = re.search("'(.*)'", advice.log_format_line())[1]
ALL = {
    **{name: (escape.removeprefix("escape=") or "default", text) for name, (escape, text) in FORMATS.items()},
    "advised": ("json", ADVISED),
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


def one_by_one(block, reader, attribution, *, is_timed):
    entries = [reader.read(line) for line in block.split(b"\n")[:-1]]
    return Counter(
        (at(entry.time or "") if entry and is_timed else None, attribution.classify(entry) if entry else None) for entry in entries
    )


def by_blocks(blocks, reader, attribution, *, is_timed):
    counter = BlockCounter(reader, attribution, is_timed=is_timed)
    found = Counter()
    for block in blocks:
        for (time_text, hit), times in counter.count(block).items():
            found[(at(time_text) if is_timed and hit else None, hit)] += times
    return found


def at(time_text):
    seconds = seconds_of(time_text)
    return None if seconds is None else int(seconds)


def cut(lines, size):
    return [b"".join(line + b"\n" for line in lines[start : start + size]) for start in range(0, len(lines), size)]


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_blocks_count_what_reading_line_by_line_counts(name, data):
    lines = data.draw(st.lists(any_line(name), max_size=12))
    attribution = data.draw(st.sampled_from(ATTRIBUTIONS))
    is_timed, size = data.draw(st.booleans()), data.draw(st.integers(1, 12))
    escape, text = ALL[name]
    reader = compile_format(text, escape)
    expected = one_by_one(b"".join(line + b"\n" for line in lines), reader, attribution, is_timed=is_timed)
    assert by_blocks(cut(lines, size), reader, attribution, is_timed=is_timed) == expected


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_line_is_counted_once_even_where_two_were_written_into_one_another(name, data):
    lines = data.draw(st.lists(line_of(name), min_size=1, max_size=6))
    data_of = b"".join(line + b"\n" for line in lines)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(data_of)))
        data_of = data_of[:start] + data_of[data.draw(st.integers(start, len(data_of))) :]
    block = data_of[: data_of.rfind(b"\n") + 1]
    escape, text = ALL[name]
    counter = BlockCounter(compile_format(text, escape), ATTRIBUTIONS[2])
    assert counter.count(block).total() == block.count(b"\n")
    assert counter.tally(block).lines == block.count(b"\n")


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_any_bytes_are_counted_as_so_many_lines(lines):
    block = b"".join(line + b"\n" for line in lines)
    for escape, text in ALL.values():
        assert BlockCounter(compile_format(text, escape), ATTRIBUTIONS[3], is_timed=True).count(block).total() == block.count(b"\n")


def test_empty_lines_are_not_read():
    for escape, text in ALL.values():
        assert BlockCounter(compile_format(text, escape), Attribution()).tally(b"\n\n\n").unread == 3


@pytest.mark.parametrize("length", [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 5 * MAX_LINE])
def test_a_line_over_the_limit_is_not_read_and_its_neighbours_are(length):
    reader = compile_format("$status $request_uri")
    block = b"200 /\n" * 20_000 + b"502 " + b"x" * (length - 4) + b"\n" + b"502 /\n" * 3
    expected = (Second(total=20_004, gateway=4), 0) if length <= MAX_LINE else (Second(total=20_003, gateway=3), 1)
    counted = BlockCounter(reader, Attribution()).tally(block)
    assert (counted.new, counted.unread) == expected


def test_many_kinds_of_line_are_forgotten_again_and_still_counted():
    """Names of upstreams are the owner's, so their number has no bound of its own."""
    reader = compile_format("$status $upstream_addr")
    block = b"".join(b"502 10.0.%d.%d:80\n" % divmod(number, 256) for number in range(9000)) * 2
    ours = Attribution(addresses=frozenset({"10.0.0.7:80"}))
    counted = BlockCounter(reader, ours).tally(block)
    assert (counted.new, counted.other) == (Second(total=2, gateway=2), 17_998)


def test_the_former_pools_lines_are_told_from_the_new_ones_at_the_same_speed():
    """Between the opening of the logs and the swap, every line is one of the former generation."""
    escape, text = ALL["advised"]
    counter = BlockCounter(compile_format(text, escape), ATTRIBUTIONS[1])
    line = re.sub(r"\$(\w+)", lambda name: OF_NGINX.get(name[1], ("1.000",))[0], text).encode() + b"\n"
    new, former = line * 5000, line.replace(b"000042-B", b"000041-A") * 5000
    assert set(counter.count(new)) == {("", Hit(whose=Whose.NEW))}
    assert set(counter.count(former)) == {("", Hit(whose=Whose.FORMER))}
    assert best(lambda: counter.count(former)) < 3 * best(lambda: counter.count(new))


def best(act):
    taken = []
    for _ in range(5):
        start = time.process_time()
        act()
        taken.append(time.process_time() - start)
    return min(taken)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("unit", UNITS)
def test_four_times_what_a_hostile_client_sends_costs_about_four_times(name, unit):
    """Up to 8 KiB in each of its fields: no field may be tried at each place of another, which would cost 16 times."""
    escape, text = ALL[name]
    counter = BlockCounter(compile_format(text, escape), ATTRIBUTIONS[2])
    short, long = (hostile_line(name, unit, size) * 10 for size in (2048, 8192))
    assert counter.tally(long).lines == 10
    assert best(lambda: counter.tally(long)) < 10 * best(lambda: counter.tally(short))


def hostile_line(name, unit, size):
    escape, text = ALL[name]
    value = escaped(unit * (size // len(unit)), escape)
    fields = (OF_NGINX[part.variable][0].encode() if part.variable in OF_NGINX else value for part in parts_of(text))
    return (
        b"".join((field if part.variable else b"") + part.literal for field, part in zip(fields, parts_of(text), strict=True))
        + b"\n"
    )


def test_a_hung_client_is_found_among_plain_lines():
    reader = compile_format("$status $request_time $upstream_status $upstream_header_time $upswitch_generation")
    block = b"200 0.001 200 0.001 000042-B\n499 1.500 - - 000042-B\n499 0.500 - - 000042-B\n499 9.000 - - 000041-A\n"
    counted = BlockCounter(reader, ATTRIBUTIONS[1]).count(block)
    assert counted == {
        ("", Hit(whose=Whose.NEW)): 2,
        ("", Hit(whose=Whose.NEW, failure=Failure.HUNG)): 1,
        ("", Hit(whose=Whose.FORMER, failure=Failure.HUNG)): 1,
    }

"""Lines that real nginxes wrote, read back; and lines that nobody should be able to write."""

import re
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend import frontend
from loglines import FIELDS, FORMATS, HOSTILE, counted, joined
from upswitch.basics.result import Failure
from upswitch.logs.line import MAX_LINE, Entry, compile_format, seconds_of
from upswitch.watch.attribution import Attribution, Hit, Mode, Timeline, Whose, counter_for
from upswitch.watch.history import Second
from upswitch_lab.process import free_port


def tally(lines, reader, *, attribution):
    return counted(reader, attribution, joined(lines))


def timeline(lines, reader):
    found = Timeline()
    found.add(counter_for(Attribution(), reader, is_timed=True).count(joined(lines)), Attribution())
    return found


BROKEN = (b"\x00\xff\x16\x03\r\n\r\n", b"GET /a b 502 HTTP/9.9\r\n\r\n")


@pytest.mark.parametrize("name", FORMATS)
def test_what_nginx_wrote_is_read_whatever_a_client_sent(nginx, tmp_path, name):
    dead = free_port("127.0.0.1")
    escape, text = FORMATS[name]
    http = f"""
        map "" $upswitch_generation {{ default "000042-B"; }} large_client_header_buffers 8 16k;
        log_format it {escape} '{text}'; access_log FOLDER/it.log it;
        upstream pool {{ server 127.0.0.1:{dead} max_fails=0; server 127.0.0.1:{dead} max_fails=0; }}
        server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://pool; }} }}
    """
    reader = compile_format(text, escape.removeprefix("escape=") or "default")
    with frontend(nginx, tmp_path, http) as front:
        front.send(*HOSTILE)
        lines = front.lines("it.log", len(HOSTILE))
        front.send(*BROKEN)
        broken = front.lines("it.log", len(HOSTILE) + len(BROKEN))[len(HOSTILE) :]
    entries = [reader.read(line) for line in lines]
    dead_twice = f"127.0.0.1:{dead}, 127.0.0.1:{dead}"
    assert {(entry.status, entry.upstream_status, entry.upstream_addr) for entry in entries} == {(502, "502, 502", dead_twice)}
    assert all(seconds_of(entry.time) > 1e9 for entry in entries)
    assert {entry.generation for entry in entries} == {"000042-B" if reader.has_generation else None}
    assert [entry.status for line in broken if (entry := reader.read(line))] == [400] * len(broken)
    before = Attribution(addresses=frozenset({f"127.0.0.1:{dead}"}))
    counted = tally(lines + broken, reader, attribution=before)
    assert (counted.new, counted.other, counted.unread) == (Second(total=5, gateway=5), len(broken), 0)


def test_no_live_upstreams_logs_the_upstreams_name_and_an_internal_redirect_two_pools(nginx, tmp_path):
    dead, other = free_port("127.0.0.1"), free_port("127.0.0.1")
    http = f"""
        log_format it '{FIELDS.removesuffix(" $upswitch_generation")}'; access_log FOLDER/it.log it;
        upstream down {{ server 127.0.0.1:{dead} down; }}
        upstream first {{ server 127.0.0.1:{dead}; }}
        server {{ listen 127.0.0.1:PORT;
            location / {{ proxy_pass http://down; }}
            location /r {{ proxy_pass http://first; error_page 502 = @other; }}
            location @other {{ proxy_pass http://127.0.0.1:{other}; }}
            location /static {{ return 200; }}
        }}
        server {{ listen 127.0.0.1:{other}; return 200; access_log off; }}
    """
    reader = compile_format(FIELDS.removesuffix(" $upswitch_generation"))
    with frontend(nginx, tmp_path, http) as front:
        front.send(*(b"GET %s HTTP/1.0\r\n\r\n" % path for path in (b"/", b"/r", b"/static")))
        name, redirect, static = (reader.read(line) for line in front.lines("it.log", 3))
    assert (name.upstream_addr, name.upstream_status) == ("down", "502")
    assert (redirect.upstream_addr, redirect.upstream_status) == (f"127.0.0.1:{dead} : 127.0.0.1:{other}", "502 : 200")
    assert (static.status, static.upstream_addr) == (200, "-")
    ours = Attribution(addresses=frozenset({f"127.0.0.1:{dead}"}), upstreams=frozenset({"down"}))
    assert [ours.classify(entry) for entry in (name, redirect, static)] == [
        Hit(whose=Whose.NEW, failure=Failure.GATEWAY),
        Hit(whose=Whose.NEW, failure=Failure.GATEWAY),
        Hit(whose=Whose.OTHER),
    ]


def test_a_client_that_left_after_a_second_without_an_answer_is_hung(nginx, tmp_path):
    text = f"{FIELDS.removesuffix(' $upswitch_generation')}"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_port = silent.getsockname()[1]
        http = f"""log_format it '{text}'; access_log FOLDER/it.log it;
            server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://127.0.0.1:{silent_port}; }} }}"""
        with frontend(nginx, tmp_path, http) as front:
            for patience in (0.2, 1.2):
                with socket.create_connection(("127.0.0.1", front.port)) as client:
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    client.settimeout(patience)
                    with pytest.raises(TimeoutError):
                        client.recv(1)
            lines = front.lines("it.log", 2)
    reader = compile_format(text)
    ours = Attribution(addresses=frozenset({f"127.0.0.1:{silent_port}"}))
    entries = [reader.read(line) for line in lines]
    assert [entry.status for entry in entries] == [499, 499]
    assert [ours.classify(entry).failure for entry in entries] == [Failure.NONE, Failure.HUNG]


def test_a_format_says_what_it_has_and_the_mode_follows():
    ours = Attribution(generation="2-B", addresses=frozenset({"b:1"}))
    assert ours.mode(compile_format('{"g":"$upswitch_generation"}', "json")) is Mode.GENERATION
    assert ours.mode(compile_format("$upstream_addr $status")) is Mode.ADDRESS
    assert ours.mode(compile_format("combined")) is Mode.LIMITED
    assert not compile_format("combined").has_upstream_status
    assert ours.classify(Entry(status=503)) == Hit(whose=Whose.NEW, failure=Failure.GATEWAY)


OURS = Attribution(
    generation="2-B",
    addresses=frozenset({"b:1", "b:2"}),
    former_generation="1-A",
    former_addresses=frozenset({"a:1"}),
    upstreams=frozenset({"app"}),
)


@pytest.mark.parametrize(
    ("generation", "addr", "status", "hit"),
    [
        ("2-B", "b:1, b:2", "502, 200", Hit(whose=Whose.NEW)),
        ("2-B", "b:1, b:2", "502, 504", Hit(whose=Whose.NEW, failure=Failure.GATEWAY)),
        ("2-B", "b:1 : c:1", "503 : 200", Hit(whose=Whose.NEW, failure=Failure.GATEWAY)),
        ("2-B", "b:1 : c:1", "200 : 503", Hit(whose=Whose.NEW)),
        ("2-B", "app", "502", Hit(whose=Whose.NEW, failure=Failure.GATEWAY)),
        ("2-B", "c:1", "502", Hit(whose=Whose.OTHER)),
        ("2-B", "-", "-", Hit(whose=Whose.OTHER)),
        ("1-A", "a:1", "502", Hit(whose=Whose.FORMER, failure=Failure.GATEWAY)),
        ("1-A", "app", "502", Hit(whose=Whose.FORMER, failure=Failure.GATEWAY)),
        (None, "a:1, app", "502, 502", Hit(whose=Whose.FORMER, failure=Failure.GATEWAY)),
        (None, "b:1, app", "200, 502", Hit(whose=Whose.NEW, failure=Failure.GATEWAY)),
        ("2-B", None, "502", Hit(whose=Whose.NEW, failure=Failure.GATEWAY)),
        ("1-A", None, "502", Hit(whose=Whose.FORMER, failure=Failure.GATEWAY)),
    ],
)
def test_a_line_is_the_new_pools_when_every_witness_says_so(generation, addr, status, hit):
    entry = Entry(status=200, generation=generation, upstream_addr=addr, upstream_status=status)
    assert OURS.classify(entry) == hit


def test_before_the_switch_the_former_pools_lines_count_under_any_generation():
    reader = compile_format("$upstream_addr $upstream_status $status $upswitch_generation")
    lines = [b"a:1 502 502 1-A", b"a:1 200 200 0-A", b"b:1 502 502 0-B"]
    assert tally(lines, reader, attribution=OURS.before(reader)).new == Second(total=2, gateway=1)
    failed_release = [b"app 502 502 0-B"] * 9
    assert tally([*lines, *failed_release], reader, attribution=OURS.before(reader)).new == Second(total=2, gateway=1)
    bare = compile_format("$upstream_status $status $upswitch_generation")
    lines = [b"502 502 1-A", b"200 200 0-A", b"502 502 0-B"]
    assert tally(lines, bare, attribution=OURS.before(bare)).new == Second(total=1, gateway=1)


@pytest.mark.parametrize(
    "time_text", ["1795196040.250", "2026-11-20T17:34:00+00:00", "2026-11-20T23:04:00+05:30", "20/Nov/2026:12:04:00 -0530"]
)
def test_every_time_that_nginx_writes_is_the_same_moment(time_text):
    assert int(seconds_of(time_text)) == 1795196040


@pytest.mark.parametrize(
    "time_text", ["", "-", "20/Foo/2026:17:34:00 +0000", "2026-13-20T17:34:00+00:00", "0000-01-01T00:00:00+00:00"]
)
def test_what_is_no_time_is_none(time_text):
    assert seconds_of(time_text) is None


@given(st.permutations([(0, 200), (0, 502), (5, 502), (5, 200), (7, 200), (700, 502)]))
def test_history_counts_the_same_in_any_order_with_quiet_seconds_as_zeros(order):
    reader = compile_format("$msec $status")
    lines = [b"%d.500 %d" % (10_000 + at, status) for at, status in order]
    history = timeline([each for each in lines if not each.startswith(b"10700")], reader).history()
    assert history.seconds == (
        Second(total=2, gateway=1),
        *(Second(),) * 4,
        Second(total=2, gateway=1),
        Second(),
        Second(total=1),
    )
    ends_with_last = timeline(lines, reader).history()
    assert (len(ends_with_last.seconds), ends_with_last.seconds[-1]) == (600, Second(total=1, gateway=1))


def test_without_a_time_or_without_lines_there_is_no_history():
    assert timeline([b"200"], compile_format("$status")).history().seconds == ()
    assert timeline([], compile_format("$msec $status")).history().seconds == ()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "unit", [b" ", b'"', b"\\", b" 502 ", b" [", b" - ", b"1", b"502 , 502, ", b"\x00\xff", b'" 200 "', b"a:1 : "]
)
def test_the_longest_hostile_line_costs_little(name, unit):
    escape, text = FORMATS[name]
    reader = compile_format(text, escape.removeprefix("escape=") or "default")
    line = (b"1.1.1.1 - " + unit * (MAX_LINE // len(unit)))[:MAX_LINE]
    start = time.process_time()
    reader.read(line)
    assert time.process_time() - start < 0.2
    assert reader.read(line + b"xxxxxxxxxxxx") is None


@given(st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_none(line):
    for escape, text in FORMATS.values():
        entry = compile_format(text, escape.removeprefix("escape=") or "default").read(line)
        assert entry is None or re.fullmatch(r"\d{1,3}", str(entry.status))

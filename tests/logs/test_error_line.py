"""What real nginxes wrote about failures that really happened, and what clients tried to write."""

import socket
import struct
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend import frontend
from upswitch.basics.text import printable
from upswitch.logs.error_line import emerg_lines, failure_of, fatal_lines, parse_error
from upswitch_lab.process import free_port

FORGED = b'GET /connect()%20failed,%20client:%20x,"upstream:"http://6.6.6.6:6/" HTTP/1.0\r\n'
REFERER = (
    b'Referer: ", upstream: "http://6.6.6.6:6/", '
    b"connect() failed (111: Connection refused) while connecting to upstream\x1b]0;x\x07\r\n\r\n"
)


@contextmanager
def resetting():
    """A server that answers every connection with a reset."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                stream, _ = server.accept()
            except OSError:
                return
            stream.recv(1 << 16)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def test_refused_reset_timeout_and_no_live_upstreams_are_read_and_told_with_servers(nginx, tmp_path):
    dead = free_port("127.0.0.1")
    with resetting() as reset, socket.create_server(("127.0.0.1", 0)) as silent:
        slow = silent.getsockname()[1]
        http = f"""
            upstream pool {{ server 127.0.0.1:{dead}; server 127.0.0.1:{dead}; }}
            server {{ listen 127.0.0.1:PORT; access_log off;
                location / {{ proxy_pass http://pool; }}
                location /reset {{ proxy_pass http://127.0.0.1:{reset}; }}
                location /slow {{ proxy_pass http://127.0.0.1:{slow}; proxy_read_timeout 200ms; }}
                location /unix {{ proxy_pass http://unix:FOLDER/none:/; }}
                location /file {{ root FOLDER; }}
            }}
        """
        with frontend(nginx, tmp_path, http) as front:
            paths = (b"/", b"/", b"/reset", b"/slow", b"/unix")
            front.send(*(b"GET %s HTTP/1.0\r\n%s" % (path, REFERER) for path in paths))
            front.send(FORGED + REFERER)
            front.send(
                b"GET /file%20(111:%20Connection%20refused)%20while%20connecting%20to%20upstream,%20client:%201,%20server:%20,"
                b'%20request:%20"GET%20/%20HTTP/1.1",%20upstream:%20"http://6.6.6.6:6/" HTTP/1.0\r\n' + REFERER
            )
            lines = front.lines("error.log", 8)
    parsed = [parse_error(line) for line in lines]
    assert all(parsed)
    assert {line.upstream for line in parsed} == {
        f"127.0.0.1:{dead}",
        f"127.0.0.1:{reset}",
        f"127.0.0.1:{slow}",
        "pool",
        f"unix:{tmp_path}/none",
        "",
    }
    by_server = {line.upstream: line for line in parsed}
    refused = by_server[f"127.0.0.1:{dead}"]
    assert (refused.message, refused.errno, refused.action) == ("connect() failed", 111, "connecting to upstream")
    late = by_server[f"127.0.0.1:{slow}"]
    assert (late.message, late.errno, late.action) == ("upstream timed out", 110, "reading response header from upstream")
    assert by_server[f"127.0.0.1:{reset}"].errno == 104
    assert (by_server["pool"].message, by_server["pool"].errno) == ("no live upstreams", 0)
    assert by_server[f"unix:{tmp_path}/none"].errno == 2
    assert all(line.connection > 0 and line.pid > 1 for line in parsed)
    told = {failed for line in lines if (failed := failure_of(line))}
    assert ("connect() failed (111: Connection refused)", f"127.0.0.1:{dead}") in told
    assert (f"upstream timed out (110: {late.errno_text}) while reading response header from upstream", f"127.0.0.1:{slow}") in told
    assert late.errno_text in {"Connection timed out", "Operation timed out"}  # glibc, musl
    assert ("no live upstreams", "pool") in told
    assert "6.6.6.6" not in str(told)
    assert all(words.isprintable() for words, _ in told)


HEAD = b"2026/11/20 17:34:00 [%s] %d#0: "


def test_only_the_masters_own_emerg_counts():
    lines = [
        HEAD % (b"emerg", 7) + b"bind() to 127.0.0.1:80 failed (98: Address already in use)",
        HEAD % (b"emerg", 8) + b'unknown directive "x" in /tmp/test.conf:1',
        HEAD % (b"error", 7) + b'*1 open() "/[emerg] 7#0" failed (2: No such file or directory), client: 1.1.1.1',
        HEAD % (b"emerg", 7) + b'host not found in upstream "b\x1b" in /etc/nginx/nginx.conf:3',
        b"not a line",
    ]
    assert emerg_lines(lines, 7) == (
        "bind() to 127.0.0.1:80 failed (98: Address already in use)",
        'host not found in upstream "b\\x1b" in /etc/nginx/nginx.conf:3',
    )


def test_workers_that_cannot_be_started_are_fatal():
    line = HEAD % (b"alert", 7) + b"worker process 9 exited with fatal code 2 and cannot be respawned"
    assert fatal_lines([line], 7) == ("worker process 9 exited with fatal code 2 and cannot be respawned",)
    assert fatal_lines([line], 9) == ()


CONTEXT = b', client: 1.1.1.1, server: _, request: "GET / HTTP/1.1", upstream: "http://b:1/", host: "x"'


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (b"connect() to b:1 failed (113: No route to host) while connecting to upstream",
         "connect() failed (113: No route to host)"),
        (b"upstream prematurely closed connection while reading response header from upstream",
         "upstream prematurely closed connection while reading response header from upstream"),
        (b"SSL_do_handshake() failed (SSL: error:0A00010B:wrong version number) while SSL handshaking to upstream",
         "SSL_do_handshake() failed (SSL: error:0A00010B:wrong version number) while SSL handshaking to upstream"),
        (b'upstream SSL certificate does not match "app" while SSL handshaking to upstream',
         'upstream SSL certificate does not match "app" while SSL handshaking to upstream'),
        (b"no live upstreams while connecting to upstream", "no live upstreams"),
        (b"an upstream response is buffered to a temporary file /x while reading upstream", None),
        (b"upstream server temporarily disabled while connecting to upstream", None),
    ],
)  # fmt: skip
def test_a_failure_is_told_in_nginxs_own_words(cause, told):
    assert failure_of(HEAD % (b"error", 9) + b"*4 " + cause + CONTEXT) == ((told, "b:1") if told else None)


def test_a_line_that_was_cut_off_has_no_upstream_and_still_its_cause():
    line = (HEAD % (b"error", 9) + b"*4 connect() failed (111: Connection refused) while connecting to upstream" + CONTEXT)[:160]
    assert failure_of(line) == ("connect() failed (111: Connection refused)", "")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_and_told_in_printable_ascii(tail):
    line = HEAD % (b"error", 9) + b"*4 " + tail
    parse_error(tail)
    assert parse_error(line).message.isprintable()
    assert all(
        (words + server).isprintable() for each in (line, line + CONTEXT) for words, server in [failure_of(each) or ("", "")]
    )


@pytest.mark.parametrize("unit", [b" (1: ", b", ", b" while a", b'"', b"(1: a) while b, ", b'", upstream: "', b"((", b" \x00"])
def test_the_longest_hostile_line_costs_little(unit):
    lines = [HEAD % (b"error", 9) + start + unit * 20_000 for start in (b"connect() failed", b"upstream x, client: ", CONTEXT)]
    start = time.process_time()
    for line in lines:
        failure_of(line)
    assert time.process_time() - start < 0.2


def test_foreign_bytes_are_shown_as_numbers():
    assert printable("a\u202eb\x1b[0m\n~".encode()) == "a\\xe2\\x80\\xaeb\\x1b[0m\\x0a~"
    assert all(0x20 <= ord(char) <= 0x7E for char in printable(bytes(range(256))))

"""Probes against real servers, well-behaved and hostile."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import time

import msgspec
import pytest

from servers import HTTP, Answer, close, reset, serving, wait_for_close
from upswitch.health.prober import NetProber
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.site.model import CheckType, Target
from upswitch_lab.process import free_port

CLOCK = SystemClock()
TCP = msgspec.structs.replace(HTTP, type=CheckType.TCP)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


@pytest.fixture
def prober():
    prober = NetProber(LocalHost(CLOCK), CLOCK)
    yield prober
    prober.close()


def probe(prober, address, rule=HTTP, **changes):
    return prober.probe(Target(upstream="app", server=address, address=address, rule=msgspec.structs.replace(rule, **changes)))


def asked(prober, answer, **changes):
    with serving(answer) as server:
        return probe(prober, f"127.0.0.1:{server.name[1]}", **changes)


# ---- tcp ----


def test_a_port_that_is_open_is_alive_whether_its_server_speaks_or_not(prober):
    for answer in (wait_for_close, lambda stream: (stream.sendall(b"220 hello\r\n"), wait_for_close(stream))):
        assert asked(prober, answer, type=CheckType.TCP).ok


def test_a_port_that_refuses_is_not_alive(prober):
    refused = probe(prober, f"127.0.0.1:{free_port('127.0.0.1')}", TCP)
    assert (refused.ok, refused.error) == (False, "Connection refused")


class Patient(LocalHost):
    """Gives a connection out only once its peer has done something, so that a close has arrived when it is looked at."""

    def connect(self, address: str, *, timeout: float) -> socket.socket:
        stream = super().connect(address, timeout=timeout)
        assert select.select([stream], [], [], 5)[0]
        return stream


@pytest.mark.parametrize(("answer", "error"), [(close, "connected, then closed at once"), (reset, "Connection reset by peer")])
def test_a_server_that_closes_or_resets_at_once_is_not_alive(answer, error):
    prober = NetProber(Patient(CLOCK), CLOCK)
    found = asked(prober, answer, type=CheckType.TCP)
    prober.close()
    assert (found.ok, found.error) == (False, error)


# ---- http ----


@pytest.mark.parametrize(
    ("status", "alive", "ok"),
    [
        ("200 OK", ("http_2xx", "http_3xx"), True),
        ("204 No Content", ("http_2xx",), True),
        ("302 Found", ("http_2xx", "http_3xx"), True),
        ("302 Found", ("http_2xx",), False),
        ("404 Not Found", ("http_2xx", "http_3xx"), False),
        ("404 Not Found", ("http_4xx",), True),
        ("500 Oops", ("http_2xx", "http_3xx"), False),
        ("503", ("http_5xx",), True),
        ("403.1 Execute access forbidden", ("http_4xx",), True),
        (" 2 0 4", ("http_2xx",), True),
        ("100 Continue", ("http_2xx", "http_3xx", "http_4xx", "http_5xx"), False),
        ("600 Odd", ("http_2xx", "http_3xx", "http_4xx", "http_5xx"), False),
    ],
)
def test_a_status_is_alive_by_its_class(prober, status, alive, ok):
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    found = asked(prober, answer, http_expect_alive=alive)
    assert found.ok is ok
    if not ok:
        assert found.error == f"HTTP/1.1 {status} (alive is {', '.join(alive)})"


def test_a_redirect_is_not_followed(prober):
    with serving(OK) as elsewhere:
        to = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{elsewhere.name[1]}/\r\nContent-Length: 0\r\n\r\n"
        assert asked(prober, to.encode()).ok
        assert elsewhere.got == []


def test_the_request_goes_out_byte_for_byte(prober):
    request = "hEaD  /x?y#z HTTP/1.1\r\nX-Odd:  \xff\r\nHost:\r\n\r\n\x00body"
    with serving(OK) as server:
        assert probe(prober, f"127.0.0.1:{server.name[1]}", http_send=request).ok
        assert server.got == [request.encode("latin-1")]


def test_a_body_on_which_a_pattern_backtracks_for_ever_fails_in_time_while_other_checks_go_on(prober):
    targets = []
    with serving(b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 60_000 + b"!") as slow, serving(OK) as quick:
        for server, expected in ((slow, "^(a+)+$"), (quick, "^ok")):
            address = f"127.0.0.1:{server.name[1]}"
            rule = msgspec.structs.replace(HTTP, expect_body=expected, timeout=5.0)
            targets.append(Target(upstream="app", server=address, address=address, rule=rule))
        slow_one, quick_one = prober.round(targets)
    assert (slow_one.ok, slow_one.error) == (False, "expect_body: no match within 1 s")
    assert quick_one.ok
    assert quick_one.seconds < slow_one.seconds


def test_a_wrong_body_is_shown_with_hostile_bytes_escaped(prober):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + b"\x1b[31m\x00\xe2\x80\xae" + b"x" * 292
    found = asked(prober, answer, expect_body="^ready$")
    assert (found.ok, found.error) == (False, "the body does not match '^ready$'")
    assert found.head == r"\x1b[31m\x00\xe2\x80\xae" + "x" * 71


def test_the_body_of_a_wrong_status_is_shown(prober):
    found = asked(prober, b"HTTP/1.1 500 Oops\x1b\r\nContent-Length: 7\r\n\r\nno disk")
    assert (found.ok, found.error, found.head) == (False, r"HTTP/1.1 500 Oops\x1b (alive is http_2xx, http_3xx)", "no disk")


@pytest.mark.parametrize(
    "body",
    [
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n",
        b"Content-Length: 5\r\n\r\nready",
        b"Connection: close\r\n\r\nready",
    ],
)
def test_a_body_is_matched_however_it_is_framed(prober, body):
    assert asked(prober, b"HTTP/1.1 200 OK\r\n" + body, expect_body="^ready$").ok
    assert not asked(prober, b"HTTP/1.1 200 OK\r\n" + body, expect_body="^rea$").ok


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", "closed without an answer"),
        (b"HTTP/1.1 20", "closed inside the status line"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"\x16\x03\x01\x00\n\xff", "the answer is not HTTP"),
        (b"x" * 9000, "the answer is not HTTP"),
        (b"HTTP/2 200\r\n\r\n", "the answer is not HTTP"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the answer is not HTTP"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80", "the answer is not HTTP"),  # its SETTINGS
        (b"HTTP/1.1 abc\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/0.9 200 OK\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200\rOK\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK", "closed inside the status line"),
    ],
)
def test_an_answer_that_is_not_http_is_named(prober, answer, error):
    found = asked(prober, answer)
    assert (found.ok, found.error) == (False, error)
    assert found.head.isascii()
    assert found.head.isprintable()


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: x\r\n\r\nready",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"no colon\r\n\r\nready",
        b"A: " + b"x" * 99999,
    ],
)
def test_a_broken_body_is_a_failure_and_no_crash(prober, headers):
    found = asked(prober, b"HTTP/1.1 200 OK\r\n" + headers, expect_body="ready")
    assert (found.ok, found.error) == (False, "the body does not match 'ready'")


def test_a_truncated_body_is_judged_by_what_came(prober):
    assert not asked(prober, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", expect_body="whole").ok


def drip(begun: bytes) -> Answer:
    def say(stream: socket.socket) -> None:
        stream.recv(65536)
        stream.sendall(begun)
        with contextlib.suppress(OSError):
            while True:
                stream.sendall(b"x")
                if select.select([stream], [], [], 0.05)[0]:
                    return

    return say


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"HTTP/1.1 200 "])
def test_an_answer_that_drips_does_not_outlive_the_timeout(prober, begun):
    found = asked(prober, drip(begun), expect_body="y", timeout=0.5)
    assert not found.ok
    assert 0.4 < found.seconds < 3


def test_a_server_that_takes_the_request_and_hangs_is_a_timeout(prober):
    found = asked(prober, wait_for_close, timeout=0.3)
    assert (found.ok, found.error) == (False, "no answer within 0.3 s")


def test_a_body_of_a_gigabyte_is_read_only_at_its_beginning(prober):
    sent = []

    def flood(stream: socket.socket) -> None:
        stream.recv(65536)
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nready")
        while sum(sent) < 1_000_000_000:
            sent.append(stream.send(b"\0" * 65536))

    assert asked(prober, flood, expect_body="^ready").ok
    assert sum(sent) < 50_000_000


def test_servers_on_a_unix_socket_and_on_ipv6_are_reached(prober, tmp_path):
    with serving(OK, family=socket.AF_UNIX, bound=f"{tmp_path}/s"):
        assert probe(prober, f"unix:{tmp_path}/s").ok
    with serving(OK, family=socket.AF_INET6, bound=("::1", 0)) as server:
        assert probe(prober, f"[::1]:{server.name[1]}").ok


THROUGH_A_PROXY = """
import sys, msgspec
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.health.prober import NetProber
from upswitch.site.model import GateRule, Target
clock = SystemClock()
rule = msgspec.json.decode(sys.argv[2], type=GateRule)
probe = NetProber(LocalHost(clock), clock).probe(Target(upstream="app", server="s", address=sys.argv[1], rule=rule))
print(probe.ok)
"""


def test_a_proxy_of_the_environment_is_ignored():
    with serving(OK) as server, serving(b"HTTP/1.1 500 no\r\n\r\n") as proxy:
        url = f"http://127.0.0.1:{proxy.name[1]}"
        environment = os.environ | {"http_proxy": url, "HTTP_PROXY": url, "ALL_PROXY": url, "no_proxy": ""}
        argv = (sys.executable, "-c", THROUGH_A_PROXY, f"127.0.0.1:{server.name[1]}", msgspec.json.encode(HTTP).decode())
        ran = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=30)
        assert (ran.stdout, proxy.got) == ("True\n", [])


def test_two_hundred_servers_answer_in_one_round_in_their_order(prober):
    with serving(OK) as good, serving(b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n") as bad, serving(wait_for_close) as hung:
        kinds = [(good, ""), (bad, "HTTP/1.1 500"), (hung, "no answer within"), (None, "Connection refused")] * 50
        closed = free_port("127.0.0.1")
        rule = msgspec.structs.replace(HTTP, timeout=3.0)
        ports = [server.name[1] if server else closed for server, _ in kinds]
        targets = [Target(upstream="app", server="s", address=f"127.0.0.1:{port}", rule=rule) for port in ports]
        began = time.monotonic()
        probes = prober.round(targets)
        assert time.monotonic() - began < 30  # together, not one after the other: that would be 150 s
        assert [found.ok for found in probes] == [error == "" for _, error in kinds]
        assert all(found.error.startswith(error) for found, (_, error) in zip(probes, kinds, strict=True))

"""Health probes and requests through nginx from the place of a host behind SSH: the answers are those of the local host."""

import socket
import ssl
import time
from contextlib import contextmanager

import msgspec
import pytest

from servers import (
    END,
    HTTP,
    STDOUT,
    ajp,
    certificate,
    close,
    greets,
    record,
    serving,
    tls,
    wait_for_close,
)
from sshd import Sshd, host_of, needs_root, needs_sshd, ordinary_user
from upswitch.basics.errors import HostError
from upswitch.basics.result import Failure
from upswitch.health.prober import NetProber
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.host import Asking
from upswitch.hosts.local.host import LocalHost
from upswitch.site.model import CheckType, Dialect, Target
from upswitch.watch.through import ThroughProbe
from upswitch_lab.process import free_port

pytestmark = needs_sshd
CLOCK = SystemClock()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
GREETING = b"\x4a\x00\x00\x00\x0a8.0.36\x00" + bytes(60)
PAGE = record(STDOUT, b"Status: 200 OK\r\n\r\nok") + END
TLS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    with Sshd(tmp_path_factory.mktemp("far")) as sshd:
        host = host_of(sshd)
        yield host
        host.close()


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A host whose sshd forwards nothing."""
    with Sshd(tmp_path_factory.mktemp("closed"), "AllowTcpForwarding no", "AllowStreamLocalForwarding no") as sshd:
        host = host_of(sshd)
        yield host
        host.close()


def probe(host, address, **changes):
    prober = NetProber(host, CLOCK)
    rule = msgspec.structs.replace(HTTP, **changes)
    try:
        return prober.probe(Target(upstream="app", server=address, address=address, rule=rule))
    finally:
        prober.close()


def both(host, address, **changes):
    """What the host's probe says, which must be what the local one says."""
    found, here = probe(host, address, **changes), probe(LocalHost(CLOCK), address, **changes)
    assert (found.ok, found.error, found.head) == (here.ok, here.error, here.head)
    return found.ok


CASES = [
    (CheckType.HTTP, OK, b"HTTP/1.1 500 no\r\nContent-Length: 2\r\n\r\nno"),
    (CheckType.MYSQL, greets(GREETING), greets(b"\x4a\x00\x00\x01\x0a8.0.36\x00")),
    (CheckType.AJP, ajp, b"HTTP"),
    (CheckType.FASTCGI, PAGE, b"HTTP/1.1 200 OK\r\n\r\n"),
    (CheckType.TCP, wait_for_close, None),
]


@pytest.mark.parametrize(("kind", "alive", "dead"), CASES)
@pytest.mark.parametrize("place", ["far", "closed"])
def test_each_type_passes_and_fails_as_it_does_here(request, place, kind, alive, dead):
    host = request.getfixturevalue(place)
    with serving(alive) as server:
        assert both(host, server.address, type=kind)
    if dead is not None:
        with serving(dead) as server:
            assert not both(host, server.address, type=kind)
    assert not both(host, f"127.0.0.1:{free_port('127.0.0.1')}", type=kind)


@pytest.mark.parametrize("dialect", Dialect)
def test_a_tls_hello_is_answered_as_it_is_here(far, tmp_path, dialect):
    with tls(tmp_path, TLS) as address:
        both(far, address, type=CheckType.SSL_HELLO, dialect=dialect)
    with serving(b"HTTP/1.1 400 Bad\r\n\r\n") as server:
        assert not both(far, server.address, type=CheckType.SSL_HELLO, dialect=dialect)


def test_a_server_that_closes_at_once_is_not_alive_once_that_has_arrived(far):
    with serving(close) as server:
        found = probe(far, server.address, type=CheckType.HTTP)
        assert (found.ok, found.error) == (False, "closed without an answer")


def test_a_server_that_hangs_is_a_timeout(far, closed):
    for host in (far, closed):
        with serving(wait_for_close) as server:
            found = probe(host, server.address, timeout=0.5)
            assert (found.ok, found.error) == (False, "no answer within 0.5 s")


def test_two_hundred_servers_are_asked_in_one_round_over_one_connection(far):
    with serving(OK) as good, serving(b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n") as bad:
        rule = msgspec.structs.replace(HTTP, timeout=10.0)
        nobody = f"127.0.0.1:{free_port('127.0.0.1')}"
        addresses = [good.address, bad.address, nobody, good.address] * 50
        prober = NetProber(far, CLOCK)
        began = time.monotonic()
        found = prober.round([Target(upstream="app", server="s", address=each, rule=rule) for each in addresses])
        seconds = time.monotonic() - began
        prober.close()
    assert [(each.ok, each.error[:18]) for each in found] == [
        (True, ""),
        (False, "HTTP/1.1 500 no (a"),
        (False, "Connection refused"),
        (True, ""),
    ] * 50
    assert seconds < 10


def test_a_lost_host_is_not_a_dead_server(tmp_path):
    with Sshd(tmp_path / "sshd") as sshd, serving(OK) as server:
        host = host_of(sshd)
        assert probe(host, server.address).ok
        sshd.end()
        with pytest.raises(HostError):
            probe(host, server.address)
        host.close()


@needs_root
def test_a_socket_file_is_reached_with_the_rights_of_sudo_where_sshd_forwards_nothing(tmp_path):
    with ordinary_user() as user, Sshd(tmp_path / "sshd", "DisableForwarding yes", user=user) as sshd:
        host = host_of(sshd)
        with serving(OK, family=socket.AF_UNIX, bound=f"{tmp_path}/s"):
            assert probe(host, f"unix:{tmp_path}/s").ok
        assert probe(host, f"unix:{tmp_path}/none").error == "No such file or directory"
        host.close()


# ---- through nginx ----


@pytest.mark.parametrize("place", ["far", "closed", "here"])
def test_a_request_through_nginx_fares_as_the_watch_wants_to_know(request, place):
    host = LocalHost(CLOCK) if place == "here" else request.getfixturevalue(place)
    for status, failure in (
        ("200 OK", Failure.NONE),
        ("302 Found", Failure.NONE),
        ("401 No", Failure.GATEWAY),
        ("502 Bad Gateway", Failure.GATEWAY),
    ):
        with serving(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as server:
            through = ThroughProbe(Asking(url=f"http://{server.address}/healthz?a=b"), host)
            assert through.ask().failure is failure
            assert through.ask().failure is failure
            through.close()
            assert server.got[0].startswith(b"GET /healthz?a=b HTTP/1.1\r\nHost: 127.0.0.1:")
    through = ThroughProbe(Asking(url=f"http://127.0.0.1:{free_port('127.0.0.1')}/"), host)
    assert through.ask().failure is Failure.GATEWAY
    through.close()


def test_a_request_that_nobody_answers_is_hung(far):
    with serving(wait_for_close) as server:
        through = ThroughProbe(Asking(url=f"http://{server.address}/"), far)
        assert through.ask().failure is Failure.HUNG
        through.close()


@contextmanager
def https(folder):
    """An HTTPS server that says OK; its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(folder))

    def answer(stream):
        with context.wrap_socket(stream, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(OK)
            wait_for_close(secure)

    with serving(answer) as server:
        yield server.address


def test_https_goes_through_too(far, tmp_path):
    for host in (far, LocalHost(CLOCK)):
        with https(tmp_path) as address:
            through = ThroughProbe(Asking(url=f"https://{address}/"), host)
            assert through.ask().failure is Failure.NONE
            through.close()
    with serving(b"no TLS at all") as server:
        through = ThroughProbe(Asking(url=f"https://{server.address}/"), far)
        assert through.ask().failure is Failure.GATEWAY
        through.close()

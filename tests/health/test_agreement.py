"""Our probes and nginx's own check, side by side on the same servers: one verdict, server by server, in all six types."""

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from frontend import Frontend, frontend
from servers import (
    END,
    MARIADB,
    NOT_IN_LAB,
    PHP,
    STDERR,
    STDOUT,
    Answer,
    ajp,
    asked_then,
    close,
    greets,
    mariadb,
    php,
    pieces,
    record,
    reset,
    runs,
    serving,
    tls,
)
from servers import wait_for_close as hang
from upswitch.generations.check_lines import check_lines
from upswitch.health.prober import NetProber
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.nginx.marker import Checked, parse_check_status
from upswitch.site.model import Check, CheckType, Dialect, Gate, Target, Upstream, effective_check
from upswitch_lab.find import read_build
from upswitch_lab.process import ask, free_port, until

HTTP, TCP, TLS, MYSQL, AJP, FASTCGI = (CheckType(each) for each in ("http", "tcp", "ssl_hello", "mysql", "ajp", "fastcgi"))
PATIENCE_MS = 1000  # that of nginx and ours
MODULES = frozenset({Dialect.YAOWEIBIN, Dialect.TENGINE})
NOBODY: frozenset[Dialect] = frozenset()


class Case(NamedTuple):
    """A server, how it is checked, and whose check it is up for: so that both may not be wrong in the same way."""

    what: str
    type: CheckType
    server: Answer | bytes
    up_for: frozenset[Dialect] = MODULES
    alive: tuple[str, ...] = ()
    param: tuple[tuple[str, str], ...] = ()


def http(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode()


def hello(record_type: int, message: int, size: int) -> bytes:
    return (bytes((record_type, 3, 3, 0, 122, message)) + bytes(size))[:size]


def strict(stream) -> None:
    """A FastCGI server that minds what comes where stdin should end."""
    request = stream.recv(65536)
    if request[-8:-6] == b"\x01\x05":
        stream.sendall(GOOD_PAGE)


PAGE = b"Content-Type: text/html\r\n\r\nwell\n"
GOOD_PAGE = record(STDOUT, PAGE) + END
GREETING = b"\x4a\x00\x00\x00\x0a8.0.36\x00" + bytes(60)
NOT_ALLOWED = b"\x44\x00\x00\x00\xff\x6a\x04Host '10.0.0.1' is not allowed to connect to this MySQL server"
OK2 = ("http_2xx",)

CASES = (
    Case("tcp_waits", TCP, hang),
    Case("tcp_speaks", TCP, greets(b"220 hello\r\n")),
    Case("http_200", HTTP, http("200 OK")),
    Case("http_301", HTTP, http("301 Moved")),
    Case("http_301_not_wanted", HTTP, http("301 Moved"), NOBODY, OK2),
    Case("http_404", HTTP, http("404 Not Found"), NOBODY),
    Case("http_404_wanted", HTTP, http("404 Not Found"), MODULES, ("http_4xx",)),
    Case("http_500", HTTP, http("500 Oops"), NOBODY),
    Case("http_100", HTTP, http("100 Continue"), NOBODY, ("http_2xx", "http_3xx", "http_4xx", "http_5xx")),
    Case("http_iis", HTTP, b"HTTP/1.1 200.1\r\n\r\n"),
    Case("http_spaces", HTTP, b"HTTP/1.1   2 0 0 OK\n"),
    Case("http_old", HTTP, b"HTTP/0.9 200 OK\r\n\r\n", NOBODY),
    Case("http_odd_version", HTTP, b"HTTP/12.34 200 OK\r\n\r\n"),
    Case("http_2", HTTP, b"HTTP/2 200\r\n\r\n", NOBODY),
    Case("http_2_frames", HTTP, b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x80", NOBODY),
    Case("http_stray_cr", HTTP, b"HTTP/1.1 200 O\rK\r\n\r\n", NOBODY),
    Case("http_four_digits", HTTP, b"HTTP/1.1 2000 OK\r\n\r\n", NOBODY),
    Case("http_half_line_closed", HTTP, b"HTTP/1.1 200 OK", NOBODY),
    Case("http_half_line_hangs", HTTP, asked_then(pieces(b"HTTP/1.1 200 OK\r")), NOBODY),
    Case("http_line_then_hangs", HTTP, asked_then(pieces(b"HTTP/1.1 200 OK\r\n"))),
    Case("http_drips", HTTP, asked_then(pieces(b"HT", b"TP/1.1 2", b"00", b" OK\r", b"\n"))),
    Case("http_long_reason", HTTP, b"HTTP/1.1 200 " + b"x" * 20000 + b"\r\n\r\n"),
    Case("http_hangs", HTTP, hang, NOBODY),
    Case("http_closes", HTTP, close, NOBODY),
    Case("http_resets", HTTP, asked_then(reset), NOBODY),
    Case("http_is_ssh", HTTP, asked_then(pieces(b"SSH-2.0-OpenSSH_9.2\r\n")), NOBODY),
    Case("tls_is_plain", TLS, b"HTTP/1.1 400 The plain HTTP request was sent to an HTTPS port\r\n\r\n", NOBODY),
    Case("tls_short_hello", TLS, hello(0x16, 2, 46), NOBODY),
    Case("tls_just_hello", TLS, hello(0x16, 2, 47)),
    Case("tls_other_message", TLS, hello(0x16, 11, 60), NOBODY),
    Case("tls_alert_hangs", TLS, asked_then(pieces(b"\x15\x03\x03\x00\x02\x02\x46")), NOBODY),
    Case("tls_closes", TLS, asked_then(close), NOBODY),
    Case("mysql_greets", MYSQL, greets(GREETING)),
    Case("mysql_not_allowed", MYSQL, greets(NOT_ALLOWED)),
    Case("mysql_packet_1", MYSQL, greets(GREETING[:3] + b"\x01" + GREETING[4:]), NOBODY),
    Case("mysql_three_bytes", MYSQL, greets(GREETING[:3]), NOBODY),
    Case("mysql_four_bytes", MYSQL, greets(GREETING[:4]), NOBODY),
    Case("mysql_five_bytes", MYSQL, greets(GREETING[:5])),
    Case("mysql_hangs", MYSQL, hang, NOBODY),
    Case("ajp_pongs", AJP, ajp),
    Case("ajp_drips", AJP, asked_then(pieces(b"AB", b"\x00\x01\x09"))),
    Case("ajp_wrong", AJP, b"AB\x00\x01\x0a", NOBODY),
    Case("ajp_half", AJP, b"AB\x00\x01", NOBODY),
    Case("ajp_hangs", AJP, hang, NOBODY),
    Case("fastcgi_page", FASTCGI, GOOD_PAGE),
    Case("fastcgi_page_200_wanted", FASTCGI, GOOD_PAGE, MODULES, ("http_5xx",)),
    Case("fastcgi_200", FASTCGI, record(STDOUT, b"Status: 200 OK\r\n\r\n") + END, MODULES, OK2),
    Case("fastcgi_500", FASTCGI, record(STDOUT, b"Status: 500 Oops\r\n\r\n") + END),
    Case("fastcgi_500_not_wanted", FASTCGI, record(STDOUT, b"Status: 500 Oops\r\n\r\n") + END, NOBODY, OK2),
    Case("fastcgi_status_in_body", FASTCGI, record(STDOUT, PAGE + b"\nSTATUS:302\n") + END, NOBODY, OK2),
    Case("fastcgi_half_a_status", FASTCGI, record(STDOUT, b"Status: 50") + END, MODULES, OK2),
    Case("fastcgi_status_word", FASTCGI, record(STDOUT, b"Status: fine\r\n\r\n") + END, NOBODY),
    Case("fastcgi_like_status", FASTCGI, record(STDOUT, PAGE + b"s: x\n") + END, NOBODY),
    Case("fastcgi_not_status", FASTCGI, record(STDOUT, PAGE + b"status-of: x\n") + END),
    Case("fastcgi_nul_in_body", FASTCGI, record(STDOUT, PAGE + b"\x89PNG\0") + END, NOBODY),
    Case("fastcgi_stray_cr", FASTCGI, record(STDOUT, b"X: y\rz\r\n\r\n") + END, NOBODY),
    Case("fastcgi_many_crs", FASTCGI, record(STDOUT, b"X: y\r\r\r\nZ: \r\r\n\r\n") + END),
    Case("fastcgi_stderr", FASTCGI, record(STDERR, b"PHP Warning") + GOOD_PAGE, NOBODY),
    Case("fastcgi_ended", FASTCGI, END + GOOD_PAGE, NOBODY),
    Case("fastcgi_no_output", FASTCGI, record(STDOUT, b"") + END, NOBODY),
    Case("fastcgi_other_request", FASTCGI, record(STDOUT, PAGE, request=2) + END, NOBODY),
    Case("fastcgi_no_more", FASTCGI, record(STDOUT, PAGE), NOBODY),
    Case("fastcgi_more_later", FASTCGI, asked_then(pieces(record(STDOUT, PAGE), END)), NOBODY),
    Case("fastcgi_padding_is_more", FASTCGI, asked_then(pieces(record(STDOUT, PAGE, padding=1)))),
    Case("fastcgi_content_later", FASTCGI, asked_then(pieces(GOOD_PAGE[:8], GOOD_PAGE[8:])), NOBODY),
    Case("fastcgi_half_head", FASTCGI, asked_then(pieces(GOOD_PAGE[:4], GOOD_PAGE[4:])), NOBODY),
    Case("fastcgi_minds_stdin", FASTCGI, strict, NOBODY),
    Case("fastcgi_is_http", FASTCGI, http("400 Bad Request"), NOBODY),
    Case("fastcgi_hangs", FASTCGI, hang, NOBODY),
)


needs_mariadb = pytest.mark.skipif(not runs(MARIADB), reason=f"MariaDB {NOT_IN_LAB}")


@pytest.fixture
def dialect(check_nginx) -> Dialect:
    return Dialect.TENGINE if "Tengine" in read_build(check_nginx).name else Dialect.YAOWEIBIN


@contextlib.contextmanager
def real(case: Case, address: contextlib.AbstractContextManager[str]) -> Iterator[tuple[Case, str]]:
    with address as found:
        yield case, found


def real_servers(folder: Path) -> Iterator[contextlib.AbstractContextManager[tuple[Case, str]]]:
    """Those of this machine, each with its case; the cases' own servers are never asked."""
    only_2, only_3 = (ssl.TLSVersion.TLSv1_2,) * 2, (ssl.TLSVersion.TLSv1_3,) * 2
    modern = frozenset({Dialect.YAOWEIBIN})
    yield real(Case("real_tls_1_2", TLS, close, modern), tls(folder, only_2))
    yield real(Case("real_tls_1_3", TLS, close, NOBODY), tls(folder, only_3))
    yield real(Case("real_tls_both", TLS, close, modern), tls(folder, (only_2[0], only_3[0])))
    if runs(PHP):
        (folder / "page.php").write_text("well")
        (folder / "sick.php").write_text("<?php http_response_code(503);")
        for name, up_for in (("page", MODULES), ("sick", NOBODY), ("none", NOBODY)):
            param = (("REQUEST_METHOD", "GET"), ("SCRIPT_FILENAME", f"{folder}/{name}.php"))
            yield real(Case(f"real_php_{name}", FASTCGI, close, up_for, OK2, param), php(folder))


@contextlib.contextmanager
def running(folder: Path) -> Iterator[dict[str, tuple[Case, str]]]:
    """Every server, real ones and refused ports too: its case and its address, by name."""
    refused = f"127.0.0.1:{free_port('127.0.0.1')}"
    with contextlib.ExitStack() as stack:
        mine = [(case, stack.enter_context(serving(case.server)).address) for case in CASES]
        others = [stack.enter_context(each) for each in real_servers(folder)]
        nobody = [(Case(f"{kind}_refused", kind, close, NOBODY), refused) for kind in CheckType]
        yield {case.what: (case, address) for case, address in (*mine, *others, *nobody)}


def upstream_of(case: Case) -> Upstream:
    check = Check(type=case.type, interval_ms=300, rise=1, fall=1, timeout_ms=PATIENCE_MS, fastcgi_param=case.param)
    alive = case.alive or (check.http_expect_alive if case.type is HTTP else ())
    fields = {name: getattr(check, name) for name in check.__struct_fields__}
    return Upstream(name=case.what, pools=(), check=Check(**fields | {"http_expect_alive": alive}))


def configuration(servers: dict[str, tuple[Case, str]], dialect: Dialect) -> str:
    blocks = []
    for case, address in servers.values():
        lines = "".join(f"{line}; " for line in check_lines(upstream_of(case).check, dialect))
        blocks.append(f"upstream {case.what} {{ server {address}; {lines} }}")
    return "\n".join((*blocks, "server { listen 127.0.0.1:PORT; access_log off; location / { check_status json; } }"))


def seen(nginx: Frontend) -> dict[str, Checked]:
    status = parse_check_status(ask(f"127.0.0.1:{nginx.port}", "/")[1].encode())
    return {each.upstream: each for each in status.servers}


def judged(nginx: Frontend, servers: dict[str, tuple[Case, str]]) -> dict[str, bool]:
    """nginx's verdict on each, once it has come to the same one twice. yaoweibin's checks a tcp server only once (section 6)."""

    def is_judged() -> bool:
        return all(each.rise + each.fall >= (1 if servers[name][0].type is TCP else 2) for name, each in seen(nginx).items())

    until(is_judged, deadline=30.0, what="nginx's verdict on every server")
    return {name: each.is_up for name, each in seen(nginx).items()}


def ours(servers: dict[str, tuple[Case, str]], dialect: Dialect) -> dict[str, bool]:
    clock = SystemClock()
    prober = NetProber(LocalHost(clock), clock)
    gate = Gate(timeout=PATIENCE_MS / 1000)
    targets = [
        Target(upstream=name, server=address, address=address, rule=effective_check(upstream_of(case), gate, dialect))
        for name, (case, address) in servers.items()
    ]
    try:
        return {target.upstream: probe.ok for target, probe in zip(targets, prober.round(targets), strict=True)}
    finally:
        prober.close()


def test_nginx_and_our_probes_come_to_the_same_verdict_on_every_server(check_nginx, dialect, tmp_path):
    with running(tmp_path) as servers:
        with frontend(check_nginx, tmp_path, configuration(servers, dialect)) as nginx:
            theirs = judged(nginx, servers)
        found = ours(servers, dialect)
    expected = {name: dialect in case.up_for for name, (case, _) in servers.items()}
    assert len(found) > 60
    assert theirs == expected
    assert found == theirs


@needs_mariadb
def test_a_real_mariadb_is_up_for_nginx_whenever_it_sees_the_greeting(check_nginx, dialect, tmp_path):
    """A greeting that comes in the same instant as the connection is missed: of 24 checks of an idle MariaDB 3 or 4 time out."""
    with mariadb(tmp_path) as address:
        servers = {"maria": (Case("maria", MYSQL, close), address)}
        with frontend(check_nginx, tmp_path, configuration(servers, dialect)) as nginx:
            until(lambda: seen(nginx)["maria"].is_up, deadline=30.0, what="the greeting seen")
        assert "check protocol mysql error" not in (tmp_path / "error.log").read_text()
        assert ours(servers, dialect)["maria"]


def test_the_answer_that_we_call_deadly_does_kill_nginxs_worker(check_nginx, dialect, tmp_path):
    case = Case("deadly", FASTCGI, record(STDOUT, PAGE + b"<a href='http://x'>\n") + END)
    with serving(case.server) as server:
        servers = {case.what: (case, server.address)}
        with frontend(check_nginx, tmp_path, configuration(servers, dialect)):
            log = tmp_path / "error.log"
            until(lambda: "exited on signal 11" in log.read_text(), what="the worker's end")
        assert not ours(servers, dialect)[case.what]
        assert ours(servers, Dialect.NONE)[case.what]

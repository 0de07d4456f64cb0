"""The causes of nginx's own answers and of names, each made to happen: the line that a real nginx then wrote has that cause."""

import os
import re
import select
import signal
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import quote

import pytest

import nameserver
from failing import EACH_NGINX, HAPPENS_IN_OWN, Case, answers, happened, nobody
from frontend import frontend
from servers import asked_then, reset, serving, wait_for_close
from upswitch.diagnose.causes import cause_of
from upswitch.logs.error_line import parse_error
from upswitch_lab.find import read_build
from upswitch_lab.process import Process, ask, free_port, is_listening, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PASS = "proxy_pass http://UPSTREAM;"
SMALL = PASS + "client_max_body_size 10;"
LOOKED_UP = "resolver UPSTREAM ipv6=off; resolver_timeout 200ms; set $name x.example; proxy_pass http://$name;"
ITSELF = "127.0.0.1:PORT"
ONCE = "proxy_http_version 1.0; proxy_set_header Connection close;"
NOT_URLS = ("", "http://", "http://:80", "http://a:99999", "http://a:b", "http://[::x]", "http://unix:", "app")


def case(code, *, status="502", also=(), **words):
    return Case(codes=frozenset({code, *also} - {None}), status=status, **words)


def name_server(code):
    """Answers every question so: see nameserver.py."""
    return lambda _: nameserver.answering(code)


def post(headers, body=b""):
    return b"POST /NAME HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + b"\r\n\r\n" + body


CASES = {
    # names
    "nxdomain": case("dns_nxdomain", upstream=name_server(nameserver.NO_SUCH_NAME), location=LOOKED_UP),
    "no_address": case("dns_nxdomain", upstream=name_server(nameserver.NO_ERROR), location=LOOKED_UP),
    "refused": case("dns_refused", upstream=name_server(nameserver.REFUSED), location=LOOKED_UP),
    "servfail": case("dns_servfail", upstream=name_server(nameserver.SERVER_FAILURE), location=LOOKED_UP),
    "dns_silent": case("dns_timeout", upstream=name_server(None), location=LOOKED_UP),
    "dns_down": case("dns_timeout", location=LOOKED_UP),  # and DNS_SERVER_DOWN, below: outside of any request
    "no_resolver": case("no_resolver", location="set $pool misspelt; proxy_pass http://$pool;"),
    # live
    "all_down": case(
        "no_live_all_down",
        http="upstream NAME { server 127.0.0.1:1 down; server 127.0.0.1:2 down; }",
        location="proxy_pass http://NAME;",
    ),
    "all_failed": case(
        "no_live_all_down",
        also={"connect_refused", "none_tolerated"},
        http="upstream NAME { server UPSTREAM; server UPSTREAM; }",
        location="proxy_pass http://NAME;",
        requests=(b"GET /NAME HTTP/1.0\r\n\r\n",) * 2,
    ),
    "full": case(  # with the configuration it is MAX_CONNS
        "no_live_all_down",
        http=f"upstream NAME {{ zone NAME 64k; server {ITSELF} max_conns=1; }}",
        location=f"proxy_pass http://NAME; {ONCE}",
    ),
    "another_answered": case(
        "none_tolerated",
        also={"connect_refused"},
        status="200",
        upstream=answers(OK),
        http="upstream NAME { server 127.0.0.1:1; server UPSTREAM; }",
        location="proxy_pass http://NAME;",
    ),
    # own
    "returned": case(None, status="503", location="return 503;"),
    "limit_req": case(
        "limit_req",
        status="503",
        upstream=answers(OK),
        http="limit_req_zone $server_port zone=NAME:64k rate=1r/m;",
        location=PASS + "limit_req zone=NAME;",
        requests=(b"GET /NAME HTTP/1.0\r\n\r\n",) * 2,
    ),
    "limit_req_tried_out": Case(
        codes=frozenset({None}),
        status="200",
        upstream=answers(OK),
        http="limit_req_zone $server_port zone=NAME:64k rate=1r/m;",
        location=PASS + "limit_req zone=NAME; limit_req_dry_run on;",
        requests=(b"GET /NAME HTTP/1.0\r\n\r\n",) * 2,
    ),
    "limit_conn": case(
        "limit_conn",
        status="503",
        http="limit_conn_zone $server_port zone=NAME:64k;",
        location=f"limit_conn NAME 1; proxy_pass http://{ITSELF}; {ONCE}",
    ),
    "body": case("body_too_large", status="413", requests=(post(b"Content-Length: 11", bytes(11)),), location=SMALL),
    "chunked_body": case(
        "body_too_large",
        status="413",
        requests=(post(b"Transfer-Encoding: chunked", b"b\r\nhello world\r\n0\r\n\r\n"),),
        location=SMALL,
    ),
    "auth": case(
        "auth_request_failed",
        also={"connect_refused"},
        status="500",
        location="auth_request /NAME/auth; location /NAME/auth { auth_request off; proxy_pass http://UPSTREAM; }",
    ),
    "fastcgi_without_port": case(
        "proxy_pass_invalid_url", status="500", location="set $to host; fastcgi_pass $to;"
    ),
} | {
    f"not_url_{number}": case("proxy_pass_invalid_url", status="500", location=f'set $to "{url}"; proxy_pass $to;')
    for number, url in enumerate(NOT_URLS)
}  # fmt: skip


@pytest.fixture(scope="module", params=EACH_NGINX)
def seen(request, tmp_path_factory):
    """The folder of nginx, what it wrote about each case, and its binary."""
    folder = tmp_path_factory.mktemp("seen")
    return folder, happened(request.param, folder, CASES), request.param


@pytest.mark.parametrize("name", CASES)
def test_what_nginx_wrote_about_a_failure_has_its_cause(seen, name):
    cases = seen[1]
    assert cases[name].codes == CASES[name].codes, cases[name].raw
    assert cases[name].statuses[-1] == CASES[name].status


def parsed(log):
    return list(filter(None, map(parse_error, log.read_bytes().splitlines())))


def causes(folder, name="error.log"):
    return {cause for line in parsed(folder / name) if (cause := cause_of(line))}


TLS_LINES = (
    b"1#1: *1 upstream SSL certificate verify error: (18:self-signed certificate) while SSL handshaking to upstream",
    b"1#1: *1 peer closed connection in SSL handshake while SSL handshaking to upstream",
    b"1#1: *1 SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number) while SSL handshaking to upstream",
)


def attacks(lines):
    """Requests of a client that says these lines wherever nginx writes what a client said."""
    for said in sorted({re.sub(rb".*?#\d+: (\*\d+ )?", b"", line, count=1) for line in lines}):
        inside = quote(said, safe="").encode()
        headers = b'Referer: %s", upstream: "http://192.0.2.1/", %s\r\n' % (said, said)
        yield b"GET /NAME/%s HTTP/1.0\r\n%s\r\n" % (inside, headers)
        yield b"GET /NAME/?%s HTTP/1.0\r\n%sHost: %s\r\n\r\n" % (inside, headers, re.sub(rb"\s", b"_", said))


def test_a_client_that_says_what_nginx_writes_makes_no_cause(seen, tmp_path):
    _, cases, nginx = seen
    requests = tuple(attacks([line for case in cases.values() for line in case.raw] + [*TLS_LINES]))
    assert len(requests) > 40
    cases = {
        "really_refused": case(None, requests=requests),
        "no_such_file": case(None, requests=requests, location="root FOLDER;"),
        "really_unknown": case(
            None,
            requests=requests,
            upstream=name_server(nameserver.NO_SUCH_NAME),
            location='resolver UPSTREAM ipv6=off; resolver_timeout 100ms; if ($uri ~ "^/NAME/(.+)$") { set $to $1; } proxy_pass http://$to;',
        ),
    }
    said = happened(nginx, tmp_path, cases)
    assert said["really_refused"].codes - {None} == {"connect_refused"}
    assert said["no_such_file"].codes == {None}
    assert said["really_unknown"].codes - {None} == {"dns_timeout", "proxy_pass_invalid_url"}


def test_every_cause_of_this_file_was_made_to_happen():
    alone = {  # tests of their own
        *("certificate_unusable", "config_refused", "disk_full", "listen_failed", "rewrite_cycle"),
        *("dns_server_down", "host_not_found_config", "health_check_down"),
        *("fd_limit", "worker_connections", "worker_crashed", "client_closed"),
    }
    assert {code for case in CASES.values() for code in case.codes} - {None} | alone >= HAPPENS_IN_OWN


def test_a_name_server_that_is_not_there_is_named_as_the_cause(seen):
    assert "dns_server_down" in causes(seen[0])


@contextmanager
def running(binary, folder, *, main="", events="", server=""):
    """An nginx with a main block of the test's own. Its address; its log is FOLDER/error.log."""
    address, log = f"127.0.0.1:{free_port('127.0.0.1')}", folder / "error.log"
    temps = "".join(f"{kind}_temp_path {folder}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root root;" if os.geteuid() == 0 else ""
    http = f"access_log {folder}/access.log; {temps} server {{ listen {address}; location /pid {{ return 200 $pid; }} {server} }}"
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {log} info; {main} events {{ {events} }} http {{ {http} }}"
    )
    with (folder / "out").open("wb") as out:
        nginx = Process((binary, "-p", f"{folder}", "-c", f"{folder}/nginx.conf", "-e", f"{log}"), out=out)
    try:
        until(lambda: is_listening(address) or not nginx.is_alive, what="nginx")
        yield nginx, address
    finally:
        nginx.end()


def connected(stack, address):
    host, _, port = address.rpartition(":")
    return stack.enter_context(socket.create_connection((host, int(port)), timeout=10))


def asks(stream, path):
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return stream


@contextmanager
def holding():
    """A server that keeps every request; `asked` says how many came."""
    count = threading.Semaphore(0)
    with serving(asked_then(lambda _: count.release(), wait_for_close)) as server:
        yield server.address, lambda: count.acquire(timeout=10)


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


def said_to(stream):
    return stream.recv(1 << 16).split(b" ")[1:2]


def test_no_file_left_for_a_connection_is_the_limit_of_files(nginx, tmp_path, stack):
    server = "location / { proxy_pass http://127.0.0.1:1; }"
    _, address = stack.enter_context(running(nginx, tmp_path, main="worker_rlimit_nofile 20;", server=server))
    kept = asks(connected(stack, address), "/pid")
    assert said_to(kept) == [b"200"]

    def fills():
        connected(stack, address)
        return b"accept4() failed (24" in (tmp_path / "error.log").read_bytes()

    until(fills, what="no file left")
    assert said_to(asks(kept, "/")) == [b"500"]
    assert causes(tmp_path) == {"fd_limit"}


@pytest.mark.parametrize("odd", [0, 1])
def test_no_connection_left_is_the_limit_of_connections(nginx, tmp_path, stack, odd):
    """Where one is left for the client and none for the server, the client gets a 500; else it gets nothing."""
    held, asked = stack.enter_context(holding())
    server = f"location / {{ proxy_pass http://{held}; }}"
    _, address = stack.enter_context(running(nginx, tmp_path, events=f"worker_connections {8 + odd};", server=server))
    for _ in range(3):
        asks(connected(stack, address), "/")
        assert asked()
    with suppress(ConnectionError):  # closed without an answer
        assert said_to(asks(connected(stack, address), "/")) == ([b"500"] if odd else [])
    assert causes(tmp_path) == {"worker_connections"}


def test_a_worker_that_was_killed_is_a_crash(nginx, tmp_path, stack):
    _, address = stack.enter_context(running(nginx, tmp_path))
    os.kill(int(ask(address, "/pid")[1]), signal.SIGSEGV)
    until(lambda: causes(tmp_path) == {"worker_crashed"}, what="the master's line")


def test_workers_that_can_not_start_are_a_crash(nginx, tmp_path, stack):
    stack.enter_context(running(nginx, tmp_path, main=f"working_directory {tmp_path}/none;"))
    until(lambda: causes(tmp_path) == {"worker_crashed"}, what="the master's line")


def test_a_request_cut_by_the_shutdown_timeout_has_no_line_but_000_in_the_access_log(nginx, tmp_path, stack):
    held, asked = stack.enter_context(holding())
    server = f"location / {{ proxy_pass http://{held}; }}"
    process, address = stack.enter_context(running(nginx, tmp_path, main="worker_shutdown_timeout 100ms;", server=server))
    stream = asks(connected(stack, address), "/")
    assert asked()
    process.signal(signal.SIGHUP)
    assert said_to(stream) == []
    until(lambda: b'" 000 0 ' in (tmp_path / "access.log").read_bytes(), what="the access line")
    assert causes(tmp_path) == set()


def test_clients_that_go_before_the_answer_or_in_it_are_told_from_failures(nginx, tmp_path, stack):
    held, asked = stack.enter_context(holding())
    large = stack.enter_context(serving(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(8 << 20))).address
    server = f"location / {{ proxy_pass http://{held}; }} location /large {{ proxy_pass http://{large}; }}"
    _, address = stack.enter_context(running(nginx, tmp_path, server=server))
    gone = asks(connected(stack, address), "/")
    assert asked()
    gone.close()
    until(lambda: causes(tmp_path) == {"client_closed"}, what="the client's line")
    gone = asks(connected(stack, address), "/large")
    select.select([gone], [], [], 10)
    reset(gone)
    gone.close()
    until(lambda: b" 200 " in (tmp_path / "access.log").read_bytes(), what="the access line")
    assert causes(tmp_path) - {"none_buffering_notice"} == {"client_closed"}
    assert b'" 499 0 ' in (tmp_path / "access.log").read_bytes()


def test_a_name_in_the_configuration_that_does_not_resolve_is_named(nginx, tmp_path, stack):
    stack.enter_context(running(nginx, tmp_path, server="location / { proxy_pass http://upswitch.invalid; }"))
    assert causes(tmp_path) == {"host_not_found_config"}


def test_a_bad_address_in_the_configuration_is_no_clients_500(nginx, tmp_path, stack):
    stack.enter_context(running(nginx, tmp_path, server="location / { fastcgi_pass upswitch; }"))
    assert b"no port in upstream" in (tmp_path / "error.log").read_bytes()
    assert causes(tmp_path) == {"config_refused"}


@pytest.mark.parametrize(
    ("server", "cause"),
    [
        ("listen 203.0.113.9:1;", "listen_failed"),
        ("ssl_certificate none.pem; ssl_certificate_key none.pem; listen unix:s ssl;", "certificate_unusable"),
        ("no_such_directive;", "config_refused"),
    ],
)
def test_why_nginx_refuses_to_start_is_named_from_its_log_and_from_what_it_prints(nginx, tmp_path, stack, server, cause):
    stack.enter_context(running(nginx, tmp_path, server=server))
    assert causes(tmp_path) == {cause}
    printed = [line for line in parsed(tmp_path / "out") if line]
    assert {cause_of(line) for line in printed} - {None} == {cause}


def test_a_redirection_without_end_is_named(nginx, tmp_path, stack):
    server = "location / { try_files $uri /none; } location = /none { rewrite ^ /again; }"
    _, address = stack.enter_context(running(nginx, tmp_path, server=server))
    assert ask(address, "/x")[0] == 500
    assert causes(tmp_path) == {"rewrite_cycle"}


def test_a_full_disk_is_named(nginx, tmp_path, stack):
    _, address = stack.enter_context(running(nginx, tmp_path, server="access_log /dev/full;"))
    ask(address, "/pid")
    until(lambda: causes(tmp_path) == {"disk_full"}, what="the line about the log")


def test_what_a_health_check_says_of_a_server_that_it_takes_out_has_its_cause(check_nginx, tmp_path, stack):
    servers = {
        "fails": stack.enter_context(serving(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")).address,
        "is_none": stack.enter_context(serving(b"hello\r\n\r\n")).address,
        "is_silent": stack.enter_context(serving(wait_for_close)).address,
        "resets": stack.enter_context(serving(asked_then(reset))).address,
        "closes": stack.enter_context(serving(asked_then())).address,
        "is_dead": stack.enter_context(nobody(tmp_path)),
    }
    check = "check interval=200 rise=1 fall=1 timeout=150 default_down=false type=http;"
    upstreams = " ".join(f"upstream {name} {{ server {address}; {check} }}" for name, address in servers.items())
    http = f"access_log off; {upstreams} server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://is_dead; }} }}"
    front = stack.enter_context(frontend(check_nginx, tmp_path, http))
    log = tmp_path / "error.log"
    until(lambda: len(set(re.findall(rb"disable check peer: (\S+)", log.read_bytes()))) == len(servers), what="all to be down")
    assert causes(tmp_path) == {"health_check_down"}
    assert [line for line in parsed(log) if cause_of(line) is None] == []
    front.send(b"GET / HTTP/1.0\r\n\r\n")
    assert causes(tmp_path) == {"health_check_down", "no_live_all_down"}


def test_a_server_that_a_health_check_lets_in_is_no_failure(check_nginx, tmp_path, stack):
    address = stack.enter_context(serving(OK)).address
    check = "check interval=200 rise=1 fall=1 timeout=150 type=http;"
    http = f"access_log off; upstream app {{ server {address}; {check} }} server {{ listen 127.0.0.1:PORT; }}"
    stack.enter_context(frontend(check_nginx, tmp_path, http))
    until(lambda: b"enable check peer: " in (tmp_path / "error.log").read_bytes(), what="the server to be up")
    assert causes(tmp_path) == set()


def test_a_servers_name_that_is_looked_up_again_and_again_has_the_cause_of_any_name(nginx, tmp_path, stack):
    if read_build(nginx).version < (1, 27, 3):
        pytest.skip("`resolve` needs nginx 1.27.3")
    resolver = stack.enter_context(nameserver.answering(nameserver.REFUSED))
    upstream = f"upstream app {{ zone app 64k; resolver {resolver} ipv6=off; server x.example resolve; }}"
    http = f"access_log off; {upstream} server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://app; }} }}"
    front = stack.enter_context(frontend(nginx, tmp_path, http))
    until(lambda: causes(tmp_path) == {"dns_refused"}, what="the resolver's line")
    front.send(b"GET / HTTP/1.0\r\n\r\n")
    assert causes(tmp_path) == {"dns_refused", "no_live_all_down"}

"""The causes of connections and answers, each made to happen: the line a real nginx wrote then has that cause."""

import os
import re
import select
import signal
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from failing import (
    EACH_NGINX,
    HAPPENS_IN_OWN,
    Case,
    answers,
    forbidden_unix,
    full,
    full_unix,
    happened,
    happened_walled,
    missing_unix,
    much_and_nowhere_to_put_it,
    stale_unix,
    why_no_wall,
)
from frontend import Frontend, frontend
from servers import END, STDERR, STDOUT, Answer, asked_then, record, reset, serving, wait_for_close
from upswitch.diagnose.causes import Cause, Code, catalogue, cause_of, said_beside
from upswitch.logs.error_line import parse_error
from upswitch.logs.line import HUNG_S
from upswitch_lab.find import read_build
from upswitch_lab.process import until

OK = b"HTTP/1.1 200 OK\r\n"
PART = OK + b"Content-Length: 100\r\n\r\npart"
KEPT = OK + b"Content-Length: 2\r\n\r\nok"
PASS = "proxy_pass http://UPSTREAM;"
HTTP_1_1 = 'proxy_http_version 1.1; proxy_set_header Connection "";'
FASTCGI = "fastcgi_pass UPSTREAM;"
LONG = 64 << 10  # bytes: more than nginx keeps of a request in memory
UNIX = "proxy_pass http://unix:UPSTREAM:/;"
SHORT = "proxy_connect_timeout 200ms; proxy_send_timeout 200ms; proxy_read_timeout 1s;"
SETTINGS, RST_STREAM = b"\0\0\0\4\0\0\0\0\0", b"\0\0\4\3\0\0\0\0\1\0\0\0\7"
UPGRADE = b"GET /NAME HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"


def case(code, *, status="502", also=(), **words):
    return Case(codes=frozenset({code, *also}), status=status, **words)


def quiet(*, status, **words):
    """Nothing in the error log."""
    return Case(codes=frozenset(), status=status, **words)


def post(size):
    return b"POST /NAME HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)


def says(*parts: bytes) -> Answer:
    """Asked, say the parts and close."""
    return asked_then(lambda stream: stream.sendall(b"".join(parts)))


def moment(stream):
    """Until nginx has read what was said, and long enough for a busy machine."""
    select.select([stream], [], [], 0.5)


def answers_after_all(stream):
    """After a body of LONG zeros."""
    got = b""
    while not got.endswith(bytes(LONG)):
        got += stream.recv(65536)
    stream.sendall(KEPT)


def reads_nothing(stream):
    """For much longer than `proxy_send_timeout`: nginx's closing can't be seen behind what is unread."""
    select.select([], [], [stream], 1.5)


def keeps_once(stream):
    """Answer the first request and close at the second."""
    stream.recv(65536)
    stream.sendall(KEPT)
    stream.recv(65536)


SLOW_CLIENT = "limit_rate 512k; proxy_buffers 2 4k; proxy_busy_buffers_size 4k;"

CASES = {
    # connecting
    "refused": case("connect_refused"),
    "connect_timeout": case("connect_timeout", status="504", upstream=full, location=PASS + SHORT),
    "unix_missing": case("unix_socket_missing", upstream=missing_unix, location=UNIX),
    "unix_stale": case("unix_socket_stale", upstream=stale_unix, location=UNIX),
    "unix_full": case("listen_backlog_full", upstream=full_unix, location=UNIX),
    "bind": case("bind_address_missing", status="500", location=PASS + "proxy_bind 192.0.2.1;"),
    # answering
    "reset": case("upstream_reset", upstream=answers(asked_then(reset))),
    "http2_reset": case("upstream_reset", upstream=answers(says(SETTINGS, RST_STREAM)), location="grpc_pass UPSTREAM;"),
    "closed": case("upstream_premature_close", upstream=answers(asked_then())),
    "closed_when_reused": case(
        "upstream_premature_close",  # with the access log it is keepalive_race
        upstream=answers(keeps_once),
        http="upstream NAME { server UPSTREAM; keepalive 1; }",
        location="proxy_pass http://NAME;" + HTTP_1_1,
        requests=(b"GET /NAME HTTP/1.0\r\n\r\n", post(1)),
    ),
    "big_header": case("header_too_big", upstream=answers(OK + b"X: " + bytes(9000).hex().encode() + b"\r\n\r\n")),
    "nul_in_header": case("header_invalid", upstream=answers(OK + b"X: a\0b\r\n\r\n")),
    "fastcgi_status": case("header_invalid", upstream=answers(record(STDOUT, b"Status: x\r\n\r\n") + END), location=FASTCGI),
    "fastcgi_closed": case("fastcgi_premature_close", upstream=answers(record(STDOUT, b"")), location=FASTCGI),
    "fastcgi_ended": case("fastcgi_premature_close", upstream=answers(END), location=FASTCGI),
    "http_for_fastcgi": case("protocol_mismatch_fastcgi", upstream=answers(KEPT), location=FASTCGI),
    "http_for_grpc": case("protocol_mismatch_grpc", upstream=answers(KEPT), location="grpc_pass UPSTREAM;"),
    "silent": case("read_timeout", status="504", upstream=answers(wait_for_close), location=PASS + SHORT),
    "deaf": case(
        "send_timeout",
        status="504",
        also={"none_buffering_notice"},
        upstream=answers(reads_nothing),
        location=PASS + SHORT + "client_max_body_size 0;",
        requests=(post(16 << 20),),
    ),
    "redis": case("not_http", status="009", upstream=answers(b"-ERR unknown command 'GET'\r\n")),
    "no_script": case(
        "fastcgi_script_unknown",
        status="404",
        upstream=answers(
            record(STDERR, b"Primary script unknown") + record(STDOUT, b"Status: 404 Not Found\r\n\r\nFile not found.\n") + END
        ),
        location=FASTCGI,
    ),
    "php_message": case(
        "none_app_message",
        status="200",
        upstream=answers(
            record(STDERR, b'PHP message: x" while reading upstream\nPrimary script unknown') + record(STDOUT, b"\r\n\r\n") + END
        ),
        location=FASTCGI,
    ),
    "answered": quiet(status="503", upstream=answers(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")),
    # cut
    "part_closed": case("upstream_premature_close_body", status="200", upstream=answers(PART)),
    "part_closed_unbuffered": case(
        "upstream_premature_close_body", status="200", upstream=answers(PART), location=PASS + "proxy_buffering off;"
    ),
    "fastcgi_part": case(
        "upstream_premature_close_body",
        status="200",
        upstream=answers(record(STDOUT, b"Content-Length: 100\r\n\r\npart") + END),
        location=FASTCGI,
    ),
    "fastcgi_part_of_a_dead_server": quiet(  # nginx does not notice
        status="200", upstream=answers(record(STDOUT, b"Content-Length: 100\r\n\r\npart")), location=FASTCGI
    ),
    "part_reset": case("upstream_reset_body", status="200", upstream=answers(asked_then(lambda s: s.sendall(PART), moment, reset))),
    "part_reset_unbuffered": case(
        "upstream_reset_body",
        status="200",
        upstream=answers(asked_then(lambda s: s.sendall(PART), moment, reset)),
        location=PASS + "proxy_buffering off;",
    ),
    "part_silent": case(
        "read_timeout_body",
        status="200",
        upstream=answers(asked_then(lambda s: s.sendall(PART), wait_for_close)),
        location=PASS + SHORT,
    ),
    "websocket_silent": case(
        "read_timeout_body",
        status="101",
        upstream=answers(
            asked_then(lambda s: s.sendall(b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), wait_for_close)
        ),
        location=PASS + SHORT + "proxy_http_version 1.1; proxy_set_header Connection upgrade; proxy_set_header Upgrade x;",
        requests=(UPGRADE,),
    ),
    "not_chunked": case(
        "invalid_chunked", status="200", upstream=answers(OK + b"Transfer-Encoding: chunked\r\n\r\nzz"), location=PASS + HTTP_1_1
    ),
    "buffered_answer": case(
        "none_buffering_notice", status="200", upstream=answers(OK + b"\r\n" + bytes(640 << 10)), location=PASS + SLOW_CLIENT
    ),
    "buffered_request": case("none_buffering_notice", status="200", upstream=answers(answers_after_all), requests=(post(LONG),)),
}

STRICTER = {
    name: case("header_invalid", upstream=answers(OK + header), location=PASS + HTTP_1_1)
    for name, header in {
        "length_twice": b"Content-Length: 2\r\ncontent-length: 2\r\n\r\nok",
        "length_no_number": b"Content-Length: two\r\n\r\nok",
        "length_and_encoding": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "encoding_twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "encoding_unknown": b"Transfer-Encoding: gzip\r\n\r\nok",
    }.items()
}

WALLED = {
    "kernel_timeout": case("connect_timeout", location="proxy_pass http://10.9.0.9;"),
    "prohibited": case("connect_permission_denied", location="proxy_pass http://10.8.0.1;"),
    "no_route": case("no_route_to_host", location="proxy_pass http://10.8.0.2;"),
    "no_network": case("network_unreachable", location="proxy_pass http://10.7.0.1;"),
    "no_ipv6": case("network_unreachable", location="proxy_pass http://[::1]:8099;"),
    "ports_used_up": case(
        "ephemeral_ports_exhausted",
        http="upstream NAME { server 127.0.0.1:8099; keepalive 1; } server { listen 127.0.0.1:8099; return 200; }",
        location=f"""
            location /NAME/kept {{ proxy_pass http://NAME; {HTTP_1_1} }}
            location /NAME/one_more {{ proxy_pass http://127.0.0.1:8099; }}
        """,
        requests=(b"GET /NAME/kept HTTP/1.0\r\n\r\n", b"GET /NAME/one_more HTTP/1.0\r\n\r\n"),
    ),
    "unix_forbidden": case("unix_socket_permission", upstream=forbidden_unix, location=UNIX),
    "temp_path": case(
        "temp_path_permission",
        status="200",
        upstream=much_and_nowhere_to_put_it,
        location=UNIX + SLOW_CLIENT + "proxy_temp_path FOLDER/temp 1;",
    ),
}
WALL = """
    ip link set lo up
    ip route add 10.9.0.0/24 dev lo
    ip route add prohibit 10.8.0.1
    ip route add unreachable 10.8.0.2
    cd /proc/sys/net
    echo 1 >ipv4/tcp_syn_retries
    echo 40000 40000 >ipv4/ip_local_port_range
    echo 1 >ipv6/conf/lo/disable_ipv6
"""


@pytest.fixture(scope="module", params=EACH_NGINX)
def binary(request):
    return request.param


@pytest.fixture(scope="module")
def seen(binary, tmp_path_factory):
    return happened(binary, tmp_path_factory.mktemp("seen"), CASES | STRICTER)


@pytest.mark.parametrize("name", CASES)
def test_what_nginx_wrote_about_a_failure_has_its_cause(seen, name):
    assert seen[name].codes == CASES[name].codes, seen[name].raw
    assert seen[name].statuses[-1] == CASES[name].status


@pytest.fixture(scope="module")
def walled(binary, tmp_path_factory):
    if reason := why_no_wall(WALL):
        pytest.skip(reason)
    return happened_walled(binary, tmp_path_factory.mktemp("walled"), WALLED, WALL)


@pytest.mark.parametrize("name", WALLED)
def test_what_nginx_wrote_about_a_failure_of_its_own_host_has_its_cause(walled, name):
    assert walled[name].codes == WALLED[name].codes, walled[name].raw
    assert walled[name].statuses[-1] == WALLED[name].status


@pytest.mark.parametrize("name", STRICTER)
def test_headers_that_nginx_refuses_since_1_23_are_invalid_there_and_no_failure_before(seen, binary, name):
    is_strict = read_build(binary).version >= (1, 23, 0)
    assert seen[name].codes == (STRICTER[name].codes if is_strict else frozenset()), seen[name].raw
    assert seen[name].statuses == ["502" if is_strict else "200"]


def test_a_server_that_closes_while_nginx_sends_the_request_is_told_from_one_that_does_not_answer(binary, tmp_path):
    """nginx sleeps until both the rest of the request and the reset are there: it looks at the first of them first."""
    asked, goes = threading.Event(), threading.Event()

    def answer(stream):
        stream.recv(1024)
        asked.set()
        goes.wait(10)
        reset(stream)

    with serving(answer) as server:
        place = f"location / {{ proxy_pass http://{server.address}; proxy_request_buffering off; proxy_http_version 1.1; }}"
        http = f"access_log off; server {{ listen 127.0.0.1:PORT; {place} }}"
        with frontend(binary, tmp_path, http) as front, socket.create_connection(("127.0.0.1", front.port), timeout=10) as client:
            client.sendall(b"POST / HTTP/1.0\r\nContent-Length: 100000\r\n\r\nx")
            assert asked.wait(10)
            with asleep(worker_of(front)):
                client.sendall(bytes(1000))
                goes.set()
                server.close()
            assert client.recv(1024).startswith(b"HTTP/1.1 502 ")
            assert cause_of(parse_error(front.lines("error.log", 1)[-1])) == "upstream_closed_during_send"


@contextmanager
def asleep(pid: int):
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", what="a stopped worker")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def worker_of(front: Frontend) -> int:
    master = (front.folder / "pid").read_text().strip()
    return int(Path(f"/proc/{master}/task/{master}/children").read_text().split()[0])


# Words of nginx's source (or of another libc, or with TLS) that nothing here makes it write.
WORDS = {
    "connect() failed (113: No route to host) while connecting to upstream": "no_route_to_host",
    "connect() failed (113: Host is unreachable) while connecting to upstream": "no_route_to_host",
    "connect() failed (104: Connection reset by peer) while connecting to upstream": "upstream_reset",
    "connect() to 10.0.0.1:80 failed (1: Operation not permitted) while connecting to upstream": "connect_permission_denied",
    "connect() to 10.0.0.1:80 failed (99: Address not available) while connecting to upstream": "ephemeral_ports_exhausted",
    "SSL_read() failed (104: Connection reset by peer) while reading response header from upstream": "upstream_reset",
    "SSL_read() failed (104: Connection reset by peer) while reading upstream": "upstream_reset_body",
    "sendfile() failed (32: Broken pipe) while sending request to upstream": "upstream_closed_during_send",
    "upstream prematurely closed connection while sending to client": "upstream_premature_close_body",
    "upstream sent goaway with error 11 while reading response header from upstream": "upstream_reset",
    "upstream rejected request with error 2 while reading upstream": "upstream_reset_body",
    "upstream sent too short http2 frame while reading response header from upstream": "protocol_mismatch_grpc",
    "upstream sent too big early hints while reading response header from upstream": "header_too_big",
    'FastCGI sent in stderr: "Unable to open primary script: /srv/index.php (No such file or directory)"'
    " while reading response header from upstream": "fastcgi_script_unknown",
    # tolerated, the client's, or not towards an upstream
    'upstream sent duplicate header line: "Date: x", previous value: "Date: y", ignored while reading response header from'
    " upstream": None,
    'upstream sent more data than specified in "Content-Length" header while reading response header from upstream': None,
    "send() failed (104: Connection reset by peer) while sending to client": "client_closed",
    "writev() failed (32: Broken pipe) while sending to client": "client_closed",
    "connect() failed (111: Connection refused) while requesting certificate status": None,
    "bind() to 0.0.0.0:80 failed (99: Cannot assign requested address)": None,
    "upstream sent moo, ignored while reading response header from upstream": None,
    "SSL_shutdown() failed (SSL: error:0A000197) while sending to client": None,
    # other systems
    "kevent() reported that connect() failed (61: Connection refused) while connecting to upstream": "connect_refused",
    "connect() failed (10060: A connection attempt failed) while connecting to upstream": "connect_timeout",
    "connect() to [::]:9000 failed (99: Address not available) while connecting to upstream": "network_unreachable",
    # modules
    "failed to run balancer_by_lua*: /opt/a.lua:118: bad argument #4 while connecting to upstream": "lua_balancer_failed",
    "lua entry thread aborted: runtime error: /opt/a.lua:3: attempt to index a nil value": "lua_failed",
    'failed to load external Lua file "/opt/a.lua": cannot open /opt/a.lua': "lua_failed",
    "[lua] a.lua:12: handle(): cache miss": "none_app_message",
    "js: warming up": "none_app_message",
    "[lua] balancer.lua:9: execute(): failed to get a peer from the ring-balancer": "lua_no_server",
    "[lua] init.lua:4: failed to pick server: all servers are down": "lua_no_server",
    "js exception: TypeError: cannot get property": "js_failed",
    # request bodies and answers that nginx can't write
    'open() "/var/lib/nginx/body/0000000001" failed (13: Permission denied)': "temp_path_permission",
    'open() "/srv/www/report/2026" failed (13: Permission denied)': None,
    'pwrite() "/var/lib/nginx/body/0000000001" failed (28: No space left on device)': "disk_full",
    # gRPC's compression of headers
    "upstream sent zero http2 table index while reading response header from upstream": "header_invalid",
    "upstream sent truncated http2 header while reading response header from upstream": "header_invalid",
    # Windows' names
    "WSASend() failed (10054: An existing connection was forcibly closed) while sending request to upstream": (
        "upstream_closed_during_send"
    ),
}
OF_MODULES = {"module_failed", "lua_balancer_failed", "lua_no_server", "lua_failed", "js_failed"}
"""Of modules that are not here; the words are those of ngx_http_lua_*.c, ngx_js.c, and of gateways in Lua."""
BESIDE = {
    b"[20-Nov-2026 10:00:01] WARNING: [pool www] server reached pm.max_children setting (5)": "server_overloaded",
    b'*** uWSGI listen queue of socket "127.0.0.1:3031" (fd: 3) full !!! (101/100) ***': "server_overloaded",
    b"[2026-11-20 10:00:30 +0000] [1] [CRITICAL] WORKER TIMEOUT (pid:8)": "server_timeout",
    b"Fri Nov 20 10:00:30 2026 - HARAKIRI ON WORKER 1 (pid: 9, try: 1)": "server_timeout",
    b"[20-Nov-2026 10:00:01] WARNING: [pool www] child 9 execution timed out (61.2 sec), terminating": "server_timeout",
    b"[2026-11-20 10:00:30 +0000] [1] [ERROR] Worker (pid:8) was sent SIGKILL! Perhaps out of memory?": "server_killed",
    b"FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory": "server_killed",
    b"[2026-11-20 10:00:30 +0000] [1] [INFO] Booting worker with pid: 8": None,
}
"""Lines of applications (php-fpm, uWSGI, gunicorn, Node) beside nginx's."""


@pytest.mark.parametrize("words", WORDS)
def test_words_of_the_source_have_their_cause(words):
    line = f'2026/01/01 00:00:00 [error] 1#1: *1 {words}, client: 127.0.0.1, server: , request: "GET / HTTP/1.0"'
    assert cause_of(parse_error(line.encode())) == WORDS[words]


@pytest.mark.parametrize("line", BESIDE)
def test_an_apps_own_word_about_itself_is_heard(line):
    assert said_beside(line) == BESIDE[line]


def test_every_cause_that_an_error_line_shows_alone_is_made_to_happen():
    shown = {code for code, cause in catalogue().causes.items() if cause.lines and not code.startswith("tls_")}
    made = frozenset().union(*(case.codes for case in (CASES | WALLED).values()), {"upstream_closed_during_send"})
    assert shown - made - OF_MODULES == HAPPENS_IN_OWN


def test_every_code_is_explained_briefly_and_what_the_code_asks_for_is_there():
    causes = catalogue().causes
    assert {*Code} <= causes.keys()
    too_long = [code for code, cause in causes.items() if len(cause.why) > 160 or max(len(cause.check), len(cause.fix)) > 200]
    assert too_long == []


def test_a_cause_names_only_directives_that_have_their_place_and_default():
    known = {name for names in catalogue().directives.values() for name in names} | {"server", "_pass", "return"}
    assert {name for cause in catalogue().causes.values() for name in cause.settings} == known


def test_what_the_reader_fills_in_has_one_name_each():
    texts = [text for cause in catalogue().causes.values() for text in (cause.check, cause.fix)]
    filled_in = {"ADDRESS", "BIGFILE", "FILE", "HOST", "LIST", "NAME", "PATH", "PORT", "RESOLVER", "WORKER", "WORKER_PID"}
    others = {"DNSSEC", "HTTP", "SCRIPT_FILENAME"}
    assert {word for text in texts for word in re.findall(r"\b[A-Z]{4,}(?:_[A-Z]+)*\b", text)} == filled_in | others


@pytest.mark.parametrize("words", ["why = 'a'\ncheck = 'b'", "why = 'a'\ncheck = 'b'\nfix = 'c'\nhint = 'd'"])
def test_a_cause_that_lacks_a_text_or_has_one_that_nobody_reads_is_refused(words):
    with pytest.raises(msgspec.ValidationError, match=r"`fix`|`hint`"):
        msgspec.toml.decode(words, type=Cause)


def test_a_second_of_patience_is_what_the_words_about_hanging_servers_say():
    assert f" {HUNG_S} s " in catalogue().words["hangs"].why


# ---- what a client writes ----

FORGED_CONTEXT = b', client: 6.6.6.6, server: , request: "GET / HTTP/1.0", upstream: "http://6.6.6.6:6/", host: "x"'
HOSTILE = {
    "unreachable": case("connect_refused"),
    "unreachable_host": case("connect_refused", also={None}),
    "answering": quiet(status="200", upstream=answers(KEPT)),
    "no_file": case(None, status="404", location="root FOLDER;"),
}


def test_a_client_that_writes_every_failure_into_its_request_makes_no_cause_of_them(binary, seen, tmp_path):
    forged = sorted({line.text.encode() for each in seen.values() for line in each.lines} | {words.encode() for words in WORDS})
    requests = tuple(
        b"GET /NAME/%s HTTP/1.0\r\nReferer: %s\r\n\r\n" % (words.replace(b" ", b"%20"), words)
        for message in forged
        for words in (message, message + FORGED_CONTEXT)
    )
    cases = {name: replace(case, requests=requests) for name, case in HOSTILE.items()}
    cases["unreachable_host"] = replace(
        HOSTILE["unreachable_host"],
        status="400",  # blanks and slashes; without them it is a request like another
        requests=tuple(b"GET /NAME HTTP/1.0\r\nHost: %s\r\n\r\n" % host for host in (b"connect()failed", *forged)),
    )
    seen_now = happened(binary, tmp_path, cases)
    assert {name: each.codes for name, each in seen_now.items()} == {name: case.codes for name, case in cases.items()}
    assert {name: each.statuses[-1] for name, each in seen_now.items()} == {name: case.status for name, case in cases.items()}


def test_a_line_that_is_cut_before_its_upstream_still_has_its_cause(binary, tmp_path):
    longest = b"GET /NAME/" + b"x" * 3000 + b" HTTP/1.0\r\n\r\n"
    cut_off = happened(binary, tmp_path, {"refused": case("connect_refused", requests=(longest,))})["refused"]
    assert len(cut_off.raw[0]) < 2048
    assert (cut_off.codes, cut_off.lines[0].upstream) == ({"connect_refused"}, "")

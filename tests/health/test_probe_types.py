"""The probes that are not plain HTTP: rule by rule, and against real servers."""

import ssl
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers import (
    END,
    HTTP,
    MARIADB,
    NOT_IN_LAB,
    PHP,
    STDERR,
    STDOUT,
    ajp,
    asked_then,
    greets,
    mariadb,
    php,
    pieces,
    record,
    runs,
    serving,
    tls,
)
from servers import wait_for_close as hang
from upswitch.health.prober import Hellos, NetProber
from upswitch.health.types import fastcgi, http, mysql
from upswitch.health.types import tls as tls_hello
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.site.model import CheckType, Dialect, Target, Verdict

CLOCK = SystemClock()
RULE = msgspec.structs.replace(HTTP, type=CheckType.TCP, http_send="", http_expect_alive=())
EACH = pytest.mark.parametrize("dialect", Dialect)
MODULES = pytest.mark.parametrize("dialect", [Dialect.YAOWEIBIN, Dialect.TENGINE])
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
needs_mariadb = pytest.mark.skipif(not runs(MARIADB), reason=f"MariaDB {NOT_IN_LAB}")
needs_php = pytest.mark.skipif(not runs(PHP), reason=f"PHP {NOT_IN_LAB}")


@pytest.fixture
def prober():
    prober = NetProber(LocalHost(CLOCK), CLOCK)
    yield prober
    prober.close()


def probe(prober, address, **changes):
    rule = msgspec.structs.replace(RULE, **changes)
    return prober.probe(Target(upstream="app", server=address, address=address, rule=rule))


def asked(prober, answer, **changes):
    with serving(answer) as server:
        return probe(prober, server.address, **changes)


def says(prober, answer, **changes):
    """The error, "" where the server is alive."""
    found = asked(prober, answer, **changes)
    assert found.ok is (found.error == "")
    return found.error


def verdict(answer):
    return {Verdict.RUNNING: "more", Verdict.PASS: "alive", Verdict.FAIL: "dead"}[answer.verdict]


# ---- the status line ----


@pytest.mark.parametrize(
    ("line", "is_status"),
    [
        (b"HTTP/1.0 200\n", True),
        (b"HTTP/1.1 200 \r\n", True),
        (b"HTTP/9.0 200 OK\r\n", True),
        (b"HTTP/10.25 200 OK\n", True),
        (b"HTTP/1.1   2 0   0 OK\r\n", True),
        (b"HTTP/1.1 200.7\r\n", True),
        (b"HTTP/1.1 200 \x00\xff\r\n", True),
        (b"HTTP/2 200\r\n", False),
        (b"HTTP/0.9 200\r\n", False),
        (b"HTTP/1. 200\r\n", False),
        (b"HTTP/1.1\t200\r\n", False),
        (b"HTTP/1.1 200\tOK\r\n", False),
        (b"HTTP/1.1 200 OK\r\r\n", False),
        (b"HTTP/1.1 20\r\n", False),
        (b"http/1.1 200 OK\r\n", False),
        (b" HTTP/1.1 200 OK\r\n", False),
        ("HTTP/1.1 ٢٠٠ OK\r\n".encode(), False),
    ],
)
def test_a_status_line_is_read_as_the_module_reads_it(line, is_status):
    assert verdict(http.read(line, ("http_2xx",))) == ("alive" if is_status else "dead")


def test_a_status_line_is_judged_when_it_is_whole_and_no_later():
    line = b"HTTP/1.1 200 OK\r\n"
    assert [verdict(http.read(line[:size], ("http_2xx",))) for size in range(len(line))] == ["more"] * len(line)
    assert verdict(http.read(line + b"garbage \x00", ("http_2xx",))) == "alive"


def test_a_status_line_without_end_is_given_up():
    assert verdict(http.read(b"HTTP/1.1 200 " + b"x" * 70000, ("http_2xx",))) == "dead"


def test_what_can_be_no_status_line_is_not_waited_for(prober):
    found = asked(prober, pieces(b"SSH-2.0-OpenSSH_9.2"), type=CheckType.HTTP, http_expect_alive=("http_2xx",))
    assert (found.error, found.head) == ("the answer is not HTTP", "SSH-2.0-OpenSSH_9.2")


# ---- ssl_hello ----

CIPHERS = {Dialect.YAOWEIBIN: 13, Dialect.TENGINE: 39}


@MODULES
def test_a_modules_hello_is_one_whole_record_with_random_bytes_of_its_own(dialect):
    first, second = Hellos().make(dialect), Hellos().make(dialect)
    assert first[:1] == b"\x16"
    assert int.from_bytes(first[3:5]) == len(first) - 5
    assert int.from_bytes(first[6:9]) == len(first) - 9
    assert int.from_bytes(first[44:46]) == 2 * CIPHERS[dialect]
    assert [first[:11], first[43:]] == [second[:11], second[43:]]
    assert first[11:43] != second[11:43]


@pytest.mark.parametrize(
    ("versions", "alive_for"),
    [
        ((TLS_1_2, TLS_1_2), {Dialect.NONE, Dialect.YAOWEIBIN}),
        ((TLS_1_2, TLS_1_3), {Dialect.NONE, Dialect.YAOWEIBIN}),
        ((TLS_1_3, TLS_1_3), {Dialect.NONE}),
    ],
)
def test_a_tls_server_is_alive_for_the_hellos_that_it_speaks_to(prober, tmp_path, versions, alive_for):
    with tls(tmp_path, versions) as address:
        errors = {each: probe(prober, address, type=CheckType.SSL_HELLO, dialect=each).error for each in Dialect}
    assert {each for each, error in errors.items() if not error} == alive_for
    assert all(error.startswith("the server answered with TLS alert ") for error in errors.values() if error)


@EACH
def test_a_tls_port_that_speaks_something_else_is_named(prober, dialect):
    rule = {"type": CheckType.SSL_HELLO, "dialect": dialect}
    plain = b"HTTP/1.1 400 The plain HTTP request was sent to an HTTPS port\r\n\r\n"
    assert says(prober, plain, **rule) == "the answer is not TLS"
    assert says(prober, b"\x16\x03\x03\x00\x7a\x0b" + bytes(60), **rule) == "the TLS handshake does not begin with a ServerHello"
    assert says(prober, b"\x16\x03\x03\x00\x7a\x02" + bytes(40), **rule) == "closed inside the TLS hello"
    assert says(prober, b"\x15\x03\x03\x00\x02\x02\x63", **rule) == "the server answered with TLS alert 99"
    assert says(prober, b"", **rule) == "closed without an answer"


def test_a_server_hello_counts_from_its_47th_byte():
    hello = b"\x16\x03\x03\x00\x7a\x02" + bytes(41)
    assert (verdict(tls_hello.read(hello[:46])), verdict(tls_hello.read(hello))) == ("more", "alive")


# ---- mysql ----

GREETING = b"\x4a\x00\x00\x00\x0a8.0.36\x00" + bytes(60)
NOT_ALLOWED = b"\x44\x00\x00\x00\xff\x6a\x04Host '10.0.0.1' is not allowed to connect to this MySQL server"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (greets(GREETING), ""),
        (greets(GREETING[:3], GREETING[3:]), ""),
        (greets(NOT_ALLOWED), ""),
        (greets(b"\x4a\x00\x00\x01\x0a8.0.36\x00"), "the MySQL greeting does not begin with packet 0"),
        (lambda stream: stream.sendall(GREETING[:3]), "closed inside the MySQL greeting"),
        (lambda stream: stream.sendall(GREETING[:4]), "closed inside the MySQL greeting"),
        (lambda _: None, "closed without an answer"),
    ],
)
def test_a_mysql_server_is_alive_by_the_number_of_its_first_packet(prober, answer, error):
    assert says(prober, answer, type=CheckType.MYSQL) == error


def test_a_mysql_server_is_told_nothing(prober):
    heard = []
    assert asked(prober, lambda stream: (stream.sendall(GREETING), heard.append(stream.recv(100))), type=CheckType.MYSQL).ok
    assert heard == [b""]


@needs_mariadb
def test_a_real_mariadb_is_alive(prober, tmp_path):
    with mariadb(tmp_path) as address:
        assert probe(prober, address, type=CheckType.MYSQL).error == ""


# ---- ajp ----


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ajp, ""),
        (asked_then(pieces(b"AB\x00", b"\x01\x09")), ""),
        (b"AB\x00\x01\x09more", ""),
        (b"AB\x00\x01\x0a", "the answer to an AJP CPing is not CPong"),
        (asked_then(pieces(b"HTTP")), "the answer to an AJP CPing is not CPong"),
        (b"AB\x00\x01", "closed inside the AJP CPong"),
        (b"", "closed without an answer"),
    ],
)
def test_an_ajp_server_is_alive_by_its_pong(prober, answer, error):
    assert says(prober, answer, type=CheckType.AJP) == error


# ---- fastcgi ----

PAGE = b"Content-Type: text/html\r\n\r\n<p>all is well</p>\n"
NONE, YAOWEIBIN = Dialect.NONE, Dialect.YAOWEIBIN


def read_params(content):
    """Name-value pairs, by section 3.4 of the specification."""
    at, pairs = 0, []
    while at < len(content):
        sizes = []
        for _ in range(2):
            wide = content[at] >> 7
            sizes.append(int.from_bytes(content[at : at + 4]) & 0x7FFFFFFF if wide else content[at])
            at += 4 if wide else 1
        name, value = content[at : at + sizes[0]], content[at + sizes[0] : at + sum(sizes)]
        pairs.append((name.decode(), value.decode()))
        at += sum(sizes)
    return tuple(pairs)


def records(data):
    """(type, content) of each record."""
    found = []
    while data:
        _, kind, _, length, padding = struct.unpack_from(">BBHHBx", data)
        found.append((kind, data[8 : 8 + length]))
        data = data[8 + length + padding :]
    return found


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=1000)
PARAMS = st.lists(st.tuples(PRINTABLE, PRINTABLE), min_size=1, max_size=20).map(tuple)


@given(PARAMS)
def test_a_request_holds_what_was_asked_for(params):
    begin, *others, last = records(fastcgi.request(params, NONE))
    assert begin == (1, b"\0\1\0\0\0\0\0\0")
    assert [kind for kind, _ in others] == [4] * len(others)
    assert others[-1][1] == b""
    assert read_params(b"".join(content for _, content in others)) == params
    assert last == (5, b"")


def test_more_params_than_one_record_holds_go_into_two():
    params = tuple((f"P{number}", "x" * 1000) for number in range(100))
    assert [kind for kind, _ in records(fastcgi.request(params, NONE))] == [1, 4, 4, 4, 5]


@MODULES
def test_the_request_of_a_module_asks_for_its_index_and_ends_in_eight_zeros(dialect):
    request = fastcgi.request((), dialect)
    assert len(request) == 104
    assert request.endswith(bytes(8 + 4))
    (_, _), (_, content), (_, _) = records(request[:-8])
    assert read_params(content) == (("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("SCRIPT_FILENAME", "index.php"))


@EACH
@pytest.mark.parametrize(
    ("answer", "alive", "error"),
    [
        (record(STDOUT, PAGE) + END, (), ""),
        (record(STDOUT, PAGE) + END, ("http_2xx",), ""),
        (record(STDOUT, PAGE, padding=3) + END, ("http_2xx",), ""),
        (record(STDOUT, b"Status: 500 Oops\r\n\r\n") + END, (), ""),
        (record(STDOUT, b"Status: 500 Oops\r\n\r\n") + END, ("http_2xx",), "Status: 500 Oops (alive is http_2xx)"),
        (record(STDOUT, b"X: y\nSTATUS:  302\n\n") + END, ("http_3xx",), ""),
        (record(STDOUT, b"X: y\nstatus:302x\n\n") + END, ("http_2xx", "http_3xx"), ""),
        (record(STDOUT, b"Status:\r\nX: y\r\n\r\n") + END, ("http_2xx",), ""),
        (record(STDOUT, b"Status: 20") + END, ("http_5xx",), ""),
        (record(STDOUT, b"Status: ok\r\n\r\n") + END, (), "the FastCGI answer's Status is no number"),
        (record(STDOUT, b"St: 020\r\n\r\n") + END, (), "the FastCGI answer's Status is no number"),
        (record(STDOUT, b"X: y\rz\r\n\r\n") + END, (), "the FastCGI answer's first record holds a NUL or a stray CR"),
        (record(STDERR, b"PHP Warning") + END, (), "the FastCGI answer begins with stderr"),
        (record(STDOUT, b"") + END, (), "the FastCGI answer begins with the end of its output"),
        (END + record(STDOUT, PAGE), (), "the FastCGI answer begins with the end of the request"),
        (record(11, b"x") + END, (), "the FastCGI answer begins with a record of type 11"),
        (record(STDOUT, PAGE, request=2) + END, (), "the first FastCGI record is for request 2, not 1"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", (), "the answer is not FastCGI"),
        (b"", (), "closed without an answer"),
    ],
)
def test_a_fastcgi_server_is_alive_by_its_first_record(prober, dialect, answer, alive, error):
    assert says(prober, answer, type=CheckType.FASTCGI, http_expect_alive=alive, dialect=dialect) == error


GOOD = record(STDOUT, PAGE)
NO_BYTE_MORE = "nothing had come behind the first record's content when it was read: the check module wants a byte more"
IN_PIECES = "the first record's header came in pieces, which the check module misreads"
DEADLY = "the FastCGI answer has a line that kills nginx's worker: the check module reads it as a header"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (asked_then(pieces(GOOD, END)), NO_BYTE_MORE),
        (asked_then(pieces(GOOD[:9], GOOD[9:] + END)), NO_BYTE_MORE),
        (asked_then(pieces(GOOD[:4], GOOD[4:] + END)), IN_PIECES),
        (record(STDOUT, b"X: y\r\n\r\n\x89PNG\0") + END, "the FastCGI answer's first record holds a NUL or a stray CR"),
        (record(STDOUT, b"X: y\r\n\r\nS: none\n") + END, "the FastCGI answer's Status is no number"),
        (record(STDOUT, b"X: y\r\n\r\n<a href='http://x'>") + END, DEADLY),
    ],
)
def test_what_the_module_misreads_is_dead_only_where_there_is_a_module(prober, answer, error):
    rule = {"type": CheckType.FASTCGI, "http_expect_alive": ("http_2xx",)}
    assert says(prober, answer, dialect=YAOWEIBIN, **rule) == error
    assert says(prober, answer, dialect=NONE, **rule) == ""


@given(st.binary(max_size=80), st.sampled_from(list(Dialect)))
def test_no_bytes_break_a_judge(data, dialect):
    for answer in (
        http.read(data, ("http_2xx",)),
        tls_hello.read(data),
        mysql.read(data),
        fastcgi.read(data, ("http_2xx",), dialect),
        fastcgi.read(record(STDOUT, data) + END, ("http_2xx",), dialect),
    ):
        assert (answer.why == "") is (answer.verdict is not Verdict.FAIL)


@needs_php
@EACH
def test_a_real_php_is_alive_by_its_page(prober, tmp_path, dialect):
    (tmp_path / "good.php").write_text("well")
    (tmp_path / "bad.php").write_text("<?php http_response_code(500);")
    with php(tmp_path) as address:

        def ask(name, *alive):
            params = (("REQUEST_METHOD", "GET"), ("SCRIPT_FILENAME", f"{tmp_path}/{name}"))
            rule = {"type": CheckType.FASTCGI, "http_expect_alive": alive, "dialect": dialect, "fastcgi_param": params}
            return probe(prober, address, **rule).error

        assert ask("good.php") == ask("good.php", "http_2xx") == ask("bad.php") == ""
        assert ask("bad.php", "http_2xx", "http_3xx") == "Status: 500 Internal Server Error (alive is http_2xx, http_3xx)"
        assert ask("none.php", "http_2xx") == "Status: 404 Not Found (alive is http_2xx)"


# ---- all of them ----


@pytest.mark.parametrize("kind", [kind for kind in CheckType if kind is not CheckType.TCP])
def test_a_server_that_hangs_is_dead_at_the_timeout_whatever_it_was_asked(prober, kind):
    assert says(prober, hang, type=kind, timeout=0.3) == "no answer within 0.3 s"


def test_hostile_bytes_of_a_binary_answer_are_escaped(prober):
    found = asked(prober, record(STDERR, b"\x1b[31m\xe2\x80\xaered") + END, type=CheckType.FASTCGI)
    assert found.head == r"\x1b[31m\xe2\x80\xaered"
    found = asked(
        prober, record(STDOUT, b"Status: 500 \x1b[31m\r\n") + END, type=CheckType.FASTCGI, http_expect_alive=("http_2xx",)
    )
    assert found.error == r"Status: 500 \x1b[31m (alive is http_2xx)"

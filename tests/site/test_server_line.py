"""Server lines: what nginx knows comes through word for word, everything else is refused with what is allowed."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.site.server_line import canonical, identity, is_address, parse_server, probe_address

GOOD = [
    "127.0.0.1",
    "127.0.0.1:29100 weight=100",
    "[::1]:8080 backup",
    "[2001:db8::1]",
    "app.example.com:8080 resolve max_fails=0",
    "app_1 max_conns=10 fail_timeout=10s",
    "app.svc.cluster.local.:80",
    "backend service=_http._tcp resolve",
    "10.0.0.1:1 fail_timeout=30 down",
    "10.0.0.1:65535 fail_timeout=1m route=a1 drain",
    "unix:/run/app/app.sock weight=2",
]

BAD = [
    ("", "printable"),
    (" ", "address"),
    ("1:80; include /etc/passwd", "address"),
    ("1; } server { listen 80; location / { root /; } } upstream x { server 1", "address"),
    ("127.0.0.1:80;", "between"),
    ("server 127.0.0.1:80", "between"),
    ("127.0.0.1:80\nserver 6.6.6.6", "one line"),
    ("127.0.0.1:80\tdown", "one line"),
    ("127.0.0.1:0", "65535"),
    ("127.0.0.1:65536", "65535"),
    ("127.0.0.1:080", "65535"),
    ("127.0.0.1:", "address"),
    ("10.0.0.300", "not an IP"),
    ("127.1", "not an IP"),
    ("0x7f000001", "not an IP"),
    ("[::1", "address"),
    ("[::g]", "address"),
    ("[1::2::3]", "not an IP"),
    ("fe80::1", "address"),
    ("-app", "host name"),
    ("a..b", "host name"),
    ("${host}", "address"),
    ('"127.0.0.1"', "address"),
    ("unix:app.sock", "unix"),
    ("unix:/run/../etc/x", "unix"),
    ("unix:/run//x", "unix"),
    ("unix:/run/{x}", "unix"),
    ("unix:/" + "x" * 200, "at most 107"),
    ("127.0.0.1 weight=0", "from 1"),
    ("127.0.0.1 weight=+1", "from 1"),
    ("127.0.0.1 max_fails=-1", "from 0"),
    ("127.0.0.1 fail_timeout=500ms", "no ms"),
    ("127.0.0.1 slow_start=30s", "slow_start=30s is none"),
    ("127.0.0.1 weight", "weight is none"),
    ("127.0.0.1 down=1", "down=1 is none"),
    ("127.0.0.1 down down", "at most once"),
    ("127.0.0.1 weight=1 weight=2", "at most once"),
    ("127.0.0.1 #comment", "none"),
]


@pytest.mark.parametrize("line", GOOD)
def test_a_line_that_nginx_knows_is_kept_word_for_word(line):
    assert parse_server(line).text == line


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_any_other_line_is_refused_with_what_it_must_be(line, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_server(line)


@given(st.one_of(st.text(), st.text(string.printable), st.text("127.0.0.1:8[]unix:/=weightdown ;{}#\\\"'$\n", max_size=40)))
def test_an_accepted_line_has_no_character_that_is_syntax_to_nginx(line):
    try:
        server = parse_server(line)
    except ValueError:
        return
    assert server.text == " ".join(line.split())
    assert not set(server.text) & set(";{}#\\\"'$\n\r\t\0")


@pytest.mark.parametrize(
    ("line", "port", "expected"),
    [
        ("127.0.0.1", 0, "127.0.0.1:80"),
        ("127.0.0.1:8001 down", 0, "127.0.0.1:8001"),
        ("127.0.0.1:8001", 9000, "127.0.0.1:9000"),
        ("[0:0::1]:8001", 0, "[::1]:8001"),
        ("[::1]", 0, "[::1]:80"),
        ("app.example.com", 0, "app.example.com:80"),
        ("unix:/run/a.sock", 0, "unix:/run/a.sock"),
        ("unix:/run/a.sock", 9000, "unix:/run/a.sock"),
    ],
)
def test_a_probe_goes_where_nginx_would_unless_the_check_has_a_port(line, port, expected):
    assert probe_address(parse_server(line), port) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [("app", "APP:80"), ("app.example.", "app.example:80"), ("[::1]", "[0::1]:80"), ("10.0.0.1", "10.0.0.1:80 down")],
)
def test_two_spellings_of_an_address_are_one(one, other):
    assert identity(parse_server(one)) == identity(parse_server(other))


def test_the_case_of_a_socket_path_matters():
    assert identity(parse_server("unix:/run/a")) != identity(parse_server("unix:/run/A"))
    assert parse_server("unix:///run/a weight=2").text == "unix:/run/a weight=2"


@pytest.mark.parametrize(
    ("one", "other"),
    [("[::1]:80", "[0:0::1]:80"), ("[::ffff:10.0.0.1]:80", "[::ffff:a00:1]:80"), ("10.0.0.1:80", "10.0.0.1:80")],
)
def test_two_spellings_of_an_ip_address_become_one(one, other):
    assert canonical(one) == canonical(other) != ""


def test_a_host_name_is_not_an_address():
    assert not is_address("big.example:80")
    assert is_address("unix:/run/a.sock")

"""Reading and cutting files of upstream blocks."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.nginx.statements import StatementError, statements, tokens
from upswitch.nginx.upstream_file import read_upstream_at, read_upstreams
from upswitch.site.model import Check, CheckType

UPSTREAM_A = """upstream tornado_servers {
    server 127.0.0.1:29100 weight=100;
    server 127.0.0.1:29101 weight=100;
    check interval=30000 rise=3 fall=3 timeout=30000 type=tcp;
}
"""


def block(inner):
    return read_upstreams(f"upstream app {{\n{inner}\n}}\n").upstreams[0]


def test_the_file_of_the_first_issue_has_its_name_its_servers_and_its_check():
    found = read_upstreams(UPSTREAM_A)
    (upstream,) = found.upstreams
    assert (upstream.name, found.others) == ("tornado_servers", ())
    assert upstream.servers == ("127.0.0.1:29100 weight=100", "127.0.0.1:29101 weight=100")
    assert upstream.check == Check(type=CheckType.TCP, interval_ms=30000, rise=3, fall=3, timeout_ms=30000)
    assert (upstream.directives, upstream.remarks) == ((), ())


def test_a_check_line_without_a_parameter_has_the_modules_default_for_it():
    assert block("server 1.1.1.1; check fall=7;").check == Check(fall=7)


def test_the_http_lines_of_a_check_are_taken_with_their_escapes_resolved():
    found = block(
        'server 1.1.1.1; check type=http port=81 default_down=false; check_http_send "HEAD /h HTTP/1.0\\r\\n\\r\\n";\n'
        "check_http_expect_alive http_2xx http_4xx;",
    )
    assert found.check == Check(
        type=CheckType.HTTP,
        port=81,
        default_down=False,
        http_send="HEAD /h HTTP/1.0\r\n\r\n",
        http_expect_alive=("http_2xx", "http_4xx"),
    )


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ("check unique=true;", "check unique=true"),
        ("check interval=3s;", "check interval=3s"),
        ("check type=udp;", "check type=udp"),
        ("check rise=0;", "above 0"),
        ("check fall=-1;", "above 0"),
        ("check interval=;", "above 0"),
        ("check port=96707;", "31171"),
        ("check default_down=yes;", "default_down=yes"),
        ("check type=HTTP;", "type=HTTP"),
        ("check type;", "check type was left out"),
        ("check type=tcp; check_keepalive_requests 0;", "check_keepalive_requests 0"),
        ("check type=http; check_fastcgi_param A b;", "only with type=fastcgi"),
        ("check type=fastcgi; check_http_send x;", "only with type=http"),
        ("check type=ajp; check_http_expect_alive http_2xx;", "only with type=http or type=fastcgi"),
        ("check type=tcp; check_nonsense 1;", "check_nonsense"),
        ("check rise=1; check rise=2;", "the last one counts"),
        ("check type=http; check_http_expect_alive http_1xx;", "http_1xx"),
        ("check type=http; check_http_expect_alive http_2xx; check_http_expect_alive http_3xx;", "added up"),
        ("check type=tcp; check_http_send x;", "only with type=http"),
        ("check_http_send x;", "without a check line"),
        ("hash '$a $b';", "hash was left out"),
        ("balancer_by_lua_block { return 1; }", "balancer_by_lua_block was left out"),
    ],
)
def test_a_remark_says_what_can_not_be_taken_over(inner, said):
    assert any(said in remark for remark in block(f"server 1.1.1.1; {inner}").remarks)


@pytest.mark.parametrize(
    ("inner", "check"),
    [
        ("check;", Check()),
        ("check interval=050 rise=1 fall=7 timeout=9 port=65535;", Check(interval_ms=50, rise=1, fall=7, timeout_ms=9, port=65535)),
        ("check default_down=FALSE;", Check(default_down=False)),
        ("check default_down=True;", Check()),
        ("check interval=3s rise=0 port=65536 unique=true;", Check()),
        ("check type=mysql rise=7; check fall=9;", Check(type=CheckType.MYSQL, fall=9)),
        ("check type=mysql; check type=ajp;", Check(type=CheckType.AJP)),
        ("check_keepalive_requests 5; check;", Check(keepalive_requests=5)),
        ("check type=http;", Check(type=CheckType.HTTP)),
        ("check type=http; check_http_send '';", Check(type=CheckType.HTTP)),
        ("check type=http; check_http_expect_alive HTTP_4XX;", Check(type=CheckType.HTTP, http_expect_alive=("http_4xx",))),
        ("check type=http; check_http_expect_alive http_1xx;", Check(type=CheckType.HTTP)),
        ("check type=fastcgi;", Check(type=CheckType.FASTCGI, http_expect_alive=())),
        (
            "check type=fastcgi; check_http_expect_alive http_2xx; check_fastcgi_param A b; check_fastcgi_param C 'd e';",
            Check(type=CheckType.FASTCGI, http_expect_alive=("http_2xx",), fastcgi_param=(("A", "b"), ("C", "d e"))),
        ),
    ],
)
def test_check_lines_are_read_as_the_modules_read_them(inner, check):
    assert block(f"server 1.1.1.1; {inner}").check == check


def test_other_directives_come_as_lines_and_quotes_go_where_nothing_needs_them():
    assert block("least_conn; zone app 64k;\nserver '1.1.1.1:80';\n keepalive\n 32;").directives == (
        "least_conn",
        "zone app 64k",
        "keepalive 32",
    )


def test_other_top_level_directives_are_named():
    found = read_upstreams("map $a $b { default 1; }\nupstream x { server 1.1.1.1; }\nserver { listen 80; }\n")
    assert ([each.name for each in found.upstreams], found.others) == (["x"], ("map", "server"))


def test_a_block_is_read_even_if_the_text_around_it_cannot_be_read():
    text = "lua { -- don't\n }\nupstream x { server 1.1.1.1; }\n' broken"
    found = read_upstream_at(text, text.index("upstream"))
    assert text[found.start : found.end] == "upstream x { server 1.1.1.1; }"


@pytest.mark.parametrize("text", ["upstream x {", "upstream x { server 1 }", "}", "upstream x; }", "server 'a;", "a b", "; ;"])
def test_a_file_that_does_not_balance_is_an_error(text):
    with pytest.raises(StatementError):
        statements(text)


def test_comments_and_white_space_do_not_make_a_difference_and_everything_else_does():
    assert tokens(UPSTREAM_A) == tokens("# a comment\n" + UPSTREAM_A.replace("\n", "\r\n").replace("    ", "\t"))
    assert tokens(UPSTREAM_A) != tokens(UPSTREAM_A.replace("29101", "29102"))


@given(st.text(alphabet="a1 #;{}\"'\\$\n\r\t", max_size=40))
def test_any_text_is_read_or_refused_and_never_loses_a_byte(text):
    try:
        found = statements(text)
    except StatementError:
        return
    assert all(a.end <= b.start for a, b in pairwise(found))

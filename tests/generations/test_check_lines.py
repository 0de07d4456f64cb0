"""The check lines that are rendered, and the ones that a way back trusts."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from upswitch.generations.check_lines import check_lines, redacted, trusting
from upswitch.nginx.upstream_file import read_upstreams
from upswitch.site.model import Check, CheckType, Dialect

BOTH = (Dialect.YAOWEIBIN, Dialect.TENGINE)
SEND = 'GET /health"z HTTP/1.0\r\nX-A: \\d;{}\r\n\r\n'
PARAMS = (("SCRIPT_FILENAME", "/srv/a b.php"), ("QUERY", 'x="1";'))


def checks():
    alive = st.lists(st.sampled_from(["http_2xx", "http_3xx", "http_4xx", "http_5xx"]), min_size=1, max_size=4, unique=True)
    return st.builds(
        Check,
        type=st.sampled_from(CheckType),
        interval_ms=st.integers(1, 10**6),
        rise=st.integers(1, 20),
        fall=st.integers(1, 20),
        timeout_ms=st.integers(1, 10**6),
        default_down=st.booleans(),
        port=st.integers(0, 65535),
        http_send=st.sampled_from(["GET / HTTP/1.0\r\n\r\n", SEND]),
        http_expect_alive=alive.map(tuple),
        fastcgi_param=st.sampled_from([(), PARAMS]),
    )


def only_what_counts(check: Check) -> Check:
    """The module keeps nothing of what another type uses."""
    default, kind = Check(), check.type
    return Check(
        **{
            **{name: getattr(check, name) for name in check.__struct_fields__},
            "http_send": check.http_send if kind is CheckType.HTTP else default.http_send,
            "http_expect_alive": check.http_expect_alive
            if kind in {CheckType.HTTP, CheckType.FASTCGI}
            else default.http_expect_alive,
            "fastcgi_param": check.fastcgi_param if kind is CheckType.FASTCGI else (),
        }
    )


@given(checks(), st.sampled_from(BOTH))
def test_what_is_rendered_reads_back_as_the_same_check(check, dialect):
    text = "upstream app { server 127.0.0.1:1; " + "".join(f"{line};\n" for line in check_lines(check, dialect)) + "}"
    (block,) = read_upstreams(text).upstreams
    stuck = dialect is Dialect.YAOWEIBIN and check.type is CheckType.TCP
    assert block.check == replace(only_what_counts(check), rise=1 if stuck else check.rise)
    assert block.remarks == ()


def test_without_the_module_or_a_check_nothing_is_rendered():
    assert check_lines(Check(), Dialect.NONE) == ()
    assert check_lines(None, Dialect.TENGINE) == ()


def test_check_comes_first_and_expect_alive_is_one_line_as_both_modules_need():
    for dialect in BOTH:
        lines = check_lines(Check(type=CheckType.HTTP), dialect)
        assert [line.split()[0] for line in lines] == ["check", "check_http_send", "check_http_expect_alive"]


def test_keepalive_requests_above_one_is_only_for_tengine_as_it_stops_the_other_module():
    check = Check(type=CheckType.HTTP, keepalive_requests=10)
    assert not any("keepalive" in line for line in check_lines(check, Dialect.YAOWEIBIN))
    assert check_lines(check, Dialect.TENGINE)[-1] == "check_keepalive_requests 10"


@pytest.mark.parametrize(
    ("text", "trusted"),
    [
        ("upstream a { server b; check interval=1; }", "upstream a { server b; check interval=1 default_down=false; }"),
        (
            "upstream a {\n check rise=2 default_down=true type=tcp;\n}",
            "upstream a {\n check rise=2 default_down=false type=tcp;\n}",
        ),
        ("upstream a { check default_down=TRUE; }", "upstream a { check default_down=false; }"),
        ("upstream a { check  'default_down=true'; }", "upstream a { check default_down=false; }"),
        ("upstream a { check default_down=false default_down=true; }", "upstream a { check default_down=false; }"),
        ("upstream a { check  default_down=False ; }", "upstream a { check  default_down=False ; }"),
        ("upstream a { check rise=1 # default_down=false\n ; }", "upstream a { check rise=1 default_down=false; }"),
        ("# check interval=1;\nupstream a {  server b; }", "# check interval=1;\nupstream a {  server b; }"),
        ("server { location /check { check_status; } }", "server { location /check { check_status; } }"),
        ("upstream a { check rise=1; } upstream b { check rise=2; }", None),
    ],
)
def test_servers_that_serve_get_default_down_false_and_no_other_byte_changes(text, trusted):
    expected = trusted or "upstream a { check rise=1 default_down=false; } upstream b { check rise=2 default_down=false; }"
    assert trusting(text) == expected
    assert trusting(trusting(text)) == trusting(text)


@pytest.mark.parametrize(
    "line",
    [
        'check_http_send "GET / HTTP/1.0\\r\\nAuthorization: S3CRET\\"; x\\r\\n\\r\\n";',
        "check_http_send GET\\ /\\r\\nCookie:\\ S3CRET;",
        "check_http_send # c\n 'S3CRET';",
        '"check_http_send" "S3CRET";',
        "check_fastcgi_param HTTP_X # x\n S3CRET;",
    ],
)
def test_what_a_check_sends_is_not_shown_however_it_is_written(line):
    shown = redacted(f"upstream a {{ server b;\n{line}\ncheck type=http; }}")
    assert "S3CRET" not in shown
    assert "(not shown)" in shown
    assert shown.endswith("\ncheck type=http; }")


def test_a_file_that_cannot_be_read_is_not_shown_where_it_may_hold_what_a_check_sends():
    assert "S3CRET" not in redacted('upstream a { check_http_send "S3CRET; }')
    assert redacted("upstream a {") == "upstream a {"


@pytest.mark.parametrize("kind", CheckType)
def test_the_module_itself_takes_every_line(check_nginx, tmp_path, kind):
    dialect = Dialect.TENGINE if "engine" in check_nginx else Dialect.YAOWEIBIN
    check = Check(type=kind, http_send=SEND, fastcgi_param=PARAMS, keepalive_requests=3, port=8080, http_expect_alive=("http_4xx",))
    inner = "".join(f"{line};\n" for line in check_lines(check, dialect))
    upstream = f"upstream a {{ server 127.0.0.1:1;\n{inner}}}\n"
    for text in (upstream, trusting(upstream)):
        conf = tmp_path / "nginx.conf"
        conf.write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {text} }}")
        argv = (check_nginx, "-t", "-p", str(tmp_path), "-c", str(conf), "-e", "stderr")
        ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
        assert ran.returncode == 0, ran.stderr
        assert "[warn]" not in ran.stderr

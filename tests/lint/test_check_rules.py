"""The traps of the check modules: each on a configuration that has it and on one that has not."""

import json
import subprocess
from bisect import bisect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumps import TEMP_PATHS, made_dump
from upswitch.health.nginx_check import DEFAULT_ZONE, checked_address, is_zone_enough, least_zone, zone_size
from upswitch.lint.lint import findings, subject_of
from upswitch.lint.rules import Ground, Subject, all_checked
from upswitch.nginx.build import parse_build
from upswitch.nginx.dump import parse_dump
from upswitch.site.model import Dialect
from upswitch.site.read import parse_site
from upswitch_lab.find import read_build

BUILD = parse_build("nginx version: nginx/1.28.0\nconfigure arguments:\n")
YAOWEIBIN, TENGINE = Dialect.YAOWEIBIN, Dialect.TENGINE
SITE = '[upstreams.own]\nA = ["127.0.0.1:8001"]\nB = ["127.0.0.1:8002"]\n'
SERVER = "server 127.0.0.1:1;"
WARM = "default_down=false"
"""Keeps the blackout, which every other check has, out of the answer."""
HTTP = f"{SERVER} check type=http {WARM};"


def conf_of(text):
    return parse_dump(made_dump({"/etc/nginx/nginx.conf": text}))


def whole(*blocks, main="worker_processes 4;", http=""):
    upstreams = " ".join(f"upstream u{number} {{ {block} }}" for number, block in enumerate(blocks))
    return conf_of(f"{main} http {{ {http} {upstreams} }}")


def found(conf, dialect=YAOWEIBIN, site=SITE):
    """The findings on a host whose nginx has this module, by code."""
    return {each.code: each for each in in_site(conf, dialect, site)}


def in_site(conf, dialect, site=SITE):
    parsed = parse_site(site)
    modules = () if dialect is Dialect.NONE else (dialect,)
    subject = Subject(site=parsed, build=BUILD, conf=conf, modules=modules, checked=all_checked(parsed, conf))
    return findings(subject, Ground.CHECKS) if modules else ()


def in_conf(conf):
    return findings(subject_of(conf), Ground.CHECKS)


def both(*blocks):
    """The codes under yaoweibin's module, and those under Tengine's."""
    return tuple(set(found(whole(*blocks), dialect)) for dialect in (YAOWEIBIN, TENGINE))


# ---- the blackout ----


def test_the_file_of_the_first_issue_gets_its_line_its_seconds_and_the_two_ways_out():
    text = (
        "upstream tornado_servers {\n  server 127.0.0.1:29100 weight=100;\n  server 127.0.0.1:29101 weight=100;\n"
        "  check interval=30000 rise=3 fall=3 timeout=30000 type=tcp;\n}\n"
    )
    codes = {each.code: each for each in in_conf(parse_dump(made_dump({"/etc/nginx/upstreamA.conf": text})))}
    assert set(codes) == {"check_blackout", "check_tcp_stuck"}
    blackout = codes["check_blackout"]
    assert "/etc/nginx/upstreamA.conf:4: upstream tornado_servers answers 502 for up to 120.0 s, likely 100.0 s" in blackout.what
    assert "standby" in blackout.hint
    assert "default_down=false" in blackout.hint
    assert "yaoweibin" in codes["check_tcp_stuck"].what


def test_the_likely_seconds_go_by_the_servers_that_are_not_down_and_the_workers():
    block = f"{SERVER} server 127.0.0.1:2 down; server 127.0.0.1:3 backup; check type=http interval=1000 rise=3;"
    assert "up to 4.0 s, likely 2.4 s (with 4 worker processes)" in found(whole(block))["check_blackout"].what


@pytest.mark.parametrize("block", [HTTP, f"{SERVER} check type=http default_down=False;", SERVER])
def test_without_a_blackout_there_is_no_finding(block):
    assert "check_blackout" not in found(whole(block))


def test_a_balancer_that_does_not_ask_the_check_has_no_blackout():
    block = f"{SERVER} hash $uri consistent; check type=http;"
    assert both(block) == ({"check_blackout"}, {"check_unheeded"})


def test_upstreams_with_standbys_have_no_blackout_with_and_without_a_site_file():
    standby = "upstream own__standby_B { server 127.0.0.1:8002; check type=http; }"
    conf = conf_of(f"http {{ upstream own {{ server 127.0.0.1:8001; check type=http; }} {standby} }}")
    assert in_conf(conf) == ()
    assert found(whole(), site=f"{SITE}[upstreams.own.check]\ntype = 'http'\n") == {}


# ---- each upstream ----


@pytest.mark.parametrize(
    ("block", "yaoweibin", "tengine"),
    [
        (HTTP, set(), set()),
        (f"{SERVER} check type=http interval=1000 timeout=1000 {WARM};", set(), set()),
        (f"{SERVER} check type=http interval=1000 timeout=1001 {WARM};", {"check_timeout_long"}, {"check_timeout_long"}),
        (f"{SERVER} check rise=4 {WARM};", {"check_tcp_blind", "check_tcp_stuck"}, set()),
        (f"{SERVER} check rise=5 {WARM};", {"check_tcp_stuck"}, set()),
        (f"{HTTP} check_keepalive_requests 2;", {"check_keepalive_frozen"}, set()),
        (f"{HTTP} check_keepalive_requests 1;", set(), set()),
        (f"{HTTP} random two least_conn;", {"check_unheeded"}, {"check_unheeded"}),
        (f"{HTTP} hash $uri consistent;", set(), {"check_unheeded"}),
        (f"{HTTP} hash $uri;", set(), set()),
        (f"{SERVER} check type=ssl_hello {WARM};", {"check_ssl_hello"}, {"check_ssl_hello"}),
        (f"{SERVER} check type=mysql {WARM};", {"check_mysql"}, {"check_mysql"}),
        (f"server unix:/s; check type=http port=81 {WARM};", {"check_port_unix"}, set()),
        (f"server unix:/s; check type=http {WARM};", set(), set()),
        (f"{SERVER} check type=http port=96707 {WARM};", {"check_port_truncated"}, {"check_port_truncated"}),
        (f"{SERVER} check type=http interval=3s {WARM};", {"check_refused"}, {"check_refused"}),
        (f"{SERVER} check type=http unique=true {WARM};", set(), set()),
        (f"{SERVER} check rise=1; check type=http {WARM};", {"check_replaced"}, {"check_replaced"}),
        (f'{SERVER} check_http_send "GET / HTTP/1.0\\r\\n\\r\\n"; check type=http {WARM};', set(), {"check_send_order"}),
        (f"{SERVER} check type=ajp {WARM}; check_http_send x;", {"check_send_type"}, {"check_send_type"}),
        (f"{SERVER} check rise=1 {WARM}; check_http_send x;", {"check_tcp_blind"}, {"check_send_type"}),
        (
            f"{HTTP} check_http_expect_alive http_2xx; check_http_expect_alive http_3xx;",
            {"check_alive_lines"},
            {"check_alive_lines"},
        ),
        (f"{HTTP} check_http_expect_alive http_2xx http_3xx;", set(), set()),
    ],
)
def test_a_fault_is_found_for_the_module_that_has_it(block, yaoweibin, tengine):
    assert both(block) == (yaoweibin, tengine)


@pytest.mark.parametrize(
    ("request_", "codes"),
    [
        ("GET / HTTP/1.0\\r\\n\\r\\n", set()),
        ("GET / HTTP/1.0\\n\\n", set()),
        ("GET / HTTP/1.0\\r\\n", {"check_send_unended"}),
        ("GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n", set()),
        ("GET / HTTP/1.1\\r\\nhost: a\\r\\nconnection:close\\r\\n\\r\\n", set()),
        ("GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", {"check_send_keeps"}),
        ("GET / HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n", {"check_send_no_host"}),
        ("GET / HTTP/1.1\\r\\nX-Host: a\\r\\nConnection: closed", {"check_send_unended", "check_send_no_host", "check_send_keeps"}),
    ],
)
def test_a_request_that_no_server_answers_well_is_found(request_, codes):
    assert both(f'{HTTP} check_http_send "{request_}";') == (codes, codes)


def test_the_request_is_never_shown_because_it_may_hold_a_secret():
    secret = "GET /?key=s3cret HTTP/1.1\\r\\nAuthorization: Bearer s3cret\\r\\nCookie: s3cret"
    answers = found(whole(f'{SERVER} check_http_send "{secret}"; check type=http;'), TENGINE)
    assert answers.keys() >= {"check_send_order", "check_send_unended", "check_send_no_host", "check_send_keeps", "check_blackout"}
    assert not [each for each in answers.values() if "s3cret" in each.what + each.hint]


def test_the_finding_names_the_port_that_is_really_asked():
    assert "asks port 31171" in found(whole(f"{SERVER} check type=http port=96707;"))["check_port_truncated"].what


@pytest.mark.parametrize(
    ("main", "rise", "level", "code"),
    [
        ("worker_processes 2;", 2, "warning", "check_tcp_blind"),
        ("worker_processes 2;", 3, "error", "check_tcp_stuck"),
        ("", 2, "error", "check_tcp_stuck"),
        ("worker_processes auto;", 2, "warning", "check_tcp_stuck"),
        ("worker_processes auto;", 1, "warning", "check_tcp_blind"),
    ],
)
def test_a_tcp_check_of_yaoweibins_module_is_stuck_where_rise_is_above_the_number_of_workers(main, rise, level, code):
    finding = found(whole(f"{SERVER} check rise={rise} {WARM};", main=main))[code]
    assert finding.level == level


def test_a_tcp_check_of_an_upstream_that_is_proxied_as_http_is_found_wherever_the_upstream_stands():
    server = "server { location / { proxy_pass http://u0; } }"
    assert "tcp_for_http" in found(whole(f"{SERVER} check {WARM};", http=server), TENGINE)
    assert "tcp_for_http" not in found(whole(HTTP, http=server), TENGINE)
    assert "tcp_for_http" not in found(whole(f"{SERVER} check {WARM};", http=server.replace("http://u0", "http://x")), TENGINE)


def test_without_a_check_module_there_is_no_finding_about_checks():
    site = SITE + '[upstreams.own.check]\ntype = "mysql"\ndefault_down = false\n'
    assert found(whole(f"{SERVER} check type=mysql;"), Dialect.NONE, site) == {}


def test_if_the_module_is_not_known_findings_name_both():
    answers = in_conf(whole(f"{SERVER} check type=ssl_hello {WARM};"))
    assert [(each.code, each.level) for each in answers] == [("check_ssl_hello", "error"), ("check_ssl_hello", "warning")]
    assert "Tengine" in answers[0].what
    assert "yaoweibin" in answers[1].what


# ---- the site's own tables ----


@pytest.mark.parametrize(
    ("keys", "dialect", "codes"),
    [
        ('type = "http"', YAOWEIBIN, set()),
        ('type = "http"\nkeepalive_requests = 5', YAOWEIBIN, set()),  # not rendered there
        ('type = "mysql"', TENGINE, {"check_mysql"}),
        ('type = "tcp"\nrise = 5', YAOWEIBIN, {"check_tcp_blind"}),
        ('type = "ssl_hello"', TENGINE, {"check_ssl_hello"}),
        ('type = "http"\ninterval = 1000\ntimeout = 2000', TENGINE, {"check_timeout_long"}),
    ],
)
def test_the_check_tables_of_the_site_file_are_checked_too(keys, dialect, codes):
    site = f"{SITE}[upstreams.own.check]\ndefault_down = false\n{keys}\n"
    answers = found(whole(), dialect, site)
    assert set(answers) == codes
    assert all("site file, [upstreams.own.check]" in each.what for each in answers.values())


def test_a_check_that_is_rendered_from_a_table_is_reported_once():
    site = SITE + '[upstreams.own.check]\ntype = "mysql"\n'
    files = {
        "/etc/nginx/nginx.conf": "http { include upswitch/live/*.conf; }",
        "/etc/nginx/upswitch/live/own.conf": "upstream own { server 127.0.0.1:8001; check type=mysql; }",
        "/etc/nginx/upswitch/live/standby.conf": "upstream own__standby_B { server 127.0.0.1:8002; check type=mysql; }",
    }
    assert [each.code for each in in_site(parse_dump(made_dump(files)), TENGINE, site)] == ["check_mysql"]


# ---- all of them together ----


@pytest.mark.parametrize(
    ("one", "other", "codes"),
    [
        (
            f"server 10.0.0.1; check type=http rise=3 {WARM};",
            f"server 10.0.0.1:80; check type=http {WARM};",
            {"check_shared_address"},
        ),
        (f"server 10.0.0.1; check type=http {WARM};", f"server 10.0.0.1; check type=http {WARM};", {"check_shared_address"}),
        (f"server 10.0.0.1; check type=http rise=3 {WARM};", "server 10.0.0.1;", set()),
        (f"server 10.0.0.1; check type=http rise=3 {WARM};", f"server 10.0.0.2; check type=http {WARM};", set()),
    ],
)
def test_two_upstreams_that_check_one_address_are_found(one, other, codes):
    assert both(one, other) == (codes, codes)


@pytest.mark.parametrize(
    ("http", "dialect", "room"),
    [
        ("check_shm_size 1m;", YAOWEIBIN, 4475),
        ("check_shm_size 1k;", TENGINE, 221),
        ("check_shm_size 2m;", TENGINE, 4283),
        ("check_shm_size 1500k;", TENGINE, 2099),
    ],
)
def test_a_zone_that_is_too_small_is_found_to_the_server(http, dialect, room):
    full, over = (f"{_servers(count)} check type=http {WARM};" for count in (room, room + 1))
    assert found(whole(full, http=http), dialect) == {}
    finding = found(whole(over, http=http), dialect)["check_shm_small"]
    assert finding.level == "error"
    assert "/etc/nginx/nginx.conf:1" in finding.what


def test_the_idle_pools_count_in_the_zone_because_they_are_checked_as_standbys():
    hosts = {pool: [f"10.{part}.0.{host}" for host in range(1, 131)] for part, pool in enumerate("AB", start=1)}
    pools = "\n".join(f"{pool} = {json.dumps(addresses)}" for pool, addresses in hosts.items())
    site = f'[upstreams.own]\n{pools}\n[upstreams.own.check]\ntype = "http"\ndefault_down = false\n'
    assert set(found(whole(), TENGINE, f'[nginx]\ncheck_shm_size = "1m"\n{site}')) == {"check_shm_small"}
    assert found(whole(), TENGINE, f'[nginx]\ncheck_shm_size = "2m"\n{site}') == {}
    assert found(whole(), TENGINE, site) == {}, "where nobody gives a size, the rendering gives what is needed"


@given(st.integers(min_value=1, max_value=5000), st.sampled_from([YAOWEIBIN, TENGINE]))
def test_the_size_that_is_proposed_is_enough_and_a_mebibyte_less_is_not(count, dialect):
    addresses = tuple(f"10.0.0.{number}:80" for number in range(count))
    size = least_zone(addresses, dialect)
    assert is_zone_enough(size << 20, addresses, dialect)
    assert size == 1 or not is_zone_enough((size - 1) << 20, addresses, dialect)


@pytest.mark.parametrize(
    ("text", "size"), [("2m", 2 << 20), ("1500K", 1500 << 10), ("0", 1 << 20), ("x", 1 << 20), ("3145728", 3 << 20)]
)
def test_a_size_is_read_as_nginx_reads_it_and_never_below_the_default(text, size):
    assert zone_size(text) == size


def test_an_address_has_one_spelling_and_what_we_do_not_know_stays():
    assert checked_address("[::0001]") == checked_address("[::1]:80") == "[::1]:80"
    assert checked_address("$backend") == "$backend"


# ---- the real modules ----


def _servers(count):
    return "".join(f"server 127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250};" for number in range(count))


def judged(nginx, folder, http):
    """What `nginx -t` says of an http block: its exit code and its stderr."""
    (folder / "nginx.conf").write_text(f"pid p; error_log stderr; events {{}} http {{ {TEMP_PATHS} access_log off; {http} }}")
    (folder / "temp").mkdir(exist_ok=True)
    argv = (nginx, "-t", "-p", str(folder), "-c", str(folder / "nginx.conf"))
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    return ran.returncode, ran.stderr


def module_of(nginx):
    return TENGINE if read_build(nginx).name == "Tengine" else YAOWEIBIN


@pytest.mark.parametrize("kind", ["127.0.{}.{}", "[fd00::{}:{}]", "unix:/s{}-{}"])
def test_the_real_module_refuses_one_server_more_than_the_arithmetic_has_room_for(check_nginx, tmp_path, kind):
    addresses = [kind.format(number // 250, 1 + number % 250) for number in range(5000)]
    module = module_of(check_nginx)
    room = bisect(range(5000), 0, key=lambda count: not is_zone_enough(DEFAULT_ZONE, addresses[:count], module)) - 1
    for count, is_taken in ((room, True), (room + 1, False)):
        servers = "".join(f"server {each};" for each in addresses[:count])
        exit_code, said = judged(check_nginx, tmp_path, f"upstream u {{ {servers} check interval=1000; }}")
        assert (exit_code == 0) == is_taken
        assert ("check_shm_size is too small" in said) == (not is_taken)


@pytest.mark.parametrize(
    "block",
    [
        f"{SERVER} check interval=3s;",
        f"{SERVER} check rise=0;",
        f"{SERVER} check fall=-1;",
        f"{SERVER} check type=udp;",
        f"{SERVER} check nonsense;",
        f"{SERVER} check default_down=yes;",
        f"{SERVER} check_http_send 'GET / HTTP/1.0\\r\\n\\r\\n'; check type=http;",
        f"{SERVER} check type=tcp; check_http_send x;",
        f"{SERVER} check type=ajp; check_http_send x;",
        f"{SERVER} check type=http port=96707;",
        f"{SERVER} check type=http default_down=FALSE;",
        f"{SERVER} check rise=030; check type=http;",
        f"{HTTP} check_http_expect_alive HTTP_2XX; check_http_expect_alive http_3xx;",
    ],
)
def test_the_real_module_refuses_exactly_what_is_called_refused(check_nginx, tmp_path, block):
    module = module_of(check_nginx)
    said = found(whole(block), module)
    refused = "check_refused" in said or "check_send_order" in said or ("check_send_type" in said and module is TENGINE)
    exit_code, err = judged(check_nginx, tmp_path, f"upstream u {{ {block} }}")
    assert (exit_code != 0) == refused, err

"""The pure parts of `diagnose`: the directive behind a cause, strangers, traffic, listeners, formats, spans."""

from datetime import datetime

import pytest

from upswitch.diagnose import directives, host
from upswitch.diagnose.causes import catalogue
from upswitch.diagnose.host import Places
from upswitch.logs.formats import FormatError, given_formats, recognised, usual_formats
from upswitch.logs.since import Since, Span, in_files, parse_since
from upswitch.nginx import conf_logs, processes
from upswitch.nginx.dump import parse_dump

CONF = """# configuration file /etc/nginx/nginx.conf:
user www-data;
worker_rlimit_nofile 1000;
events { worker_connections 10; }
http {
    proxy_read_timeout 5s;
    resolver 127.0.0.53;
    upstream app {
        server 10.0.0.1:8080 max_fails=2;
        server 10.0.0.2;
        server [::1]:80;
        keepalive_timeout 10s;
    }
    upstream other { server 10.0.0.9:1; }
    server {
        location / { proxy_pass http://app; proxy_read_timeout 2s; }
        location /http { proxy_pass http://app; }
        location /php { fastcgi_pass 10.0.0.5:9000; }
        location /tls { proxy_pass https://10.0.0.6; proxy_ssl_verify on; }
        location /open { proxy_pass http://$where; proxy_connect_timeout 3s; }
        location /other { proxy_pass http://other; if ($x) { return 503; } }
    }
}

"""
TREE = parse_dump(CONF)


def texts(code, *servers, addresses=None):
    return [each.text for each in directives.behind(TREE, code, servers, addresses or {})]


def at(text, number):
    return f"/etc/nginx/nginx.conf:{number}: {text}"


@pytest.mark.parametrize(
    ("code", "servers", "expected"),
    [
        ("read_timeout", ["10.0.0.1:8080"], [at("proxy_read_timeout 2s", 15), at("proxy_read_timeout 5s", 5)]),
        ("read_timeout", ["10.0.0.2:80"], [at("proxy_read_timeout 2s", 15), at("proxy_read_timeout 5s", 5)]),
        (
            "read_timeout",
            ["10.0.0.5:9000"],
            ["fastcgi_read_timeout 60s (nginx's default; nothing sets it)", at("fastcgi_pass 10.0.0.5:9000", 17)],
        ),
        ("read_timeout", ["10.0.0.9:1"], [at("proxy_read_timeout 5s", 5)]),
        ("connect_timeout", ["10.9.9.9:80"], [at("proxy_connect_timeout 3s", 19)]),
        ("tls_verify_failed", ["10.0.0.6:443"], [at("proxy_ssl_verify on", 18), "proxy_ssl_trusted_certificate is not set"]),
        ("tls_to_plain_port", ["10.0.0.6:443"], [at("proxy_pass https://10.0.0.6", 18)]),
        ("connect_refused", ["10.0.0.1:8080"], [at("server 10.0.0.1:8080 max_fails=2", 8)]),
        ("connect_refused", ["[::1]:80"], [at("server [::1]:80", 10)]),
        ("worker_connections", [], [at("worker_connections 10", 3)]),
        ("fd_limit", [], [at("worker_rlimit_nofile 1000", 2)]),
        ("worker_shutdown_timeout", [], ["worker_shutdown_timeout is not set"]),
        (
            "keepalive_race",
            ["10.0.0.2:80"],
            ["keepalive 32 local since 1.29.7, none before (nginx's default; nothing sets it)", at("keepalive_timeout 10s", 11)],
        ),
        ("no_resolver", ["10.9.9.9:80"], [at("proxy_pass http://$where", 19), at("resolver 127.0.0.53", 6)]),
        ("unexplained", ["10.0.0.1:8080"], []),
    ],
)
def test_the_directive_in_effect_where_requests_go_to_these_servers(code, servers, expected):
    assert texts(code, *servers) == expected


def test_no_live_upstreams_quotes_what_keeps_nginx_from_asking_a_server_of_the_upstream_it_names():
    assert [each.partition(": ")[2] for each in texts("no_live_all_down", "app")] == ["server 10.0.0.1:8080 max_fails=2"]


def test_a_server_that_was_a_name_is_found_by_the_addresses_we_know():
    assert texts("read_timeout", "10.7.7.7:80", addresses={"other": ("10.7.7.7:80",)}) == [at("proxy_read_timeout 5s", 5)]


@pytest.mark.parametrize("code", catalogue().causes)
def test_every_cause_can_be_asked_for_and_gives_a_few_settings_at_most(code):
    assert len(texts(code)) <= 6
    assert len(texts(code, "app", "10.0.0.1:8080")) <= 6


# ---- strangers ----

PLACES = Places(live={"app": ("a:1", "a:2", "a:3")}, idle={"app": ("b:1",)}, others=frozenset({"c:1", "other"}))


def test_an_address_is_a_stranger_where_no_pool_and_no_other_place_has_it():
    peers = {"a:1": 5, "b:1": 1, "c:1": 1, "app": 2, "other": 1, "x:1": 3, "x:2": 7}
    assert [each.split(" ")[0] for each in host.strangers(peers, PLACES)] == ["x:2", "x:1"]


def test_a_server_without_requests_is_told_only_after_enough_went_to_the_others():
    assert host.unasked({"a:1": 59}, PLACES) == ()
    assert [each.split(" ")[0] for each in host.unasked({"a:1": 60}, PLACES, spared={"a:3"})] == ["a:2"]


# ---- who listens ----

TABLE = b"""  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000
   1: 0100007F:1F91 0100007F:C350 01 00000000:00000000
"""


def test_only_listening_sockets_are_listed():
    assert list(processes.listening(TABLE)) == ["127.0.0.1:8080"]


def test_the_addresses_of_the_machine_are_those_that_the_kernel_calls_local():
    trie = b"  |-- 10.0.0.5\n           /32 host LOCAL\n  |-- 10.0.0.255\n           /32 link BROADCAST\n"
    assert processes.own_addresses(trie) == {"10.0.0.5"}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.0.0.5:8080", "127.0.0.1:8080 listens, not 10.0.0.5:8080"),
        ("10.0.0.5:8081", "no program listens on port 8081 of this machine"),
        ("10.0.0.6:8080", ""),
        ("127.0.0.1:8080", ""),
        ("unix:/run/app", ""),
    ],
)
def test_who_listens_instead_is_said_only_of_this_machine(address, said):
    assert processes.nearby(address, ["127.0.0.1:8080"], ["10.0.0.5", "127.0.0.1"]) == said


# ---- formats ----


def only_format(text):
    (found,) = given_formats(text)
    return found


def test_a_format_may_be_pasted_as_it_stands_in_the_configuration():
    pasted = only_format("log_format mine escape=json '$status '\n  '$uri';")
    assert (pasted.name, pasted.escape, pasted.text) == ("mine", "json", "$status $uri")
    assert only_format("escape=json $status x") == only_format("log_format '' escape=json '$status x'")
    assert only_format(conf_logs.log_format_line()).escape == "json"


@pytest.mark.parametrize("text", ["log_format x 'open", "log_format x } y"])
def test_a_line_that_nginx_would_refuse_is_refused(text):
    with pytest.raises(FormatError):
        only_format(text)


def test_the_format_is_the_one_that_most_lines_are_of():
    combined = b'10.1.1.1 - - [20/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 502 157 "-" "curl"'
    main = combined + b' "-"'
    assert recognised(combined + b"\n" + main + b"\n" + main, usual_formats()).reader.read(main)
    assert recognised(b"what is this", usual_formats()) is None
    assert recognised(b"", usual_formats()) is not None


# ---- since when ----


def test_since_is_a_time_span_or_a_time_of_day():
    assert parse_since("10m") == Since(seconds=600.0)
    assert parse_since("2026-11-20T10:00:00Z") == Since(at="2026-11-20T10:00:00Z")
    with pytest.raises(ValueError, match="yesterday"):
        parse_since("yesterday")


def test_the_last_minutes_count_back_from_the_newest_line_in_the_zone_of_the_access_log():
    span = in_files(
        Since(seconds=600),
        newest_errors=["2026/11/20 12:00:00", ""],
        newest_requests=["20/Nov/2026:12:05:00 +0200"],
    )
    assert span == Span(words="2026/11/20 11:55:00", unix=int(datetime.fromisoformat("2026-11-20T11:55:00+02:00").timestamp()))


def test_a_time_with_a_zone_is_put_into_the_words_of_the_error_log():
    span = in_files(
        Since(at="2026-11-20T10:00:00Z"), newest_errors=["2026/11/20 12:30:00"], newest_requests=["2026-11-20T12:30:00+02:00"]
    )
    assert span.words == "2026/11/20 12:00:00"
    assert span.unix == int(datetime.fromisoformat("2026-11-20T10:00:00+00:00").timestamp())


def test_files_without_any_time_count_from_their_start():
    assert in_files(Since(seconds=600), newest_errors=[""], newest_requests=[]) == Span()

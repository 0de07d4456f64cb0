"""`lint`: each rule on a configuration that breaks it and on one that does not."""

import inspect
import socket

import pytest

from dumps import made_dump
from here import TEMPLATES, ports, site_of
from upswitch.lint import check_rules, drain_rules, file_rules, pass_rules, rules, upstream_rules
from upswitch.lint.catalogue import catalogue
from upswitch.lint.lint import RULES, findings
from upswitch.lint.lint import lint as linted
from upswitch.lint.rules import Ground, Subject
from upswitch.nginx import conf_logs
from upswitch.nginx.build import parse_build
from upswitch.nginx.drain_compare import advice
from upswitch.nginx.drain_lines import with_lines
from upswitch.nginx.dump import parse_dump
from upswitch.site.model import Dialect
from upswitch.site.read import parse_site
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab

OLD = parse_build("nginx version: nginx/1.22.1\nconfigure arguments:\n")
MIDDLE = parse_build("nginx version: nginx/1.26.0\nconfigure arguments:\n")
NEW = parse_build("nginx version: nginx/1.28.0\nconfigure arguments:\n")
SITE = """
[upstreams.app]
A = ["127.0.0.1:8001"]
B = ["127.0.0.1:8002"]
[upstreams.app.check]
type = "http"
[watch]
probe = "http://127.0.0.1/"
"""
OLD_LINES = "if (-f /run/upswitch/drain) { return 418; } error_page 418 = @d;"
LOG = "access_log /log f;"
FIELDS = "$msec $remote_addr $status $request_time $request_completion $upstream_addr $upstream_status"
FORMAT = f"log_format f '{FIELDS} $upswitch_generation';"
INCLUDE = "include /etc/nginx/upswitch/live/*.conf;"
PROXY = "proxy_pass http://app;"


def conf(*, http=f"{FORMAT} {LOG} {INCLUDE}", location=PROXY, server="", flag="/run/upswitch/drain"):
    """With the drain lines that upswitch prints, but for `flag` ""."""
    main = f"http {{\n{http}\nserver {{ location / {{ {location} }} {server} }}\n}}\n"
    read = parse_dump(made_dump({"/etc/nginx/nginx.conf": main}))
    main = with_lines(main, advice(read, MIDDLE, ["app"], flag=flag) if flag else ())
    return {"/etc/nginx/nginx.conf": main, "/etc/nginx/upswitch/live/app.conf": "upstream app { server 127.0.0.1:8001; }\n"}


def found(files, build=MIDDLE, site=SITE, dialect=Dialect.NONE):
    """The findings by code."""
    parsed, read = parse_site(site), parse_dump(made_dump(files))
    logs = conf_logs.own_logs(read, build, ("app",))
    modules = () if dialect is Dialect.NONE else (dialect,)
    subject = Subject(site=parsed, build=build, conf=read, logs=logs, modules=modules)
    return {each.code: each for each in findings(subject, Ground.SITE, Ground.NGINX, Ground.DRAIN)}


@pytest.mark.parametrize("build", [MIDDLE, NEW])
def test_nothing_is_found_where_nothing_is_wrong(build):
    assert found(conf(), build) == {}


def test_a_variable_that_another_site_sets_too_is_named_with_its_place():
    files = conf(http=f"{FORMAT} {LOG} {INCLUDE} include /etc/old/live/*.conf;")
    marker = 'map "" $upswitch_generation { default "000001-A"; }\n'
    files |= {f"/etc/{site}/live/marker.conf": marker for site in ("nginx/upswitch", "old")}
    finding = found(files)["variable_taken"]
    assert (finding.level, "/etc/old/live/marker.conf:1 sets $upswitch_generation too" in finding.what) == ("warning", True)


def test_the_missing_include_is_an_error_that_names_the_line():
    finding = found(conf(http=f"{FORMAT} {LOG}"))["include_missing"]
    assert finding.level == "error"
    assert INCLUDE in finding.what


@pytest.mark.parametrize(
    ("flag", "code"),
    [("", "no_drain_lines"), ("/tmp/drain", "drain_flag_differs")],
)
def test_a_location_without_drain_lines_is_found_with_the_number_of_lost_requests_before_1_27_4(flag, code):
    finding = found(conf(flag=flag))[code]
    assert "(location /)" in finding.what
    assert "8 to 22 requests lost per reload with 32 busy keep-alive connections" in finding.what
    assert found(conf(flag=flag), NEW) == {}


def test_the_lines_to_add_are_printed_with_their_places():
    finding = found(conf(flag=""))["no_drain_lines"]
    hint = finding.hint
    assert (finding.level, finding.file, finding.line) == ("warning", "/etc/nginx/nginx.conf", 3)
    assert "/etc/nginx/nginx.conf:3: server {  # add these lines here" in hint
    assert "/etc/nginx/nginx.conf:3: location / {  # add these lines here" in hint
    assert hint.count('set $upswitch_drained "";') == 1
    assert "if (-f /run/upswitch/drain$upswitch_drained$upswitch_escaped)" in hint


def test_a_location_that_no_lines_fit_is_named_with_the_reason_and_the_cost():
    files = conf(location="return 204;", server="location @app { proxy_pass http://app/$1; }")
    finding = found(files)["no_drain_lines"]
    assert finding.level == "note"
    assert "(location @app)" in finding.what
    assert "uses a capture of a regex outside of it: 8 to 22 requests lost" in finding.what


def test_a_location_that_no_lines_fit_in_another_server_is_never_followed_by_an_empty_advice():
    shared = "include shared.conf;"
    files = conf(http=f"{FORMAT} {LOG} {INCLUDE} server {{ server_name ~^(.+)$; {shared} }}", location="return 204;", server=shared)
    finding = found(files | {"/etc/nginx/shared.conf": f"location /shared/ {{ {PROXY} }}\n"})["no_drain_lines"]
    assert "No drain lines fit it" in finding.what
    assert "add these" not in finding.hint


@pytest.mark.parametrize(
    ("location", "drain", "level"),
    [
        (f"auth_basic x; {PROXY}", PROXY, "error"),
        (f"limit_req zone=z; {PROXY}", PROXY, "error"),
        (f"proxy_set_header Host $host; {PROXY}", PROXY, "warning"),
        ("proxy_pass https://app;", PROXY, "warning"),
    ],
)
def test_the_old_advice_is_named_as_dangerous_and_each_difference_by_its_danger(location, drain, level):
    files = conf(location=f"{OLD_LINES} {location}", server=f"location @d {{ keepalive_timeout 0; {drain} }}", flag="")
    findings = found(files)
    assert findings.keys() == {"drain_lines_old", "drain_location_differs"}
    assert "dangerous" in findings["drain_lines_old"].what
    assert (findings["drain_location_differs"].level, location.split()[0] in findings["drain_location_differs"].what) == (
        level,
        True,
    )
    assert found(files, NEW) == {}


def test_a_site_that_does_not_drain_is_found():
    assert "drain_off" in found(conf(), site=f'[nginx]\ndrain = "0s"\n{SITE}')


def test_open_file_cache_beside_the_drain_flag_is_found_only_where_it_is_on_and_the_flag_is_used():
    cached = conf(http=f"{FORMAT} {LOG} {INCLUDE} open_file_cache max=100;")
    assert found(cached).keys() == {"open_file_cache"}
    assert found(cached, NEW) == {}
    assert found(conf(http=f"{FORMAT} {LOG} {INCLUDE} open_file_cache off;")) == {}


def test_a_version_that_truncates_answers_is_found():
    assert "1.22.1" in found(conf(), OLD)["truncates_on_reload"].what


@pytest.mark.parametrize(
    ("log", "code"),
    [
        ("access_log off;", "log_unwatched"),
        ("access_log syslog:server=127.0.0.1 f;", "log_unwatched"),
        ("access_log /log/$host f;", "log_unwatched"),
        ("access_log /log f gzip flush=1s;", "log_unwatched"),
        ("access_log /log f buffer=32k;", "log_buffered"),
        ("access_log /dev/stdout f;", "log_unwatched"),
        ("access_log /log missing;", "log_unwatched"),
        ("log_format n '$msec $request_uri'; access_log /log n;", "log_unwatched"),
        ("access_log /log f buffer=32k flush=1m30s;", "log_buffered"),
        ("access_log /log f buffer=32k flush=2;", "log_late"),
        ("access_log /log f if=$arg_logged;", "log_conditional"),
        (f"log_format n escape=none '{FIELDS} $upswitch_generation'; access_log /log n;", "log_unescaped"),
        (
            "log_format n '$msec $remote_addr $status $request_time $request_completion $upstream_status'; access_log /log n;",
            "log_limited",
        ),
        (
            (
                "log_format n '$msec $remote_addr $request_time $request_completion "
                "$upstream_status ${upswitch_generation}'; access_log /log n;"
            ),
            "",
        ),
        (f"log_format n '{FIELDS}'; access_log /log n;", "log_no_generation"),
        (
            "log_format n '$msec $remote_addr $status $request_time $request_completion $upswitch_generation'; access_log /log n;",
            "log_lacks",
        ),
        (
            "log_format n '$msec $remote_addr $upstream_status $request_completion $upswitch_generation'; access_log /log n;",
            "log_lacks",
        ),
        ("log_format n '$msec $remote_addr $request_time $upstream_status $upswitch_generation'; access_log /log n;", "log_lacks"),
        (
            (
                "log_format n '$msec $status $request_time $request_completion $upstream_status "
                "$upswitch_generation'; access_log /log n;"
            ),
            "log_lacks",
        ),
        (
            (
                "log_format n '$request_time $request_completion $remote_addr $upstream_status "
                "$upswitch_generation'; access_log /log n;"
            ),
            "log_no_time",
        ),
    ],
)
def test_a_log_that_hides_failures_from_the_watch_is_found(log, code):
    assert found(conf(http=f"{FORMAT} {log} {INCLUDE}")).keys() == ({code} if code else set())


def test_all_that_nginxs_own_format_lacks_is_found_at_once_and_named():
    findings = found(conf(http=f"{FORMAT} access_log /log combined; {INCLUDE}"))
    assert findings.keys() == {"log_limited", "log_lacks"}
    assert findings["log_limited"].what.startswith("access log /log ")
    assert "LIMITED MODE" in findings["log_limited"].what
    assert "$upstream_status (a failure that error_page hides" in findings["log_lacks"].what
    assert "$request_time (clients that give up" in findings["log_lacks"].what
    assert "$request_completion (answers that begin" in findings["log_lacks"].what
    assert conf_logs.log_format_line() in findings["log_lacks"].hint


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (
            (
                "$remote_addr [$time_local] $host $uri $status $upstream_addr $upstream_status "
                "$upswitch_generation $request_time $request_completion"
            ),
            {"log_unquoted"},
        ),
        (
            (
                '$remote_addr [$time_local] "$uri" $status $upstream_addr $upstream_status '
                "$upswitch_generation $request_time $request_completion"
            ),
            set(),
        ),
        (
            (
                "$msec $remote_addr $status $upstream_addr $upstream_status "
                "$upswitch_generation $request_time $request_completion $uri $http_user_agent"
            ),
            set(),
        ),
        (
            '$http_x|$remote_addr|$status|$msec|"$uri"|$upstream_addr|$upstream_status|$upswitch_generation|$request_time|$request_completion',
            {"log_unquoted"},
        ),
    ],
)
def test_free_text_that_a_client_can_shift_before_what_decides_is_found(text, codes):
    assert found(conf(http=f"log_format f '{text}'; {LOG} {INCLUDE}")).keys() == codes


def test_a_buffer_with_a_flush_is_fine():
    assert found(conf(http=f"{FORMAT} access_log /log f buffer=32k flush=1s; {INCLUDE}")) == {}


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('probe = "http://127.0.0.1/"', "", "quiet_site"),
        ('[upstreams.app.check]\ntype = "http"', "", "no_check"),
        ('type = "http"', 'type = "tcp"', "tcp_for_http"),
        ('"127.0.0.1:8002"', '"app.example:8002"', "host_name"),
        ('B = ["127.0.0.1:8002"]', "", "one_pool"),
    ],
)
def test_a_weak_site_file_is_found(old, new, code):
    assert found(conf(), site=SITE.replace(old, new)).keys() == {code}


def test_a_gate_of_its_own_stands_in_for_the_check_table():
    without = SITE.replace('[upstreams.app.check]\ntype = "http"', '[gate]\ntype = "http"')
    assert found(conf(), site=without) == {}


def test_an_upstream_that_is_defined_outside_of_the_live_generation_is_found_once_nginx_is_adopted():
    own = {"/etc/nginx/up.conf": "upstream app { server 127.0.0.1:1; }\n"}
    twice = {**conf(http=f"{FORMAT} {LOG} include up.conf; {INCLUDE}"), **own}
    assert "/etc/nginx/up.conf:1" in found(twice)["upstream_twice"].what
    before = {**conf(http=f"{FORMAT} {LOG} include up.conf;"), **own}
    assert found(before).keys() == {"include_missing"}


@pytest.mark.parametrize(
    ("location", "wanted"), [("memcached_pass app;", ""), ("fastcgi_pass app;", "fastcgi"), ("proxy_pass http://APP;", "http")]
)
def test_a_check_is_missed_only_where_one_can_do_more_than_connect(location, wanted):
    site = SITE.replace("[upstreams.app.check]\n", "").replace('type = "http"\n', "")
    finding = found(conf(location=location), NEW, site=site).get("no_check")
    assert (f'type = "{wanted}"' in finding.hint) if wanted else finding is None


def test_what_upswitch_renders_is_to_be_changed_in_the_site_file():
    files = conf() | {"/etc/nginx/upswitch/live/app.conf": "upstream app { server 127.0.0.1:8001; server 127.0.0.1:8002; }\n"}
    parsed = Subject(site=parse_site(SITE), build=NEW, conf=parse_dump(made_dump(files)))
    (finding,) = findings(parsed, Ground.CONF)
    assert (finding.code, finding.file) == ("max_fails_one", "/etc/nginx/upswitch/live/app.conf")
    assert finding.hint.startswith(
        "upswitch renders this file from the site file, so change it there: write `server 127.0.0.1:8001"
    )


def test_an_upstream_that_no_location_uses_is_found():
    assert found(conf(location="return 204;")).keys() >= {"upstream_unused"}


@pytest.mark.parametrize(("dialect", "codes"), [(Dialect.NONE, set()), (Dialect.TENGINE, {"tcp_for_http"})])
def test_a_gate_that_asks_http_does_not_stand_in_for_a_tcp_check_of_nginxs_own(dialect, codes):
    site = SITE.replace('type = "http"', 'type = "tcp"') + '[gate]\ntype = "http"\n'
    assert found(conf(), site=site, dialect=dialect).keys() == codes


@pytest.mark.parametrize("dialect", Dialect)
def test_a_good_site_has_nothing_with_any_check_module(dialect):
    assert found(conf(), dialect=dialect) == {}


def test_every_rule_is_in_the_table_once_and_has_a_name_that_is_a_code():
    written = {
        function
        for module in (rules, check_rules, drain_rules, upstream_rules, pass_rules, file_rules)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and not name.startswith("_") and list(inspect.signature(function).parameters) == ["subject"]
    }
    listed = [rule for table in RULES.values() for rule in table]
    assert written == set(listed)
    assert len(listed) == len(set(listed))


def test_every_rule_has_an_entry_with_its_harm_and_the_source_of_it():
    names = {rule.__name__ for table in RULES.values() for rule in table} - {"access_log"}  # that one has a code for each gap
    others = catalogue().keys() - names
    assert names <= catalogue().keys()
    assert {code for code in others if not code.startswith("log_")} == set()
    assert [code for code, entry in catalogue().items() if not (entry.why and entry.fix and entry.source)] == []


# ---- on a host ----


def codes(lab, templates=TEMPLATES):
    site = site_of(lab)
    return [finding.code for finding in linted(ports(site.nginx), site, templates)]


def expected(lab):
    return [*(["truncates_on_reload"] if lab.place.build.truncates_on_reload else []), "max_fails_one"]


def test_a_good_laboratory_has_only_the_faults_of_its_version_and_of_nginxs_defaults(lab):
    assert codes(lab) == expected(lab)


def test_a_file_of_nginx_that_everybody_may_write_is_found_on_the_host(lab):
    (lab.folder / "nginx.conf").chmod(0o666)
    assert codes(lab) == ["include_writable", *expected(lab)]


def test_a_laboratory_without_drain_lines_is_found(any_nginx):
    with Lab(any_nginx, Layout(cure=False, servers_per_pool=1)) as lab:
        assert ("no_drain_lines" in codes(lab)) == lab.place.build.needs_drain_flag


def test_a_template_that_fails_is_an_error_for_each_pool_and_errors_come_first(lab):
    broken = {**TEMPLATES, "upstream.conf.j2": "{{ nothing }}"}
    assert codes(lab, broken) == ["template", "template", *expected(lab)]


def test_an_nginx_that_does_not_answer_and_another_program_on_the_marker_are_errors(lab):
    lab.stop_nginx()
    assert codes(lab)[0] == "marker_silent"
    host, port = lab.place.marker.split(":")
    with socket.create_server((host, int(port))):
        assert codes(lab)[0] == "marker_taken"


def test_a_configuration_that_nginx_refuses_is_an_error_with_nginxs_words(lab):
    (lab.folder / "nginx.conf").write_text("nonsense on;")
    site = site_of(lab)
    (finding,) = linted(ports(site.nginx), site, TEMPLATES)
    assert finding.code == "nginx_broken"
    assert "nonsense" in finding.what

"""The lint rules whose harm takes minutes or another machine: each on a configuration with it, and on one with the printed line."""

import os
import re
import subprocess

import pytest

from failing import EACH_NGINX
from upswitch.lint.lint import lint_file
from upswitch.lint.rules import Level
from upswitch_lab.find import read_build

UP = "upstream app { server 127.0.0.1:8001 max_fails=3; server 127.0.0.1:8002 max_fails=3; }"


def whole(location="proxy_pass http://app;", *, http="", main="", events="", up=UP):
    server = f"server {{ listen 127.0.0.1:8099; location / {{ {location} }} }}"
    return f"{main} events {{ {events} }} http {{ access_log off; {http} {up} {server} }}"


def codes(path):
    return [each.code for each in lint_file(str(path))]


WEBSOCKET = (
    'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_pass http://app;'
)
VARIABLE = "set $to app; proxy_pass http://$to;"
CASES = {
    "localhost_twice": (whole("proxy_pass http://localhost:8001;"), whole("proxy_pass http://127.0.0.1:8001;")),
    "name_resolved_once": (
        whole(up="upstream app { server localhost.localdomain:8001; server 127.0.0.1; }"),
        whole(up="upstream app { zone app 64k; server localhost.localdomain:8001 resolve; server 127.0.0.1; } resolver 127.0.0.1;"),
    ),
    "max_conns_per_worker": (
        whole(main="worker_processes 2;", up="upstream app { server 127.0.0.1:1 max_conns=9; }"),
        whole(main="worker_processes 2;", up="upstream app { zone app 64k; server 127.0.0.1:1 max_conns=9; }"),
    ),
    "connect_timeout_long": (
        whole("proxy_connect_timeout 75s; proxy_pass http://app;"),
        whole("proxy_connect_timeout 3s; proxy_pass http://app;"),
    ),
    "docker_resolver_ttl": (
        whole(VARIABLE, http="resolver 127.0.0.11;"),
        whole(VARIABLE, http="resolver 127.0.0.11 valid=10s;"),
    ),
    "resolver_ipv6": (
        whole(VARIABLE, http="resolver 127.0.0.1;"),
        whole(VARIABLE, http="resolver 127.0.0.1 ipv6=off;"),
    ),
    "shutdown_cuts": (whole(main="worker_shutdown_timeout 10s;"), whole(main="worker_shutdown_timeout 60s;")),
    "shutdown_unbounded": (whole(WEBSOCKET), whole(WEBSOCKET, main="worker_shutdown_timeout 1h;")),
    "nofile_below_connections": (
        whole(main="worker_rlimit_nofile 512;", events="worker_connections 1000;"),
        whole(main="worker_rlimit_nofile 2000;", events="worker_connections 1000;"),
    ),
    "keepalive_unused": (
        whole("fastcgi_pass app;", up="upstream app { server 127.0.0.1:1; keepalive 4; }"),
        whole("fastcgi_keep_conn on; fastcgi_pass app;", up="upstream app { server 127.0.0.1:1; keepalive 4; }"),
    ),
    "upgrade_without_http_1_1": (whole(WEBSOCKET.replace("proxy_http_version 1.1;", "")), whole(WEBSOCKET)),
}


@pytest.mark.parametrize("code", CASES)
@pytest.mark.parametrize("nginx", EACH_NGINX)
def test_a_rule_finds_what_nginx_accepts_and_not_what_it_prints_instead(tmp_path, code, nginx):
    for side, text in zip(("bad", "good"), CASES[code], strict=True):
        path = tmp_path / f"{side}.conf"
        path.write_text(text)
        assert codes(path).count(code) == (side == "bad")
        if side == "good" and (code != "name_resolved_once" or read_build(nginx).version >= (1, 27, 3)):
            temps = " ".join(f"{kind}_temp_path {tmp_path};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            path.write_text(text.replace("http {", f"http {{ {temps}"))
            argv = (nginx, "-t", "-q", "-p", str(tmp_path), "-c", str(path), "-e", "stderr", "-g", f"pid {tmp_path}/pid;")
            ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
            assert ran.returncode == 0, ran.stderr
    (hint,) = (each.hint for each in lint_file(str(tmp_path / "bad.conf")) if each.code == code)
    printed = [line for line in re.findall("`([^`]*;)`", hint) if "zone app" not in line]
    assert [line for line in printed if line not in CASES[code][1]] == []


def test_a_certain_answer_of_a_map_needs_no_resolver_and_hides_nothing(tmp_path):
    path = tmp_path / "nginx.conf"
    path.write_text(whole("proxy_pass http://$to;", http="map $host $to { default APP; b.example.com app; }"))
    assert codes(path) == []


def test_a_name_is_that_of_an_upstream_in_any_case(tmp_path):
    path = tmp_path / "nginx.conf"
    path.write_text(whole("proxy_pass http://APP;", up="upstream App { server 127.0.0.1:1 down; }"))
    assert codes(path) == ["all_down", "single_server"]


def test_a_name_that_a_file_which_is_not_here_may_define_is_no_error(tmp_path):
    path = tmp_path / "nginx.conf"
    text = whole("set $to front; proxy_pass http://$to;", http=f"include {tmp_path}/mime.types; INCLUDE")
    path.write_text(text.replace("INCLUDE", ""))
    assert "no_resolver" in codes(path)
    path.write_text(text.replace("INCLUDE", f"include {tmp_path}/up/*.conf; server {{ location / {{ proxy_pass http://back; }} }}"))
    assert set(codes(path)) == {"include_unread", "variable_hides_name"}


def test_what_a_whole_configuration_would_say_is_only_a_note_in_a_part(tmp_path):
    path = tmp_path / "app.conf"
    path.write_text("upstream app { server 127.0.0.1:1; keepalive 4; } server { location / { proxy_pass http://app; } }")
    levels = {each.code: each.level for each in lint_file(str(path))}
    assert levels == {"keepalive_unused": Level.NOTE, "single_server": Level.NOTE}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("location / { proxy_connect_timeout 90s; proxy_pass http://app; } ", []),
        ("proxy_next_upstream error non_idempotent; proxy_pass http://app;", ["post_sent_twice"]),
        ("server 10.0.0.1; server 10.0.0.2;", ["max_fails_one"]),
        ("upstream app { server 10.0.0.1; server 10.0.0.2; }", ["max_fails_one"]),
        ("listen 80; error_page 502 =200 /x; location / { proxy_pass http://10.0.0.1; }", ["error_page_hides"]),
        ("http { server { location / { proxy_pass http://app$request_uri; } } }", ["no_resolver"]),
    ],
)
def test_any_part_of_a_configuration_is_read(tmp_path, text, expected):
    path = tmp_path / "part.conf"
    path.write_text(text)
    assert codes(path) == expected


def test_a_file_that_an_editor_left_behind_is_found_with_its_name(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "nginx.conf").write_text(whole(http="include conf.d/*;"))
    for name in ("app.conf", "app.conf~", "app.conf.bak", "old.conf"):
        (tmp_path / "conf.d" / name).write_text("server { server_name a.example.com; }")
    found = [each.file for each in lint_file(str(tmp_path / "nginx.conf")) if each.code == "left_behind_file"]
    assert sorted(found) == [f"{tmp_path}/conf.d/app.conf.bak", f"{tmp_path}/conf.d/app.conf~"]


def test_a_file_that_everybody_may_write_or_in_such_a_folder_is_found_and_closed_it_is_not(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "nginx.conf").write_text(whole(http="include conf.d/*.conf; include one.conf;"))
    for name in ("conf.d/a.conf", "one.conf"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o644)
    assert codes(tmp_path / "nginx.conf") == []
    (tmp_path / "one.conf").chmod(0o646)
    (tmp_path / "conf.d").chmod(0o777)
    found = [each.what for each in lint_file(str(tmp_path / "nginx.conf")) if each.code == "include_writable"]
    assert [
        name for name in ("one.conf", "conf.d/a.conf") if any(f"{tmp_path}/{name} can be changed" in what for what in found)
    ] == [
        "one.conf",
        "conf.d/a.conf",
    ]


@pytest.mark.skipif(
    not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat("/tmp").st_dev, reason="/dev/shm is no other file system"
)
def test_an_include_on_another_file_system_is_a_note(tmp_path):
    other = f"/dev/shm/{os.getpid()}.upswitch.conf"
    (tmp_path / "nginx.conf").write_text(whole(http=f"include {other};"))
    with open(other, "x") as file:
        file.write("# nothing\n")
    try:
        os.chmod(other, 0o644)
        assert codes(tmp_path / "nginx.conf") == ["include_elsewhere"]
    finally:
        os.unlink(other)

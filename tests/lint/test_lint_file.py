"""`upswitch lint --nginx-conf FILE`: any configuration, with no site file and no nginx."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from upswitch.lint.lint import lint_file

UPSTREAM_A = """upstream tornado_servers {
    server 127.0.0.1:29100 weight=100;
    server 127.0.0.1:29101 weight=100;
    check interval=30000 rise=3 fall=3 timeout=30000 type=tcp;
}
"""


def written(folder: Path, files: dict[str, str]) -> str:
    """Write the files; the first is the main one."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder / next(iter(files)))


def lint(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "upswitch", "lint", *words)
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=30)


def codes(path: str) -> list[str]:
    return [each.code for each in lint_file(path)]


def test_a_file_with_upstreams_only_gets_line_seconds_and_both_ways_out(tmp_path):
    written(tmp_path, {"upstreamA.conf": UPSTREAM_A})
    ran = lint(tmp_path, "--nginx-conf", "upstreamA.conf")
    assert ran.returncode == 3
    said = "upstreamA.conf:4: upstream tornado_servers answers 502 for up to 120.0 s, likely 100.0 s"
    assert f"WARNING check_blackout: {tmp_path}/{said}" in ran.stdout
    assert "two ways out: 1." in ran.stdout
    assert "2. write default_down=false" in ran.stdout


def test_a_whole_configuration_is_read_with_its_includes_from_the_folder_of_the_main_file(tmp_path):
    path = written(
        tmp_path,
        {
            "nginx.conf": "worker_processes 3; events {} http { include conf.d/*.conf; }",
            "conf.d/a.conf": UPSTREAM_A,
            "conf.d/b.conf": "include conf.d/c.part; server { location / { proxy_pass http://tornado_servers; } }",
            "conf.d/c.part": "upstream other { server 127.0.0.1:1; check type=mysql default_down=false; }",
            "conf.d/.hidden.conf": "nonsense",
        },
    )
    found = {each.code: each for each in lint_file(path)}
    assert set(found) == {"check_blackout", "check_tcp_blind", "check_tcp_stuck", "tcp_for_http", "check_mysql", "max_fails_one"}
    assert f"{tmp_path}/conf.d/a.conf:4" in found["check_blackout"].what
    assert "likely 74.3 s (with 3 worker processes)" in found["check_blackout"].what
    assert f"{tmp_path}/conf.d/c.part:1" in found["check_mysql"].what


def test_what_nginx_once_printed_with_t_is_read_as_such(tmp_path):
    printed = f"# configuration file /x/nginx.conf:\nhttp {{ include up.conf; }}\n# configuration file /x/up.conf:\n{UPSTREAM_A}\n"
    (finding, *_) = lint_file(written(tmp_path, {"printed": printed}))
    assert "/x/up.conf:4" in finding.what


def test_a_comment_that_looks_like_a_printed_line_hides_nothing(tmp_path):
    assert codes(written(tmp_path, {"a.conf": f"# x\n# configuration file /y:\n{UPSTREAM_A}"})) == [
        "check_blackout",
        "check_tcp_stuck",
        "max_fails_one",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        UPSTREAM_A.replace("    check", "    #").replace(" weight", " max_fails=3 weight"),
        "stream { upstream a { server b:1; } }",
    ],
)
def test_a_configuration_without_a_check_has_no_finding(tmp_path, text):
    written(tmp_path, {"a.conf": text})
    ran = lint(tmp_path, "--nginx-conf", "a.conf")
    assert (ran.returncode, ran.stdout) == (0, "Nothing found.\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (UPSTREAM_A[:-2], "expecting"),
        (f"{UPSTREAM_A}keepalive 3", 'a ";" is missing'),
        ("root:x:0:0:root:/root:/bin/sh\n", 'a ";" is missing'),
        ("include a.conf;", "includes itself"),
    ],
)
def test_what_is_not_a_whole_configuration_is_exit_2_in_one_line_before_what_to_do(tmp_path, text, said):
    written(tmp_path, {"a.conf": text})
    ran = lint(tmp_path, "--nginx-conf", "a.conf")
    assert ran.returncode == 2
    assert said in ran.stdout
    assert ran.stdout.splitlines()[1].strip().startswith("Next:")
    assert ran.stderr == ""


def test_a_file_that_is_not_there_is_exit_2_and_the_site_file_is_not_asked_for(tmp_path):
    ran = lint(tmp_path, "--nginx-conf", "no.conf", "-c", "no.toml", "--json")
    assert ran.returncode == 2
    answer = json.loads(ran.stdout)
    assert "no.conf" in answer["said"]
    assert "no.toml" not in ran.stdout


def test_json_is_the_same_object_as_with_a_site_file(tmp_path):
    written(tmp_path, {"a.conf": UPSTREAM_A})
    answer = json.loads(lint(tmp_path, "--nginx-conf", "a.conf", "--json").stdout)
    assert (answer["command"], answer["exit"]) == ("lint", 3)
    assert [each["code"] for each in answer["findings"]] == ["check_blackout", "check_tcp_stuck", "max_fails_one"]
    assert [(each["file"], each["line"]) for each in answer["findings"][:2]] == [(f"{tmp_path}/a.conf", 4)] * 2


def test_drain_lines_that_answer_differently_are_found_without_a_site_file(tmp_path):
    jump = "if (-f /run/upswitch/drain) { return 418; }\n error_page 418 = @d;"
    text = (
        f"location /api/ {{\n {jump}\n auth_basic x;\n proxy_pass http://api/;\n }}"
        " location @d { keepalive_timeout 0; proxy_pass http://api; }"
    )
    found = lint_file(written(tmp_path, {"shop.conf": f"server {{ {text} }}"}))
    assert [(each.level, each.code) for each in found] == [
        ("error", "drain_location_differs"),
        ("warning", "drain_location_differs"),
        ("warning", "drain_lines_old"),
    ]
    assert f"{tmp_path}/shop.conf:2 (location /api/): `auth_basic x;` holds here, but not in its drain location @d" in found[0].what
    assert "`proxy_pass http://api/;` holds here, and `proxy_pass http://api;` in its drain location @d" in found[1].what


def test_errors_come_first_and_notes_last(tmp_path):
    text = f"{UPSTREAM_A} upstream b {{ server 127.0.0.1:1; check type=http port=70000; }}"
    found = lint_file(written(tmp_path, {"a.conf": text}))
    assert found[0].code == "check_port_truncated"
    levels = [each.level for each in found]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert len(set(levels)) == 3


def test_a_pipe_is_read_once(tmp_path):
    argv = ("bash", "-c", f"cat a.conf | {sys.executable} -m upswitch lint --nginx-conf /dev/stdin")
    written(tmp_path, {"a.conf": UPSTREAM_A})
    ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)
    assert (ran.returncode, "120.0 s" in ran.stdout) == (3, True)

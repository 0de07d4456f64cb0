"""`upswitch lint` in a pipeline: what each format prints, what is left out, and the exit codes."""

import json
import socket
import subprocess
import sys

import pytest

from upswitch.cli.views.lint import lint as view
from upswitch.lint.rules import Level, LintFinding

BAD = "upstream app { server 10.0.0.1; server 10.0.0.2; }\nserver { location / { proxy_pass http://app; } }\n"
NOTED = "upstream app { server 10.0.0.1; }\nserver { location / { proxy_pass http://app; } }\n"
TWICE = "server { location / { proxy_next_upstream error non_idempotent; proxy_pass http://10.0.0.1; } }"
WRONG = f"{BAD}upstream b {{ server 127.0.0.1:1; check type=http port=70000; }}\n"
SITE = '[upstreams.app]\nA = ["127.0.0.1:1"]\nB = ["127.0.0.1:2"]\n[lint]\nignore = ["%s"]\n'


@pytest.fixture
def lint(tmp_path):
    def run(text, *words, given=""):
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        (tmp_path / "conf.d/a, b%.conf").write_text(text)
        argv = (sys.executable, "-m", "upswitch", "lint", "--nginx-conf", "-" if given else "conf.d/a, b%.conf", *words)
        return subprocess.run(argv, cwd=tmp_path, input=given, capture_output=True, text=True, check=False, timeout=30)

    return run


def test_github_shows_each_finding_beside_its_line_with_every_special_character_escaped(lint):
    ran = lint(BAD, "--format", "github")
    (line,) = ran.stdout.splitlines()
    assert line.startswith("::notice file=conf.d/a%2C b%25.conf,line=1,title=upswitch max_fails_one::")
    assert "%0Awrite `server 10.0.0.1 max_fails=3; server 10.0.0.2 max_fails=3;`" in line
    assert ran.returncode == 0


def test_levels_have_githubs_names(lint):
    assert lint(NOTED, "--format", "github").stdout.startswith("::notice file=")
    assert lint(WRONG, "--format", "github").stdout.startswith("::error file=")


def test_sarif_has_each_finding_with_its_rule_and_a_place_that_a_checkout_has(lint):
    ran = lint(WRONG, "--format", "sarif")
    answer = json.loads(ran.stdout)
    (run,) = answer["runs"]
    rules = [each["id"] for each in run["tool"]["driver"]["rules"]]
    assert (answer["version"], run["tool"]["driver"]["name"], ran.returncode) == ("2.1.0", "upswitch", 3)
    assert len(rules) == len(set(rules))
    for each in run["results"]:
        assert rules[each["ruleIndex"]] == each["ruleId"]
        assert each["level"] in {"error", "warning", "note"}
        assert each["message"]["text"]
        (place,) = (one["physicalLocation"] for one in each["locations"])
        assert place["artifactLocation"]["uri"] == "conf.d/a%2C%20b%25.conf"
        assert place["region"]["startLine"] >= 1


def test_sarif_without_a_finding_is_still_a_whole_document(lint):
    ran = lint(NOTED, "--format", "sarif", "--errors-only")
    assert (json.loads(ran.stdout)["runs"][0]["results"], ran.returncode) == ([], 0)


def test_format_json_is_what_json_prints(lint):
    assert lint(BAD, "--format", "json").stdout == lint(BAD, "--json").stdout


@pytest.mark.parametrize(
    ("text", "words", "code"),
    [
        (NOTED, (), 0),
        (BAD, (), 0),
        (TWICE, (), 3),
        (TWICE, ("--errors-only",), 0),
        (WRONG, ("--errors-only",), 3),
        ("server {", (), 2),
    ],
)
def test_the_exit_code_is_that_of_what_is_shown(lint, text, words, code):
    ran = lint(text, *words)
    assert (ran.returncode, ran.stderr) == (code, "")


def test_a_code_is_left_out_by_the_command_line_or_by_a_site_file_that_is_named(lint, tmp_path):
    (tmp_path / "site.toml").write_text(SITE % "max_fails_one")
    for words in (("--ignore", "max_fails_one"), ("-c", "site.toml")):
        ran = lint(BAD, *words)
        assert (ran.returncode, ran.stdout) == (0, "Nothing found.\n")


def test_an_unknown_code_is_one_error_with_its_key_and_the_code_that_is_meant(lint, tmp_path):
    (tmp_path / "site.toml").write_text(SITE % "max_fail_one")
    for words, key in ((("--ignore", "max_fail_one"), "--ignore"), (("-c", "site.toml"), "lint.ignore")):
        ran = lint(BAD, *words)
        assert ran.returncode == 2
        assert ran.stdout.startswith(f"{key}: max_fail_one must be a code of lint, and no rule has it; did you mean max_fails_one?")


def test_what_nginx_prints_is_recognised_on_stdin_with_its_messages_and_with_windows_line_ends(lint):
    said = "nginx: the configuration file /x/nginx.conf syntax is ok\nnginx: configuration file /x/nginx.conf test is successful\n"
    printed = f"{said}# configuration file /x/nginx.conf:\nevents {{}} http {{ include a; }}\n\n# configuration file /x/a:\n{BAD}\n"
    for text in (printed, printed.replace("\n", "\r\n")):
        assert "/x/a:1: upstream app takes a server out" in lint("", given=text).stdout


def test_stdin_may_be_a_socket_as_programs_of_node_give_it(tmp_path):
    ours, given = socket.socketpair()
    with ours, given:
        ours.sendall(BAD.encode())
        ours.shutdown(socket.SHUT_WR)
        argv = (sys.executable, "-m", "upswitch", "lint", "--nginx-conf", "-")
        ran = subprocess.run(argv, cwd=tmp_path, stdin=given, capture_output=True, text=True, check=False, timeout=30)
    assert f"{tmp_path}/<stdin>:1: upstream app takes a server out" in ran.stdout


def test_an_include_that_is_not_here_is_a_note_and_the_rules_go_on(lint, tmp_path):
    text = (
        f"events {{}} http {{\ninclude {tmp_path}/mime.types;\ninclude {tmp_path}/no/*.conf; include {tmp_path}/*.none;\n{BAD} }}"
    )
    found = json.loads(lint(text, "--json").stdout)["findings"]
    assert [(each["code"], each["level"], each["line"]) for each in found] == [
        ("max_fails_one", "note", 4),
        ("include_unread", "note", 2),
        ("include_unread", "note", 3),
    ]


def test_a_file_that_two_servers_include_has_each_finding_once(lint, tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/shared").write_text("location / { proxy_next_upstream error non_idempotent; proxy_pass http://10.0.0.1; }")
    both = f"server {{ include {tmp_path}/conf.d/shared; }}\n"
    found = json.loads(lint(f"events {{}} http {{ {both}{both} }}", "--json").stdout)["findings"]
    assert [(each["code"], each["file"]) for each in found] == [("post_sent_twice", f"{tmp_path}/conf.d/shared")]


def test_help_explains_a_code_with_what_happens_the_fix_and_the_source():
    argv = (sys.executable, "-m", "upswitch", "help", "max_fails_one")
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert [line.partition(" ")[0] for line in ran.stdout.splitlines() if line] == ["#", "What", "Fix:", "Source:"]


def test_a_long_line_that_two_findings_ask_for_is_printed_once():
    log = [LintFinding(level=Level.WARNING, code=code, what=code, hint="use this format: " + "x" * 200) for code in ("a", "b")]
    assert view(log).text.count("x" * 200) == 1
    assert view(log).text.endswith("WARNING b: b\n    do what a asks for: it is the same line")

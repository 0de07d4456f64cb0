"""The manual pages: made from the commands, read by man without a warning, and in the wheel (tests/house/test_playbooks.py)."""

import re
import shutil
import subprocess

import click
import pytest

from upswitch.cli.main import COMMANDS, group
from upswitch.cli.man import pages

PAGES = pages()


def test_every_command_has_a_page_with_each_of_its_options():
    assert PAGES.keys() == {"upswitch.1", "switch.1", *(f"upswitch-{name}.1" for name in COMMANDS)}
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        said = PAGES[f"upswitch-{name}.1"].replace("\\-", "-")
        options = [option for param in command.params if not getattr(param, "hidden", False) for option in param.opts]
        assert [option for option in options if option.startswith("-") and option not in said] == [], name
        assert all(line in said for line, _ in command.examples)


@pytest.mark.parametrize("name", PAGES)
def test_man_reads_a_page_without_a_warning(name, tmp_path):
    if not shutil.which("groff"):
        pytest.skip("groff is not here: Debian's package groff-base has it")
    (tmp_path / "man1").mkdir()
    for each, text in PAGES.items():
        (tmp_path / "man1" / each).write_text(text)
    argv = ("groff", "-man", "-Tutf8", "-ww", "-s", "-P-cbu", f"-I{tmp_path}", f"man1/{name}")
    ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, timeout=60, check=True)
    text = ran.stdout.decode()
    assert ran.stderr == b""
    assert re.search(r"^ +upswitch(-[\w-]+)? - \S", text, re.MULTILINE), text
    assert "EXIT STATUS" in text

"""The words that bash, zsh and fish complete: real shells, on a real terminal where one is needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from terminal import terminal

LAB = Path(__file__).parents[2] / ".lab/debian"
SHOP = '[upstreams.app]\nblue = ["127.0.0.1:8001"]\ngreen = ["127.0.0.1:8002"]\n[hosts]\nlb1 = "deploy@lb1"\n'
BLOG = '[upstreams.blog]\none = ["127.0.0.1:8003"]\ntwo = ["127.0.0.1:8004"]\n'
LINES = {
    "upswitch his": "upswitch history",
    "upswitch switch -s blog --to tw": "upswitch switch -s blog --to two",
    "switch -s shop gr": "switch -s shop green",
    "upswitch rollback -s shop --to bl": "upswitch rollback -s shop --to blue",
    "upswitch status -s sh": "upswitch status -s shop",
    "upswitch status -s shop --host l": "upswitch status -s shop --host lb1",
    "upswitch help connect_ref": "upswitch help connect_refused",
    "upswitch switch gr": "upswitch switch gr",  # two sites here, and none was named
}
KEY = "\x07"  # Ctrl-G: write down what was typed, and clear it


def shell(name: str) -> str:
    found = [path for path in (LAB / f"bin/{name}", LAB / f"usr/bin/{name}") if path.exists()]
    path = str(found[0]) if found else shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not here: scripts/setup puts it into .lab where apt has it")
    return path


@pytest.fixture
def env(tmp_path):
    (tmp_path / "sites").mkdir()
    for name, text in (("shop", SHOP), ("blog", BLOG)):
        (tmp_path / "sites" / f"{name}.toml").write_text(text)
    libraries = ":".join(map(str, LAB.glob("usr/lib/*-linux-gnu")))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = {"HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "TERM": "xterm", "PATH": path, "LD_LIBRARY_PATH": libraries}
    return {**os.environ, **home, "UPSWITCH_CONFIG": str(tmp_path / "sites")}


BASH = f"""
source <(upswitch completion bash)
noted() {{ printf '%s\\n' "$READLINE_LINE" >> noted; READLINE_LINE=; }}
bind -x '"{KEY}": noted'
"""
ZSHENV = f"""
if [[ -d {LAB}/usr/lib ]]; then
  module_path=({LAB}/usr/lib/*-linux-gnu/zsh/*(N) $module_path)
  fpath=({LAB}/usr/share/zsh/functions/**/*(N/) $fpath)
fi
"""
ZSHRC = f"""
autoload -Uz compinit; compinit -u -D
source <(upswitch completion zsh)
noted() {{ print -r -- "$BUFFER" >> noted; BUFFER=; }}
zle -N noted; bindkey '{KEY}' noted
"""


@pytest.mark.parametrize(("name", "options"), [("bash", ("--noprofile", "--rcfile", ".bashrc", "-i")), ("zsh", ("-i",))])
def test_a_shell_completes_the_word_at_the_tab_key(name, options, env, tmp_path):
    for file, text in ((".bashrc", BASH), (".zshenv", ZSHENV), (".zshrc", ZSHRC)):
        (tmp_path / file).write_text(text)
    argv, typed = (shell(name), *options), "".join(f"{line}\t{KEY}" for line in LINES)
    with terminal(f"{typed}exit\n".encode()) as (slave, seen):
        shown = {"stdin": slave, "stdout": slave, "stderr": slave}
        subprocess.run(argv, **shown, env=env, cwd=tmp_path, timeout=120, check=False, start_new_session=True)
    noted = (tmp_path / "noted").read_text().splitlines()
    assert [line.rstrip() for line in noted] == [*LINES.values()], seen.decode()


def test_fish_completes_the_same_words(env, tmp_path):
    def of(line):
        script = f"upswitch completion fish | source; complete -C '{line}'"
        ran = subprocess.run(
            (shell("fish"), "-c", script), env=env, cwd=tmp_path, timeout=60, check=True, capture_output=True, text=True
        )
        return [each.partition("\t")[0] for each in ran.stdout.splitlines()]

    for line, whole in LINES.items():
        assert of(line) == ([whole.rpartition(" ")[2]] if whole != line else []), line

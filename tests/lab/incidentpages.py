"""The pages of playbooks/incident and of docs/ as tests read them: their console blocks, and where those are run.

A section with ```console blocks is one incident. The blocks are run from top to bottom: a line with `$ ` in a shell, in the
folder of the site file; `# exit N` at its end is its exit code, else 0; the lines below must be part of what it prints, in their
order, and `…` stands for anything. A line with `# ` is what a person does in between: the incident has an act for each.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from forked import run_upswitch

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "playbooks" / "incident"


@dataclass
class Step:
    """One line that begins with `$` or `#`, and what must be printed after it."""

    line: str
    exit: int
    shown: list[str] = field(default_factory=list)


def sections() -> dict[str, list[Step]]:
    """The console blocks by `page#section`, as one list of steps."""
    found: dict[str, list[Step]] = {}
    for page in (*sorted(FOLDER.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))):
        anchor, is_console = "", False
        for line in page.read_text().splitlines():
            if line.startswith("```"):
                is_console = line == "```console"
            elif line.startswith("#") and not is_console:
                anchor = f"#{slug(line)}" if line.startswith("## ") else ""
            elif is_console:
                _take(found.setdefault(page.stem + anchor, []), line)
    return found


def slug(heading: str) -> str:
    return heading.strip("# ").lower().replace(" ", "-")


def _take(steps: list[Step], line: str) -> None:
    if line.startswith(("$ ", "# ")):
        code = re.search(r"# exit (\d+)$", line)
        steps.append(Step(line=line, exit=int(code[1]) if code else 0))
    elif line.strip():
        steps[-1].shown.append(line)


class Incident:
    """Where a page is read: a folder to type in, what stands for the page's paths and words, and a person's acts in their order."""

    def __init__(self, folder: Path, paths: Mapping[str, str]) -> None:
        self.folder = folder
        self.words: dict[str, str] = {}
        self.acts: list[Callable[[], object]] = []
        self.after = ExitStack()
        self._paths = paths

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def here(self, text: str) -> str:
        """The text with this laboratory's paths, addresses and names."""
        for path, ours in self._paths.items():
            text = text.replace(path, ours)
        return re.sub(r"\b[A-Z]+\b", lambda word: self.words.get(word[0], word[0]), text)

    def follow(self, name: str) -> None:
        """The whole section, as a person would."""
        for step in sections()[name]:
            self.run(step)
        assert not self.acts, "the page does not ask for every act that the incident has"

    def run(self, step: Step) -> None:
        """One step, done and compared."""
        if step.line.startswith("# "):
            self.acts.pop(0)()
            return
        words = self.here(step.line[2:])
        code, out, err = self.typed(words)
        assert code == step.exit, f"{words}\n{out}{err}"
        rest = " ".join(out.split())
        parts = re.split(r"…|\n", self.here("\n".join(step.shown)))
        for wanted in filter(None, (" ".join(part.split()) for part in parts)):
            assert wanted in rest, f"{words}\nshows no {wanted!r} in its place:\n{out}"
            rest = rest.partition(wanted)[2]

    def typed(self, line: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr. A line of nothing but words for upswitch needs no shell and no new Python."""
        name, *words = shlex.split(line, comments=True)
        if name in {"upswitch", "switch"} and not re.search(r"[|&;<>()$`*?\[{~\\]", line):
            ran = run_upswitch(words if name == "upswitch" else [name, *words], env=self.env, cwd=self.folder)
            return ran.returncode, ran.stdout.decode(), ran.stderr.decode()
        argv = ("bash", "-c", line)
        shell = subprocess.run(argv, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60, check=False)
        return shell.returncode, shell.stdout, shell.stderr


def put_on_path(folder: Path, name: str, *argv: str) -> None:
    """The program `name` as a person types it there: a distribution's has its paths built in."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {" ".join(argv)} "$@"\n')
    path.chmod(0o755)

"""What commands print: one value each, as text for people and as JSON (docs/json.md). Only this package lays out a result as text.

What one command prints is one file: acted.py (switch, rollback, repair, and every refusal), plan.py (plan, init, drain-lines),
status.py (status, history, drain), lint.py, diagnose.py, watch.py; of several hosts fleet.py, of several sites sites.py. keys.py
has the keys of their JSON.
"""

import re

from upswitch.basics.value import Value


class View(Value):
    """What every command ends in: its name, its exit code, and its text for people."""

    command: str
    exit: int

    @property
    def text(self) -> str:
        raise NotImplementedError


def next_lines(hint: str) -> list[str]:
    """What to do next, a clause a line. Each command stands alone on a line below its clause, so that it can be copied."""
    lines, mark = list[str](), "Next: "
    for clause in re.split(r"; (?=(?:[^`]*`[^`]*`)*[^`]*$)", hint):
        commands = re.findall("`([^`]*)`", clause)
        said = "more about it" if clause == f"`{commands[0] if commands else ''}`" else re.sub("`[^`]*`", "this", clause)
        lines += [f"{mark}{said}{':' if commands else ''}", *(f"        {command}" for command in commands)]
        mark = "      "
    return lines

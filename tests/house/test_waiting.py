"""Whatever looks or tries again and again waits in hosts/wait.py, and nowhere else."""

import ast

from sources import sources

WAITS = {"sleep", "wait", "wait_for"}
ALLOWED = {
    "cli/plot.py": "draws what comes, as it comes",
    "cli/program.py": "shows a view again every so many seconds, for as long as somebody reads it",
    "hosts/kept_log.py": "waits for room, and between two runs of a command that never ends well",
    "hosts/ssh/wire.py": "counts the ticks in which a peer is silent",
    "watch/watch.py": "goes from second to second",
}
"""The loops that wait for something else than that a look, or an attempt, ends well."""


def waiting_loops(tree):
    """The lines of a module on which a loop waits."""
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.While | ast.For)]
    calls = [below for loop in loops for below in ast.walk(loop) if isinstance(below, ast.Call)]
    return [call.lineno for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in WAITS]


def test_no_loop_waits_by_itself():
    ours = {path.removeprefix("src/upswitch/"): tree for path, tree in sources().items() if path.startswith("src/upswitch/")}
    found = {path: waiting_loops(tree) for path, tree in ours.items()}
    assert {path for path, lines in found.items() if lines} == ALLOWED.keys()

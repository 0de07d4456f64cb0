"""The real command line, run as a person would type it in the folder of the site file."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable

from upswitch.basics.value import Value
from upswitch_lab.process import LabError

_COMMAND_S = 30.0
_WAY_BACK_S = 15.0  # after a Ctrl-C


class Typed(Value):
    """One command and what came of it. `exit` is as the shell would see it, `output` its stdout."""

    command: str
    exit: int
    seconds: float
    output: str


class Prompt:
    """Runs commands in `folder` and shows each with its output through `say`. Their stderr is ours."""

    def __init__(self, folder: str, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say

    def type(self, command: str) -> Typed:
        """`switch ...` or `upswitch ...`. LabError where it does not end."""
        self._say(f"\n$ {command}")
        typed = self.run(command)
        self._say(f"{typed.output.rstrip()}\n(exit {typed.exit}, {typed.seconds:.1f} s)")
        return typed

    def run(self, command: str) -> Typed:
        """The same, unshown."""
        words = shlex.split(command)
        arguments = words[1:] if words[0] == "upswitch" else words  # the `switch` script is `upswitch switch`
        began = time.monotonic()
        # -P and absolute paths: the folder holds one named upswitch, which must not be taken for the package
        argv = (sys.executable, "-P", "-m", "upswitch", *arguments)
        child = subprocess.Popen(
            argv,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": _absolute(os.environ.get("PYTHONPATH", ""))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output = _output(child)
        except subprocess.TimeoutExpired as exc:
            raise LabError(f"`{command}` did not end within {_COMMAND_S:g} s") from exc
        return Typed(command=command, exit=child.returncode, seconds=round(time.monotonic() - began, 3), output=output)


def _absolute(path: str) -> str:
    return os.pathsep.join(os.path.abspath(part) for part in path.split(os.pathsep) if part)


def _output(child: subprocess.Popen[str]) -> str:
    """Cut short, it is asked to end as by Ctrl-C and gets the time for it: it may be on its way back."""
    try:
        return child.communicate(timeout=_COMMAND_S)[0]
    finally:
        if child.returncode is None:
            _end(child)


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.communicate(timeout=_WAY_BACK_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()

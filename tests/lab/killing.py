"""A command that is killed with -9 at a chosen journal write, and what repair makes of it."""

import os
import signal

from command import on_disk, running, served_by, upswitch
from forked import run_upswitch
from upswitch.cli.open import Wiring
from upswitch.hosts.local.host import LocalHost
from upswitch_lab.lab import Lab


def killed_at(lab: Lab, script: str, *words: str) -> int:
    """Run a command that dies as soon as its first script of this name (scripts.py) has ended; its exit code."""

    class Mortal(LocalHost):
        def run(self, argv, **options):
            ran = super().run(argv, **options)
            if argv[3:4] == (script,):
                os.kill(os.getpid(), signal.SIGKILL)
            return ran

    return _exit_code(Mortal, lab, *words)


def killed_after(lab: Lab, writes: int, *words: str) -> int:
    """Run a command that dies at its `writes`th journal write; its exit code (-9: it died)."""
    left = writes

    class Mortal(LocalHost):
        def append(self, path, data, **how):
            nonlocal left
            super().append(path, data, **how)
            left -= data != b""
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return _exit_code(Mortal, lab, *words)


def _exit_code(host: type[LocalHost], lab: Lab, *words: str) -> int:
    return run_upswitch((*words, "-c", str(lab.site_file), "--json"), wiring=Wiring(host=host)).returncode


def settle(lab: Lab, writes: int) -> str:
    """Repair, killed after `writes` of its own; repair again; the pool that serves in the end, as everybody sees it."""
    killed_after(lab, writes, "repair")
    answer = upswitch(lab, "repair")
    assert answer.exit == 0, answer
    production = answer.json["production"]
    assert production["proved"], answer
    assert production["running"] == running(lab) == on_disk(lab)
    assert {server[0] for server in served_by(lab)} == {production["pool"]}
    assert upswitch(lab, "status").exit == 0
    return production["pool"]

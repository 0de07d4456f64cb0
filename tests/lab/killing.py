"""A command that is killed with -9 at a chosen journal write, and what repair makes of it."""

import subprocess
import sys

from command import on_disk, running, served_by, upswitch
from upswitch_lab.lab import Lab

KILLED = """
import os, signal, sys
from upswitch.cli.main import main
from upswitch.cli.open import Wiring
from upswitch.hosts.local.host import LocalHost

left = int(sys.argv[1])

class Mortal(LocalHost):
    def append(self, path, data, **how):
        global left
        super().append(path, data, **how)
        left -= data != b""
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

main(sys.argv[2:], Wiring(host=Mortal))
"""


KILLED_AT = """
import os, signal, sys
from upswitch.cli.main import main
from upswitch.cli.open import Wiring
from upswitch.hosts.local.host import LocalHost

class Mortal(LocalHost):
    def run(self, argv, **options):
        ran = super().run(argv, **options)
        if argv[3:4] == (sys.argv[1],):
            os.kill(os.getpid(), signal.SIGKILL)
        return ran

main(sys.argv[2:], Wiring(host=Mortal))
"""


def killed_at(lab: Lab, script: str, *words: str) -> int:
    """Run a command that dies as soon as its first script of this name (scripts.py) has ended; its exit code."""
    path = lab.folder / "mortal-at.py"
    path.write_text(KILLED_AT)
    argv = [sys.executable, str(path), script, *words, "-c", str(lab.site_file), "--json"]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode


def killed_after(lab: Lab, writes: int, *words: str) -> int:
    """Run a command that dies at its `writes`th journal write; its exit code (-9: it died)."""
    script = lab.folder / "mortal.py"
    script.write_text(KILLED)
    argv = [sys.executable, str(script), str(writes), *words, "-c", str(lab.site_file), "--json"]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode


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

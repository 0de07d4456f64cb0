"""Programs for a host's shell: how they are read, what they exit with, and the two that every command needs first."""

import functools
import pkgutil
from enum import IntEnum

from upswitch.basics.text import told

SH = ("sh", "-c")
QUICK_S = 5.0
"""Seconds for a program that only looks."""
WRITE_S = 20.0
"""Seconds for a program that writes and syncs a few small files."""


class Exit(IntEnum):
    """What our programs exit with. `script` gives a program the names that it uses, as variables of the shell."""

    LACKS = 90
    NO_FOLDER = 90
    NOT_REGULAR = 90
    NOT_HELD = 90  # nobody holds the lock
    NO_STATE = 91
    LOCK_INHERITED = 91  # the program has an open lock file that it must not have
    NOT_PRIVATE = 92
    OTHERS_MAY_WRITE = 93
    HELD = 93  # the lock is held
    FENCED = 94  # somebody else has had the lock since it was ours: nothing was done
    NOT_DONE = 95
    CHANGED = 96  # the program did not find what we expect: nothing was done
    NOT_THERE = 97
    UNSYNCED = 98  # the change was made but may not survive a power cut
    NO_MOUNT = 99  # no mount is allowed here: nothing was done
    FIRED = 100  # the dead-man has acted
    ACTING = 101  # it acts now
    NOT_UP = 102  # its watcher was not up in time: disarmed again
    NOT_APPENDED = 110


_PACKAGES = {"dd": "coreutils", "sha256sum": "coreutils", "stat": "coreutils", "timeout": "coreutils", "flock": "util-linux"}


@functools.cache
def script(package: str, name: str) -> str:
    """The program in a package's file, as a host runs it: without its comment lines, and with the exit codes that it names.

    It reads by pkgutil (1 ms to import) and not by importlib.resources (17 ms).
    """
    data = pkgutil.get_data(package, name)
    if data is None:
        raise FileNotFoundError(f"{package}: {name}")
    program = "".join(line for line in data.decode().splitlines(keepends=True) if not line.lstrip().startswith("#"))
    return "".join(f"{name}={code:d}\n" for name, code in Exit.__members__.items() if f"${name}" in program) + program


def argv(package: str, name: str, *args: str) -> tuple[str, ...]:
    """The command that runs `script(package, name)`; its arguments begin with $1, and $0 is a name for `ps`."""
    return (*SH, script(package, name), f"upswitch-{name.removesuffix('.sh')}", *args)


def look() -> tuple[str, ...]:
    """Ask which programs the host lacks, beside nginx. It prints the id of the host's boot where none is missing."""
    return argv("upswitch.hosts", "needs.sh")


def problem(output: bytes) -> str:
    """What `look` found missing, and how to fix it. `output` is what it printed when it ended with Exit.LACKS."""
    packages = sorted({_PACKAGES.get(word, word) for word in told(output).split()})
    return f"it lacks {' and '.join(packages)}: install that there (busybox's versions are not enough)"


def open_journal(path: str, *, reserve: int, is_made: bool) -> tuple[str, ...]:
    """Print the journal and reserve so many bytes behind its end. Exit.NOT_THERE where there is no journal and none is made."""
    return argv("upswitch.hosts", "open_journal.sh", path, str(reserve), "make" if is_made else "")

"""The commands that are run on a host, as argv tuples made by pure functions.

One POSIX sh script does a whole step, so that a host behind SSH costs one round trip. Values are positional parameters and
never part of a script's text. Exit codes above 89 are ours: each says how far the script came.
"""

from upswitch.hosts.sh import SH, script


def _program(function: str, *words: str) -> tuple[str, ...]:
    return (*SH, script("upswitch.generations", "store.sh"), function, *words)


def look(folder: str) -> tuple[str, ...]:
    return _program("look", folder)


def manifests(folder: str) -> tuple[str, ...]:
    return _program("manifests", folder)


def folders(folder: str, state: str) -> tuple[str, ...]:
    """Make our two folders: ours in /etc readable, ours in /var/lib private."""
    return _program("folders", folder, state)


def stage(folder: str, names: tuple[str, ...], *, back: str = "") -> tuple[str, ...]:
    """`back`: the generation of the way back."""
    return _program("stage", folder, back, *names)


def fetch(folder: str, name: str) -> tuple[str, ...]:
    """A generation's files as a tar on stdout."""
    return ("tar", "-cf", "-", "-C", f"{folder}/generations/{name}", ".")


def fetch_live(folder: str) -> tuple[str, ...]:
    """The same of the live generation."""
    return ("tar", "-cf", "-", "-C", f"{folder}/live/", ".")


def swap(folder: str, *, expect: str, to: str) -> tuple[str, ...]:
    return (*SH, script("upswitch.generations", "swap.sh"), "swap", folder, expect, to)


def prune(folder: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return _program("prune", folder, *names)

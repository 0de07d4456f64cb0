"""The commands of a first use (`init --apply`) and of its undo. Values are parameters; codes above 89 are ours."""

from msgspec.structs import replace

from upswitch.hosts.sh import SH, script
from upswitch.nginx.build import Build
from upswitch.nginx.commands import nginx_argv
from upswitch.site.model import Nginx


def _program(function: str, *words: str) -> tuple[str, ...]:
    return (*SH, script("upswitch.init", "apply.sh"), function, *words)


def kinds(paths: tuple[str, ...]) -> tuple[str, ...]:
    return _program("kinds", *paths)


def first_link(folder: str, name: str) -> tuple[str, ...]:
    return _program("first_link", folder, name)


def forget(folder: str, name: str) -> tuple[str, ...]:
    """Undo a first use: the live link to generation `name` and the generation itself."""
    return _program("forget", folder, name)


def backup(file: str, to: str) -> tuple[str, ...]:
    return _program("backup", file, to)


def take_back(file: str, backup: str) -> tuple[str, ...]:
    return _program("take_back", file, backup)


def remove_ours(file: str) -> tuple[str, ...]:
    return _program("remove_ours", file)


def test_beside(nginx: Nginx, build: Build) -> tuple[str, ...]:
    """Another main file, under a name of its own in the same folder: includes are found from there. It comes on stdin."""
    folder, _, name = nginx.conf.rpartition("/")
    candidate = f"{folder}/.{name}.upswitch-test"
    return _program("test_beside", candidate, *nginx_argv(replace(nginx, conf=candidate), build, "-t"))


def test_covered(nginx: Nginx, build: Build, *, file: str) -> tuple[str, ...]:
    """The real configuration with `file` covered by what comes on stdin, in a mount namespace of its own."""
    return _program("test_covered", f"{nginx.dir}/.edit.tmp", file, *nginx_argv(nginx, build, "-t"))


def test(nginx: Nginx, build: Build) -> tuple[str, ...]:
    """The configuration as it stands on disk."""
    return nginx_argv(nginx, build, "-t")

"""What the caller gives: the options that commands share, the site file, and the user who runs the command."""

import functools
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click

from upswitch.basics.value import Value
from upswitch.cli.views import View
from upswitch.site.model import Site
from upswitch.site.read import parse_site
from upswitch.switch.session import Session, clean

SITE_FILE = "upswitch.toml"
"""The site file that is used without -c."""

_LARGEST = 1 << 20  # characters of a site file

Act = Callable[[Session], View]
"""What a command does on one host."""


class Common(Value):
    """The options of every command that reads a site file; those of `switch` change the site before any host is reached.

    `pool` must be one of the site's, `on_spike` replaces watch.on_spike; "" is neither.
    """

    config: str
    as_json: bool
    events: str = ""
    hosts: tuple[str, ...] = ()
    on_spike: str = ""
    pool: str = ""


class NoSiteError(Exception):
    """The site file can't be read."""


def read_site(path: str) -> Site:
    """The site, from a file that nobody else may write: it names commands that are run. SiteInvalid with every problem."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            status = os.fstat(file.fileno())
            caller = os.environ.get("SUDO_UID", "")  # root trusts the files of the user who called sudo
            owners = {0, os.geteuid(), int(caller) if caller.isdecimal() else 0}
            if status.st_uid not in owners or status.st_mode & stat.S_IWOTH:
                raise NoSiteError("other users can write this file, and it names commands that are run: use chown and chmod o-w")
            return parse_site(file.read(_LARGEST))
    except OSError as exc:
        raise NoSiteError(exc.strerror or str(exc)) from exc


def site_if_any(path: str) -> Site | None:
    """The site, for a command that runs nothing of it. None where the file was not asked for and can't be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return parse_site(file.read(_LARGEST))
    except OSError as exc:
        if path == SITE_FILE:
            return None
        raise NoSiteError(exc.strerror or str(exc)) from exc


def become(user: str) -> None:
    """Continue as `nginx.user`, by `sudo -n`. The whole program does, so that there is one way of touching files."""
    try:
        wanted = pwd.getpwnam(user).pw_uid
    except KeyError as exc:
        raise click.UsageError(f"nginx.user = {user}: this machine has no such user; nothing was read or changed") from exc
    if os.geteuid() == wanted:
        return
    sudo = ["sudo", "-n", "-u", user, "--"]
    try:
        allowed = subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        allowed = False
    if allowed:
        command = ["switch"] if os.path.basename(sys.argv[0]) == "switch" else []
        os.execvp("sudo", [*sudo, sys.executable, "-P", "-m", "upswitch", *command, *sys.argv[1:]])
    raise click.UsageError(
        f"nginx.user is {user}, you are {person()}, and `sudo -n -u {user}` is refused: "
        f"nothing was read or changed. Run it as {user}, or set nginx.user",
    )


def person() -> str:
    """The user who typed the command: for the lock, the journal and the history."""
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


Command = Callable[..., int]

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object (see `upswitch help json`).")
events_option = click.option("--events", default="", metavar="FILE", help="Append each line of progress to FILE as JSON.")


class Read(click.ParamType[Any]):
    """An option's type, by the function that reads its text. ValueError with what is wrong is a usage error."""

    def __init__(self, name: str, read: Callable[[str], object]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return self._read(value) if isinstance(value, str) else value
        except ValueError as exc:
            self.fail(f"{clean(str(value))} {exc}", param, ctx)


def on_site(command: Command) -> Command:
    """The options of every command that reads a site file, as one argument `common`."""

    @click.option("-c", "--config", "--site", default=SITE_FILE, show_default=True, metavar="FILE", help="The site file.")
    @json_option
    @click.option("--host", "hosts", multiple=True, metavar="NAME", help="Only this host of the site. Repeatable.")
    @functools.wraps(command)
    def packed(*args: Any, config: str, as_json: bool, hosts: tuple[str, ...], events: str = "", **options: Any) -> int:
        return command(*args, common=Common(config=config, as_json=as_json, hosts=hosts, events=events), **options)

    return packed

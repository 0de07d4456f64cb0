"""What the caller gives: the options that commands share, the site file, and the user who runs the command."""

import functools
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click

from upswitch.basics.value import Value
from upswitch.cli import completion, site_files
from upswitch.cli.site_files import SiteFile
from upswitch.cli.views import View
from upswitch.site import values
from upswitch.switch.session import Session, clean

Act = Callable[[Session], View]
"""What a command does on one host."""


class Common(Value):
    """The options of every command that reads a site file; those of `switch` change the site before any host is reached.

    `pool` must be one of the site's, `on_spike` replaces watch.on_spike; "" is neither. `is_strict`: watch.on_silence is rollback.
    `servers` of that pool replace those of `upstream` in the site; "" is the only one.
    """

    file: SiteFile
    as_json: bool
    events: str = ""
    hosts: tuple[str, ...] = ()
    on_spike: str = ""
    is_strict: bool = False
    accepts_elevated: bool = False
    pool: str = ""
    servers: tuple[str, ...] = ()
    upstream: str = ""


def become(user: str) -> None:
    """Continue as `nginx.user`, by `sudo -n`. The whole program does, so that there is one way of touching files."""
    try:
        wanted = pwd.getpwnam(user).pw_uid
    except KeyError as exc:
        raise click.UsageError(f"nginx.user = {user}: this machine has no such user; nothing was read or changed") from exc
    if os.geteuid() == wanted:
        return
    sudo, nothing = ["sudo", "-n", "-u", user, "--"], subprocess.DEVNULL
    try:
        allowed = subprocess.run([*sudo, "true"], stdin=nothing, stdout=nothing, stderr=nothing, check=False).returncode == 0
    except OSError:
        allowed = False
    if allowed:
        command = ["switch"] if os.path.basename(sys.argv[0]) == "switch" else []
        if site_files.VARIABLE in os.environ:  # sudo forgets it
            sudo += ["env", f"{site_files.VARIABLE}={os.environ[site_files.VARIABLE]}"]
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

    @click.option(
        "-c",
        "--config",
        "--site",
        default="",
        metavar="FILE",
        help="The site file (see `upswitch help site-file`).",
        shell_complete=completion.files,
    )
    @click.option(
        "-s",
        "--name",
        default="",
        metavar="NAME",
        help="The site whose file is /etc/upswitch/NAME.toml.",
        shell_complete=completion.sites,
    )
    @json_option
    @click.option(
        "--host",
        "hosts",
        multiple=True,
        metavar="NAME",
        help="Only this host of the site. Repeatable.",
        shell_complete=completion.hosts,
    )
    @functools.wraps(command)
    def packed(*args: Any, config: str, name: str, as_json: bool, events: str = "", **options: Any) -> int:
        common = Common(file=site_files.find(config, name), as_json=as_json, hosts=options.pop("hosts"), events=events)
        return command(*args, common=common, **options)

    return packed


def to_pool(says: str) -> Callable[[Command], Command]:
    """The pool as an argument or as `--to`: both are `pool` of the command."""

    def decorated(command: Command) -> Command:
        @click.argument("named", default="", metavar="POOL", shell_complete=completion.pools)
        @click.option("--to", "pool", default="", metavar="POOL", help=says, shell_complete=completion.pools)
        @functools.wraps(command)
        def packed(*args: Any, named: str, pool: str, **options: Any) -> int:
            if not named and not pool:
                raise click.UsageError("Missing the pool: name it as POOL or as --to POOL.", click.get_current_context())
            if named and pool and named != pool:
                said = f"{clean(named)} and --to {clean(pool)} are two pools: name one."
                raise click.UsageError(said, click.get_current_context())
            return command(*args, pool=named or pool, **options)

        return packed

    return decorated


def duration(text: str) -> float:
    """Seconds, written as in the site file; a number without a unit is seconds, as it was once."""
    seconds = values.parse_duration(text if text[-1:].isalpha() else f"{text}s")
    if seconds is None:
        raise ValueError(values.ALLOWED)
    return seconds

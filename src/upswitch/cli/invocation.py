"""upswitch.cli.invocation."""

import os
import pwd
import stat
import subprocess
import sys

import click

from upswitch.cli.session import SITE_FILE
from upswitch.site.model import Site
from upswitch.site.read import parse_site

_LARGEST = 1 << 20  # characters of a site file


def read_site(path: str) -> Site:
    """SiteInvalid with every problem; OSError where the file can't be read."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        status = os.fstat(file.fileno())
        caller = os.environ.get("SUDO_UID", "")  # root obeys whom it was lent to
        owners = {0, os.geteuid(), int(caller) if caller.isdecimal() else 0}
        if status.st_uid not in owners or status.st_mode & stat.S_IWOTH:
            raise PermissionError(1, "others may write it, and it names the commands that are run: chown and chmod o-w")
        return parse_site(file.read(_LARGEST))


def site_if_any(path: str) -> Site | None:
    """Whoever may write it: no command that it names is run. None where nobody asked for it and it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return parse_site(file.read(_LARGEST))
    except OSError:
        if path == SITE_FILE:
            return None
        raise


def become(user: str) -> None:
    """Run on as `nginx.user`, by `sudo -n`; the whole program, so that there is one way of touching files."""
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
        os.execvp("sudo", [*sudo, sys.executable, "-P", "-m", "upswitch", *_arguments()])
    raise click.UsageError(
        f"nginx.user is {user}, you are {person()}, and `sudo -n -u {user}` is refused: "
        f"nothing was read or changed. Run it as {user}, or set nginx.user",
    )


def _arguments() -> list[str]:
    is_switch = os.path.basename(sys.argv[0]) == "switch"
    return ["switch", *sys.argv[1:]] if is_switch else sys.argv[1:]


def person() -> str:
    """Whose hands these are: for the lock, the journal and the history."""
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())

"""Whether other users may change a file of this machine that decides what upswitch does: its own owner and mode, and those of every
folder on its way, also behind links. It is the rule of OpenSSH (safe_path in its misc.c), and that of store.sh on a host.

Root and our own user are trusted, and who called sudo. So is a group that only our user is in. A folder that all may write, such
as /tmp, is trusted with the sticky bit: there nobody else may replace what belongs to us.
"""

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Callable, Iterator

from upswitch.basics.errors import UntrustedError

_MOST_LINKS = 40  # as the kernel


def check(path: str, *, is_secret: bool = False, warn: Callable[[UntrustedError], None] | None = None) -> None:
    """UntrustedError names the first file or folder that is wrong, and the command that fixes it. `is_secret`: none may read it.

    `warn` gets it instead, where only the mode of a folder is wrong: what a stranger puts there belongs to the stranger.
    """
    for each in _way(os.path.abspath(path)):
        status = os.lstat(each)
        try:
            check_status(each, status)
        except UntrustedError as exc:
            if warn is None or not stat.S_ISDIR(status.st_mode) or status.st_uid not in _owners():
                raise
            warn(exc)
    mode = os.stat(path).st_mode
    if is_secret and mode & 0o077 and not stat.S_ISDIR(mode):
        raise UntrustedError(path, "other users may read this secret", f"chmod 600 {shlex.quote(path)}")


def check_status(path: str, status: os.stat_result) -> None:
    """The same for one file or folder. The mode of a link means nothing."""
    mode, quoted = status.st_mode, shlex.quote(path)
    if status.st_uid not in _owners():
        raise UntrustedError(path, f"it belongs to {_user(status.st_uid)}", f"chown {_user(os.geteuid())} {quoted}")
    if stat.S_ISLNK(mode) or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
        return
    if mode & stat.S_IWOTH:
        raise UntrustedError(path, "every user may write it", f"chmod o-w {quoted}")
    if mode & stat.S_IWGRP and not _is_private(status.st_gid):
        raise UntrustedError(path, f"the group {_group(status.st_gid)} may write it", f"chmod g-w {quoted}")


def _way(path: str, links: int = 0) -> Iterator[str]:
    """Every folder, link and file that the kernel looks at on its way to `path`."""
    here, left = "/", [part for part in path.split("/") if part]
    yield here
    while left:
        part = left.pop(0)
        if part == "..":
            here = os.path.dirname(here)
            continue
        here = os.path.join(here, part)
        yield here
        if os.path.islink(here) and links < _MOST_LINKS:
            target = os.path.join(os.path.dirname(here), os.readlink(here))
            yield from _way("/".join((target, *left)), links + 1)
            return


def _owners() -> set[int]:
    caller = os.environ.get("SUDO_UID", "")
    return {0, os.geteuid(), int(caller) if caller.isdecimal() else 0}


def _is_private(gid: int) -> bool:
    """Root's group, or one that is named as its only user."""
    if gid == 0:
        return True
    try:
        group, users = grp.getgrgid(gid), [pwd.getpwuid(uid) for uid in _owners()]
    except KeyError:
        return False
    return any(user.pw_gid == gid and user.pw_name == group.gr_name and {*group.gr_mem} <= {user.pw_name} for user in users)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)

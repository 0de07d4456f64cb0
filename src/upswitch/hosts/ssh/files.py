"""Files on the host: each call is one script and one round trip. An error's text is the kernel's, as the programs print it."""

import secrets
import threading
from collections.abc import Callable

from upswitch.basics.errors import HostError, NotAppendedError
from upswitch.basics.text import printable
from upswitch.hosts import sh
from upswitch.hosts.host import Chunk, Ran
from upswitch.hosts.sh import Exit
from upswitch.hosts.ssh.shell import Shell, quoted

DEADLINE = 20.0
_MOST_AHEAD = 1 << 16  # bytes; an argument may have twice as many (MAX_ARG_STRLEN)


class Waiting(threading.local):
    """What one thread has appended and not sent yet. It is sent with that thread's next command."""

    path: str = ""
    data: bytes = b""

    @property
    def is_too_long(self) -> bool:
        return len(self.data) > _MOST_AHEAD

    def add(self, path: str, data: bytes) -> None:
        self.path, self.data = path, self.data + data

    def take(self) -> tuple[str, bytes]:
        data, self.data = self.data, b""
        return self.path, data


def ahead(path: str, data: bytes, *, fence: tuple[str, str]) -> str:
    """A script that appends, for `before` of `Shell.run`. `check_ahead` finds out whether the script or the command failed.

    `fence`: a file, and the text that it must hold, else nothing is done; two "" for no fence. A NUL byte can't be appended.
    """
    if not data:
        return ""
    text = data.decode("utf-8", "surrogateescape")
    return f"{sh.script('upswitch.hosts.ssh', 'append.sh')}append {quoted((path, str(len(data)), *fence, text))}"


def check_ahead(ran: Ran, path: str) -> Ran:
    """NotAppendedError where the append failed, so that the command was not begun."""
    if ran.exit == Exit.NOT_APPENDED:
        raise NotAppendedError(f"append to {path}", _last_words(ran), why=ran.why)
    return ran


Run = Callable[..., Ran]
"""As `Host.run`."""


def read(run: Run, path: str, *, offset: int, limit: int) -> Chunk | None:
    """None where there is no such file."""
    ran = run(sh.argv("upswitch.hosts.ssh", "read.sh", path, str(offset), str(limit)), deadline=DEADLINE)
    if ran.exit == Exit.NOT_THERE:
        return None
    _check(ran, f"read {path}")
    head, _, data = ran.out.partition(b"\n")
    inode, _, size = head.partition(b" ")
    return Chunk(inode=int(inode), size=int(size), data=data)


def write(run: Run, path: str, data: bytes, *, mode: int) -> None:
    folder, _, name = path.rpartition("/")
    temp = f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
    argv = sh.argv("upswitch.hosts.ssh", "write.sh", path, temp, f"{mode:o}", str(len(data)))
    _check(run(argv, deadline=DEADLINE, stdin=data), f"write {path}")


def append(shell: Shell, path: str, data: bytes, *, fence: tuple[str, str]) -> None:
    _check(shell.evaluate(ahead(path, data, fence=fence), deadline=DEADLINE), f"append to {path}")


def _check(ran: Ran, what: str) -> None:
    """HostError unless it has ended well."""
    if ran.exit is None:
        raise HostError(what, f"no answer came, so it may have been done: {ran.words}", why=ran.why)
    if ran.exit:
        raise HostError(what, "it is no regular file" if ran.exit == Exit.NOT_REGULAR else _last_words(ran), why=ran.why)


def _last_words(ran: Ran) -> str:
    lines = ran.err.strip().splitlines() or [b""]
    return printable(lines[-1].rpartition(b": ")[2]) or f"exit {ran.exit}"

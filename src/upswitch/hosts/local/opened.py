"""Files of this machine, opened without waiting: to open a FIFO waits until somebody opens its other end, maybe for ever."""

import errno
import os
import select
import stat
from typing import TextIO

_NO_FILE = "it is no regular file"
WRITER_S = 5
"""Seconds for somebody to write into a FIFO that a user names."""


def regular(path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor; OSError where the path is no regular file. A new file gets the mode 0600."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise _no_file(path) if exc.errno == errno.ENXIO else exc from None  # a socket, or a FIFO that nobody reads
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise _no_file(path)


def named(path: str) -> int:
    """The same for what a user names: a file, or a pipe as of `<(COMMAND)`. OSError where nobody writes into that pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    why = _why_not(descriptor)
    if why:
        os.close(descriptor)
        raise OSError(errno.EINVAL, why, path)
    os.set_blocking(descriptor, True)
    return descriptor


def text(path: str, *, errors: str = "surrogateescape") -> TextIO:
    """A regular file as text."""
    return open(regular(path), encoding="utf-8", errors=errors)


def _why_not(descriptor: int) -> str:
    """A pipe of the shell has a writer, which may take as long as it likes."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:"):
        return ""
    if not stat.S_ISFIFO(mode):
        return _NO_FILE
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return "" if poll.poll(WRITER_S * 1000) else f"nobody wrote into this FIFO within {WRITER_S} s"


def _no_file(path: str) -> OSError:
    return OSError(errno.EINVAL, _NO_FILE, path)

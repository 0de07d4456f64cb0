"""The streams of a program on this machine, in the words of a channel of SSH: so that one `Pipe` serves both."""

import contextlib
import select
import socket
import subprocess
from collections.abc import Sequence
from typing import Self

from upswitch.basics.errors import HostError
from upswitch.hosts.ssh.streams import Pipe


class ProcessChannel:
    """What `Pipe` uses of a paramiko.Channel. The program's end is the end of its output; nothing else can be lost here."""

    lost = ""

    def __init__(self, argv: Sequence[str]) -> None:
        """OSError where it can't be started."""
        self._streams, theirs = socket.socketpair()
        self._err, their_err = socket.socketpair()
        ends = (theirs.fileno(), their_err.fileno())
        with theirs, their_err:
            self._process = subprocess.Popen(argv, stdin=ends[0], stdout=ends[0], stderr=ends[1], start_new_session=True)
        self.eof_received = False
        self._is_closed = False

    @property
    def closed(self) -> bool:
        """A program that has ended takes no more input: a container that stops ends all that was run in it."""
        return self._is_closed or self._process.poll() is not None

    def get_transport(self) -> Self:
        return self

    def settimeout(self, timeout: float | None) -> None:
        with contextlib.suppress(OSError):  # closed meanwhile, by another thread
            self._streams.settimeout(timeout)
            self._err.settimeout(timeout)

    def send(self, data: bytes) -> int:
        return self._streams.send(data)

    def recv(self, limit: int) -> bytes:
        data = self._received(self._streams, limit)
        self.eof_received = self.eof_received or not data
        return data

    def recv_stderr(self, limit: int) -> bytes:
        return self._received(self._err, limit)

    def recv_stderr_ready(self) -> bool:
        return not self._is_closed and bool(select.select([self._err], [], [], 0)[0])

    def _received(self, stream: socket.socket, limit: int) -> bytes:
        """b"" at the end. TimeoutError."""
        try:
            return stream.recv(limit)
        except (TimeoutError, BlockingIOError) as exc:
            raise TimeoutError from exc
        except OSError:
            return b""

    def close(self) -> None:
        """The program sees the end of its input, and ends."""
        if self._is_closed:
            return
        self._is_closed = True
        for stream in (self._streams, self._err):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
            stream.close()
        self._process.poll()


def open_pipe(argv: Sequence[str]) -> Pipe:
    """Start a program whose streams the caller has. HostError where it can't be started."""
    what = f"run {argv[0]}"
    try:
        return Pipe(ProcessChannel(argv), what)
    except OSError as exc:
        raise HostError(what, exc.strerror or str(exc)) from exc

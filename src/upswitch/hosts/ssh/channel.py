"""Streams from where the host stands: through sshd's own forwarding, else through a relay program on the host."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from upswitch.basics.errors import HostError
from upswitch.basics.text import plain
from upswitch.hosts.ssh import relay
from upswitch.hosts.ssh.connection import SshConnection
from upswitch.hosts.ssh.pipe import Pipe
from upswitch.hosts.ssh.wire import ChannelRefusedError, WireLostError

_PROHIBITED = 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, RFC 4254, 5.1
_ERRNOS = {os.strerror(number): number for number in errno.errorcode}
_MOST_RELAYS = 4  # sshd's MaxSessions is 10; forwarded streams do not count there


class FarStream:
    """A `ports.Connection`. Its end is the peer's; a lost SSH connection is a HostError, and says nothing of the peer."""

    def __init__(self, pipe: Pipe, *, on_close: Callable[[], None] | None = None) -> None:
        self._pipe = pipe
        self._on_close = on_close
        self._timeout: float | None = None

    def settimeout(self, value: float | None, /) -> None:
        self._timeout = value

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001  (a socket's own signature)
        self._timeout = None if flag else 0.0

    def sendall(self, data: bytes, /) -> None:
        try:
            self._pipe.send(data, timeout=self._timeout)
        except HostError as exc:
            if self._pipe.is_lost:
                raise
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from exc

    def recv(self, size: int, /) -> bytes:
        try:
            return self._pipe.receive(size, timeout=self._timeout)
        except TimeoutError:
            if self._timeout == 0:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
            raise

    def close(self) -> None:
        self._pipe.close()
        if self._on_close is not None:
            self._on_close()
            self._on_close = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Streams:
    """Opens them over one connection. Whether sshd forwards is found out once."""

    def __init__(self, connection: SshConnection, *, user: str) -> None:
        self._connection = connection
        self._user = user
        self._is_forwarding = True
        self._relays = threading.BoundedSemaphore(_MOST_RELAYS)

    def open(self, address: str, *, timeout: float) -> FarStream:
        """As `ports.Host.connect`. HostError where neither sshd nor a relay can do it."""
        path = address.removeprefix("unix:") if address.startswith("unix:") else ""
        has_rights = self._user in {"", self._connection.login.user}
        if self._is_forwarding and (has_rights or not path):  # sshd opens a socket file with the login user's rights, not sudo's
            try:
                return self._forwarded(address, path, timeout)
            except ChannelRefusedError as exc:
                if exc.reason != _PROHIBITED and not path:
                    raise _as_the_kernel(exc.text) from exc
                self._is_forwarding = exc.reason != _PROHIBITED
        argv = relay.to_file(path) if path else relay.to_address(*_split(address))
        return self._relayed(argv, address, timeout)

    def _forwarded(self, address: str, path: str, timeout: float) -> FarStream:
        wire = self._connection.wire
        try:
            if path:
                channel = wire.open_stream("direct-streamlocal@openssh.com", path, "", 0, timeout=timeout)
            else:
                name, port = _split(address)
                channel = wire.open_stream("direct-tcpip", name, int(port), "127.0.0.1", 0, timeout=timeout)
        except WireLostError as exc:
            raise HostError(f"connect to {address} from {self._connection.login.shown}", f"connection lost: {exc}") from exc
        what = f"talk to {address} from {self._connection.login.shown}"
        return FarStream(Pipe(channel, what, lost=lambda: self._connection.lost))

    def _relayed(self, argv: tuple[str, ...], address: str, timeout: float) -> FarStream:
        if not self._relays.acquire(timeout=timeout):
            raise TimeoutError
        try:
            pipe = self._connection.open_pipe(argv, sudo=self._user)
            with _closing_at_error(pipe):
                self._await(pipe, address, timeout)
        except (HostError, OSError):
            self._relays.release()
            raise
        return FarStream(pipe, on_close=self._relays.release)

    def _await(self, pipe: Pipe, address: str, timeout: float) -> None:
        """The relay says one byte when it is connected, and why not on its error output."""
        if pipe.receive(1, timeout=timeout) == relay.CONNECTED:
            return
        said = plain(relay.last_words(pipe)).removesuffix("\n")
        if relay.is_missing(said):
            raise HostError(f"connect to {address} from {self._connection.login.shown}", _unrelayed(address, said))
        raise _as_the_kernel(said.rpartition(": ")[2])


def _unrelayed(address: str, said: str) -> str:
    """Of a socket file sshd does not say why it can't be opened; sshd does of an address, so there it was a prohibition."""
    if address.startswith("unix:"):
        return f"sshd did not open it, and nothing on the host can say why ({said}): is the server up? Else install perl or python3"
    return f"sshd forbids forwarding, and there is no relay ({said}): allow it with AllowTcpForwarding local, or install bash"


def _as_the_kernel(text: str) -> OSError:
    """The OSError (ConnectionRefusedError, TimeoutError, ...) that has these words."""
    return OSError(_ERRNOS.get(text, errno.EIO), plain(text))


def _split(address: str) -> tuple[str, str]:
    name, _, port = address.rpartition(":")
    return name.strip("[]"), port


@contextmanager
def _closing_at_error(pipe: Pipe) -> Iterator[None]:
    try:
        yield
    except (HostError, OSError):
        pipe.close()
        raise

"""Streams over one SSH connection: those of a program on the host, and those to an address that the host can reach.

A program's are a raw exec channel: 300 MB/s, where fabric's `run` takes 6 s for 8 MB. A stream to an address goes through sshd's
own forwarding. Where sshd forbids that, it goes through a program that the host has: bash, perl or python3.
"""

import contextlib
import errno
import os
import re
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol, Self

import paramiko

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.basics.text import plain, told
from upswitch.hosts import sh
from upswitch.hosts.ssh.connection import TIMEOUT, connected
from upswitch.hosts.ssh.keys import Keyring
from upswitch.hosts.ssh.login import Login

_PART = 1 << 17  # bytes
_LOOK_S = 0.05
_OPEN_S = 15.0
# Debian's bash reads ~/.bashrc where it believes that sshd has started it: up to 200 ms, and whatever that prints.
_BEGIN = 'unset SSH_CLIENT SSH2_CLIENT; printf %s "$0"; eval "set -- $(printf %b "$1")"; exec "$@"'
_UNSAFE = re.compile(rb"[^ -~]|[!'\\\\]")
"""What csh or fish reads in its own way between single quotes, and the quote itself."""


class NotBegunError(Exception):
    """The host did not start the program; the text holds its own words."""


class Pipe:
    """The streams of one program, or to an address: a `Connection`. An error of paramiko is a lost connection here: HostError."""

    def __init__(self, channel: paramiko.Channel, what: str) -> None:
        self._channel = channel
        self._what = what
        self._held = b""
        self._is_closed = False
        self._timeout: float | None = None
        self.on_close = ExitStack()

    def send(self, data: bytes, *, timeout: float | None = None) -> None:
        """Send all of it. TimeoutError. Not by sendall: a thread that reads has set its own short timeout on the channel."""
        until = None if timeout is None else time.monotonic() + timeout
        at = 0
        while at < len(data):
            try:
                at += self._channel.send(data[at : at + _PART])
            except TimeoutError:
                if until is not None and time.monotonic() >= until:
                    raise
            except (OSError, EOFError) as exc:
                raise self.failure() from exc

    def receive(self, limit: int = _PART, *, timeout: float | None = None) -> bytes:
        """The next bytes of its output; b"" at its end, or after our `close`. TimeoutError; HostError where it was cut off.

        An end that the far side has not announced is a cut, even before paramiko says that the connection is gone.
        """
        if self._held:
            data, self._held = self._held[:limit], self._held[limit:]
            return data
        self._channel.settimeout(timeout)
        data = bytes(self._channel.recv(limit))
        if not data and limit and not (self._channel.eof_received or self._is_closed):
            raise self.failure()
        return data

    def receive_err(self, *, timeout: float) -> bytes:
        """The next bytes of its error output; b"" where none come within the time, or none come any more."""
        self._channel.settimeout(timeout)
        try:
            return bytes(self._channel.recv_stderr(_PART))
        except TimeoutError:
            return b""

    def more(self, out: bytearray, err: bytearray) -> bool:
        """Add what comes within a moment of both its outputs. False where no more of the first can come."""
        if self._channel.recv_stderr_ready():
            err += self.receive_err(timeout=_LOOK_S)
        try:
            data = self.receive(timeout=_LOOK_S)
        except TimeoutError:
            return True
        except HostError:
            return False
        out += data
        return bool(data)

    @property
    def is_open(self) -> bool:
        return not (self._channel.closed or self._channel.eof_received)

    def close(self) -> None:
        self._is_closed = True
        with contextlib.suppress(OSError, EOFError):
            self._channel.close()
        self.on_close.close()

    def failure(self) -> HostError:
        """What to raise where the stream ended too early."""
        reason = self._channel.get_transport().lost or "it, or the program on the host, has ended"
        return HostError(self._what, f"connection lost: {reason}", why=Why.CONNECTION_LOST)

    # ---- in a socket's words: an end is the peer's; a lost SSH connection is a HostError, and says nothing of the peer ----

    def settimeout(self, value: float | None, /) -> None:
        self._timeout = value

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001  (a socket's own signature)
        self._timeout = None if flag else 0.0

    def sendall(self, data: bytes, /) -> None:
        try:
            self.send(data, timeout=self._timeout)
        except HostError as exc:
            if self._channel.get_transport().lost:
                raise
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from exc

    def recv(self, size: int, /) -> bytes:
        try:
            return self.receive(size, timeout=self._timeout)
        except TimeoutError:
            if self._timeout == 0:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- the beginning ----

    def begin(self, argv: Sequence[str], *, sudo: str, password: str | None = None) -> None:
        """Start the program, as the user `sudo` unless that is "". NotBegunError where the host, or its sudo, refuses.

        The host prints a word of ours first, so that what a login shell's rc file prints is not taken for the program's output.
        A password is sent only when sudo has asked with another word of ours: else the program would read it as its input.
        Without a password sudo must not ask.
        """
        prompt = secrets.token_hex(16)
        rights = ("sudo", "-n") if password is None else ("sudo", "-k", "-S", "-p", prompt)
        prefix = ("env", "LC_ALL=C", *rights, "-u", sudo, "--") if sudo else ()  # sudo's refusal is read, in English
        mark, command = marked(argv)
        try:
            self._channel.exec_command(f"exec {shlex.join((*prefix, *command))}")
        except (paramiko.SSHException, OSError, EOFError) as exc:
            raise self.failure() from exc
        self.await_mark(mark, prompt=prompt.encode(), password=password)

    def await_mark(self, mark: bytes, *, prompt: bytes = b"", password: str | None = None) -> None:
        """Drop everything up to the mark that `marked` made. NotBegunError where it does not come."""
        until = time.monotonic() + _OPEN_S
        out, err = bytearray(), bytearray()
        while mark not in out:
            if time.monotonic() > until:
                raise NotBegunError(f"nothing began within {_OPEN_S:g} s")
            if not self.more(out, err):
                if not self._channel.eof_received:
                    raise self.failure()
                raise NotBegunError(told(bytes(err) + self.rest_of_err() or bytes(out)) or "it ended at once")
            if prompt and prompt in err:
                if password is None:
                    raise NotBegunError("the password was refused")
                self.send(f"{password}\n".encode())
                err, password = bytearray(), None
        self._held = bytes(out.partition(mark)[2])

    def rest_of_err(self) -> bytes:
        """Its error output up to the end."""
        return b"".join(iter(lambda: self.receive_err(timeout=1.0), b""))


def marked(argv: Sequence[str]) -> tuple[bytes, tuple[str, ...]]:
    """A word that nobody knows, and the command that prints it before it begins."""
    mark = secrets.token_hex(16)
    return mark.encode(), ("sh", "-c", _BEGIN, mark, _escaped(shlex.join(argv)))


def _escaped(text: str) -> str:
    """As printf's %b turns it back, in characters that every login shell leaves alone."""
    data = text.encode("utf-8", "surrogateescape")
    return _UNSAFE.sub(lambda match: b"\\0%03o" % match[0][0], data).decode("ascii")


_PROHIBITED = 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, RFC 4254, 5.1
_ERRNOS = {os.strerror(number): number for number in errno.errorcode}
_MOST_RELAYS = 4  # sshd's MaxSessions is 10; forwarded streams do not count there

_PACKAGE = "upswitch.hosts.ssh"
_CONNECTED = b"+"
_FORBIDS = "sshd forbids forwarding, and no program can replace it ({said}): set AllowTcpForwarding local, or install bash"
_NO_RELAY = ("failed to run command", "no relay here")
# The kernel's own words, and an end: nobody waits on the host for a connection that hangs.
_WANTS_PASSWORD = re.compile(r"password is required|authentication is required")  # sudo, sudo-rs
_BOUNDED = ("env", "LC_ALL=C", "timeout", "-s", "KILL", "120")
# $0: host, $1: port. bash alone opens /dev/tcp. It has no half close: the relay ends when the server closes, or we do.
_BASH = 'exec 4<&0; exec 3<>"/dev/tcp/$0/$1" || exit 1; printf +; { cat <&4 >&3; kill $$; } 2>/dev/null & exec cat <&3 4<&-'


class Programs(Protocol):
    """What runs programs on a far machine, and opens streams from there."""

    @property
    def lost(self) -> str:
        """How the connection ended; "" while it stands."""
        ...

    def run(self, argv: Sequence[str]) -> Pipe:
        """Start a program. HostError where it can't begin."""
        ...

    def open(self, address: str, *, timeout: float) -> Pipe:
        """As `Host.connect`. HostError where there is no way to do it."""
        ...

    def close(self) -> None: ...


class Relays:
    """Streams to an address through a program on the machine that `run` starts programs on. `why_bash`: why it needs one."""

    def __init__(self, run: Callable[[Sequence[str]], Pipe], *, shown: str, why_bash: str) -> None:
        self._run = run
        self._shown = shown
        self._why_bash = why_bash
        self._free = threading.BoundedSemaphore(_MOST_RELAYS)

    def open(self, address: str, *, timeout: float) -> Pipe:
        path = address.removeprefix("unix:") if address.startswith("unix:") else ""
        if not self._free.acquire(timeout=timeout):
            raise TimeoutError
        with ExitStack() as failed:
            failed.callback(self._free.release)
            program = _to_file(path) if path else ("bash", "-c", _BASH, *map(str, _split(address)))
            pipe = self._run((*_BOUNDED, *program))
            failed.callback(pipe.close)
            if pipe.receive(1, timeout=timeout) != _CONNECTED:
                raise self._failure(address, pipe.rest_of_err())
            pipe.on_close.callback(self._free.release)
            failed.pop_all()
        return pipe

    def _failure(self, address: str, err: bytes) -> Exception:
        """A relay prints one byte when it is connected, and why it is not on its error output."""
        said = plain((err.strip().splitlines() or [b"the relay ended at once"])[-1].decode("ascii", "backslashreplace"))
        if not any(word in said for word in _NO_RELAY):
            return _as_the_kernel(said.rpartition(": ")[2])
        if address.startswith("unix:"):  # sshd does not say why it can't open a socket file
            why = f"it was not opened, and no program there can say why ({said}): is the server up? Or install perl"
        else:
            why = self._why_bash.format(said=said)
        return HostError(f"connect to {address} from {self._shown}", why)


class Streams:
    """Opens streams over one connection, which it opens. Programs run as `user`; `timeout`: seconds for each part of connecting.

    It finds out once whether sshd forwards and sudo asks. HostError where there is no connection.
    """

    def __init__(self, login: Login, keyring: Keyring, *, user: str, timeout: float) -> None:
        self._wire, self._hops = connected(login, keyring, timeout=timeout)
        self._login = login
        self._keyring = keyring
        self._sudo = "" if user == login.user else user
        self._password: str | None = None
        self._is_forwarding = True
        self._relays = Relays(self.run, shown=login.shown, why_bash=_FORBIDS)

    @property
    def lost(self) -> str:
        return self._wire.lost

    def close(self) -> None:
        self._hops.close()

    def run(self, argv: Sequence[str]) -> Pipe:
        pipe = Pipe(self._session(), f"run a program on {self._login.shown}")
        with ExitStack() as failed:
            failed.callback(pipe.close)
            try:
                pipe.begin(argv, sudo=self._sudo, password=self._password)
            except NotBegunError as exc:
                if not self._sudo or self._password is not None or not _WANTS_PASSWORD.search(str(exc)):
                    raise self._not_begun(exc) from exc
            else:
                failed.pop_all()
                return pipe
        self._password = self._keyring.password(self._login.user)
        return self.run(argv)

    def open(self, address: str, *, timeout: float) -> Pipe:
        path = address.removeprefix("unix:") if address.startswith("unix:") else ""
        if self._is_forwarding and not (path and self._sudo):  # sshd opens a socket file with the login user's rights, not sudo's
            try:
                return self._forwarded(address, path, timeout)
            except paramiko.ChannelException as exc:
                if exc.code != _PROHIBITED and not path:
                    raise _as_the_kernel(exc.text) from exc
                self._is_forwarding = exc.code != _PROHIBITED
        return self._relays.open(address, timeout=timeout)

    def _session(self) -> paramiko.Channel:
        what = f"open a session on {self._login.shown}"
        try:
            return self._wire.open_stream(what, "session", timeout=TIMEOUT)
        except paramiko.ChannelException as exc:
            raise HostError(what, f"no further session (MaxSessions?): {plain(exc.text)}", why=Why.CONNECTION_LOST) from exc
        except TimeoutError as exc:
            raise HostError(what, f"no answer within {TIMEOUT:g} s", why=Why.CONNECTION_LOST) from exc

    def _not_begun(self, exc: NotBegunError) -> HostError:
        login, user = self._login, self._sudo
        if not user:
            return HostError(f"open a shell on {login.shown} as {login.user}", str(exc))
        right = f"{login.user} must be allowed to run sh as {user}: {login.user} ALL=({user}) NOPASSWD: ALL"
        return HostError(f"use sudo -u {user} on {login.shown} as {login.user}", f"{exc}; {right}")

    def _forwarded(self, address: str, path: str, timeout: float) -> Pipe:
        what = f"connect to {address} from {self._login.shown}"
        kind, to = ("direct-streamlocal@openssh.com", path) if path else ("direct-tcpip", _split(address))
        return Pipe(self._wire.open_stream(what, kind, to, timeout=timeout), what)


def _to_file(path: str) -> tuple[str, ...]:
    return sh.argv(_PACKAGE, "relay.sh", path, sh.script(_PACKAGE, "relay.pl"), sh.script(_PACKAGE, "relay.python3"))


def _as_the_kernel(text: str) -> OSError:
    """The OSError (ConnectionRefusedError, TimeoutError, ...) that has these words."""
    return OSError(_ERRNOS.get(text, errno.EIO), plain(text))


def _split(address: str) -> tuple[str, int]:
    name, _, port = address.rpartition(":")
    return name.strip("[]"), int(port)

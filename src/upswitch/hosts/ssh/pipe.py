"""A program on the host with its three streams: a raw exec channel, 300 MB/s. It begins when the host has begun it, not before."""

import re
import secrets
import select
import shlex
import time
from collections.abc import Callable, Sequence

import paramiko

from upswitch.basics.errors import HostError
from upswitch.basics.text import told

_PART = 1 << 17  # bytes
_LOOK_S = 0.05
_AGAIN_S = 1.0
_OPEN_S = 15.0
# Debian's bash reads ~/.bashrc where it believes that sshd has started it: up to 200 ms, and whatever that prints.
_BEGIN = 'unset SSH_CLIENT SSH2_CLIENT; printf %s "$0"; eval "set -- $(printf %b "$1")"; exec "$@"'
_UNSAFE = re.compile(rb"[^ -~]|[!'\\\\]")
"""What csh or fish reads in its own way between single quotes, and the quote itself."""


class NotBegunError(Exception):
    """The host did not start the program; the text holds its own words."""


class Pipe:
    """The streams of one program. What paramiko raises here is a lost connection: HostError."""

    def __init__(self, channel: paramiko.Channel, what: str, *, lost: Callable[[], str]) -> None:
        self._channel = channel
        self._what = what
        self._lost = lost
        self._held = b""
        self._is_closed = False
        self._ready: select.poll | None = None

    def send(self, data: bytes, *, timeout: float | None = None) -> None:
        """All of it. TimeoutError. Not by sendall: a thread that reads has set its own short timeout on the channel."""
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

    def receive_err(self, limit: int = _PART, *, timeout: float | None = 0.0) -> bytes:
        """The next bytes of its error output: b"" where there are none within the time, or no more."""
        self._channel.settimeout(timeout)
        try:
            return bytes(self._channel.recv_stderr(limit))
        except TimeoutError:
            return b""

    def wait(self, timeout: float) -> None:
        """Until one of its outputs has something to read, or has ended; now and then for nothing."""
        if self._ready is None:
            self._ready = select.poll()
            self._ready.register(self._channel.fileno(), select.POLLIN)
        if not self._held:  # a `close` in another thread ends no poll
            self._ready.poll(min(max(0.0, timeout), _AGAIN_S) * 1000)

    @property
    def has_out(self) -> bool:
        """Whether `receive` returns at once."""
        return bool(self._held or self._channel.recv_ready() or not self.is_open)

    @property
    def has_err(self) -> bool:
        return bool(self._channel.recv_stderr_ready())

    @property
    def is_lost(self) -> bool:
        """The SSH connection is gone, not only this program."""
        return bool(self._lost())

    @property
    def is_open(self) -> bool:
        return not (self._channel.closed or self._channel.eof_received)

    def shut(self) -> None:
        """The end of its input."""
        try:
            self._channel.shutdown_write()
        except (OSError, EOFError) as exc:
            raise self.failure() from exc

    def close(self) -> None:
        self._is_closed = True
        try:
            self._channel.close()
        except (OSError, EOFError):
            return

    def exit(self, *, timeout: float = 10.0) -> int | None:
        """Waits for its end. None where it was cut off or killed, or has not ended in time."""
        if not self._channel.status_event.wait(timeout):
            return None
        code = int(self._channel.exit_status)
        return code if code >= 0 else None

    def failure(self) -> HostError:
        """What to raise where the stream ended too early."""
        return HostError(self._what, f"connection lost: {self._lost() or 'it, or the program on the host, has ended'}")

    # ---- the beginning ----

    def begin(self, argv: Sequence[str], *, sudo: str, password: str | None = None) -> None:
        """Start it, as the user `sudo` unless that is "". NotBegunError where the host, or its sudo, refuses.

        The host prints a word of ours first, so that what a login shell's rc file prints is not taken for the program's, and
        a password goes out only when sudo has asked with another word of ours: else it would be read as the program's input.
        With None sudo must not ask.
        """
        mark, prompt = secrets.token_hex(16), secrets.token_hex(16)
        rights = ("sudo", "-n") if password is None else ("sudo", "-k", "-S", "-p", prompt)
        prefix = (*rights, "-u", sudo, "--") if sudo else ()
        command = shlex.join((*prefix, "sh", "-c", _BEGIN, mark, _plain(shlex.join(argv))))
        try:
            self._channel.exec_command(f"exec {command}")
        except (paramiko.SSHException, OSError, EOFError) as exc:
            raise self.failure() from exc
        self._await(mark.encode(), prompt.encode(), password)

    def _await(self, mark: bytes, prompt: bytes, password: str | None) -> None:
        until = time.monotonic() + _OPEN_S
        out = err = b""
        while mark not in out:
            err += self.receive_err()
            if prompt in err:
                if password is None:
                    raise NotBegunError("the password was refused")
                self.send(f"{password}\n".encode())
                err, password = b"", None
            try:
                data = self.receive(timeout=_LOOK_S)
            except TimeoutError:
                if time.monotonic() > until:
                    raise NotBegunError(f"nothing began within {_OPEN_S:g} s") from None
                continue
            if not data:
                raise self._not_begun(out, err)
            out += data
        self._held = out.partition(mark)[2]

    def _not_begun(self, out: bytes, err: bytes) -> Exception:
        while more := self.receive_err(timeout=1.0):
            err += more
        return self.failure() if self._lost() else NotBegunError(told(err or out) or "it ended at once")


def _plain(text: str) -> str:
    """As printf's %b turns it back, in characters that every login shell leaves alone."""
    data = text.encode("utf-8", "surrogateescape")
    return _UNSAFE.sub(lambda match: b"\\0%03o" % match[0][0], data).decode("ascii")

"""paramiko's Transport, with what it lacks: speed, the reason why a channel was refused, and an end to silence.

What it does wrong as it comes, and what is done about it here:

- It never sets TCP_NODELAY: a command takes 44 ms instead of 2.
- Of a refused channel it logs the far side's words and raises "Connect failed". It keeps that error in one variable for all
  threads, so that one thread can get another's. Here each gets its own, in the far side's words (`get_exception`).
- It can't open a unix socket over there: the message lacks the fields of OpenSSH's PROTOCOL, 2.4 (`_send_user_message`).
- A channel that opens after its timeout stays open over there. Here it is closed (`_parse_channel_open_success`).
- It waits for a silent peer for ever, and its keep-alive sends nothing while we send. `guard` asks the peer, then ends the wire.

The private names are the only places that see what is needed: `_next_channel`, which thread opens which channel;
`_send_user_message`, a message before it is sent; `_parse_channel_open_…`, the far side's answer; `_channels`, a channel whose
opener has got an error.
"""

import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import Any

import paramiko
from paramiko.common import cMSG_GLOBAL_REQUEST

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why

PING_S = 2.0
SILENT_S = 6.0
"""A peer that did not send a byte for so long, although it was asked three times, is gone (reliability.md, F05)."""
_TICK_S = 0.5


class Meter:
    """A socket that counts the bytes that go through it."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.sent = 0
        self.received = 0

    def send(self, data: bytes) -> int:
        count: int = self._sock.send(data)
        self.sent += count
        return count

    def recv(self, size: int) -> bytes:
        data: bytes = self._sock.recv(size)
        self.received += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Opening(threading.local):
    """What a thread is opening: the channel's number, and the path of a unix socket."""

    number = -1
    path = ""


class Wire(paramiko.Transport):  # type: ignore[misc]
    """One SSH connection."""

    def __init__(self, sock: Any, *, algorithms: Sequence[str] = (), **options: Any) -> None:
        self.meter = Meter(sock)
        self._end = ""
        self._opening = _Opening()
        self._refusals: dict[int, paramiko.ChannelException] = {}
        self._abandoned: dict[int, paramiko.Channel] = {}
        self._over = threading.Event()
        super().__init__(self.meter, **options)
        with contextlib.suppress(OSError, AttributeError):  # through a jump host it is a channel
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        options_now = self.get_security_options()
        first = [each for each in algorithms if each in options_now.key_types]
        options_now.key_types = [*first, *(each for each in options_now.key_types if each not in first)]
        # AES-GCM first: beside any other cipher, paramiko compares the MAC of each packet byte by byte in Python.
        options_now.ciphers = sorted(options_now.ciphers, key=lambda name: "gcm" not in name)

    @property
    def lost(self) -> str:
        """How it ended, "" while it stands."""
        return "" if self.active else self._end or "it was closed"

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Without certificates: no authority is trusted here, so a host must show its key."""
        return tuple(each for each in super().preferred_keys if "-cert-" not in each)

    def guard(self) -> None:
        """From here on, once authenticated, a silent peer ends the connection."""
        threading.Thread(target=self._judge, name="ssh-silence", daemon=True).start()

    def open_stream(self, what: str, kind: str, to: "tuple[str, int] | str | None" = None, *, timeout: float) -> paramiko.Channel:
        """A channel, to an address or to the path of a unix socket where its kind needs one. `what` it is for, in a HostError.

        Raises ChannelException with the far side's words, TimeoutError, or HostError where the connection is gone.
        """
        self._opening.path, to = (to, None) if isinstance(to, str) else ("", to)
        try:
            return self.open_channel(kind, to, ("127.0.0.1", 0), timeout=timeout)
        except paramiko.ChannelException:
            raise
        except (paramiko.SSHException, OSError, EOFError) as exc:
            if lost := self.lost:
                raise HostError(what, f"connection lost: {lost}", why=Why.CONNECTION_LOST) from exc
            self._abandoned[self._opening.number] = self._channels.get(self._opening.number)
            raise TimeoutError from exc

    def get_exception(self) -> Exception | None:
        """The refusal of the channel that this thread opens; else how the connection ended."""
        found: Exception | None = self._refusals.pop(self._opening.number, None) or super().get_exception()
        return found

    def close(self) -> None:
        self._end = self._end or "it was closed"
        super().close()

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._end = self._end or "the other side closed it"
            self._over.set()

    def _next_channel(self) -> int:
        self._opening.number = number = super()._next_channel()
        return int(number)

    def _send_user_message(self, data: paramiko.Message) -> None:
        if path := self._opening.path:
            self._opening.path = ""
            data.add_string(path)
            data.add_string("")
            data.add_int(0)
        super()._send_user_message(data)

    def _parse_channel_open_success(self, message: paramiko.Message) -> None:
        number = message.get_int()
        message.rewind()
        super()._parse_channel_open_success(message)
        if late := self._abandoned.pop(number, None):
            late.close()

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        """paramiko's own would end the connection for words that are no UTF-8: so it gets none, and its error is not used."""
        number, reason, text = message.get_int(), message.get_int(), message.get_binary().decode("utf-8", "backslashreplace")
        if self._abandoned.pop(number, None) is None:
            self._refusals[number] = paramiko.ChannelException(reason, text)
        bare = paramiko.Message()
        for value in (number, reason, 0, 0):  # two empty texts
            bare.add_int(value)
        bare.rewind()
        super()._parse_channel_open_failure(bare)
        self.saved_exception = None

    def _ping(self) -> None:
        """A question that every sshd answers, with a refusal."""
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(b=True)
        with contextlib.suppress(EOFError, OSError):  # the end is seen elsewhere
            self._send_user_message(message)

    def _judge(self) -> None:
        """Counts ticks, not seconds: when we were stopped ourselves, the peer was not silent.

        It never sends itself: behind a large input that a stopped host does not take it would wait for ever.
        """
        ticks, heard = 0, -1
        while not self._over.wait(_TICK_S):
            ticks = ticks + 1 if self.meter.received == heard else 0
            heard = self.meter.received
            if ticks and ticks * _TICK_S % PING_S == 0:
                threading.Thread(target=self._ping, name="ssh-ping", daemon=True).start()
            if ticks * _TICK_S >= SILENT_S:
                self._end = f"the other side was silent for {SILENT_S:g} s"
                self.close()

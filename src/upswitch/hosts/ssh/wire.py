"""paramiko's Transport, made fast and honest: no delay for small packets, why a channel was refused, and an end to silence.

paramiko never sets TCP_NODELAY (44 ms a command instead of 2), keeps the words of a refused channel to its log, hands the error
of one thread to another, and waits for a silent peer for ever.
"""

import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import Any

import paramiko
from paramiko.common import cMSG_CHANNEL_OPEN, cMSG_GLOBAL_REQUEST

PING_S = 2.0
SILENT_S = 6.0
"""A peer of whom nothing was heard for so long, although it was asked three times, is gone (reliability.md, F05)."""
_TICK_S = 0.5


class ChannelRefusedError(Exception):
    """The far side's answer to an open: RFC 4254's reason, and its own words."""

    def __init__(self, reason: int, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


class WireLostError(Exception):
    """The connection is gone; the text says how."""


class Meter:
    """A socket that counts what goes through it, in bytes."""

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


class Wire(paramiko.Transport):  # type: ignore[misc]
    """One SSH connection. When its peer falls silent it is closed, and whoever waits on it is told."""

    def __init__(self, sock: Any, *, algorithms: Sequence[str] = (), **options: Any) -> None:
        self.meter = Meter(sock)
        self.lost = ""
        """How the connection ended, "" while it has not."""
        super().__init__(self.meter, **options)
        self._refusals: dict[int, ChannelRefusedError] = {}
        self._abandoned: dict[int, paramiko.Channel] = {}
        self._over = threading.Event()
        with contextlib.suppress(OSError, AttributeError):  # through a jump host it is a channel
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        options_now = self.get_security_options()
        first = [each for each in algorithms if each in options_now.key_types]
        options_now.key_types = [*first, *(each for each in options_now.key_types if each not in first)]

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Without certificates: no authority is trusted here, so a host must show its key."""
        return tuple(self._filter_algorithm("keys"))

    def guard(self) -> None:
        """From here on, once authenticated, silence is found out."""
        threading.Thread(target=self._judge, name="ssh-silence", daemon=True).start()

    def open_stream(self, kind: str, *fields: str | int, timeout: float) -> paramiko.Channel:
        """A channel of any kind. ChannelRefusedError with the far side's words, TimeoutError, WireLostError."""
        channel, opened = self._new_channel()
        number = channel.get_id()
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_OPEN)
        message.add_string(kind)
        for field in (number, self.default_window_size, self.default_max_packet_size, *fields):
            message.add_int(field) if isinstance(field, int) else message.add_string(field)
        with contextlib.suppress(EOFError, OSError):  # the end is seen below
            self._send_user_message(message)
        if not opened.wait(timeout) and self._abandon(channel):
            raise TimeoutError
        if refused := self._refusals.pop(number, None):
            raise refused
        if not self.active:
            raise WireLostError(self.lost or "the connection was closed")
        return channel

    def close(self) -> None:
        self.lost = self.lost or "it was closed"
        super().close()

    def run(self) -> None:
        try:
            super().run()
        finally:
            self.lost = self.lost or "the other side closed it"
            self._over.set()

    def _new_channel(self) -> tuple[paramiko.Channel, threading.Event]:
        """As in Transport.open_channel."""
        with self.lock:
            number = self._next_channel()
            channel = paramiko.Channel(number)
            self._channels.put(number, channel)
            self.channel_events[number] = opened = threading.Event()
            self.channels_seen[number] = True
        channel._set_transport(self)  # noqa: SLF001
        channel._set_window(self.default_window_size, self.default_max_packet_size)  # noqa: SLF001
        if not self.active:
            opened.set()
        return channel, opened

    def _abandon(self, channel: paramiko.Channel) -> bool:
        """Nobody waits for it any more; when it opens after all it is closed. False if it has been answered just now."""
        with self.lock:
            if channel.get_id() not in self.channel_events:
                return False
            self._abandoned[channel.get_id()] = channel
            return True

    def _parse_channel_open_success(self, message: paramiko.Message) -> None:
        number = message.get_int()
        message.rewind()
        super()._parse_channel_open_success(message)
        if late := self._abandoned.pop(number, None):
            late.close()

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        number, reason, text = message.get_int(), message.get_int(), message.get_binary().decode("utf-8", "backslashreplace")
        with self.lock:
            self._channels.delete(number)
            opened = self.channel_events.pop(number, None)
            if self._abandoned.pop(number, None) is None:
                self._refusals[number] = ChannelRefusedError(reason, text)
        if opened is not None:
            opened.set()

    def _ping(self) -> None:
        """A question that every sshd answers, with a refusal. paramiko's own keep-alive asks none while we send."""
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
                self.lost = f"the other side was silent for {SILENT_S:g} s"
                self.close()

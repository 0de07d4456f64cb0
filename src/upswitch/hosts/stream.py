"""A connection with one deadline over all its calls."""

import contextlib

from upswitch.hosts.host import Clock, Connection

_AT_ONCE = 65536  # bytes


class Stream:
    """A stream whose calls together end at `until`: an answer that drips may not outlive the timeout. Raises OSError."""

    def __init__(self, stream: Connection, clock: Clock, until: float) -> None:
        self._stream = stream
        self._clock = clock
        self._until = until

    def send(self, data: bytes) -> None:
        self._arm()
        self._stream.sendall(data)

    def receive(self) -> bytes:
        """The next bytes, whatever came first; b"" when the peer has closed."""
        self._arm()
        return self._stream.recv(_AT_ONCE)

    def drain(self) -> bytes:
        """The next bytes, and all that are there already; b"" when the peer has closed. A flood ends it after some 64 kB.

        A reset behind bytes is not looked at: nginx judges those first too (seen).
        """
        data = self.receive()
        self._stream.setblocking(False)  # noqa: FBT003  (the library's own signature)
        with contextlib.suppress(OSError):
            while data and len(data) < _AT_ONCE and (more := self._stream.recv(_AT_ONCE)):
                data += more
        return data

    def peek(self) -> bytes | None:
        """The first byte; b"" when the peer has closed, None when there is nothing yet. It is taken: nobody reads on after it."""
        self._stream.setblocking(False)  # noqa: FBT003  (the library's own signature)
        try:
            return self._stream.recv(1)
        except BlockingIOError:
            return None

    def _arm(self) -> None:
        left = self._until - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError
        self._stream.settimeout(left)

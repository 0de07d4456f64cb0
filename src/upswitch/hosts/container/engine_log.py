"""What a container writes to stdout or stderr, followed through its engine."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.hosts.container.engine import Container
from upswitch.hosts.ssh.streams import Pipe

_AGAIN_S = 0.3
_MOST_HELD = 64  # blocks of at most 128 kB; beyond them the engine waits for us


class EngineLog:
    """A `Follower` of one of the two streams. It begins at the log's present end.

    The engine ends the log where the container stops: then it is asked again, until the container, or a new one of its name, runs.
    """

    def __init__(self, container: Container, *, is_err: bool, open_pipe: Callable[[Sequence[str]], Pipe]) -> None:
        self._container = container
        self._is_err = is_err
        self._open_pipe = open_pipe
        self._changed = threading.Condition()
        self._blocks = deque[bytes]()
        self._failure: HostError | None = None
        self._is_closed = False
        self._ended = ""
        self._pipe = open_pipe(container.log())
        threading.Thread(target=self._run, name=f"logs of {container.name}", daemon=True).start()

    def read(self) -> bytes:
        """Whole lines since the last call. HostError once where the log ended."""
        with self._changed:
            if self._blocks:
                self._changed.notify_all()
                return self._blocks.popleft()
            failure, self._failure = self._failure, None
        if failure:
            raise failure
        return b""

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._pipe.close()

    def _run(self) -> None:
        while not self._is_closed:
            self._pump()
            self._ended = datetime.now(UTC).isoformat()
            self._pipe.close()
            with self._changed:
                self._failure = self._failure or HostError(
                    f"follow the log of the container {self._container.name}", "it ended", why=Why.CONNECTION_LOST
                )
                self._changed.wait_for(lambda: self._is_closed, _AGAIN_S)
            if not self._is_closed:
                self._begin()

    def _begin(self) -> None:
        try:
            self._pipe = self._open_pipe(self._container.log(self._ended))
        except HostError as exc:
            with self._changed:
                self._failure = exc

    def _pump(self) -> None:
        """Until the log ends."""
        out, err = bytearray(), bytearray()
        ours, other = (err, out) if self._is_err else (out, err)
        while self._pipe.more(out, err):
            other.clear()
            if whole := ours.rfind(b"\n") + 1:
                self._keep(bytes(ours[:whole]))
                del ours[:whole]

    def _keep(self, lines: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._blocks) < _MOST_HELD)
            self._blocks.append(lines)

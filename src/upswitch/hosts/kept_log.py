"""Logs that are no files, because a program keeps them: systemd's journal, or the engine of a container.

`Commands` are those that print such a log. `KeptLogs` reads and follows it as if it were a file of the host.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.basics.value import Value
from upswitch.hosts.host import JOURNAL, Chunk, Ran
from upswitch.hosts.ssh.streams import Pipe

_HISTORY_S = 900
_MOST_LINES = 200_000
_READ_S = 30.0
_FRESH_S = 5.0  # one look at a log is many reads of it, and each would be a run of the command
_AGAIN_S = 0.3
_MOST_HELD = 64  # blocks of at most 128 kB; beyond them the command waits for us

Open = Callable[[Sequence[str]], Pipe]


class Commands(Value):
    """`argv`, then `options` for: follow, since a time, so many lines; then `words`. `is_err`: the lines are on stderr."""

    argv: tuple[str, ...]
    words: tuple[str, ...] = ()
    options: tuple[str, str, str] = ("-f", "--since", "--tail")
    time: str = "{:.3f}"
    is_err: bool = False

    def follow(self, since: float) -> tuple[str, ...]:
        """What prints new lines as they come: since a time in seconds since 1970, from now on where that is 0."""
        follow, begin, lines = self.options
        return (*self.argv, follow, *((begin, self.time.format(since)) if since else (lines, "0")), *self.words)

    def last(self) -> tuple[str, ...]:
        """What prints the last minutes, and ends."""
        _, begin, lines = self.options
        return (*self.argv, begin, self.time.format(time.time() - _HISTORY_S), lines, str(_MOST_LINES), *self.words)


class KeptLogs:
    """The logs of one host; `run` and `open_pipe` start a program where the log is kept."""

    def __init__(self, run: Callable[..., Ran], open_pipe: Open) -> None:
        self._run = run
        self._open_pipe = open_pipe
        self._lately: Mapping[Commands, tuple[float, Ran]] = {}

    @staticmethod
    def journal(path: str) -> Commands:
        """For a path that begins with JOURNAL; the tag (SYSLOG_IDENTIFIER) of its lines follows."""
        argv = ("journalctl", "-q", "--no-pager", "-o", "cat", "-t", path.removeprefix(JOURNAL))
        return Commands(argv=argv, options=("-f", "--since", "-n"), time="@{:.3f}")

    def read(self, commands: Commands, *, offset: int, limit: int) -> Chunk:
        """As `Host.read`, of the last minutes."""
        at, ran = self._lately.get(commands, (0.0, Ran(exit=None)))
        if time.monotonic() > at + _FRESH_S or ran.exit != 0:
            ran = self._run(commands.last(), deadline=_READ_S)
            if ran.exit != 0:
                raise HostError(f"read what {commands.argv[0]} has", ran.words)
            self._lately = {**self._lately, commands: (time.monotonic(), ran)}
        data = ran.err if commands.is_err else ran.out
        return Chunk(inode=0, size=len(data), data=data[offset : offset + limit])

    def follow(self, commands: Commands) -> "KeptLog":
        return KeptLog(commands, open_pipe=self._open_pipe)


class KeptLog:
    """A `Follower`. It begins at the log's present end.

    An engine ends the log where the container stops: then it is asked again, until the container, or a new one of its name, runs.
    """

    def __init__(self, commands: Commands, *, open_pipe: Open) -> None:
        self._commands = commands
        self._open_pipe = open_pipe
        self._changed = threading.Condition()
        self._blocks = deque[bytes]()
        self._failure: HostError | None = None
        self._is_closed = False
        self._pipe = open_pipe(commands.follow(0))
        threading.Thread(target=self._pump_on, name=f"what {commands.argv[0]} has", daemon=True).start()

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

    def _pump_on(self) -> None:
        while not self._is_closed:
            self._pump()
            ended = time.time()
            self._pipe.close()
            with self._changed:
                what = f"follow what {self._commands.argv[0]} has"
                self._failure = self._failure or HostError(what, "it ended", why=Why.CONNECTION_LOST)
                self._changed.wait_for(lambda: self._is_closed, _AGAIN_S)
            if not self._is_closed:
                self._begin(ended)

    def _begin(self, since: float) -> None:
        try:
            self._pipe = self._open_pipe(self._commands.follow(since))
        except HostError as exc:
            with self._changed:
                self._failure = exc

    def _pump(self) -> None:
        """Until the log ends."""
        out, err = bytearray(), bytearray()
        ours, other = (err, out) if self._commands.is_err else (out, err)
        while self._pipe.more(out, err):
            other.clear()
            if whole := ours.rfind(b"\n") + 1:
                self._keep(bytes(ours[:whole]))
                del ours[:whole]

    def _keep(self, lines: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._blocks) < _MOST_HELD)
            self._blocks.append(lines)

"""What upswitch needs from a host, as small Protocols. Their implementations decide nothing.

Every adapter maps the errors of its library to `HostError`.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from upswitch.basics.errors import Owner
from upswitch.basics.result import Failure, Why, why_printed
from upswitch.basics.text import told
from upswitch.basics.value import Value
from upswitch.hosts.count_program import Alike, CountProgram
from upswitch.site.model import Probe, Target, without_query


class Ran(Value):
    """How a command ended. `exit` is None when it was cut off or killed; `reason` says how. Its work may be done or not.

    `lost` is CONNECTION_LOST where the connection was the reason.
    """

    exit: int | None
    out: bytes = b""
    err: bytes = b""
    reason: str = ""
    lost: Why = Why.NONE

    @property
    def words(self) -> str:
        """One line: the reason, else its error output, else its exit code."""
        return self.reason or told(self.err) or f"exit {self.exit}"

    @property
    def why(self) -> Why:
        """The kind of a failure; NONE where we have no name for it."""
        return self.lost or why_printed(self.err)


JOURNAL = "journal:"
"""What begins the path of a log that systemd's journal keeps; the tag of its lines follows. `read` gives its last minutes."""


class Chunk(Value):
    """Bytes of a file from an offset. `size` is the whole file's, in bytes; `inode` tells a rotated file from the old."""

    inode: int
    size: int
    data: bytes


class Follower(Protocol):
    """A growing file, followed by name over rotation (rename + USR1) and truncation (copytruncate)."""

    def read(self) -> bytes:
        """Whole lines that came since the last call, each with its newline; some MiB at most, never blocks."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class CountingFollower(Follower, Protocol):
    """A follower of a log on another machine: it can count lines over there instead of sending them."""

    def count(self, program: CountProgram) -> None:
        """From now on `read` gives only the lines that the program sends whole, and `counts` all the others."""
        ...

    def counts(self) -> tuple[Alike, ...]:
        """What was counted since the last call; never blocks."""
        ...


class Connection(Protocol):
    """A byte stream, in a socket's own words. Raises OSError, and HostError where the host is lost."""

    def settimeout(self, value: float | None, /) -> None: ...

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001  (a socket's own signature)
        """Not blocking: `recv` raises BlockingIOError where there is nothing yet."""
        ...

    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size: int, /) -> bytes:
        """The next bytes; b"" at the peer's end."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Host(Protocol):
    """The machine that nginx runs on. Times are seconds. All but `run` raise HostError.

    `streams` are paths of nginx's own stdout and stderr that `read` and `follow` take as files; () where nobody keeps their lines.
    """

    name: str
    streams: tuple[str, ...]

    def run(self, argv: Sequence[str], *, deadline: float, stdin: bytes = b"", holds_lock: bool = False) -> Ran:
        """Run to the end or the deadline (then exit is None). A missing program is exit 127, as in sh.

        `holds_lock`: the command changes what is live; the host's lock is not free before it has ended, even when we are killed.
        """
        ...

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 24) -> Chunk | None:
        """Up to `limit` bytes from `offset`; None where there is no such file."""
        ...

    def write(self, path: str, data: bytes, *, mode: int) -> None:
        """Replace a whole file: temp in the same folder, mode, fsync, rename, fsync of the folder."""
        ...

    def append(self, path: str, data: bytes, *, is_ahead: bool = False) -> None:
        """Append and fsync; the file is created 0600.

        Ahead: it may travel with the next `run`, `read`, `write` or `append` of this thread, which does nothing and raises
        NotAppendedError where it could not be made durable first. To append nothing is to send what waits.
        """
        ...

    def connect(self, address: str, *, timeout: float) -> Connection:
        """A stream from where the host stands to `IP:PORT`, `[IP6]:PORT`, `name:PORT` or `unix:/path`.

        Raises OSError as the kernel said it: a refused connection is an answer, not a failure of the host.
        """
        ...

    def follow(self, path: str) -> Follower:
        """Follow from the file's present end; a file that appears later is read from its start.

        Of another machine's it may be a CountingFollower.
        """
        ...


@runtime_checkable
class Contained(Host, Protocol):
    """A host that is a container on a machine."""

    def run_outside(self, argv: Sequence[str], *, deadline: float) -> Ran:
        """Run on that machine, as `run` does in the container."""
        ...


class Clock(Protocol):
    def monotonic(self) -> float: ...

    def now(self) -> str:
        """Wall time, ISO 8601 in UTC with milliseconds. For people and the journal; never compared."""
        ...

    def sleep(self, seconds: float) -> None: ...


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

    def receive(self, most: int = _AT_ONCE) -> bytes:
        """The next bytes, whatever came first; b"" when the peer has closed."""
        self._arm()
        return self._stream.recv(most)

    def drain(self) -> bytes:
        """The next bytes, and all that are there already; b"" when the peer has closed. A flood ends it after some 64 kB.

        A reset that follows bytes is ignored: nginx, too, judges the bytes first (measured).
        """
        data = self.receive()
        self._stream.setblocking(False)  # noqa: FBT003  (the library's own signature)
        with contextlib.suppress(OSError):
            while data and len(data) < _AT_ONCE and (more := self._stream.recv(_AT_ONCE)):
                data += more
        return data

    def peek(self) -> bytes | None:
        """Take the first byte; b"" when the peer has closed, None when there is nothing yet. Nobody may read on after it."""
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


class Interrupts(Protocol):
    """Signals that asked us to stop: how many came, and which was the last."""

    count: int
    name: str

    def sleep(self, seconds: float) -> None:
        """Sleep, but wake at a signal."""
        ...


class Prober(Protocol):
    """Health probes from where the host stands."""

    def round(self, targets: Sequence[Target]) -> tuple[Probe, ...]:
        """One probe of each target, in their order, all at once."""
        ...


MARK = "upswitch_watch="
"""Begins what is added to the query of our own requests, so that a log tells them from those of clients.

nginx has it as `$arg_upswitch_watch`: no `-` may be in such a name.
"""


class Asking(Value):
    """One of our own requests. `name` is the server name that it asks for, "" for the URL's own."""

    url: str
    name: str = ""

    @property
    def shown(self) -> str:
        """For people: without our mark, and without the query, which may hold a secret."""
        return without_query(self.url.partition(MARK)[0].rstrip("?&"))


class Asked(Value):
    """The answer to one of our own requests. Only 2xx and 3xx are good ones. `said` is what came instead, "" where it was good.

    `status` is 0 where no answer came.
    """

    failure: Failure
    said: str = ""
    status: int = 0


class Through(Protocol):
    """One URL, asked through nginx as a client would."""

    def ask(self) -> "Asked":
        """Send one request, and judge its answer as the watch rule does."""
        ...

    def close(self) -> None: ...


class Machine(Host, Protocol):
    """A host that is not this machine, with its lock. The kinds of machines are in hosts/__init__.py."""

    def lock_in(self, folder: str) -> "Lock":
        """Its lock in the state folder `folder`. Commands that change what is live run under it once it is ours."""
        ...

    def close(self) -> None: ...


class Opener(Protocol):
    """Opens machines of one kind, all those of a command."""

    def open(self, name: str, address: str, *, user: str, tell: "Tell") -> Machine:
        """`address` as the site file has it; commands run as `user`. HostError where the address can't be used."""
        ...


class Lock(Protocol):
    """The kernel's lock on one host; free as soon as its holder is gone. `epoch` is our number among its holders."""

    epoch: int

    def acquire(self, owner: "Owner") -> "Owner | None":
        """None when it is ours now; else who holds it."""
        ...

    def holder(self) -> "Owner | None":
        """Who holds it now; looking does not take it."""
        ...

    def beat(self) -> None:
        """Renew the lease, which ends some seconds after the last beat. HostError where it can't be renewed."""
        ...

    def release(self) -> None: ...


class Tell(Protocol):
    """Reports to the user what happens: the step's word and one line. Never blocks, never raises."""

    def __call__(self, step: str, said: str, *, is_passing: bool = False, is_bad: bool = False) -> None:
        """A passing line is progress: the next one replaces it. A bad one says that something failed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Everything that touches the world, for one host."""

    host: Host
    prober: Prober
    through: Callable[[Asking], Through]
    clock: Clock
    lock: Lock
    interrupts: Interrupts
    tell: Tell

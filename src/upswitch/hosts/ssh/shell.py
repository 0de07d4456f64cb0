"""A shell on the host that waits for commands: one round trip each, instead of four for a session of its own.

A frame is a header of 64 bytes (kind, nonce, deadline in seconds, length of the text, length of its input), then the text and the
input. The shell evaluates the text. In it, `run` starts a command under `timeout -s KILL`, which ends its whole process group. The
shell then reads the rest of the input, and ends both outputs with the nonce. A command can't print that end, as it does not
know the nonce. The text ends with the nonce too, so a text that was cut off is not run.

A shell that holds the lock has a lease, in seconds: it ends when no frame has come for so long. So the lock becomes free
when upswitch hangs or the network is cut.
"""

import contextlib
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import LifoQueue

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.hosts.host import Ran
from upswitch.hosts.sh import script
from upswitch.hosts.ssh.streams import Pipe

_RUN, _INSIDE, _BEAT = "R", "E", "B"
"""The kinds of a frame: a command, a script for the shell itself, nothing to be done."""

_HEADER = 64
_SLACK_S = 5.0
_KILLED = 128
_AT_ONCE = 1 << 16

# The script goes in as input and not as an argument: not every login shell takes one of several lines.
_BEGIN = (
    's=$(dd bs=65536 iflag=fullblock,count_bytes count="$3" status=none);'
    ' [ "$1" = 0 ] || ! command -v bash >/dev/null || exec bash -c "$s" "$0" "$@"; eval "$s"'
)


def open_shell(begin: Callable[[Sequence[str]], Pipe], *, lease: int = 0) -> "Shell":
    """`begin` starts a program on the host. `lease` in seconds, 0 for none."""
    over = secrets.token_hex(16)
    program = script("upswitch.hosts.ssh", "shell.sh").encode()
    pipe = begin(("sh", "-c", _BEGIN, "upswitch", str(lease), over, str(len(program))))
    pipe.send(program)
    return Shell(pipe, over.encode())


def quoted(argv: Sequence[str]) -> str:
    """The one place where a command becomes text."""
    return shlex.join(argv)


class Shell:
    """One far-side shell; calls from several threads wait for each other."""

    def __init__(self, pipe: Pipe, over: bytes) -> None:
        self._pipe = pipe
        self._over = over
        self.is_over = False
        """The shell ended by itself, and did not run the last command."""
        self._lock = threading.Lock()
        self._is_broken = False

    @property
    def is_alive(self) -> bool:
        return not self._is_broken and self._pipe.is_open

    def close(self) -> None:
        self._is_broken = True
        self._pipe.close()

    def run(self, argv: Sequence[str], *, deadline: float, stdin: bytes = b"", before: str = "") -> Ran:
        """One command, to its end or the deadline. HostError where it could not be sent.

        `before`: one line of script for the shell itself; the command is begun only where that ends with 0, else its exit is ours.
        """
        text = f"run {quoted(argv)}"
        return self._ask(_RUN, f"{before} && {text}" if before else text, deadline=deadline, stdin=stdin)

    def evaluate(self, program: str, *args: str, deadline: float) -> Ran:
        """Run a script in the shell itself, which keeps what it opens. It must not exit."""
        return self._ask(_INSIDE, f"set -- {quoted(args)}\n{program}", deadline=deadline)

    def beat(self) -> None:
        """Renew the lease. It does nothing while a command runs: the lease begins again at the command's end."""
        if not self.is_alive:
            raise self._pipe.failure()
        if self._lock.acquire(blocking=False):
            try:
                self._pipe.send(_frame(_BEAT, "-", 0.0))
            finally:
                self._lock.release()

    def _ask(self, kind: str, command: str, *, deadline: float, stdin: bytes = b"") -> Ran:
        nonce = secrets.token_hex(16)
        text = f"{command}\n#{nonce}".encode("utf-8", "surrogateescape")
        with self._lock:
            if not self.is_alive:
                raise self._pipe.failure()
            sender = self._send(_frame(kind, nonce, deadline, len(text), len(stdin)) + text + stdin)
            ran = self._receive(nonce.encode(), deadline)
            if ran is None:
                is_lost = not self._pipe.is_open
                reason = self._pipe.failure().reason if is_lost else f"no end within {deadline:g} s"
                self.close()
                return Ran(exit=None, reason=reason, lost=Why.CONNECTION_LOST)
            if sender is not None:
                sender.join()
            return ran

    def _send(self, data: bytes) -> threading.Thread | None:
        """Send long data in a thread: a command that prints before it has read all its input would block both sides."""
        if len(data) <= _AT_ONCE:
            self._pipe.send(data)
            return None

        def send() -> None:
            with contextlib.suppress(HostError):  # `_receive` sees the lost connection too
                self._pipe.send(data)

        sender = threading.Thread(target=send, name="ssh-stdin", daemon=True)
        sender.start()
        return sender

    def _receive(self, nonce: bytes, deadline: float) -> Ran | None:
        """Both outputs up to their ends; None where an end does not come in time."""
        until = time.monotonic() + deadline + _SLACK_S
        end, end_err = len(nonce) + 5, nonce + b"\n"
        out, err = bytearray(), bytearray()
        while not out[-end:].startswith(nonce):
            if time.monotonic() > until or not self._pipe.more(out, err):
                self.is_over = out == self._over
                return None
        while not err.endswith(end_err):
            if not (data := self._pipe.receive_err(timeout=max(0.0, until - time.monotonic()))):
                return None
            err += data
        code = int(out[-4:-1])
        killed = f"killed, after at most {deadline:g} s" if code > _KILLED else ""
        return Ran(exit=None if killed else code, out=bytes(out[:-end]), err=bytes(err[: -len(end_err)]), reason=killed)


def _frame(kind: str, nonce: str, deadline: float, *sizes: int) -> bytes:
    """A header. To `timeout` a duration of 0 would be none at all."""
    words = (kind, nonce, f"{max(deadline, 0.001):.3f}", *map(str, sizes or (0, 0)))
    return f"{' '.join(words):<{_HEADER - 1}}\n".encode()


MOST = 3
"""sshd's MaxSessions is 10: the lock, the followed logs and the relays need some too."""


class Shells:
    """At most MOST shells over one connection, each used by one thread at a time."""

    def __init__(self, open_shell: Callable[[], Shell]) -> None:
        self._open = open_shell
        self._live = set[Shell]()
        self._free = LifoQueue[Shell | None]()  # None: another one may be opened
        for _ in range(MOST):
            self._free.put(None)

    @contextmanager
    def one(self) -> Iterator[Shell]:
        """HostError where none can be opened."""
        shell = self._taken()
        try:
            yield shell
        finally:
            if not shell.is_alive:
                self._live.discard(shell)
            self._free.put(shell if shell.is_alive else None)

    def _taken(self) -> Shell:
        while (shell := self._free.get()) is None:
            try:
                shell = self._open()
            except HostError:
                if not self._live:
                    self._free.put(None)
                    raise
                continue  # sshd allows no further session (MaxSessions): one that is open becomes free
            self._live.add(shell)
            break
        return shell

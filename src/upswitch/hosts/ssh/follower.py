"""A growing log file on another machine, followed there and taken up again after a cut.

follow.sh runs on the host and looks five times a second. What has come it gives to awk (count_program.py), and behind awk's rows
it sends a line that names the file's inode and the offset behind the last whole line: the frame. So we always know where to go on
after a cut, and rows without their frame are read again. Over a rename it keeps the old file open beside the new one until
nothing has come for 1 s, as the local follower does (hosts/local/follow.py says why). It sees a truncation by the size, or by the
first 512 bytes.

A frame begins with a word that the host learns from us, so no client can write one. When we are slow, its writes wait, and the
lines with them. It ends when its input ends, or when nobody takes its output any more. It needs POSIX sh, coreutils, awk and /proc.
"""

import secrets
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.basics.text import told
from upswitch.hosts import sh
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.count_program import Alike, CountProgram, whole_lines
from upswitch.hosts.ssh.streams import Pipe
from upswitch.hosts.wait import until

MOST_WHOLE = 500
"""Lines of requests that did not go well that one look sends where lines are counted; 2,500 a second."""

BEAT_S = 2.0
"""Seconds; it says so often that it lives."""

MOST_HELD = 1 << 23
"""Bytes of lines that wait for `read`. When there are more, the far side waits."""

_PART = 1 << 17  # bytes
_START_S = 15.0
_SILENT_S = 5 * BEAT_S
_REOPEN_S = 1.0


class Frames:
    """Frames out of the program's output, however it is cut: the rows, the frame's kind and what else it says.

    Kinds: `=` the rows end at this offset of this inode; `x` that file is left; `?` it is gone; `.` nothing is new; `!` the program
    has ended, and why.
    """

    def __init__(self, nonce: str) -> None:
        self._sign = f"{nonce} ".encode()
        self._held = bytearray()
        self._seen = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Those that are complete now."""
        self._held += data
        while (begin := self._held.find(self._sign, self._seen)) >= 0:
            self._seen = begin
            if (end := self._held.find(b"\n", begin)) < 0:
                return
            kind, _, said = bytes(self._held[begin + len(self._sign) : end]).partition(b" ")
            rows = bytes(self._held[:begin])
            del self._held[: end + 1]
            self._seen = 0
            yield rows, kind, said
        self._seen = max(0, len(self._held) - len(self._sign))


def argv(path: str, *, nonce: str, program: CountProgram, places: Mapping[int, int] | None) -> tuple[str, ...]:
    """`places`: offsets by inode to go on from; None: begin at the file's present end."""
    resumed = () if places is None else ("again", *(f"{inode}:{offset}" for inode, offset in places.items()))
    return sh.argv("upswitch.hosts.ssh", "follow.sh", path, nonce, program.awk, str(MOST_WHOLE), *resumed)


class FarFollower:
    """A `Follower`. It starts at the file's present end; a file that appears later is read from its start.

    After a cut it goes on where the last whole line ended, also in the file that was renamed meanwhile, as long as that is in the
    same folder.
    """

    def __init__(self, path: str, *, open_pipe: Callable[[Sequence[str]], Pipe]) -> None:
        """HostError where the file can't be followed. `open_pipe` starts a program on the host; it is called again after a cut."""
        self._what = f"follow {path}"
        self._path = path
        self._open_pipe = open_pipe
        self._program = self._wanted = whole_lines()
        self._changed = threading.Condition()
        self._places: dict[int, int] = {}
        self._blocks = deque[bytes]()
        self._held = 0
        self._alike = Counter[tuple[bytes, bool]]()
        self._failure: HostError | None = None
        self._is_closed = self._is_cut = False
        self._frames, self._pipe = self._start(None)
        self._thread = threading.Thread(target=self._run, name=self._what, daemon=True)
        self._thread.start()

    def read(self) -> bytes:
        """Whole lines since the last call, each with its newline, at most 4 MiB of them. HostError once where it was cut off."""
        with self._changed:
            if self._blocks:
                block = self._blocks.popleft()
                self._held -= len(block)
                self._changed.notify_all()
                return block
            failure, self._failure = self._failure, None
        if failure:
            raise failure
        return b""

    def count(self, program: CountProgram) -> None:
        """From the next look on, lines that it can count are not sent: `counts` has them. No line is lost or comes twice."""
        with self._changed:
            self._wanted = program
            self._changed.notify_all()
        self._pipe.close()

    def counts(self) -> tuple[Alike, ...]:
        """What was counted over there since the last call: other lines than those that `read` gives."""
        with self._changed:
            found, self._alike = self._alike, Counter()
        return tuple(Alike(line=line, is_good=is_good, times=times) for (line, is_good), times in found.items())

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._pipe.close()
        self._thread.join(_START_S)

    # ---- the reader's thread ----

    def _run(self) -> None:
        while not self._is_closed:
            try:
                self._pump()
            except HostError as exc:
                if not self._is_turning:
                    self._fail(exc)
            self._pipe.close()
            if not self._is_turning:
                self._pause(_REOPEN_S)  # a program that ends as soon as it has begun must not be begun without a pause
            until(bool, self._is_begun_again, every=_REOPEN_S, clock=SystemClock(), sleep=self._pause)

    def _pump(self) -> None:
        """Until the stream ends, which it says by HostError."""
        while not (self._is_closed or self._is_turning):
            self._await_room()
            for frame in self._receive(self._frames, self._pipe, timeout=_SILENT_S):
                self._keep(*frame)

    def _is_begun_again(self) -> bool:
        """Also true where there is nothing to begin any more."""
        if self._is_closed:
            return True
        try:
            frames, pipe = self._start(self._places)
        except HostError as exc:
            self._fail(exc)
            return False
        with self._changed:
            self._frames, self._pipe, self._is_cut = frames, pipe, False
        return True

    @property
    def _is_turning(self) -> bool:
        """The program is being replaced, from lines to counts: its end is no failure."""
        return self._wanted is not self._program

    def _fail(self, failure: HostError) -> None:
        """Report it once for each lost connection, not for each attempt to connect again."""
        with self._changed:
            if not self._is_cut:
                self._failure = failure
            self._is_cut = True

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, seconds)

    def _await_room(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._is_turning or self._held < MOST_HELD)

    # ---- the stream ----

    def _start(self, places: Mapping[int, int] | None) -> tuple[Frames, Pipe]:
        """Begun, and said to have begun: from then on no line is missed."""
        self._program = self._wanted
        nonce = secrets.token_hex(16)
        frames = Frames(nonce)
        pipe = self._open_pipe(argv(self._path, nonce=nonce, program=self._program, places=places))
        try:
            is_begun = False
            while not is_begun:
                for frame in self._receive(frames, pipe, timeout=_START_S):
                    self._keep(*frame)
                    is_begun = is_begun or frame[1] == b"."
        except HostError:
            pipe.close()
            raise
        return frames, pipe

    def _receive(self, frames: Frames, pipe: Pipe, *, timeout: float) -> Iterator[tuple[bytes, bytes, bytes]]:
        try:
            data = pipe.receive(_PART, timeout=timeout)
        except TimeoutError as exc:
            raise HostError(self._what, f"the host has said nothing for {timeout:g} s", why=Why.CONNECTION_LOST) from exc
        if not data:
            raise HostError(self._what, "the connection was lost, or the program on the host was ended", why=Why.CONNECTION_LOST)
        return frames.feed(data)

    def _keep(self, rows: bytes, kind: bytes, said: bytes) -> None:
        match kind:
            case b"=":
                self._keep_rows(rows)
                inode, offset = map(int, said.split())
                self._places[inode] = offset
            case b"x":
                self._places.pop(int(said), None)
            case b"?":
                self._places.pop(int(said), None)
                self._failure = HostError(self._what, "it was rotated away while the connection was lost: some lines are missing")
            case b"!":
                raise HostError(self._what, told(said))
            case _:
                return

    def _keep_rows(self, rows: bytes) -> None:
        if not rows:
            return
        try:
            lines, counts = self._program.rows(rows)
        except ValueError as exc:
            raise HostError(self._what, f"what awk counted there can't be read: {told(rows[-200:])}") from exc
        with self._changed:
            if lines:
                self._blocks.append(lines)
                self._held += len(lines)
            for each in counts:
                self._alike[each.line, each.is_good] += each.times

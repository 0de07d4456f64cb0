"""Standard input, output and error. One that is closed, full, or read by nobody neither stops nor changes a run.

A pipe that nobody reads blocks its writer once 64 KiB are waiting, and so does a terminal after Ctrl-S. So a thread of its own
writes. Where nothing is taken for DEADLINE_S, what is left is dropped, and so is all that follows until somebody reads again.
Nothing here raises.
"""

import io
import os
import sys
import threading

DEADLINE_S = 10.0
STDIN, STDOUT, STDERR = 0, 1, 2
_PIECE = 4096  # bytes


class Output(io.TextIOWrapper):
    """Text to one of this process's descriptors."""

    def __init__(self, descriptor: int) -> None:
        self._raw = _Unstoppable(descriptor)
        super().__init__(self._raw, encoding="utf-8", errors="backslashreplace", write_through=True)  # type: ignore[arg-type]

    @property
    def is_lost(self) -> bool:
        """Whether nobody takes what is written any more."""
        return self._raw.is_lost


class _Unstoppable(io.RawIOBase):
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._thread = threading.Thread()
        self._is_waited_for = False
        self._is_gone = False
        self._taken = 0

    @property
    def is_lost(self) -> bool:
        """It may end: with Ctrl-Q, or when somebody reads again."""
        return self._is_gone or self._thread.is_alive()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """All of it counts as written, also what is dropped."""
        if data and not self.is_lost:
            self._is_waited_for = True
            self._thread = threading.Thread(target=self._put, args=(memoryview(bytes(data)),), daemon=True)
            self._thread.start()
            self._wait()
        return len(data)

    def _put(self, left: memoryview) -> None:
        try:
            while left and self._is_waited_for:
                written = os.write(self._descriptor, left[:_PIECE])
                self._taken += written
                left = left[written:]
        except OSError:  # the disk is full, or the reader is gone
            self._is_gone = True

    def _wait(self) -> None:
        before = -1
        while self._thread.is_alive() and before != self._taken:
            before = self._taken
            self._thread.join(DEADLINE_S)
        self._is_waited_for = False
        if self._thread.is_alive() and self._descriptor == STDOUT:
            sys.stderr.write(f"nobody read standard output for {DEADLINE_S:g} s: the rest of it is dropped\n")


def make_safe() -> None:
    """Before anything is opened: give closed streams /dev/null, and replace Python's own, which block and raise."""
    for number in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)  # it gets the lowest free number, which is this one; to read from it fails
    sys.stdout, sys.stderr = Output(STDOUT), Output(STDERR)


def is_lost() -> bool:
    """Whether nobody takes our result any more."""
    return isinstance(sys.stdout, Output) and sys.stdout.is_lost

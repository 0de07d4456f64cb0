"""A growing log file on this machine, followed by name over rotation and truncation without losing a line.

At a rename nginx goes on writing to the old file until its workers have reopened (USR1). So the old descriptor is read beside
the new one, as long as the new file is empty, and until nothing has come for 1 s: measured at 50,000 lines/s `tail -F` loses
15,021 lines there, this loses none. A truncation (copytruncate) is seen by the size, or by the first bytes having changed where
the file has grown past our place again; what was cut before we read it is lost in any case.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from upswitch.basics.errors import HostError
from upswitch.basics.result import why_of
from upswitch.hosts.host import Clock
from upswitch.hosts.local import opened

MAX_HALF = 1 << 16
"""Bytes. A line that is longer and has not ended yet is dropped."""

BUDGET = 1 << 21
"""Bytes read in one call at most, half of them of each file. Reading twice as many costs twice as much a byte: caches."""

_LINGER_S = 1.0
_FINGERPRINT = 512


class LogFollower:
    """A `Follower` of a local file. It starts at the file's present end; a file that appears later is read from its start."""

    def __init__(self, path: str, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._leaving: list[tuple[_Tail, float]] = []
        with mapped(f"follow {path}"):
            self._tail = _open(path)
            if self._tail is not None:
                self._tail.skip_to_end()

    def read(self) -> bytes:
        """Whole lines since the last call, each with its newline, at most 2 MiB of them. HostError where the file can't be read."""
        with mapped(f"follow {self._path}"):
            return self._read()

    def close(self) -> None:
        for tail in [tail for tail, _ in self._leaving] + ([self._tail] if self._tail else []):
            tail.close()
        self._leaving, self._tail = [], None

    def _read(self) -> bytes:
        self._follow_rename()
        found = b"".join([self._read_leaving(tail, until) for tail, until in list(self._leaving)])
        return found + (self._tail.read(BUDGET // 2) if self._tail else b"")

    def _read_leaving(self, tail: "_Tail", until: float) -> bytes:
        """A file that was renamed. It is left when its writers have gone on to the new one."""
        found = tail.read(BUDGET // 2)
        now = self._clock.monotonic()
        is_left = self._tail is not None and self._tail.has_data and not found
        if is_left and now >= until:
            tail.close()
            self._leaving.remove((tail, until))
        elif not is_left:
            self._leaving[self._leaving.index((tail, until))] = (tail, now + _LINGER_S)
        return found

    def _follow_rename(self) -> None:
        if self._tail is not None and not self._tail.is_renamed(self._path):
            return
        newer = _open(self._path)
        if newer is not None and self._tail is not None:
            self._leaving.append((self._tail, self._clock.monotonic() + _LINGER_S))
        self._tail = newer or self._tail


class _Tail:
    """One open file and our place in it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0
        self._half = b""
        self._is_skipping = False
        self._first = b""

    def close(self) -> None:
        os.close(self._descriptor)

    def skip_to_end(self) -> None:
        """Go to the end, but take a line that is half written with us: it will have been completed after we came."""
        size = os.fstat(self._descriptor).st_size
        self._remember_first()
        last = os.pread(self._descriptor, min(size, MAX_HALF), max(0, size - MAX_HALF))
        self._half = last[last.rfind(b"\n") + 1 :]
        self._offset = max(0, size - MAX_HALF) + len(last)

    def is_renamed(self, path: str) -> bool:
        """Another file has the name now. False while none has it."""
        try:
            named = os.stat(path)
        except FileNotFoundError:
            return False
        return not os.path.samestat(named, os.fstat(self._descriptor))

    @property
    def has_data(self) -> bool:
        """Whether we have read any bytes of it."""
        return self._offset > 0

    def read(self, budget: int) -> bytes:
        """Whole lines, each with its newline."""
        if self._is_truncated():
            self._offset, self._half, self._is_skipping, self._first = 0, b"", False, b""
        self._remember_first()
        data = os.pread(self._descriptor, budget, self._offset)
        self._offset += len(data)
        end = data.rfind(b"\n") + 1
        if not end:
            self._keep_half(self._half + data)
            return b""
        whole = b"".join((self._half, memoryview(data)[:end]))  # one copy, not two
        start = whole.index(b"\n") + 1 if self._is_skipping else 0
        self._is_skipping = False
        self._keep_half(data[end:])
        return whole[start:]

    def _keep_half(self, half: bytes) -> None:
        self._is_skipping = self._is_skipping or len(half) > MAX_HALF
        self._half = b"" if self._is_skipping else half

    def _is_truncated(self) -> bool:
        if os.fstat(self._descriptor).st_size < self._offset:
            return True
        return os.pread(self._descriptor, len(self._first), 0) != self._first

    def _remember_first(self) -> None:
        if len(self._first) < _FINGERPRINT:
            self._first = os.pread(self._descriptor, _FINGERPRINT, 0)


def _open(path: str) -> _Tail | None:
    """None where it is not there. OSError where it is no file: in a container, access.log may be a link to /dev/stdout."""
    try:
        return _Tail(opened.regular(path))
    except FileNotFoundError:
        return None


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """The kernel's errors as HostError. `what` is what could not be done."""
    try:
        yield
    except OSError as exc:
        raise HostError(what, exc.strerror or str(exc), why=why_of(exc)) from exc

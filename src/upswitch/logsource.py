"""Logs as blocks of whole lines, wherever they are: a file, one compressed, a pipe, the host's own log.

What can be entered in the middle is: the place where a time begins is found by halving (lines stand in the order of their times,
but for a few seconds). Any other is read from its start.
"""

import bisect
import contextlib
import gzip
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Protocol

from upswitch import lookback
from upswitch.core.errors import HostError
from upswitch.core.history import seconds_of
from upswitch.core.logformat import LineReader
from upswitch.ports import Host
from upswitch.spans import EVER, Span

STDIN = "-"
_BLOCK = 1 << 20
_PEEK = 1 << 16
_LONGEST = 1 << 24  # bytes of one line; a longer one is dropped
_LATE = 5  # seconds by which a line may stand behind its time
_GZIP = b"\x1f\x8b"
_ERROR_TIME = re.compile(rb"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[", re.MULTILINE)


_File = io.BufferedReader | gzip.GzipFile


class Times(Protocol):
    """The times of one kind of log, and since when they matter."""

    @property
    def kind(self) -> str: ...

    @property
    def is_bounded(self) -> bool: ...

    def of(self, lines: bytes) -> list[str]:
        """Those of the lines that have one, as written."""
        ...

    def is_before(self, time: str) -> bool: ...


class ErrorTimes:
    """nginx's own words, which compare as text."""

    kind = "error"

    def __init__(self, span: Span = EVER) -> None:
        self._since = span.words
        self.is_bounded = self._since != ""

    def of(self, lines: bytes) -> list[str]:
        return [found.decode() for found in _ERROR_TIME.findall(lines)]

    def is_before(self, time: str) -> bool:
        return time < self._since


class AccessTimes:
    """Whatever time the format has."""

    kind = "access"

    def __init__(self, reader: LineReader, span: Span = EVER) -> None:
        self._reader = reader
        self._since = (span.unix or 0) - _LATE
        self.is_bounded = span.unix is not None

    def of(self, lines: bytes) -> list[str]:
        entries = (self._reader.read(line) for line in lines.split(b"\n"))
        return [entry.time for entry in entries if entry and entry.time]

    def is_before(self, time: str) -> bool:
        at = seconds_of(time)
        return at is not None and at < self._since


class FileSource:
    """A file by its name, `-` for stdin; compressed or not is seen by its content. It can be read more than once.

    OSError where it can't be opened. `cut` says why a compressed one ended too soon, "" where it did not.
    """

    def __init__(self, name: str) -> None:
        self.name = "stdin" if name == STDIN else name
        self.cut = ""
        self._path = name
        self._kept = _kept(name)
        with self._raw() as file:
            self._is_gzip = file.read(len(_GZIP)) == _GZIP

    def blocks(self, times: Times) -> Iterator[bytes]:
        """Whole lines; from not far before the first one that matters, where there is a way to enter there."""
        with self._open() as file:
            if times.is_bounded and not self._is_gzip:
                file.seek(_entry(file.seek(0, 2), lambda at: _peek(file, at), times))
            yield from self._whole(file)

    def head(self) -> bytes:
        """The first lines."""
        with self._open() as file:
            return self._read(file, _PEEK)

    def newest(self, times: Times) -> str:
        """The last time in it, "" without any."""
        found = ""
        with self._open() as file:
            if not self._is_gzip:
                file.seek(max(0, file.seek(0, 2) - _PEEK))
            for block in self._whole(file):
                found = next(iter(times.of(block)[-1:]), found)
        return found

    def _raw(self) -> io.BufferedReader:
        if self._kept is None:
            return open(self._path, "rb")
        file = open(self._kept.fileno(), "rb", closefd=False)  # noqa: SIM115  (closed by whoever asked)
        file.seek(0)
        return file

    @contextlib.contextmanager
    def _open(self) -> Iterator[_File]:
        with self._raw() as raw:
            if self._is_gzip:
                with gzip.GzipFile(fileobj=raw) as file:
                    yield file
            else:
                yield raw

    def _whole(self, file: _File) -> Iterator[bytes]:
        """The last line may lack its newline."""
        half = b""
        while data := self._read(file, _BLOCK):
            lines, newline, rest = (half + data).rpartition(b"\n")
            half = rest if len(rest) <= _LONGEST else b""
            if newline:
                yield lines + newline
        if half:
            yield half + b"\n"

    def _read(self, file: _File, size: int) -> bytes:
        try:
            return file.read1(size)  # what came before the damage comes first
        except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
            self.cut = f"{self.name} is cut off or damaged ({exc}): what stood before was read"
            return b""


class HostSource:
    """A log of the host, by its path. HostError where it can't be read; one that is not there is empty."""

    def __init__(self, host: Host, path: str) -> None:
        self.name = path
        self.cut = ""
        self._host = host

    def blocks(self, times: Times) -> Iterator[bytes]:
        """Whole lines, from not far before the first one that matters; of a busy log only the last part (lookback.MOST)."""
        chunk = self._host.read(self.name, limit=0)
        if chunk is None:
            raise HostError(f"read {self.name}", "there is no such file")
        start = _entry(chunk.size, self._peek, times) if times.is_bounded else 0
        if chunk.size - start > lookback.MOST:
            self.cut = f"{self.name}: only the last {lookback.MOST >> 20} MiB were read"
        yield from lookback.blocks(self._host, self.name, range(max(start, chunk.size - lookback.MOST), chunk.size))

    def reaches(self, times: Times) -> bool:
        """Whether its last line matters; False where it can't be read."""
        try:
            chunk = self._host.read(self.name, limit=0)
            found = times.of(self._peek(max(0, chunk.size - _PEEK))) if chunk else []
        except HostError:
            return False
        return bool(found) and not times.is_before(found[-1])

    def _peek(self, offset: int) -> bytes:
        chunk = self._host.read(self.name, offset=offset, limit=_PEEK)
        return chunk.data if chunk else b""


Source = FileSource | HostSource


def _entry(size: int, peek: Callable[[int], bytes], times: Times) -> int:
    """An offset not far before the first line that matters; 0 where that may be all."""

    def begins_late(offset: int) -> bool:
        found = times.of(peek(offset).partition(b"\n")[2])
        return not found or not times.is_before(found[0])

    spots = range(0, size, _BLOCK)
    found = bisect.bisect_left(spots, True, key=begins_late)  # noqa: FBT003  (what is looked for, not an option)
    return max(0, found - 1) * _BLOCK


def _peek(file: _File, offset: int) -> bytes:
    file.seek(offset)
    return file.read(_PEEK)


def _kept(name: str) -> IO[bytes] | None:
    """What comes out of a pipe, which can be read only once; None for a plain file."""
    if name != STDIN and stat.S_ISREG(os.stat(name).st_mode):
        return None
    kept = tempfile.TemporaryFile()  # noqa: SIM115  (for the life of the process)
    with contextlib.ExitStack() as closing:
        shutil.copyfileobj(sys.stdin.buffer if name == STDIN else closing.enter_context(open(name, "rb")), kept)
    kept.flush()
    return kept

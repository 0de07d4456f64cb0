"""Logs as blocks of whole lines, wherever they are: a file, one compressed, a pipe, the host's own log.

What can be entered in the middle is (logs/last_minutes.py); any other is read from its start.
"""

import contextlib
import errno
import gzip
import io
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO

from upswitch.basics.text import plain
from upswitch.logs.last_minutes import BLOCK, MOST, PEEK, HostSource, entry
from upswitch.logs.since import Times

STDIN = "-"
_LONGEST = 1 << 24  # bytes of one line; a longer one is dropped
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = zlib.MAX_WBITS | 16  # zlib's way to say: with gzip's header


_File = io.BufferedReader | gzip.GzipFile


class FileSource:
    """A file by its name, `-` for stdin; compressed or not is seen by its content.

    OSError where it can't be opened, or is a device. `name` is made safe to show. `cut` says why a compressed one
    ended too soon, "" where it did not.
    """

    def __init__(self, name: str) -> None:
        self.name = "stdin" if name == STDIN else plain(name)
        self.cut = ""
        self._path = name
        mode = os.stat(0 if name == STDIN else name).st_mode
        if name != STDIN and stat.S_ISCHR(mode):
            raise OSError(errno.EINVAL, "a device is no log", name)
        self._pipe = None if name != STDIN and stat.S_ISREG(mode) else _pipe(name)
        with self._raw() as file:
            self._start = file.peek(PEEK) if self._pipe else file.read(PEEK)
        self._is_gzip = self._start.startswith(_GZIP)

    def blocks(self, times: Times) -> Iterator[bytes]:
        """Whole lines; from not far before the first one that matters, where there is a way to enter there. Of a pipe only once."""
        with self._open() as file:
            if not (self._pipe or self._is_gzip):
                _enter(file, entry(file.seek(0, 2), lambda at: _peek(file, at), times))
            yield from self._whole(file)

    def head(self) -> bytes:
        """The first lines."""
        if not self._is_gzip:
            return self._start
        try:
            return zlib.decompressobj(_GZIP_WINDOW).decompress(self._start, PEEK)
        except zlib.error:
            return b""

    def newest(self, times: Times, *, most: int = MOST) -> str:
        """The last time in it, "" without any. What comes out of a pipe is kept from now on: it is read again.

        OSError where that is more than `most` bytes, or can't be kept.
        """
        found = ""
        if self._pipe:
            try:
                self._path, self._pipe = _kept(self._pipe, most), None
            except OSError as exc:
                raise OSError(exc.errno, f"can't keep what comes out of it: {exc.strerror}", self.name) from exc
        with self._open() as file:
            if not self._is_gzip:
                _enter(file, max(0, file.seek(0, 2) - PEEK))
            for block in self._whole(file):
                found = times.last(block) or found
        return found

    @contextlib.contextmanager
    def _raw(self) -> Iterator[io.BufferedReader]:
        if self._pipe:
            yield self._pipe
            return
        with open(self._path, "rb") as file:
            yield file

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
        while data := self._read(file):
            lines, newline, rest = (half + data).rpartition(b"\n")
            half = rest if len(rest) <= _LONGEST else b""
            if newline:
                yield lines + newline
        if half:
            yield half + b"\n"

    def _read(self, file: _File) -> bytes:
        try:
            return file.read1(BLOCK)  # what came before the damage comes first
        except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
            self.cut = f"{self.name} is cut off or damaged ({exc}): what stood before was read"
            return b""


Source = FileSource | HostSource


class _Pipe(io.RawIOBase):
    """What is no plain file, once from its start to its end. Its first read waits until there is enough to look at."""

    def __init__(self, name: str) -> None:
        self._file = open(0 if name == STDIN else name, "rb", closefd=name != STDIN)  # noqa: SIM115  (for the life of the process)
        self._first = self._file.read(PEEK)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._first[: len(buffer)] or self._file.read1(len(buffer))
        self._first = self._first[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def _pipe(name: str) -> io.BufferedReader:
    return io.BufferedReader(_Pipe(name), BLOCK)


def _kept(pipe: IO[bytes], most: int) -> str:
    """Where all that comes out of it can be read again, for the life of the process."""
    with tempfile.TemporaryFile() as file:
        while data := pipe.read(BLOCK):
            if file.tell() + len(data) > most:
                raise OSError(errno.EFBIG, f"it is more than {most >> 20} MiB")
            file.write(data)
        file.flush()
        return f"/proc/self/fd/{os.dup(file.fileno())}"


def _enter(file: _File, offset: int) -> None:
    """At the first line that begins after the offset: the one that it stands in is torn."""
    file.seek(offset)
    while offset and (part := file.readline(BLOCK)) and not part.endswith(b"\n"):
        pass


def _peek(file: _File, offset: int) -> bytes:
    file.seek(offset)
    return file.read(PEEK)

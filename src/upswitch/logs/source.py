"""Logs as blocks of whole lines, wherever they lie: the host's own log, a file, a compressed one, a pipe.

A busy site writes some GB in ten minutes. Lines stand in the order of their times but for a few seconds (nginx writes a line
when its request has ended, and workers take turns), so the place where a time begins is found by halving the file; from there
on whole blocks are read. What can't be entered in the middle is read from its start.
"""

import bisect
import contextlib
import errno
import gzip
import io
import lzma
import os
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from upswitch.basics.errors import HostError
from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.hosts.count_program import Alike, CountProgram, span_argv
from upswitch.hosts.host import Host
from upswitch.hosts.local import opened
from upswitch.logs.line import HISTORY_S, LineReader, newlines, seconds_of
from upswitch.logs.since import AccessTimes, Span, Times
from upswitch.logs.unwrap import Layer, layers_around

MOST = 2560 << 20
"""Bytes that are read of one log's history, 10 s of work; a busier log has a shorter history, and its length is told."""

MOST_THERE = 512 << 20
"""Bytes that are counted on a host far away: some 10 s of one of its processors."""

MOST_SENT = 16 << 20
"""Bytes of lines that such a host sends because they can't be counted there."""

MOST_FAR = 64 << 20
"""Bytes that are read from there where nothing can be counted."""

BLOCK = 1 << 20
PEEK = 1 << 16
_FAR = 4 << 20
_COUNT_S = 60.0
_MOST_LINES = 100_000


class Counts(Value):
    """Lines of a file: those that came whole, those that were counted, and how many are missing."""

    lines: bytes
    alike: tuple[Alike, ...]
    left: int


class HostSource:
    """A log of the host, by its path. HostError where it can't be read."""

    def __init__(self, host: Host, path: str) -> None:
        self.name = path
        self.cut = ""
        self._host = host

    def blocks(self, times: Times) -> Iterator[bytes]:
        """Whole lines, from not far before the first one that matters; of a busy log only the last part (MOST)."""
        if self._size is None:
            raise HostError(f"read {self.name}", "there is no such file")
        span = self.span(times)
        if len(span) == MOST:
            self.cut = f"{self.name}: only the last {MOST >> 20} MiB were read"
        yield from blocks(self._host, self.name, span)

    def span(self, times: Times, *, most: int = MOST) -> range:
        """Its last bytes, as far as they matter: `most` of them at most."""
        size = self._size or 0
        return range(max(entry(size, self._peek, times), size - most), size)

    def newest(self, times: Times) -> str:
        """The last time in its last block, or behind some huge lines; "" without any."""
        size = self._size or 0
        starts = (max(0, size - length) for length in (BLOCK, _FAR))
        ends = (whole(self._peek(start, limit=size - start), is_torn=start > 0) for start in starts)
        return next(filter(None, map(times.last, ends)), "")

    @property
    def _size(self) -> int | None:
        chunk = self._host.read(self.name, limit=0)
        return chunk.size if chunk else None

    def _peek(self, offset: int, *, limit: int = PEEK) -> bytes:
        chunk = self._host.read(self.name, offset=offset, limit=limit)
        return chunk.data if chunk else b""


class JournalSource:
    """nginx's lines in the host's systemd journal: those of `stderr`, and of `syslog:` to the host itself.

    HostError where it has none since then (seconds since 1970).
    """

    def __init__(self, host: Host, tag: str, *, since: int) -> None:
        self.name = f"journalctl -t {tag}"
        self.cut = ""
        self._host, self._tag, self._since = host, tag, since

    def blocks(self, _times: Times) -> Iterator[bytes]:
        """Whole lines, the last _MOST_LINES at most."""
        argv = (
            "journalctl",
            "-q",
            "--no-pager",
            "-o",
            "cat",
            "-n",
            f"{_MOST_LINES}",
            "--since",
            f"@{self._since}",
            "-t",
            self._tag,
        )
        ran = self._host.run(argv, deadline=_COUNT_S)
        if ran.exit != 0 or not ran.out:
            raise HostError(f"read {self.name}", ran.words if ran.exit else "it has no lines of this time")
        if newlines(ran.out) >= _MOST_LINES:
            self.cut = f"{self.name}: only the last {_MOST_LINES} lines were read"
        yield ran.out


def with_rotated(host: Host, path: str, times: Times) -> tuple[HostSource, ...]:
    """A log, and before it the file that was rotated, where that can be read and its last line matters."""
    rotated = HostSource(host, f"{path}.1")
    try:
        newest = rotated.newest(times)
    except HostError:
        newest = ""
    return (*([rotated] if newest and not times.is_before(newest) else []), HostSource(host, path))


def last_minutes(host: Host, path: str, reader: LineReader, *, most: int = MOST) -> Iterator[bytes]:
    """Blocks of whole lines: the last ten minutes (HISTORY_S) of a log and of the file rotated before it, oldest first.

    Nothing where no line has a time. HostError where the log can't be read; a rotated one that can't be is left out.
    """
    for name, span in _spans(host, path, reader, most=most):
        yield from blocks(host, name, span)


def counted_minutes(host: Host, path: str, reader: LineReader, program: CountProgram) -> Iterator[Counts]:
    """The same, counted on the host (at most MOST_THERE bytes of it): a file each."""
    for name, span in _spans(host, path, reader, most=MOST_THERE):
        ran = host.run(span_argv(name, span, program, room=MOST_SENT), deadline=_COUNT_S)
        used, _, left = ran.err.strip().partition(b" ")
        if ran.exit != 0 or not used.isdigit():
            raise HostError(f"count {name}", ran.words)
        lines, alike = program.rows(ran.out)
        yield Counts(lines=lines, alike=alike, left=int(left or 0))


def _spans(host: Host, path: str, reader: LineReader, *, most: int) -> list[tuple[str, range]]:
    """Oldest first; none where no line has a time."""
    every = AccessTimes(reader)
    newest = [at for log in with_rotated(host, path, every) if (at := seconds_of(log.newest(every))) is not None]
    if not newest:
        return []
    times = AccessTimes(reader, Span(unix=int(max(newest)) - HISTORY_S))
    spans = list[tuple[str, range]]()
    for log in reversed(with_rotated(host, path, times)):  # newest first: a hole between the two would look like quiet seconds
        span = log.span(times, most=most)
        most -= len(span)
        spans.append((log.name, span))
    return spans[::-1]


def entry(size: int, peek: Callable[[int], bytes], times: Times) -> int:
    """A byte offset, not far before the first line that matters; maybe in the middle of a line. 0 where that may be all."""
    if not times.is_bounded:
        return 0

    def is_late(offset: int) -> bool:
        time = times.first(whole(peek(offset), is_torn=True))
        return not time or not times.is_before(time)

    found = bisect.bisect_left(range(0, size, BLOCK), True, key=is_late)  # noqa: FBT003  (what is looked for, not an option)
    return max(0, found - 1) * BLOCK


def blocks(host: Host, path: str, span: range) -> Iterator[bytes]:
    """The whole lines in a span of a file; torn ones at its ends are left out. It stops where the file was replaced."""
    offset, inode = span.start, None
    is_torn = offset > 0
    while offset < span.stop:
        chunk = host.read(path, offset=offset, limit=min(BLOCK, span.stop - offset))
        if chunk is None or not chunk.data or inode not in {None, chunk.inode}:
            return
        inode = chunk.inode
        yield whole(chunk.data, is_torn=is_torn)
        is_torn = b"\n" not in chunk.data  # a line longer than a block: what follows is the rest of it
        offset += chunk.data.rfind(b"\n") + 1 or len(chunk.data)


def whole(data: bytes, *, is_torn: bool) -> bytes:
    """The whole lines; `is_torn`: the first one began before."""
    return data[data.find(b"\n") + 1 if is_torn else 0 : data.rfind(b"\n") + 1]


STDIN = "-"
_LONGEST = 1 << 24  # bytes of one line; a longer one is dropped
_GZIP, _XZ, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_GZIP_WINDOW = zlib.MAX_WBITS | 16  # zlib's way to say: with gzip's header
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


_File = io.BufferedReader | gzip.GzipFile | lzma.LZMAFile


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
        self._is_gzip, self._is_xz = self._start.startswith(_GZIP), self._start.startswith(_XZ)
        self._is_packed = self._is_gzip or self._is_xz
        if self._start.startswith(_ZSTD):
            raise OSError(errno.EINVAL, "zstd can't be read here: unpack it with `zstd -d`, or give `zstd -dc` as a pipe", name)
        self._layers: tuple[Layer, ...] = ()

    def unwrap(self, count: Callable[[bytes], int]) -> None:
        """Takes off what surrounds nginx's lines (unwrap.py). `count`: how many lines of some text can be read."""
        self._layers = layers_around(self.head(), count)

    def _bare(self, text: bytes) -> bytes:
        for layer in self._layers:
            text = layer(text)
        return text

    def blocks(self, times: Times) -> Iterator[bytes]:
        """Whole lines; from not far before the first one that matters, where there is a way to enter there. Of a pipe only once."""
        with self._open() as file:
            if not (self._pipe or self._is_packed):
                _enter(file, entry(file.seek(0, 2), lambda at: self._bare(_peek(file, at)), times))
            yield from self._whole(file)

    def head(self) -> bytes:
        """The first lines."""
        if not self._is_packed:
            return self._bare(self._start)
        unpacking = lzma.LZMADecompressor() if self._is_xz else zlib.decompressobj(_GZIP_WINDOW)
        try:
            return self._bare(unpacking.decompress(self._start, PEEK))
        except _DAMAGED:
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
            if not self._is_packed:
                _enter(file, max(0, file.seek(0, 2) - PEEK))
            for block in self._whole(file):
                found = times.last(block) or found
        return found

    @contextlib.contextmanager
    def _raw(self) -> Iterator[io.BufferedReader]:
        if self._pipe:
            yield self._pipe
            return
        with open(opened.named(self._path), "rb") as file:
            yield file

    @contextlib.contextmanager
    def _open(self) -> Iterator[_File]:
        with self._raw() as raw:
            if self._is_packed:
                with lzma.LZMAFile(raw) if self._is_xz else gzip.GzipFile(fileobj=raw) as file:
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
                yield self._bare(lines + newline)
        if half:
            yield self._bare(half + b"\n")

    def _read(self, file: _File) -> bytes:
        try:
            return file.read1(BLOCK)  # what came before the damage comes first
        except _DAMAGED as exc:
            self.cut = f"{self.name} is cut off or damaged ({exc}): what stood before was read"
            return b""


Source = FileSource | HostSource | JournalSource


class _Pipe(io.RawIOBase):
    """What is no plain file, once from its start to its end. Its first read waits until there is enough to look at."""

    def __init__(self, name: str) -> None:
        self._file = open(0 if name == STDIN else opened.named(name), "rb", closefd=name != STDIN)  # noqa: SIM115  (for our life)
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

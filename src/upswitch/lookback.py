"""The past of a log: the last ten minutes, found by their time from the end of the file instead of by reading it all.

A busy site writes some GB in ten minutes. Lines stand in the order of their times but for a few seconds (nginx writes a line
when its request has ended, and workers take turns), so the place where a time begins is found by halving the file; from there
on whole blocks are counted.
"""

from collections.abc import Iterator

from upswitch.core.errors import HostError
from upswitch.core.history import seconds_of
from upswitch.core.logformat import LineReader
from upswitch.core.rule import HISTORY_S
from upswitch.ports import Host

MOST = 2560 << 20
"""Bytes of one file that are read for its history, 10 s of work; a busier log has a shorter history, and its length is told."""

_BLOCK = 1 << 20
_PEEK = 1 << 16
_LATE = 5  # seconds by which a line may stand behind its time


def last_minutes(host: Host, path: str, reader: LineReader) -> Iterator[bytes]:
    """Blocks of whole lines: the last ten minutes (HISTORY_S) of a log and of the file rotated before it, oldest first.

    HostError where the log can't be read; a rotated one that can't be is left out.
    """
    files = [path, *_readable(host, f"{path}.1")]
    newest = max(_newest(host, each, reader) for each in files)
    for each in reversed(files):
        start, end = seek(host, each, reader, newest - HISTORY_S), _size(host, each)
        yield from blocks(host, each, range(max(start, end - MOST), end))


def seek(host: Host, path: str, reader: LineReader, since: int) -> int:
    """A byte offset, not far before the first line of `since` (Unix time); 0 where that is all of the file."""
    low, high = 0, _size(host, path)
    while high - low > _BLOCK:
        middle = (low + high) // 2
        at = _first_time(_peek(host, path, middle), reader)
        low, high = (middle, high) if at is not None and at < since - _LATE else (low, middle)
    return low


def blocks(host: Host, path: str, span: range) -> Iterator[bytes]:
    """The whole lines in a span of a file; torn ones at its ends are left out. It stops where the file was replaced."""
    offset, inode = span.start, None
    is_torn = offset > 0
    while offset < span.stop:
        chunk = host.read(path, offset=offset, limit=min(_BLOCK, span.stop - offset))
        if chunk is None or not chunk.data or inode not in {None, chunk.inode}:
            return
        inode = chunk.inode
        start = chunk.data.find(b"\n") + 1 if is_torn else 0
        end = chunk.data.rfind(b"\n") + 1
        yield chunk.data[start:end]
        is_torn = end == 0  # a line longer than a block: what follows is the rest of it
        offset += end or len(chunk.data)


def _readable(host: Host, path: str) -> list[str]:
    try:
        return [path] if host.read(path, limit=0) else []
    except HostError:
        return []


def _newest(host: Host, path: str, reader: LineReader) -> int:
    """The time of the last line that has one, 0 without any."""
    tail = _peek(host, path, max(0, _size(host, path) - _PEEK))
    times = (_time_of(line, reader) for line in reversed(tail.split(b"\n")))
    return next((at for at in times if at is not None), 0)


def _first_time(block: bytes, reader: LineReader) -> int | None:
    times = (_time_of(line, reader) for line in block.split(b"\n")[1:])
    return next((at for at in times if at is not None), None)


def _time_of(line: bytes, reader: LineReader) -> int | None:
    entry = reader.read(line)
    at = seconds_of(entry.time) if entry and entry.time else None
    return None if at is None else int(at)


def _peek(host: Host, path: str, offset: int) -> bytes:
    chunk = host.read(path, offset=offset, limit=_PEEK)
    return chunk.data if chunk else b""


def _size(host: Host, path: str) -> int:
    chunk = host.read(path, limit=0)
    return chunk.size if chunk else 0

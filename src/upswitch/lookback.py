"""The past of a log: the last ten minutes, found by their time from the end of the file instead of by reading it all.

A busy site writes some GB in ten minutes. Lines stand in the order of their times but for a few seconds (nginx writes a line
when its request has ended, and workers take turns), so the place where a time begins is found by halving the file; from there
on whole blocks are counted.
"""

from collections.abc import Iterable, Iterator

from upswitch.core.errors import HostError
from upswitch.core.history import seconds_of
from upswitch.core.logformat import LineReader
from upswitch.core.rule import HISTORY_S
from upswitch.ports import Host

MOST = 2560 << 20
"""Bytes that are read of one log's history, 10 s of work; a busier log has a shorter history, and its length is told."""

_BLOCK = 1 << 20
_PEEK = 1 << 16
LATE = 5
"""Seconds by which a line may stand behind its time."""


def last_minutes(host: Host, path: str, reader: LineReader, *, most: int = MOST) -> Iterator[bytes]:
    """Blocks of whole lines: the last ten minutes (HISTORY_S) of a log and of the file rotated before it, oldest first.

    Nothing where no line has a time. HostError where the log can't be read; a rotated one that can't be is left out.
    """
    files = [path, *_readable(host, f"{path}.1")]
    newest = [at for each in files if (at := _newest(host, each, reader)) is not None]
    if not newest:
        return
    left, spans = most, list[tuple[str, range]]()
    for each in files:  # newest first: a hole between the two would look like quiet seconds
        end = _size(host, each)
        span = range(max(seek(host, each, reader, max(newest) - HISTORY_S), end - left), end)
        left -= len(span)
        spans.append((each, span))
    for each, span in reversed(spans):
        yield from blocks(host, each, span)


def seek(host: Host, path: str, reader: LineReader, since: int) -> int:
    """A byte offset, not far before the first line of `since` (Unix time); 0 where that is all of the file."""
    low, high = 0, _size(host, path)
    while high - low > _BLOCK:
        middle = (low + high) // 2
        at = next(_times(_whole(_peek(host, path, middle), is_torn=True).split(b"\n"), reader), None)
        low, high = (middle, high) if at is not None and at < since - LATE else (low, middle)
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
        yield _whole(chunk.data, is_torn=is_torn)
        is_torn = b"\n" not in chunk.data  # a line longer than a block: what follows is the rest of it
        offset += chunk.data.rfind(b"\n") + 1 or len(chunk.data)


def _readable(host: Host, path: str) -> list[str]:
    try:
        return [path] if host.read(path, limit=0) else []
    except HostError:
        return []


def _newest(host: Host, path: str, reader: LineReader) -> int | None:
    """The time of the last line that has one, in the last block."""
    start = max(0, _size(host, path) - _BLOCK)
    lines = _whole(_peek(host, path, start, limit=_BLOCK), is_torn=start > 0).split(b"\n")
    return next(_times(reversed(lines), reader), None)


def _whole(data: bytes, *, is_torn: bool) -> bytes:
    """The whole lines; `is_torn`: the first one began before."""
    return data[data.find(b"\n") + 1 if is_torn else 0 : data.rfind(b"\n") + 1]


def _times(lines: Iterable[bytes], reader: LineReader) -> Iterator[int]:
    """Of those lines that have one."""
    for line in lines:
        entry = reader.read(line)
        at = seconds_of(entry.time) if entry and entry.time else None
        if at is not None:
            yield int(at)


def _peek(host: Host, path: str, offset: int, *, limit: int = _PEEK) -> bytes:
    chunk = host.read(path, offset=offset, limit=limit)
    return chunk.data if chunk else b""


def _size(host: Host, path: str) -> int:
    chunk = host.read(path, limit=0)
    return chunk.size if chunk else 0

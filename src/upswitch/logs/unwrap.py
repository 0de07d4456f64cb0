"""Takes off what others put around nginx's lines: docker, compose, Kubernetes, journald, syslog; and Windows' ends of lines.

Only what the first lines show is taken off, and only where nginx's own line begins behind it: a client can write neither.
"""

import re
from collections.abc import Callable

import msgspec

Layer = Callable[[bytes], bytes]
"""Whole lines with what surrounds them, to the same lines without."""

_DEEPEST = 4
_LOOKED_AT = 200  # lines
_COLOR = rb"(?:\x1b\[[\d;]*m)*"
_ISO = rb"\d{4}-\d\d-\d\d[T _]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|[+-]\d\d:?\d\d))?"
_WHO = rb"\S+ [\w./@-]+(?:\[\d+\])?: "
_PREFIXES = (
    rb"(?:<\d{1,3}>)?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)? " + _WHO,  # syslog, journalctl
    rb"(?:<\d{1,3}>)?1? ?" + _ISO + b" " + _WHO,  # rsyslog, journalctl -o short-iso
    _WHO + rb"(?=\d{4}/\d\d/\d\d )",  # syslog's, inside of the journal's
    rb"<\d{1,3}>1 \S+ \S+ \S+ \S+ \S+ (?:-|\[[^\]\n]*\]) (?:\xef\xbb\xbf)?",  # RFC 5424
    _ISO + rb" std(?:out|err) [FP] ",  # CRI, of containerd and CRI-O
    _COLOR + rb"[\w./@-]+ *" + _COLOR + rb"\|" + _COLOR + b" ?" + _COLOR,  # docker compose, docker service
    rb"\[(?:pod|container)/[^\]\n]+\] ",  # kubectl logs --prefix
    _ISO + rb"[ \t]{1,2}",  # docker logs -t, kubectl logs --timestamps, svlogd, s6-log
    _COLOR + rb"[\w.-]+" + _COLOR + b" " + _COLOR + rb"[\w.-]+" + _COLOR + rb" (?=\d{4}/\d\d/\d\d |\S+ - )",  # stern
)


class _Logged(msgspec.Struct):
    """A line of docker's JSON files, or of `journalctl -o json`."""

    log: str | None = None
    MESSAGE: str | None = None


def layers_around(head: bytes, count: Callable[[bytes], int]) -> tuple[Layer, ...]:
    """What to take off, the outermost first, so that `count` reads as many of the first lines as can be; () where that is none."""
    seen, best, text = list[Layer](), (count(head), 0), b"\n".join(head.split(b"\n")[:_LOOKED_AT])
    while len(seen) < _DEEPEST and (layer := _outermost(text)):
        text = layer(text)
        seen.append(layer)
        best = max(best, (count(text), -len(seen)))
    return tuple(seen[: -best[1]])


def _outermost(text: bytes) -> Layer | None:
    """What most of the lines have around them."""
    layers = (_without_returns, _logged, *(_cut(prefix) for prefix in _PREFIXES))
    least = len(text.split()) and max(1, text.count(b"\n") // 4)
    return next((layer for layer in layers if least and _changed(text, layer) >= least), None)


def _changed(text: bytes, layer: Layer) -> int:
    lines = [line + b"\n" for line in text.split(b"\n") if line]
    return sum(layer(line) != line for line in lines)


def _cut(prefix: bytes) -> Layer:
    pattern = re.compile(b"^" + prefix, re.MULTILINE)
    return lambda block: pattern.sub(b"", block)


def _without_returns(block: bytes) -> bytes:
    return block.replace(b"\r\n", b"\n")


def _logged(block: bytes) -> bytes:
    return b"".join([_message(line) for line in block.splitlines(keepends=True)])


def _message(line: bytes) -> bytes:
    if not line.startswith(b"{"):
        return line
    try:
        found = msgspec.json.decode(line, type=_Logged)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return line
    text = found.log if found.log is not None else found.MESSAGE
    return line if text is None else text.encode().rstrip(b"\n").replace(b"\n", b"\\n") + b"\n"

"""One FastCGI request, and the rule over its answer: nginx_upstream_check_module's, with what is odd in it.

The module looks once, when the socket is empty for the first time. By then the first record must be there whole and one byte
more; a header that came in two pieces is misread. Of that record it reads the *body's* lines as headers too. So a NUL in it, or
a line as `s: x` (any beginning of "status" counts as Status), makes a server down that works. And a line that begins with
anything but a letter, a digit or `-` and holds a colon (`<a href="http:...`) kills nginx's worker with signal 11: its name has
no start, and is compared. All this was seen with both modules. Where the probe must agree with one, it calls all these dead.
Where there is none (Dialect.NONE), it waits for the whole first record and reads its headers only.

Sources: https://fastcgi-archives.github.io/FastCGI_Specification.html, sections 3.3 and 5; fastcgi_parse of both modules.
"""

import re
import struct
from collections.abc import Sequence

from upswitch.health.types import ALIVE, MORE, Answer, ProbeType, dead
from upswitch.site.model import Dialect

Params = Sequence[tuple[str, str]]

_DEFAULT = (("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("SCRIPT_FILENAME", "index.php"))
_HEAD = struct.Struct(">BBHHBx")  # version, type, request, bytes of content, bytes of padding
_VERSION, _REQUEST, _RESPONDER = 1, 1, 1
_BEGIN, _PARAMS, _STDIN, _STDOUT = 1, 4, 5, 6
_KINDS = {3: "the end of the request", 7: "stderr"}
_ONE_BYTE = 127  # the longest name or value whose length takes one byte
_LARGEST = 65528  # bytes of content in one record that need no padding

_LINES = re.compile(rb"[^\n]*\n|[^\n]+")
_END_OF_HEADERS = re.compile(rb"(?<=\n)\r?\n")
_STATUS = re.compile(rb"s(?:t(?:a(?:t(?:us?)?)?)?)?: *([^ \r\n].*)", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(rb"([1-9])[0-9][0-9]|[1-9][0-9]?\Z")
_READABLE = re.compile(rb"\r?\n?|[^\0\r\n]+\r*\n?")
_DEADLY = re.compile(rb"[^A-Za-z0-9\0\r\n-][^\0\r\n:]*:")


def request(params: Params, dialect: Dialect) -> bytes:
    """A request without a body. () is the module's own: GET / of index.php.

    Where stdin should end, the modules send 8 bytes that they never wrote, in practice zeros. A server that minds them is down for
    the module, so there it gets them from us too.
    """
    pairs = b"".join(map(_pair, params or _DEFAULT))
    parts = (pairs[at : at + _LARGEST] for at in range(0, len(pairs), _LARGEST))
    begin = _record(_BEGIN, struct.pack(">HB5x", _RESPONDER, 0))
    stdin = _record(_STDIN, b"") if dialect is Dialect.NONE else bytes(_HEAD.size)
    return begin + b"".join(_record(_PARAMS, part) for part in parts) + _record(_PARAMS, b"") + stdin


def read(data: bytes, alive: Sequence[str], dialect: Dialect) -> Answer:
    """`data` is what came until the socket was empty. An answer without Status is alive whatever `alive` wants."""
    if data and data[0] != _VERSION:
        return dead("the answer is not FastCGI", data)
    if len(data) < _HEAD.size:
        in_pieces = dead("the first record's header came in pieces, which the check module misreads", data)
        return MORE if dialect is Dialect.NONE or not data else in_pieces
    _, kind, number, length, _ = _HEAD.unpack_from(data)
    content = data[_HEAD.size : _HEAD.size + length]
    if wrong := _wrong(kind, number, length):
        return dead(wrong, content)
    if dialect is Dialect.NONE:
        return MORE if len(content) < length else _headers(_END_OF_HEADERS.split(content, 1)[0], alive, dialect)
    if len(data) <= _HEAD.size + length:
        return dead(
            "nothing had come behind the first record's content when it was read: the check module wants a byte more", content
        )
    return _headers(content, alive, dialect)


def _wrong(kind: int, number: int, length: int) -> str:
    """Why a first record with this head is none that a live server sends; "" where it is."""
    if number != _REQUEST:
        return f"the first FastCGI record is for request {number}, not {_REQUEST}"
    if kind != _STDOUT:
        return f"the FastCGI answer begins with {_KINDS.get(kind, f'a record of type {kind}')}"
    return "" if length else "the FastCGI answer begins with the end of its output"


def _headers(content: bytes, alive: Sequence[str], dialect: Dialect) -> Answer:
    for line in _LINES.findall(content):
        if status := _STATUS.match(line):
            return _status(status[1], line, alive)
        if not _READABLE.fullmatch(line):
            return dead("the FastCGI answer's first record holds a NUL or a stray CR", line)
        if _DEADLY.match(line) and dialect is not Dialect.NONE:
            return dead("the FastCGI answer has a line that kills nginx's worker: the check module reads it as a header", line)
    return ALIVE


def _status(value: bytes, line: bytes, alive: Sequence[str]) -> Answer:
    code = _CODE.match(value)
    if code is None:
        return dead("the FastCGI answer's Status is no number", line)
    if not alive or code[1] is None or f"http_{code[1].decode()}xx" in alive:  # None: the record ends within the number
        return ALIVE
    return dead(f"{line.strip().decode('latin-1')} (alive is {', '.join(alive)})")


def _pair(pair: tuple[str, str]) -> bytes:
    name, value = (text.encode("latin-1") for text in pair)
    return _length(name) + _length(value) + name + value


def _length(data: bytes) -> bytes:
    size = len(data)
    return size.to_bytes(1) if size <= _ONE_BYTE else (size | 1 << 31).to_bytes(4)


def _record(kind: int, content: bytes) -> bytes:
    padding = -len(content) % 8
    return _HEAD.pack(_VERSION, kind, _REQUEST, len(content), padding) + content + bytes(padding)


TYPE = ProbeType(
    part="the first FastCGI record",
    send=lambda rule, _: request(rule.fastcgi_param, rule.dialect),
    read=lambda data, rule: read(data, rule.http_expect_alive, rule.dialect),
)

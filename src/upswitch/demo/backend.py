"""A small real HTTP/1.1 server for the laboratory: one member of a pool, whose misbehaviour is switched at run time.

`GET /healthz` answers "ok NAME"; any other path answers "NAME", a request with a body "NAME LENGTH".
`POST /__mode` with `MODE` or `MODE lying` changes what happens to every later request (lying: /healthz stays ok).
"""

import argparse
import asyncio
import re
import socket
import struct
import sys
import time
from enum import StrEnum

from upswitch.core.words import Value
from upswitch.demo.ending import stop_event

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, zero seconds: close() sends RST instead of FIN
LINE = re.compile(rb"[A-Z]+ (\S+) HTTP/1\.([01])\r\n")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
REASONS = {200: "OK", 400: "Bad Request", 502: "Bad Gateway", 503: "Service Unavailable"}


class Mode(StrEnum):
    """What a server does to a request. SICK: only /healthz fails, with 503."""

    OK = "ok"
    RESET = "reset"
    CLOSE = "close"
    HANG = "hang"
    ERROR = "error"
    SICK = "sick"


class Request(Value):
    path: bytes
    body: bytes
    is_last: bool


class Behaviour:
    """The mode of one server. `fail_after` seconds after the first request for anything but /healthz it takes
    `fail_mode`, while /healthz goes on saying ok: the release that passes every gate and is bad all the same.
    """

    def __init__(self, name: str, *, fail_after: float | None = None, fail_mode: Mode = Mode.CLOSE) -> None:
        self.name = name
        self._mode, self._is_lying = Mode.OK, False
        self._fail_after, self._fail_mode = fail_after, fail_mode
        self._first_request: float | None = None

    def change(self, words: list[str]) -> None:
        """`[MODE]` or `[MODE, "lying"]`; ValueError where it is neither."""
        if words[1:] not in ([], ["lying"]):
            raise ValueError(words)
        self._mode, self._is_lying, self._fail_after = Mode(words[0] if words else ""), words[1:] == ["lying"], None

    def mode(self, path: bytes, now: float) -> Mode:
        """The mode for one request at `now`, monotonic seconds."""
        if path == b"/healthz":
            return Mode.OK if self._is_lying else self._mode
        if self._has_turned_bad(now):
            return self._fail_mode
        return Mode.OK if self._mode is Mode.SICK else self._mode

    def _has_turned_bad(self, now: float) -> bool:
        if self._first_request is None:
            self._first_request = now
        return self._fail_after is not None and now - self._first_request >= self._fail_after


class Connection(asyncio.Protocol):
    """One connection: whole requests are taken from the bytes and answered in order. Chunked requests are not read."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._unread = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (create_server makes no other; this tells mypy)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while not self._transport.is_closing() and (request := self._take()) is not None:
            self._treat(request)

    def _take(self) -> Request | None:
        head, end, rest = self._unread.partition(b"\r\n\r\n")
        if not end:
            return None
        line = LINE.match(head + b"\r\n")
        if line is None:
            self._transport.close()
            return None
        length = int(found[1]) if (found := LENGTH.search(head)) else 0
        if len(rest) < length:
            return None
        self._unread = rest[length:]
        return Request(path=line[1], body=rest[:length], is_last=line[2] == b"0" or CLOSE.search(head) is not None)

    def _treat(self, request: Request) -> None:
        if request.path == b"/__mode":
            self._change_mode(request)
            return
        match self._behaviour.mode(request.path, time.monotonic()):
            case Mode.HANG:
                pass
            case Mode.CLOSE:
                self._transport.close()
            case Mode.RESET:
                self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                self._transport.abort()
            case Mode.ERROR:
                self._answer(request, status=502, text=self._behaviour.name)
            case Mode.SICK:
                self._answer(request, status=503, text=f"sick {self._behaviour.name}")
            case Mode.OK:
                self._answer(request, status=200, text=self._text(request))

    def _text(self, request: Request) -> str:
        if request.path == b"/healthz":
            return f"ok {self._behaviour.name}"
        return f"{self._behaviour.name} {len(request.body)}" if request.body else self._behaviour.name

    def _change_mode(self, request: Request) -> None:
        try:
            self._behaviour.change(request.body.decode("ascii").split())
        except ValueError:
            self._answer(request, status=400, text=f"one of {', '.join(Mode)}, and perhaps: lying")
        else:
            self._answer(request, status=200, text="changed")

    def _answer(self, request: Request, *, status: int, text: str) -> None:
        connection = "close" if request.is_last else "keep-alive"
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: text/plain\r\nConnection: {connection}\r\n"
        self._transport.write(f"{head}Content-Length: {len(text) + 1}\r\n\r\n{text}\n".encode())
        if request.is_last:
            self._transport.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m upswitch.demo.backend", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=_ports, dest="ports")
    where.add_argument("--ports", type=_ports, help="PORT,PORT: the same server on several ports")
    parser.add_argument("--name", required=True)
    parser.add_argument("--fail-after", type=float, help="seconds from the first request that is not /healthz")
    parser.add_argument("--fail-mode", type=Mode, default=Mode.CLOSE)
    parser.add_argument("--until-stdin-closes", action="store_true")
    asyncio.run(_serve(parser.parse_args()))


def _ports(text: str) -> list[int]:
    return [int(port) for port in text.split(",")]


async def _serve(options: argparse.Namespace) -> None:
    stop = stop_event(on_stdin=options.until_stdin_closes)
    behaviour = Behaviour(options.name, fail_after=options.fail_after, fail_mode=options.fail_mode)
    for port in options.ports:
        await asyncio.get_running_loop().create_server(lambda: Connection(behaviour), "127.0.0.1", port, backlog=1024)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await stop.wait()


if __name__ == "__main__":
    main()

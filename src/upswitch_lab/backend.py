"""A small real HTTP/1.1 server for the laboratory: one member of a pool, whose misbehaviour is switched at run time.

`GET /healthz` answers "ok NAME", `/fail` a 502; any other path answers "NAME", a request with a body "NAME LENGTH".
`POST /__mode` with `MODE` or `MODE lying` changes what happens to every later request (lying: /healthz stays ok).
It runs until its standard input ends.
A thread for each connection: a laboratory has many servers, and asyncio alone is half of what they would take to start.
"""

import argparse
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
from enum import StrEnum
from typing import NamedTuple

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, zero seconds: close() sends RST instead of FIN
LINE = re.compile(rb"[A-Z]+ ([^\s?]+)\S* HTTP/1\.([01])\r\n")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
REASONS = {200: "OK", 400: "Bad Request", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}


class Mode(StrEnum):
    """What a server does to a request. SICK: only /healthz fails, with 503. BROKEN: 500. RAW: no HTTP. CUT: half an answer.

    STALL: half of a large answer, then nothing. LONG: a whole answer whose length is too long. DRIP: a byte every 50 ms.
    """

    OK = "ok"
    RESET = "reset"
    CLOSE = "close"
    HANG = "hang"
    ERROR = "error"
    SICK = "sick"
    BROKEN = "broken"
    RAW = "raw"
    CUT = "cut"
    STALL = "stall"
    LONG = "long"
    DRIP = "drip"


_LAST_WORDS = {
    Mode.CLOSE: b"",
    Mode.RAW: b"-ERR no such command\r\n",
    Mode.CUT: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf",
}

_UNENDED = {
    Mode.STALL: b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"half" * 12_500,
    Mode.LONG: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nwhole",
    Mode.DRIP: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
}
_DRIP_S = 0.05


class Request(NamedTuple):
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
        if path == b"/fail":
            return Mode.ERROR
        if self._has_turned_bad(now):
            return self._fail_mode
        return Mode.OK if self._mode is Mode.SICK else self._mode

    def _has_turned_bad(self, now: float) -> bool:
        if self._first_request is None:
            self._first_request = now
        return self._fail_after is not None and now - self._first_request >= self._fail_after


class Connection:
    """One connection: whole requests are read and answered in order. Chunked requests are not read."""

    def __init__(self, sock: socket.socket, behaviour: Behaviour) -> None:
        self._socket = sock
        self._behaviour = behaviour
        self._unread = b""

    def serve(self) -> None:
        """Until either side closes."""
        with self._socket:
            try:
                while (request := self._read()) is not None and self._treat(request):
                    pass
            except OSError:
                return

    def _read(self) -> Request | None:
        """None at the end, and for bytes that are not a request."""
        while b"\r\n\r\n" not in self._unread:
            if not self._receive():
                return None
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        line = LINE.match(head + b"\r\n")
        if line is None:
            return None
        length = int(found[1]) if (found := LENGTH.search(head)) else 0
        while len(self._unread) < length:
            if not self._receive():
                return None
        body, self._unread = self._unread[:length], self._unread[length:]
        return Request(path=line[1], body=body, is_last=line[2] == b"0" or CLOSE.search(head) is not None)

    def _receive(self) -> bool:
        data = self._socket.recv(1 << 16)
        self._unread += data
        return bool(data)

    def _treat(self, request: Request) -> bool:
        """Whether the connection goes on."""
        if request.path == b"/__mode":
            return self._change_mode(request)
        mode = self._behaviour.mode(request.path, time.monotonic())
        match mode:
            case Mode.HANG:
                return self._receive()
            case Mode.CLOSE | Mode.RAW | Mode.CUT:
                self._socket.sendall(_LAST_WORDS[mode])
                return False
            case Mode.STALL | Mode.LONG | Mode.DRIP:
                self._socket.sendall(_UNENDED[mode])
                self._drip(times=1000 if mode is Mode.DRIP else 0)
                return self._receive()
            case Mode.RESET:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                return False
            case Mode.ERROR | Mode.BROKEN:
                return self._answer(request, status=502 if mode is Mode.ERROR else 500, text=self._behaviour.name)
            case Mode.SICK:
                return self._answer(request, status=503, text=f"sick {self._behaviour.name}")
            case Mode.OK:
                return self._answer(request, status=200, text=self._text(request))

    def _drip(self, *, times: int) -> None:
        for _ in range(times):
            time.sleep(_DRIP_S)
            self._socket.sendall(b"x")

    def _text(self, request: Request) -> str:
        if request.path == b"/healthz":
            return f"ok {self._behaviour.name}"
        return f"{self._behaviour.name} {len(request.body)}" if request.body else self._behaviour.name

    def _change_mode(self, request: Request) -> bool:
        try:
            self._behaviour.change(request.body.decode("ascii").split())
        except ValueError:
            return self._answer(request, status=400, text=f"one of {', '.join(Mode)}, with or without `lying`")
        return self._answer(request, status=200, text="changed")

    def _answer(self, request: Request, *, status: int, text: str) -> bool:
        connection = "close" if request.is_last else "keep-alive"
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: text/plain\r\nConnection: {connection}\r\n"
        self._socket.sendall(f"{head}Content-Length: {len(text) + 1}\r\n\r\n{text}\n".encode())
        return not request.is_last


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m upswitch_lab.backend", description=__doc__)
    parser.add_argument("--ports", required=True, help="PORT,PORT: the same server on several ports")
    parser.add_argument("--name", required=True)
    parser.add_argument("--fail-after", type=float, help="seconds from the first request that is not /healthz")
    parser.add_argument("--fail-mode", type=Mode, default=Mode.CLOSE)
    options = parser.parse_args()
    behaviour = Behaviour(options.name, fail_after=options.fail_after, fail_mode=options.fail_mode)
    for port in map(int, options.ports.split(",")):
        listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        threading.Thread(target=_accept, args=(listener, behaviour), daemon=True).start()
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    while os.read(0, 1 << 16):
        pass


def _accept(listener: socket.socket, behaviour: Behaviour) -> None:
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Connection(sock, behaviour).serve, daemon=True).start()


if __name__ == "__main__":
    main()

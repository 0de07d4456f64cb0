"""A load that is exact about losses: keep-alive clients on raw sockets that never retry.

A request is *lost* when it was sent and no complete answer came back. It *failed* when it was lost, when the
connection for it could not be made, or when the answer's status is 500 or more. A connection that the server had
closed before the client sent is no failure: the client asks the kernel right before each send, and reconnects.

It runs until its standard input ends. A JSON line comes at the end of the first request and then each second, last a summary.
"""

import argparse
import asyncio
import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from upswitch.basics.value import Value
from upswitch_lab.backend import CLOSE, LENGTH

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
BODY = b"x=1"
PAUSE_AFTER_REFUSAL_S = 0.05  # a refusal takes microseconds: without a pause one dead server would be all the numbers


class Summary(Value):
    """The whole load. `_s` are seconds from its start, `started` is on the machine's monotonic clock.

    `bodies` counts the first word of each answer below 500: in the laboratory the server's name.
    `reasons` says what each failure was: closed, reset, timeout, malformed, refused, or the status.
    """

    requests: int
    failed: int
    lost: int
    status: dict[str, int]
    bodies: dict[str, int]
    reasons: dict[str, int]
    first_failure_s: float | None
    last_failure_s: float | None
    failures_by_second: dict[str, int]
    started: float
    seconds: float
    p50_ms: float
    p99_ms: float


class Progress(Value):
    """What came since the line before."""

    at_s: float
    requests: int
    failed: int
    bodies: dict[str, int]


class Answer(Value):
    status: int
    body: bytes
    is_last: bool


class Cut(Exception):  # noqa: N818  (what happened, not a mistake of ours)
    """The connection ended, or broke the protocol, before the answer was complete."""


class Tally:
    """The counters. Latencies are kept as counts per tenth of a millisecond, so that hours of load stay small."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.requests, self.failed, self.lost = 0, 0, 0
        self._status, self._bodies, self._reasons = Counter[str](), Counter[str](), Counter[str]()
        self._failures, self._tenths = Counter[int](), Counter[int]()
        self._first_failure: float | None = None
        self._last_failure: float | None = None
        self._shown = (0, 0, Counter[str]())

    def answered(self, answer: Answer, *, seconds: float) -> None:
        self.requests += 1
        self._status[str(answer.status)] += 1
        self._tenths[round(seconds * 10_000)] += 1
        if answer.status >= 500:  # noqa: PLR2004  (the definition above)
            self._fail(str(answer.status))
        else:
            self._bodies[answer.body.partition(b"\n")[0].split(b" ")[0].decode("latin-1")] += 1

    def lose(self, reason: str) -> None:
        self.requests += 1
        self.lost += 1
        self._fail(reason)

    def refuse(self) -> None:
        self.requests += 1
        self._fail("refused")

    def _fail(self, reason: str) -> None:
        at = time.monotonic() - self.started
        self.failed += 1
        self._reasons[reason] += 1
        self._failures[int(at)] += 1
        self._first_failure = at if self._first_failure is None else self._first_failure
        self._last_failure = at

    def progress(self) -> Progress:
        requests, failed, bodies = self._shown
        self._shown = (self.requests, self.failed, self._bodies.copy())
        return Progress(
            at_s=round(time.monotonic() - self.started, 3),
            requests=self.requests - requests,
            failed=self.failed - failed,
            bodies=dict(self._bodies - bodies),
        )

    def summary(self) -> Summary:
        return Summary(
            requests=self.requests,
            failed=self.failed,
            lost=self.lost,
            status=dict(self._status),
            bodies=dict(self._bodies),
            reasons=dict(self._reasons),
            first_failure_s=_rounded(self._first_failure),
            last_failure_s=_rounded(self._last_failure),
            failures_by_second={str(second): count for second, count in sorted(self._failures.items())},
            started=self.started,
            seconds=round(time.monotonic() - self.started, 3),
            p50_ms=self._percentile(0.50),
            p99_ms=self._percentile(0.99),
        )

    def _percentile(self, share: float) -> float:
        seen = 0
        for tenths, count in sorted(self._tenths.items()):
            seen += count
            if seen >= share * self._tenths.total():
                return tenths / 10
        return 0.0


class Client:
    """One connection at a time to one address. `timeout` is for the connection and for the whole answer, seconds."""

    def __init__(self, address: tuple[str, int], tally: Tally, *, timeout: float) -> None:
        self._address, self._tally, self._timeout = address, tally, timeout
        self._socket: socket.socket | None = None

    async def ask(self, request: bytes) -> bool:
        """Send once and count what becomes of it. False: no connection could be made."""
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._ready()
        except OSError:
            self._tally.refuse()
            return False
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                answer = await _exchange(connection, request)
        except (OSError, Cut) as broken:
            self.close()
            self._tally.lose(_reason(broken))
        else:
            self._tally.answered(answer, seconds=time.monotonic() - started)
            if answer.is_last:
                self.close()
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _ready(self) -> socket.socket:
        if self._socket is not None and _is_idle(self._socket):
            return self._socket
        self.close()
        self._socket = socket.socket()
        self._socket.setblocking(False)  # noqa: FBT003  (the library's own signature)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(self._socket, self._address)
        except OSError:
            self.close()
            raise
        return self._socket


def _is_idle(connection: socket.socket) -> bool:
    """Open with nothing to read. Anything else before a request (FIN, RST, stray bytes): not to be sent on."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def _exchange(connection: socket.socket, request: bytes) -> Answer:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, request)
    data = b""
    while (answer := _parse(data)) is None:
        more = await loop.sock_recv(connection, 65536)
        if not more:
            raise Cut("closed")
        data += more
    return answer


def _parse(data: bytes) -> Answer | None:
    """The complete answer, or None when more must come. Only answers with a Content-Length are complete."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    status, length = STATUS.match(head), LENGTH.search(head)
    if status is None or length is None or len(body) > int(length[1]):
        raise Cut("malformed")
    if len(body) < int(length[1]):
        return None
    return Answer(status=int(status[1]), body=body, is_last=CLOSE.search(head) is not None)


def _reason(broken: OSError | Cut) -> str:
    if isinstance(broken, TimeoutError):
        return "timeout"
    return "reset" if isinstance(broken, OSError) else str(broken)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m upswitch_lab.load", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second in all; 0: as fast as answers come")
    parser.add_argument("--think", type=float, default=0.0, help="milliseconds from an answer to the next request")
    parser.add_argument("--post-every", type=int, default=0, help="every Nth request of a connection is a POST")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds")
    summary = asyncio.run(_run(parser.parse_args()))
    sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")


async def _run(options: argparse.Namespace) -> Summary:
    stop, tally = _stop_event(), Tally()
    async with asyncio.TaskGroup() as group:
        group.create_task(_show(tally, stop))
        for index in range(options.connections):
            group.create_task(_drive(options, tally, index=index, stop=stop))
    return tally.summary()


def _stop_event() -> asyncio.Event:
    """Set on SIGTERM or SIGINT, and at the end of standard input, so that no load outlives a killed parent."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    threading.Thread(target=_await_end_of_stdin, args=(loop, stop), daemon=True).start()
    return stop


def _await_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """os.read, because a daemon thread inside sys.stdin's lock would abort the interpreter at exit; a thread,
    because epoll refuses files and /dev/null.
    """
    while os.read(0, 65536):
        pass
    loop.call_soon_threadsafe(stop.set)


async def _drive(options: argparse.Namespace, tally: Tally, *, index: int, stop: asyncio.Event) -> None:
    url = urlsplit(options.url)
    client = Client((url.hostname or "", url.port or 80), tally, timeout=options.timeout)
    get, post = _requests(url.netloc, url.path or "/")
    spacing = options.connections / options.rate if options.rate else 0.0
    due = tally.started + spacing * index / options.connections
    count = 0
    while not stop.is_set():
        await _pause(due - time.monotonic(), stop)
        if stop.is_set():
            break
        count += 1
        has_connected = await client.ask(post if options.post_every and count % options.post_every == 0 else get)
        pause = options.think / 1000 if has_connected else PAUSE_AFTER_REFUSAL_S
        due = max(due + spacing, time.monotonic() + pause)
    client.close()


def _requests(host: str, path: str) -> tuple[bytes, bytes]:
    common = f"{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: upswitch-load\r\n"
    return f"GET {common}\r\n".encode(), f"POST {common}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    if seconds > 0:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)


async def _show(tally: Tally, stop: asyncio.Event) -> None:
    while tally.requests == 0 and not stop.is_set():
        await _pause(0.01, stop)
    while not stop.is_set():
        sys.stdout.write(msgspec.json.encode(tally.progress()).decode() + "\n")
        sys.stdout.flush()
        await _pause(1.0, stop)


if __name__ == "__main__":
    main()

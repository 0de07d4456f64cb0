"""Health probes over streams from the host's place, many at once.

Each type succeeds exactly where nginx_upstream_check_module would (nginx-facts, section 6), so that what passes here is not
held down there. That is why http_send goes out byte for byte, and not as a request that a library would improve.
"""

import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from upswitch.core import regex
from upswitch.core.foreign import printable
from upswitch.core.gate import Probe, Target
from upswitch.core.gaterule import GateRule
from upswitch.core.words import CheckType
from upswitch.ports import Clock, Host

MOST_AT_ONCE = 256
_STATUS = re.compile(rb"HTTP/\d\.\d +(\d)\d\d")
_LINE_LIMIT = 8192
_BODY_LIMIT = 65536
_HEAD = 80  # bytes of a wrong body that are shown


class ProbeFailedError(Exception):
    """Why a server's answer does not count as alive; `head` holds the first bytes of a wrong body."""

    def __init__(self, why: str, head: bytes = b"") -> None:
        super().__init__(why)
        self.head = head


class NetProber:
    """Rounds of probes, all targets at once. No retry, no redirect, no proxy, no name but the target's own."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._pool = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="probe")

    def round(self, targets: Sequence[Target]) -> tuple[Probe, ...]:
        """One probe of each target, in their order. Takes as long as the slowest, at most its timeout."""
        return tuple(self._pool.map(self.probe, targets))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def probe(self, target: Target) -> Probe:
        began = self._clock.monotonic()
        until = began + target.rule.timeout
        try:
            with self._host.connect(target.address, timeout=target.rule.timeout) as stream:
                _ask(_Stream(stream, self._clock, until), target.rule)
        except ProbeFailedError as exc:
            return self._failed(began, str(exc), exc.head)
        except TimeoutError:
            return self._failed(began, f"no answer within {target.rule.timeout:g} s")
        except OSError as exc:
            return self._failed(began, exc.strerror or str(exc))
        return Probe(ok=True, seconds=self._clock.monotonic() - began)

    def _failed(self, began: float, error: str, head: bytes = b"") -> Probe:
        return Probe(ok=False, error=printable(error.encode()), head=printable(head), seconds=self._clock.monotonic() - began)


class _Stream:
    """A socket with one deadline over all its calls: a body that drips may not outlive the timeout."""

    def __init__(self, stream: socket.socket, clock: Clock, until: float) -> None:
        self._stream = stream
        self._clock = clock
        self._until = until

    def _arm(self) -> None:
        left = self._until - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError
        self._stream.settimeout(left)

    def send(self, data: bytes) -> None:
        self._arm()
        self._stream.sendall(data)

    def receive(self, limit: int) -> bytes:
        self._arm()
        return self._stream.recv(limit)

    def peek(self) -> bytes | None:
        """One byte without taking it; b"" when the peer has closed, None when there is nothing yet."""
        self._stream.setblocking(False)  # noqa: FBT003  (the library's own signature)
        try:
            return self._stream.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return None


def _ask(stream: _Stream, rule: GateRule) -> None:
    match rule.type:
        case CheckType.TCP:
            _ask_tcp(stream)
        case CheckType.HTTP:
            _ask_http(stream, rule)
        case CheckType.SSL_HELLO | CheckType.MYSQL | CheckType.AJP | CheckType.FASTCGI:
            raise ProbeFailedError(f"this version does not probe {rule.type}")  # the site file refuses it before


def _ask_tcp(stream: _Stream) -> None:
    """ngx_http_upstream_check_peek_one_byte: data or "nothing yet" is alive; a closed or reset connection is not."""
    if stream.peek() == b"":
        raise ProbeFailedError("connected, then closed at once")


def _ask_http(stream: _Stream, rule: GateRule) -> None:
    stream.send(rule.http_send.encode("latin-1"))
    answer = b""
    while b"\n" not in answer and len(answer) < _LINE_LIMIT:
        data = stream.receive(4096)
        if not data:
            raise ProbeFailedError("closed without an answer" if not answer else "closed inside the status line", answer[:_HEAD])
        answer += data
    line = answer.partition(b"\n")[0].rstrip(b"\r")
    status = _STATUS.match(line)
    if status is None:
        raise ProbeFailedError("the answer is not HTTP", answer[:_HEAD])
    if f"http_{status[1].decode()}xx" not in rule.http_expect_alive:
        body = _body(stream, answer)
        raise ProbeFailedError(f"{line.decode('latin-1')} (alive is {', '.join(rule.http_expect_alive)})", body[:_HEAD])
    if rule.expect_body:
        _expect(_body(stream, answer), rule.expect_body)


def _expect(body: bytes, pattern: str) -> None:
    if regex.compiled(pattern).search(body.decode("utf-8", "replace")) is None:
        raise ProbeFailedError(f"the body does not match {pattern!r}", body[:_HEAD])


def _body(stream: _Stream, answer: bytes) -> bytes:
    """The body behind a status line already read, up to _BODY_LIMIT bytes, as h11 understands its framing."""
    import h11  # noqa: PLC0415  (7 ms; only a body needs it)

    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "probe")]))  # opens the answer's side; never sent
    connection.receive_data(answer)
    body = b""
    try:
        while len(body) < _BODY_LIMIT:
            event = connection.next_event()
            match event:
                case h11.NEED_DATA:
                    connection.receive_data(stream.receive(65536))
                case h11.Data():
                    body += bytes(event.data)
                case h11.EndOfMessage() | h11.ConnectionClosed() | h11.PAUSED:
                    break
                case _:  # the status and headers, already judged
                    continue
    except (h11.RemoteProtocolError, OSError) as exc:
        if not body:
            return f"(no body: {exc})".encode()
    return body

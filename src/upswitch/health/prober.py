"""Health probes over streams from the host's place, many at once.

Each type succeeds exactly where nginx_upstream_check_module would (nginx-facts, section 6), so that what passes here is not
held down there. That is why http_send goes out byte for byte, and not as a request that a library would improve.
"""

import contextlib
import resource
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

from upswitch.basics.result import is_own_limit
from upswitch.basics.text import printable
from upswitch.health.types import MORE, ProbeType, ajp, fastcgi, http, mysql, tls
from upswitch.hosts.host import Clock, Connection, Host, Stream
from upswitch.hosts.wait import until
from upswitch.site.model import CheckType, Dialect, GateRule, Probe, Target, Verdict

if TYPE_CHECKING:
    import ssl

PROBE_TYPES: Mapping[CheckType, ProbeType | None] = {
    CheckType.TCP: None,
    CheckType.HTTP: http.TYPE,
    CheckType.SSL_HELLO: tls.TYPE,
    CheckType.MYSQL: mysql.TYPE,
    CheckType.AJP: ajp.TYPE,
    CheckType.FASTCGI: fastcgi.TYPE,
}
"""By the word in the site file. None: an open connection is enough."""

MOST_AT_ONCE = 256
MATCH_S = 1.0
"""Seconds of processor time for one search for `expect_body`."""
_AGAIN_S = 0.02
_KEPT_FREE = 40  # descriptors
_HEAD = 80  # bytes of a wrong answer that are shown


class ProbeFailedError(Exception):
    """Why a server's answer does not count as alive; `head` holds the first bytes of a wrong answer."""

    def __init__(self, why: str, head: bytes = b"") -> None:
        super().__init__(why)
        self.head = head[:_HEAD]


class ClosedError(ProbeFailedError):
    """The server closed the connection before its answer was whole."""


class NetProber:
    """Rounds of probes, all targets at once. No retry, no redirect, no proxy, no name but the target's own."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._hellos = Hellos()
        self._pool = ThreadPoolExecutor(_at_once(), thread_name_prefix="probe")

    def round(self, targets: Sequence[Target]) -> tuple[Probe, ...]:
        """One probe of each target, in their order. Takes as long as the slowest, at most its timeout."""
        return tuple(self._pool.map(self.probe, targets))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def probe(self, target: Target) -> Probe:
        began, is_reached = self._clock.monotonic(), False
        try:
            began, stream = self._connected(target)
            is_reached = True
            with stream:
                self._ask(stream, target.rule, began + target.rule.timeout)
        except ProbeFailedError as exc:
            return self._failed(began, str(exc), exc.head, is_wrong=not isinstance(exc, ClosedError))
        except TimeoutError:
            return self._failed(began, f"no answer within {target.rule.timeout:g} s", is_wrong=is_reached)
        except OSError as exc:
            if is_own_limit(exc):
                return Probe(ok=False, is_unknown=True, error=f"upswitch could not ask: {exc.strerror}")
            return self._failed(began, exc.strerror or str(exc))
        return Probe(ok=True, seconds=self._clock.monotonic() - began)

    def _connected(self, target: Target) -> tuple[float, Connection]:
        """When it was begun, and the connection. At a limit of our own it waits until other probes are over."""

        def attempt() -> tuple[float, Connection] | OSError:
            began = self._clock.monotonic()
            try:
                return began, self._host.connect(target.address, timeout=target.rule.timeout)
            except OSError as exc:
                if not is_own_limit(exc):
                    raise
                return exc

        within = target.rule.timeout
        found = until(lambda seen: not isinstance(seen, OSError), attempt, every=_AGAIN_S, clock=self._clock, within=within)
        if isinstance(found, OSError):
            raise found
        return found

    def _ask(self, stream: Connection, rule: GateRule, until: float) -> None:
        armed = Stream(stream, self._clock, until)
        probe_type = PROBE_TYPES[rule.type]
        if probe_type is None:
            _ask_tcp(armed)
        else:
            armed.send(probe_type.send(rule, self._hellos.make))
            answer = _await_verdict(armed, rule, probe_type)
            if rule.expect_body:
                _expect(read(armed, answer), rule.expect_body)

    def _failed(self, began: float, error: str, head: bytes = b"", *, is_wrong: bool = False) -> Probe:
        seconds = self._clock.monotonic() - began
        return Probe(ok=False, is_wrong=is_wrong, error=printable(error.encode()), head=printable(head), seconds=seconds)


def _at_once() -> int:
    """So many that descriptors are left for all else: logs, the journal, programs that are started."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_AT_ONCE if most == resource.RLIM_INFINITY else max(1, min(MOST_AT_ONCE, most - _KEPT_FREE))


def _ask_tcp(stream: Stream) -> None:
    """ngx_http_upstream_check_peek_one_byte: data or "nothing yet" is alive; a closed or reset connection is not."""
    if stream.peek() == b"":
        raise ClosedError("connected, then closed at once")


def _await_verdict(stream: Stream, rule: GateRule, probe_type: ProbeType) -> bytes:
    """Reads until the server is known to be alive. Gives what came; a closed connection is a failure."""
    data, answer = b"", MORE
    while answer.verdict is Verdict.RUNNING:
        more = stream.drain()
        if not more:
            raise ClosedError(f"closed inside {probe_type.part}" if data else "closed without an answer", data)
        data += more
        answer = probe_type.read(data, rule)
    if answer.verdict is Verdict.FAIL:
        raise ProbeFailedError(answer.why, read(stream, data) if answer.has_body else answer.shown)
    return data


def _expect(found: bytes, pattern: str) -> None:
    import regex  # noqa: PLC0415  (40 ms; only a site that checks bodies needs it)

    try:
        is_found = regex.search(pattern, found.decode("utf-8", "replace"), timeout=MATCH_S, concurrent=True) is not None
    except TimeoutError:
        raise ProbeFailedError(f"expect_body: no match within {MATCH_S:g} s", found) from None
    if not is_found:
        raise ProbeFailedError(f"the body does not match {pattern!r}", found)


class Hellos:
    """A check module's own hello, or that of Python's ssl, which any server answers that speaks TLS 1.2 or 1.3."""

    def make(self, dialect: Dialect) -> bytes:
        return self._modern() if dialect is Dialect.NONE else tls.hello(dialect, secrets.token_bytes(tls.RANDOM))

    def _modern(self) -> bytes:
        import ssl  # noqa: PLC0415  (20 ms; only an ssl_hello needs it)

        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):  # it has said its hello and waits for the answer
            self._context.wrap_bio(incoming, outgoing).do_handshake()
        return outgoing.read()

    @cached_property
    def _context(self) -> "ssl.SSLContext":
        """Made once: it takes 1.6 ms, a hello 0.1 ms. No certificate is ever seen, so none is verified."""
        import ssl  # noqa: PLC0415

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


_LONGEST = 65536  # bytes


def read(stream: Stream, begun: bytes) -> bytes:
    """The body, up to some 64 kB, of the answer that has `begun`. What is there of a broken one, or a note that there is none."""
    import h11  # noqa: PLC0415  (7 ms; only a body needs it)

    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "probe")]))  # opens the answer's side; never sent
    connection.receive_data(begun)
    body = b""
    try:
        while len(body) < _LONGEST:
            event = connection.next_event()
            match event:
                case h11.NEED_DATA:
                    connection.receive_data(stream.receive())
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

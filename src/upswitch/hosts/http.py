"""HTTP/1.1 for an `httpx.Client`, over connections from the host's place: httpx itself can only connect from here."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import h11
import httpx

from upswitch.hosts.host import Connection, Host

T = TypeVar("T")

_PORTS = {"http": 80, "https": 443}
_PART = 65536  # bytes


class HostTransport(httpx.BaseTransport):
    """Opens one connection a request. Raises what httpx's own transport raises, and HostError where the host is lost.

    It accepts any certificate: the site's certificate names the site, not the loopback address that is asked.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        timeouts: dict[str, float] = request.extensions["timeout"]
        with ExitStack() as failed:
            exchange = _Exchange(self._connected(request, timeouts["connect"]), timeouts)
            failed.callback(exchange.close)
            exchange.send(request)
            head = exchange.head()
            failed.pop_all()
        return httpx.Response(head.status_code, headers=head.headers.raw_items(), stream=exchange)

    def _connected(self, request: httpx.Request, timeout: float) -> "Connection | _Tls":
        url, server_name = request.url, request.extensions.get("sni_hostname", request.url.host)
        if url.scheme not in _PORTS:
            raise httpx.UnsupportedProtocol(f"not an HTTP URL: {url}")
        name = f"[{url.host}]" if ":" in url.host else url.host
        with _mapped(httpx.ConnectTimeout, httpx.ConnectError):
            plain = self._host.connect(f"{name}:{url.port or _PORTS[url.scheme]}", timeout=timeout)
            if url.scheme == "http":
                return plain
            plain.settimeout(timeout)
            return _Tls(plain, self._tls, server_name)


class _Exchange(httpx.SyncByteStream):
    """A request and its answer, framed by h11. As a stream it is the answer's body."""

    def __init__(self, connection: "Connection | _Tls", timeouts: dict[str, float]) -> None:
        self._connection = connection
        self._timeouts = timeouts
        self._framing = h11.Connection(h11.CLIENT)

    def send(self, request: httpx.Request) -> None:
        self._connection.settimeout(self._timeouts["write"])
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        data = b"".join(self._framing.send(event) or b"" for event in (head, h11.Data(data=request.read()), h11.EndOfMessage()))
        with _mapped(httpx.WriteTimeout, httpx.WriteError):
            self._connection.sendall(data)

    def head(self) -> h11.Response:
        """The answer's status and headers; a 100 Continue before it is passed over."""
        while not isinstance(event := self._event(), h11.Response):
            continue
        return event

    def __iter__(self) -> Iterator[bytes]:
        while isinstance(event := self._event(), h11.Data):
            yield bytes(event.data)

    def close(self) -> None:
        self._connection.close()

    def _event(self) -> object:
        self._connection.settimeout(self._timeouts["read"])
        try:
            while (event := self._framing.next_event()) is h11.NEED_DATA:
                with _mapped(httpx.ReadTimeout, httpx.ReadError):
                    self._framing.receive_data(self._connection.recv(_PART))
        except h11.RemoteProtocolError as exc:
            raise httpx.RemoteProtocolError(str(exc)) from exc
        return event


class _Tls:
    """TLS over any stream: ssl's own socket wants a descriptor, which a channel of SSH does not have."""

    def __init__(self, plain: Connection, context: ssl.SSLContext, name: str) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        with ExitStack() as failed:
            failed.callback(plain.close)
            self._until_done(self._tls.do_handshake)
            failed.pop_all()

    def settimeout(self, value: float) -> None:
        self._plain.settimeout(value)

    def sendall(self, data: bytes) -> None:
        self._until_done(lambda: self._tls.write(data))

    def recv(self, size: int) -> bytes:
        try:
            return self._until_done(lambda: self._tls.read(size))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def close(self) -> None:
        self._plain.close()

    def _until_done(self, act: Callable[[], T]) -> T:
        """Exchange bytes with the peer until ssl has what it needs."""
        while True:
            try:
                return act()
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._plain.recv(_PART):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._plain.sendall(data)


@contextmanager
def _mapped(too_late: type[httpx.TimeoutException], broken: type[httpx.NetworkError]) -> Iterator[None]:
    """A connection's errors, in httpx's words; ssl's are OSErrors too."""
    try:
        yield
    except TimeoutError as exc:
        raise too_late(str(exc)) from exc
    except OSError as exc:
        raise broken(str(exc)) from exc

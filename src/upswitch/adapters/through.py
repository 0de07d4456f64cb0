"""Requests through nginx, as a client would make them: what the watch asks on a quiet site."""

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

from upswitch.core.errors import HostError
from upswitch.core.rule import Failure
from upswitch.ports import Connection, Host

_TIMEOUT = 2.0
_PART = 65536  # bytes
_GATEWAY = {502, 503, 504}


class ThroughProbe:
    """One URL, asked anew each time, from where the host stands: without one, from here.

    No redirects, no proxy of the environment, no certificate names: it asks our own nginx.
    """

    def __init__(self, url: str, host: Host | None = None) -> None:
        import httpx  # noqa: PLC0415  (120 ms, and only a site that names a probe needs it)

        try:
            self._url = str(httpx.URL(url))
            self._headers = httpx.Request("GET", url, headers={"Connection": "close", "User-Agent": "upswitch-watch"}).headers.raw
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise HostError(f"use watch.probe {url}", str(exc)) from exc
        backend = _Backend(host) if host is not None else None
        self._pool = httpcore.ConnectionPool(ssl_context=_trusting(), network_backend=backend)

    def ask(self) -> Failure:
        """How one request fared, in the words of the watch rule. No answer at all is nginx's own failure: GATEWAY.

        HostError where the host itself is lost: that says nothing of nginx.
        """
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), _TIMEOUT)
        try:
            with self._pool.stream("GET", self._url, headers=self._headers, extensions={"timeout": timeouts}) as response:
                return Failure.GATEWAY if response.status in _GATEWAY else Failure.NONE
        except httpcore.ReadTimeout:
            return Failure.HUNG
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            return Failure.GATEWAY

    def close(self) -> None:
        self._pool.close()


class _Backend(httpcore.NetworkBackend):
    """Connections from the host's place."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        del local_address, socket_options
        try:
            return _Plain(self._host.connect(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", timeout=timeout or _TIMEOUT))
        except TimeoutError as exc:
            raise httpcore.ConnectTimeout(str(exc)) from exc
        except OSError as exc:
            raise httpcore.ConnectError(str(exc)) from exc


class _Plain(httpcore.NetworkStream):
    """A connection in httpcore's words."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._connection.settimeout(timeout)
        try:
            return self._connection.recv(max_bytes)
        except TimeoutError as exc:
            raise httpcore.ReadTimeout(str(exc)) from exc
        except OSError as exc:
            raise httpcore.ReadError(str(exc)) from exc

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._connection.settimeout(timeout)
        try:
            self._connection.sendall(buffer)
        except TimeoutError as exc:
            raise httpcore.WriteTimeout(str(exc)) from exc
        except OSError as exc:
            raise httpcore.WriteError(str(exc)) from exc

    def close(self) -> None:
        self._connection.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Tls(self, ssl_context, server_hostname, timeout)


class _Tls(httpcore.NetworkStream):
    """TLS over any stream: ssl's own socket wants a descriptor, which a channel of SSH has not."""

    def __init__(self, plain: _Plain, context: ssl.SSLContext, name: str | None, timeout: float | None) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        try:
            self._until_done(self._tls.do_handshake, timeout)
        except (ssl.SSLError, httpcore.ReadError, httpcore.ReadTimeout) as exc:
            self.close()
            raise httpcore.ConnectError(str(exc)) from exc

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return bytes(self._until_done(lambda: self._tls.read(max_bytes), timeout))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as exc:
            raise httpcore.ReadError(str(exc)) from exc

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._until_done(lambda: self._tls.write(buffer), timeout)
        except ssl.SSLError as exc:
            raise httpcore.WriteError(str(exc)) from exc

    def close(self) -> None:
        self._plain.close()

    def _until_done(self, act: Any, timeout: float | None) -> Any:
        while True:
            try:
                done = act()
            except ssl.SSLWantReadError:
                self._flush(timeout)
                if data := self._plain.read(_PART, timeout):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
                continue
            self._flush(timeout)
            return done

    def _flush(self, timeout: float | None) -> None:
        if data := self._outgoing.read():
            self._plain.write(data, timeout)


def _trusting() -> ssl.SSLContext:
    """Any certificate: the site's names the site, not the loopback address that is asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

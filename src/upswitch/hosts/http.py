"""Connections from a host's place in the words of httpcore, so that it speaks HTTP over them; TLS too."""

import ssl
from typing import Any

import httpcore

from upswitch.hosts.host import Connection, Host

_TIMEOUT = 2.0
_PART = 65536  # bytes


class Backend(httpcore.NetworkBackend):
    """Connections from the host's place."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        *unused: Any,
        **unused_too: Any,
    ) -> httpcore.NetworkStream:
        """`local_address` and socket options mean nothing where the host connects."""
        del unused, unused_too
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


def trusting() -> ssl.SSLContext:
    """Any certificate: the site's names the site, not the loopback address that is asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

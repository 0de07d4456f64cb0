"""One SSH connection to one host, by fabric, through its jump hosts.

It is opened once. fabric would connect anew at the next command after a drop, and what the old session held, a lock, would be
gone. fabric also accepts any host key: so each hop gets our policy before it is opened.
"""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fabric
import paramiko

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.basics.text import plain
from upswitch.hosts.ssh import keys
from upswitch.hosts.ssh.keys import Keyring
from upswitch.hosts.ssh.login import Login
from upswitch.hosts.ssh.wire import Wire

_SILENCE = {"Error reading SSH protocol banner", "No existing session"}  # paramiko's words for it
TIMEOUT = 10.0
"""Seconds for each: TCP, banner, authentication, a channel."""


class SshConnection:
    """`login` says where to; `keyring` has the keys and the passwords. `timeout`: seconds for each part of opening it."""

    def __init__(self, login: Login, keyring: Keyring, *, timeout: float = TIMEOUT) -> None:
        self.login = login
        self._timeout = timeout
        self._keyring = keyring
        self._lock = threading.Lock()
        self._hops: list[fabric.Connection] = []
        self._wire: Wire | None = None
        self._unopened: HostError | None = None

    @property
    def wire(self) -> Wire:
        """Opened at the first use. HostError when that fails, and for ever after that, or after it was lost."""
        with self._lock:
            if self._unopened is not None:
                raise self._unopened
            if self._wire is None:
                try:
                    self._wire = self._open()
                except HostError as exc:
                    self._unopened = exc  # another thread that waits here must not wait for the same once more
                    raise
            if not self._wire.active:
                reason = f"connection lost: {self._wire.lost or 'it was closed'}"
                raise HostError(f"reach {self.login.shown}", reason, why=Why.CONNECTION_LOST)
            return self._wire

    @property
    def lost(self) -> str:
        """How it ended, "" while it stands."""
        if self._unopened is not None:
            return self._unopened.reason
        return "" if self._wire is None or self._wire.active else self._wire.lost or "it was closed"

    @property
    def meters(self) -> tuple[int, int]:
        """Bytes sent and received."""
        return (0, 0) if self._wire is None else (self._wire.meter.sent, self._wire.meter.received)

    def sudo_password(self) -> str:
        """Asked for once. HostError where nobody can be asked."""
        return self._keyring.password(self.login.user)

    def close(self) -> None:
        """The connection, and those to its jump hosts after it."""
        with self._lock:
            self._close_hops()

    def _close_hops(self) -> None:
        for hop in reversed(self._hops):
            hop.client.close()

    def _open(self) -> Wire:
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # its errors come as errors of ours
        for login in (*self.login.jumps, self.login):
            gateway = self._hops[-1] if self._hops else None
            self._hops.append(_connection(login, self._keyring, gateway, timeout=self._timeout))
            try:
                with _mapped(login, self._timeout):
                    self._hops[-1].open()
                self._hops[-1].transport.guard()
            except HostError:
                self._close_hops()
                self._hops.clear()
                raise
        wire: Wire = self._hops[-1].transport
        return wire


class _Strict(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Sees every key, as the client itself knows none: paramiko compares only the first that is recorded."""

    def __init__(self, login: Login, known: tuple[keys.Record, ...]) -> None:
        self._login = login
        self._known = known

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        del client, hostname
        keys.check(self._login, self._known, offered=key.asbytes())


class _Offer(paramiko.AuthStrategy):  # type: ignore[misc]
    """Offers the keyring's keys, one after the other."""

    def __init__(self, login: Login, keyring: Keyring) -> None:
        super().__init__(ssh_config=paramiko.SSHConfig())
        self._login = login
        self._keyring = keyring

    def get_sources(self) -> Iterator[paramiko.InMemoryPrivateKey]:
        for key in self._keyring.keys(self._login):
            yield paramiko.InMemoryPrivateKey(self._login.user, key)


def _connection(login: Login, keyring: Keyring, gateway: fabric.Connection | None, *, timeout: float) -> fabric.Connection:
    known = keys.records(login)

    def transport(sock: Any, **options: Any) -> Wire:
        return Wire(sock, algorithms=keys.algorithms(known), **options)

    connection = fabric.Connection(
        login.host,
        user=login.user,
        port=login.port,
        config=fabric.Config(ssh_config=paramiko.SSHConfig(), lazy=True),  # lazy: it reads no fabric.yml and no fabric.py
        gateway=gateway or False,
        connect_timeout=int(timeout),
        connect_kwargs={
            "transport_factory": transport,
            "auth_strategy": _Offer(login, keyring),
            "banner_timeout": timeout,
            "auth_timeout": timeout,
            "channel_timeout": TIMEOUT,
        },
    )
    connection.client.set_missing_host_key_policy(_Strict(login, known))
    return connection


@contextmanager
def _mapped(login: Login, timeout: float) -> Iterator[None]:
    """What paramiko, fabric and the socket raise at an open, as a HostError."""
    what = f"connect to {login.shown}"
    try:
        yield
    except paramiko.ssh_exception.NoValidConnectionsError as exc:
        raise HostError(what, "; ".join(sorted({error.strerror for error in exc.errors.values()})), why=Why.UNREACHABLE) from exc
    except paramiko.AuthenticationException as exc:
        raise HostError(what, _unaccepted(login, exc), why=Why.UNREACHABLE) from exc
    except paramiko.ChannelException as exc:
        raise HostError(what, plain(exc.text), why=Why.UNREACHABLE) from exc
    except (socket.gaierror, TimeoutError) as exc:
        raise HostError(what, exc.strerror or f"no answer within {timeout:g} s", why=Why.UNREACHABLE) from exc
    except (paramiko.SSHException, OSError, EOFError) as exc:
        said = "sshd takes the connection and says nothing" if str(exc) in _SILENCE else plain(str(exc))
        raise HostError(what, said or "the connection was closed", why=Why.UNREACHABLE) from exc


def _unaccepted(login: Login, exc: paramiko.AuthenticationException) -> str:
    result = getattr(exc, "result", ())
    if not result:
        return f"there is no key to log in as {login.user}: neither in an agent nor in {', '.join(login.identities)}"
    return f"none of {len(result)} keys was accepted for {login.user}: {plain(str(result[-1].result))}"

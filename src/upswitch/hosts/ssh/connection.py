"""One SSH connection to one host, through its jump hosts. It is opened once and never again by itself.

fabric would connect anew at the next command after a drop, and what the old session held, a lock, would be gone. It also takes any
host key as it comes: so the policy is set here, for each hop, before it is opened.
"""

import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import fabric
import paramiko

from upswitch.basics.errors import HostError
from upswitch.basics.text import plain
from upswitch.hosts.ssh import hostkeys
from upswitch.hosts.ssh.keyring import Keyring
from upswitch.hosts.ssh.login import Login
from upswitch.hosts.ssh.pipe import NotBegunError, Pipe
from upswitch.hosts.ssh.wire import ChannelRefusedError, Wire, WireLostError

_SILENCE = {"Error reading SSH protocol banner", "No existing session"}  # paramiko's words for it
TIMEOUT = 10.0
"""Seconds for each: TCP, banner, authentication, a channel."""


class SshConnection:
    """`login` says where to, `keyring` has the keys and the passwords. `timeout`: seconds for each part of opening it."""

    def __init__(self, login: Login, keyring: Keyring, *, timeout: float = TIMEOUT) -> None:
        self.login = login
        self._timeout = timeout
        self._keyring = keyring
        self._lock = threading.Lock()
        self._hops: list[fabric.Connection] = []
        self._wire: Wire | None = None
        self._needs_password = False
        self._unopened: HostError | None = None

    @property
    def wire(self) -> Wire:
        """Opened at the first use. HostError when it can't be, and for ever after that, or after it was lost."""
        with self._lock:
            if self._unopened is not None:
                raise self._unopened
            if self._wire is None:
                try:
                    self._wire = self._open()
                except HostError as exc:
                    self._unopened = exc  # whoever else waits here must not wait for the same once more
                    raise
            if not self._wire.active:
                raise HostError(f"reach {self.login.shown}", f"connection lost: {self._wire.lost or 'it was closed'}")
            return self._wire

    @property
    def lost(self) -> str:
        """How it ended, "" while it stands."""
        if self._unopened is not None:
            return self._unopened.why
        return "" if self._wire is None or self._wire.active else self._wire.lost or "it was closed"

    @property
    def meters(self) -> tuple[int, int]:
        """Bytes sent and received."""
        return (0, 0) if self._wire is None else (self._wire.meter.sent, self._wire.meter.received)

    def close(self) -> None:
        """The connection, and those to its jump hosts after it."""
        with self._lock:
            for hop in reversed(self._hops):
                hop.client.close()

    def open_pipe(self, argv: Sequence[str], *, sudo: str = "") -> Pipe:
        """Run a program as the user `sudo`; "" or the login user's own name: without sudo. HostError where it can't begin."""
        user = "" if sudo == self.login.user else sudo
        if not self._needs_password:
            try:
                return self._begun(argv, user)
            except NotBegunError as exc:
                if not (user and "password is required" in str(exc)):
                    raise self._not_begun(user, exc) from exc
        self._needs_password = True
        try:
            return self._begun(argv, user, is_asking=True)
        except NotBegunError as exc:
            raise self._not_begun(user, exc) from exc

    def _begun(self, argv: Sequence[str], user: str, *, is_asking: bool = False) -> Pipe:
        pipe = Pipe(self._session(), f"run a program on {self.login.shown}", lost=lambda: self.lost)
        try:
            password = self._keyring.password(self.login.user) if is_asking else None
            pipe.begin(argv, sudo=user, password=password)
        except (NotBegunError, HostError):
            pipe.close()
            raise
        return pipe

    def _session(self) -> paramiko.Channel:
        try:
            return self.wire.open_stream("session", timeout=TIMEOUT)
        except (ChannelRefusedError, WireLostError, TimeoutError) as exc:
            why = f"no further session (MaxSessions?): {plain(str(exc))}" if isinstance(exc, ChannelRefusedError) else str(exc)
            raise HostError(f"open a session on {self.login.shown}", why or f"no answer within {TIMEOUT:g} s") from exc

    def _not_begun(self, user: str, exc: NotBegunError) -> HostError:
        if not user:
            return HostError(f"open a shell on {self.login.shown} as {self.login.user}", str(exc))
        right = f"{self.login.user} must be allowed to run sh as {user}: {self.login.user} ALL=({user}) NOPASSWD: ALL"
        return HostError(f"use sudo -u {user} on {self.login.shown} as {self.login.user}", f"{exc}; {right}")

    # ---- opening ----

    def _open(self) -> Wire:
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # what it has to say comes as an error of ours
        for login in (*self.login.jumps, self.login):
            gateway = self._hops[-1] if self._hops else None
            self._hops.append(_connection(login, self._keyring, gateway, timeout=self._timeout))
            try:
                with _mapped(login, self._timeout):
                    self._hops[-1].open()
                self._hops[-1].transport.guard()
            except HostError:
                for hop in reversed(self._hops):
                    hop.client.close()
                self._hops.clear()
                raise
        wire: Wire = self._hops[-1].transport
        return wire


class _Strict(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Asked for every key, as the client itself is given none: paramiko compares only the first that is recorded."""

    def __init__(self, login: Login, known: tuple[hostkeys.Record, ...]) -> None:
        self._login = login
        self._known = known

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        del client, hostname
        hostkeys.check(self._login, self._known, offered=key.asbytes())


class _Offer(paramiko.AuthStrategy):  # type: ignore[misc]
    """The keyring's keys, one after the other."""

    def __init__(self, login: Login, keyring: Keyring) -> None:
        super().__init__(ssh_config=paramiko.SSHConfig())
        self._login = login
        self._keyring = keyring

    def get_sources(self) -> Iterator[paramiko.InMemoryPrivateKey]:
        for key in self._keyring.keys(self._login):
            yield paramiko.InMemoryPrivateKey(self._login.user, key)


def _connection(login: Login, keyring: Keyring, gateway: fabric.Connection | None, *, timeout: float) -> fabric.Connection:
    known = hostkeys.records(login)

    def transport(sock: Any, **options: Any) -> Wire:
        return Wire(sock, algorithms=hostkeys.algorithms(known), **options)

    connection = fabric.Connection(
        login.host if ":" not in login.host else f"[{login.host}]",
        user=login.user,
        port=login.port,
        config=fabric.Config(ssh_config=paramiko.SSHConfig(), lazy=True),  # lazy: no fabric.yaml, no fabric.py of anybody's
        gateway=gateway if gateway is not None else False,
        connect_timeout=int(timeout),
        connect_kwargs={
            "transport_factory": transport,
            "auth_strategy": _Offer(login, keyring),
            "banner_timeout": timeout,
            "auth_timeout": timeout,
            "channel_timeout": TIMEOUT,
        },
    )
    connection.host = login.host
    connection.client.set_missing_host_key_policy(_Strict(login, known))
    return connection


@contextmanager
def _mapped(login: Login, timeout: float) -> Iterator[None]:
    """What paramiko, fabric and the socket raise at an open, in our words."""
    what = f"connect to {login.shown}"
    try:
        yield
    except paramiko.ssh_exception.NoValidConnectionsError as exc:
        raise HostError(what, "; ".join(sorted({error.strerror for error in exc.errors.values()}))) from exc
    except paramiko.AuthenticationException as exc:
        raise HostError(what, _unaccepted(login, exc)) from exc
    except (socket.gaierror, TimeoutError) as exc:
        raise HostError(what, exc.strerror or f"no answer within {timeout:g} s") from exc
    except (ChannelRefusedError, WireLostError, paramiko.SSHException, OSError, EOFError) as exc:
        said = "sshd takes the connection and says nothing" if str(exc) in _SILENCE else plain(str(exc))
        raise HostError(what, said or "the connection was closed") from exc


def _unaccepted(login: Login, exc: paramiko.AuthenticationException) -> str:
    result = getattr(exc, "result", ())
    if not result:
        return f"there is no key to log in as {login.user}: neither in an agent nor in {', '.join(login.identities)}"
    return f"none of {len(result)} keys was accepted for {login.user}: {plain(str(result[-1].result))}"

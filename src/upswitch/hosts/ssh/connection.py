"""One SSH connection to one host, by fabric, through its jump hosts.

It is opened once. fabric would connect anew at the next command after a drop, and what the old session held, a lock, would be
gone. fabric also accepts any host key: so each hop gets our policy before it is opened.
"""

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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


def connected(login: Login, keyring: Keyring, *, timeout: float) -> tuple[Wire, ExitStack]:
    """The connection to the host, and what closes it and those to its jump hosts after it. HostError.

    `timeout`: seconds for each part of opening each of them.
    """
    logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # its errors come as errors of ours
    hop: Any = None
    with ExitStack() as hops:
        for each in (*login.jumps, login):
            hop = _connection(each, keyring, gateway=hop, timeout=timeout)
            hops.callback(hop.client.close)
            with _mapped(each, timeout):
                hop.open()
            hop.transport.guard()
        return hop.transport, hops.pop_all()


class _Strict(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Sees every key, as the client itself knows none: paramiko compares only the first that is recorded."""

    def __init__(self, login: Login, known: tuple[keys.Record, ...]) -> None:
        self._login = login
        self._known = known

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        del client, hostname
        keys.check(self._login, self._known, offered=key)


class _Offer(paramiko.AuthStrategy):  # type: ignore[misc]
    """Offers the keyring's keys, one after the other."""

    def __init__(self, login: Login, keyring: Keyring) -> None:
        super().__init__(ssh_config=paramiko.SSHConfig())
        self._login = login
        self._keyring = keyring

    def get_sources(self) -> Iterator[paramiko.InMemoryPrivateKey]:
        for key in self._keyring.keys(self._login):
            yield paramiko.InMemoryPrivateKey(self._login.user, key)


def _connection(login: Login, keyring: Keyring, *, gateway: fabric.Connection | None, timeout: float) -> fabric.Connection:
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

"""A machine behind SSH, as a Host. Nothing of ours has to be installed there: sh, coreutils, util-linux and procps are enough.

When the connection is lost, the call that was under way fails: its result is unknown. The next call connects again and says so.
It first takes a lock that we held again, if nobody else has had it since. While connecting fails, it is tried less and less
often, so that each further call to a silent host fails at once.
"""

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from upswitch.basics.errors import HostError, NotAppendedError
from upswitch.basics.result import Why
from upswitch.basics.text import plain
from upswitch.hosts.host import Chunk, Follower, Ran, Tell
from upswitch.hosts.ssh import files
from upswitch.hosts.ssh.connection import TIMEOUT, SshConnection
from upswitch.hosts.ssh.follower import FarFollower
from upswitch.hosts.ssh.keys import Ask, Keyring
from upswitch.hosts.ssh.lock import FencedError, SshLock
from upswitch.hosts.ssh.login import Login, load, login
from upswitch.hosts.ssh.shell import Shell, Shells, open_shell
from upswitch.hosts.ssh.streams import FarStream, Pipe, Streams

_AGAIN_S = 5.0
"""For each part of connecting anew."""
_MOST_SELDOM_S = 30.0


class Opener:
    """Opens the hosts of one command, which share ssh_config and the user's keys. HostError where ssh_config can't be read."""

    def __init__(self, ask: Ask) -> None:
        self._settings = load()
        self._keyring = Keyring(ask)

    def open(self, name: str, address: str, *, user: str, tell: Tell) -> "SshHost":
        try:
            found = login(address, self._settings)
        except ValueError as exc:  # paramiko's, for an ssh_config that it can't read
            raise HostError(f"use the host {address}", plain(str(exc)), why=Why.UNREACHABLE) from exc
        return SshHost(name, found, keyring=self._keyring, user=user, tell=tell)


class SshHost:
    """Commands run as `user`, by sudo where the login user is another. Connected at its first use.

    `round_trips` counts the requests that were waited for. `tell` hears of drops.
    """

    def __init__(self, name: str, login: Login, *, keyring: Keyring, user: str = "", tell: Tell | None = None) -> None:
        self.name = name
        self.round_trips = 0
        self._tell = tell
        self._reconnecting = threading.Lock()
        self._failed = 0
        self._next_try = 0.0
        self._login = login
        self._keyring = keyring
        self._user = user or login.user
        self._counting = threading.Lock()
        self._lock: SshLock | None = None
        self._waiting = files.Waiting()
        self._connect_anew()

    def lock_in(self, folder: str) -> SshLock:
        """The host's lock in its state folder; commands that change what is live run under it once it is ours."""
        self._lock = SshLock(folder, open_shell=self._open_shell, run=self.run, shown=self._login.shown)
        return self._lock

    def reconnect(self) -> None:
        """After a drop: a new connection, and the lock again if it is still ours; where it is not, every change is refused."""
        self.close()
        self._connect_anew(timeout=_AGAIN_S)
        if self._lock is not None and self._lock.is_claimed:
            with contextlib.suppress(FencedError):
                self._lock.regain()
        else:
            self._connection.wire  # noqa: B018  (opened by looking at it)

    def _standing(self) -> None:
        """HostError where the connection was lost and can't be had again now."""
        with self._reconnecting:
            lost = self._connection.lost
            if not lost:
                return
            now = time.monotonic()
            if now < self._next_try:
                raise HostError(f"reach {self._login.shown}", f"connection lost: {lost}", why=Why.CONNECTION_LOST)
            if not self._failed and self._tell:
                self._tell("ssh", f"connection lost: {lost}; connecting anew")
            try:
                self.reconnect()
            except HostError:
                self._failed += 1
                self._next_try = time.monotonic() + min(3.0**self._failed / 3, _MOST_SELDOM_S)
                raise
            self._failed = 0
            if self._tell:
                self._tell("ssh", "connected again")

    def close(self) -> None:
        self._shells.close()
        self._connection.close()

    @property
    def bytes_sent(self) -> int:
        return self._connection.meters[0]

    @property
    def bytes_received(self) -> int:
        return self._connection.meters[1]

    def run(self, argv: Sequence[str], *, deadline: float, stdin: bytes = b"", holds_lock: bool = False) -> Ran:
        """HostError where the connection was lost before the command could be sent; once it is sent, exit None."""
        self._standing()
        self._count()
        path, data = self._waiting.take()
        before = files.ahead(path, data, fence=self._fence)
        try:
            if holds_lock and self._lock is not None and self._lock.is_claimed:
                ran = self._lock.run(argv, deadline=deadline, stdin=stdin, before=before)
            else:
                with self._shells.one() as shell:
                    ran = shell.run(argv, deadline=deadline, stdin=stdin, before=before)
        except HostError:
            self._waiting.add(path, data)
            raise
        if data and ran.exit is None and self._connection.lost:
            self._waiting.add(path, data)  # it may be there already: then it is there twice, which run.replay knows
        return files.check_ahead(ran, path) if data else ran

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 24) -> Chunk | None:
        self._send_waiting()
        with self._shell() as shell:
            return files.read(shell, path, offset=offset, limit=limit)

    def write(self, path: str, data: bytes, *, mode: int) -> None:
        self._send_waiting()
        with self._shell() as shell:
            files.write(shell, path, data, mode=mode, token=secrets.token_hex(4))

    def append(self, path: str, data: bytes, *, is_ahead: bool = False) -> None:
        if path != self._waiting.path:
            self._send_waiting()
        self._waiting.add(path, data)
        if not is_ahead or self._waiting.is_too_long:
            self._standing()
            self._append(*self._waiting.take())

    def _append(self, path: str, data: bytes) -> None:
        if data:
            with self._shell() as shell:
                files.append(shell, path, data, fence=self._fence)

    def _send_waiting(self) -> None:
        self._standing()
        path, data = self._waiting.take()
        try:
            self._append(path, data)
        except HostError as exc:
            raise NotAppendedError(exc.what, exc.reason, why=exc.why) from exc

    @property
    def _fence(self) -> tuple[str, str]:
        return self._lock.fence if self._lock else ("", "")

    def connect(self, address: str, *, timeout: float) -> FarStream:
        self._standing()
        self._count()
        return self._streams.open(address, timeout=timeout)

    def follow(self, path: str) -> Follower:
        self._standing()
        self._count()
        return FarFollower(path, open_pipe=self._open_pipe)

    def _connect_anew(self, *, timeout: float = TIMEOUT) -> None:
        self._connection = SshConnection(self._login, self._keyring, timeout=timeout)
        self._shells = Shells(lambda: self._open_shell(0))
        self._streams = Streams(self._connection, user=self._user)

    @contextmanager
    def _shell(self) -> Iterator[Shell]:
        """For one script of ours."""
        self._count()
        with self._shells.one() as shell:
            yield shell

    def _open_shell(self, lease: int) -> Shell:
        self._count()
        return open_shell(self._open_pipe, lease=lease)

    def _open_pipe(self, argv: Sequence[str]) -> Pipe:
        return self._streams.run(argv)

    def _count(self) -> None:
        with self._counting:
            self.round_trips += 1

"""A machine behind SSH, as a Host. Nothing of ours has to be installed there: sh, coreutils, util-linux and procps are enough.

When the connection is lost, the call that was under way fails: its result is unknown. The next call connects again and says so.
It first takes a lock that we held again, if nobody else has had it since. While connecting fails, it is tried less and less
often, so that each further call to a silent host fails at once.
"""

import contextlib
import threading
import time
from collections.abc import Sequence

from upswitch.basics.errors import HostError, NotAppendedError
from upswitch.basics.result import Why
from upswitch.basics.text import plain
from upswitch.hosts.host import Chunk, Follower, Ran, Tell
from upswitch.hosts.ssh import files
from upswitch.hosts.ssh.connection import TIMEOUT
from upswitch.hosts.ssh.follower import FarFollower
from upswitch.hosts.ssh.keys import Ask, Keyring, check_files
from upswitch.hosts.ssh.lock import FencedError, SshLock
from upswitch.hosts.ssh.login import Login, load, login
from upswitch.hosts.ssh.shell import Shell, Shells, open_shell
from upswitch.hosts.ssh.streams import Pipe, Streams

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
        for each in (found, *found.jumps):
            check_files(each)
        return SshHost(name, found, keyring=self._keyring, user=user, tell=tell)


class SshHost:
    """Commands run as `user`, by sudo where the login user is another. Connected at its first use. `tell` hears of drops."""

    def __init__(self, name: str, login: Login, *, keyring: Keyring, user: str = "", tell: Tell | None = None) -> None:
        self.name = name
        self._tell = tell
        self._login = login
        self._keyring = keyring
        self._user = user or login.user
        self._connecting = threading.Lock()
        self._streams: Streams | None = None
        self._shells = Shells(lambda: self._open_shell(0))
        self._failed = 0
        self._failure: HostError | None = None
        self._next_try = 0.0
        self._lock: SshLock | None = None
        self._waiting = files.Waiting()

    def lock_in(self, folder: str) -> SshLock:
        """The host's lock in its state folder; commands that change what is live run under it once it is ours."""
        self._lock = SshLock(folder, open_shell=self._open_shell, run=self.run, shown=self._login.shown)
        return self._lock

    @property
    def lost(self) -> str:
        """How the connection ended; "" while it stands, and before it is opened."""
        return self._streams.wire.lost if self._streams else ""

    def reconnect(self) -> Streams:
        """A new connection, and the lock again if it is still ours; where it is not, every change is refused."""
        timeout = _AGAIN_S if self._streams else TIMEOUT
        self._close()
        self._streams = Streams(self._login, self._keyring, user=self._user, timeout=timeout)
        self._shells = Shells(lambda: self._open_shell(0))
        if self._lock is not None and self._lock.is_claimed:
            with contextlib.suppress(FencedError):
                self._lock.regain()
        return self._streams

    def _connected(self) -> Streams:
        """HostError where there is no connection and none can be had now."""
        with self._connecting:
            lost = self.lost
            if self._streams and not lost:
                return self._streams
            if self._failure and time.monotonic() < self._next_try:
                raise self._failure  # a thread that waited here must not wait for the same once more
            if lost and not self._failed and self._tell:
                self._tell("ssh", f"connection lost: {lost}; connecting anew")
            try:
                streams = self.reconnect()
            except HostError as exc:
                self._failed, self._failure = self._failed + 1, exc
                self._next_try = time.monotonic() + min(3.0**self._failed / 3, _MOST_SELDOM_S)
                raise
            self._failed, self._failure = 0, None
            if lost and self._tell:
                self._tell("ssh", "connected again")
            return streams

    def close(self) -> None:
        with self._connecting:
            self._close()

    def _close(self) -> None:
        if self._streams:
            self._streams.close()

    def run(self, argv: Sequence[str], *, deadline: float, stdin: bytes = b"", holds_lock: bool = False) -> Ran:
        """HostError where the connection was lost before the command could be sent; once it is sent, exit None."""
        self._connected()
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
        if data and ran.exit is None and self.lost:
            self._waiting.add(path, data)  # it may be there already: then it is there twice, which run.replay knows
        return files.check_ahead(ran, path) if data else ran

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 24) -> Chunk | None:
        return files.read(self.run, path, offset=offset, limit=limit)

    def write(self, path: str, data: bytes, *, mode: int) -> None:
        files.write(self.run, path, data, mode=mode)

    def append(self, path: str, data: bytes, *, is_ahead: bool = False) -> None:
        if path != self._waiting.path:
            try:
                self._send_waiting()
            except HostError as exc:
                raise NotAppendedError(exc.what, exc.reason, why=exc.why) from exc
        self._waiting.add(path, data)
        if not is_ahead or self._waiting.is_too_long:
            self._send_waiting()

    def _send_waiting(self) -> None:
        self._connected()
        path, data = self._waiting.take()
        if data:
            with self._shells.one() as shell:
                files.append(shell, path, data, fence=self._fence)

    @property
    def _fence(self) -> tuple[str, str]:
        return self._lock.fence if self._lock else ("", "")

    def connect(self, address: str, *, timeout: float) -> Pipe:
        return self._connected().open(address, timeout=timeout)

    def follow(self, path: str) -> Follower:
        self._connected()
        return FarFollower(path, open_pipe=self._open_pipe)

    def _open_shell(self, lease: int) -> Shell:
        return open_shell(self._open_pipe, lease=lease)

    def _open_pipe(self, argv: Sequence[str]) -> Pipe:
        return (self._streams or self._connected()).run(argv)

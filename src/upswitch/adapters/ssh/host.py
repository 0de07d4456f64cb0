"""A machine behind SSH, as a Host. Nothing of ours has to be installed there: sh, coreutils, util-linux and procps are enough."""

import secrets
import threading
from collections.abc import Sequence

from upswitch.adapters.ssh import files
from upswitch.adapters.ssh.channel import FarStream, Streams
from upswitch.adapters.ssh.connection import SshConnection
from upswitch.adapters.ssh.follow import PollingFollower
from upswitch.adapters.ssh.keyring import Keyring
from upswitch.adapters.ssh.lock import SshLock
from upswitch.adapters.ssh.login import Login
from upswitch.adapters.ssh.pool import Shells
from upswitch.adapters.ssh.shell import Shell, open_shell
from upswitch.ports import Chunk, Follower, Ran


class SshHost:
    """Commands run as `user`, by sudo where the login user is another. Connected at its first use; never again by itself.

    `round_trips` counts the requests that were waited for.
    """

    def __init__(self, name: str, login: Login, *, keyring: Keyring, user: str = "") -> None:
        self.name = name
        self.round_trips = 0
        self._login = login
        self._keyring = keyring
        self._user = user or login.user
        self._counting = threading.Lock()
        self._lock: SshLock | None = None
        self._connect_anew()

    def lock_in(self, folder: str) -> SshLock:
        """The host's lock in its state folder; commands that change what is live run under it once it is ours."""
        self._lock = SshLock(folder, open_shell=self._open_shell, run=self.run, shown=self._login.shown)
        return self._lock

    def reconnect(self) -> None:
        """After a drop: a new connection, and the lock again if it was ours. HostError, also where somebody else had the lock."""
        self.close()
        self._connect_anew()
        if self._lock is not None and self._lock.is_claimed:
            self._lock.regain()

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
        self._count()
        if holds_lock and self._lock is not None and self._lock.is_claimed:
            return self._lock.run(argv, deadline=deadline, stdin=stdin)
        with self._shells.one() as shell:
            return shell.run(argv, deadline=deadline, stdin=stdin)

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 24) -> Chunk | None:
        self._count()
        with self._shells.one() as shell:
            return files.read(shell, path, offset=offset, limit=limit)

    def write(self, path: str, data: bytes, *, mode: int) -> None:
        self._count()
        with self._shells.one() as shell:
            files.write(shell, path, data, mode=mode, token=secrets.token_hex(4))

    def append(self, path: str, data: bytes) -> None:
        self._count()
        with self._shells.one() as shell:
            files.append(shell, path, data, fence=self._lock.fence if self._lock else ("", ""))

    def connect(self, address: str, *, timeout: float) -> FarStream:
        self._count()
        return self._streams.open(address, timeout=timeout)

    def follow(self, path: str) -> Follower:
        return PollingFollower(self, path)

    def _connect_anew(self) -> None:
        self._connection = SshConnection(self._login, self._keyring)
        self._shells = Shells(lambda: self._open_shell(0))
        self._streams = Streams(self._connection, user=self._user)

    def _open_shell(self, lease: int) -> Shell:
        self._count()
        return open_shell(lambda argv: self._connection.open_pipe(argv, sudo=self._user), lease=lease)

    def _count(self) -> None:
        with self._counting:
            self.round_trips += 1

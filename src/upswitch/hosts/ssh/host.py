"""A machine behind SSH, as a Host. Nothing of ours has to be installed there: sh, coreutils, util-linux and procps are enough.

When the connection is lost, the call that was under way fails: its result is unknown. The next call connects again and says so.
It first takes a lock that we held again, if nobody else has had it since. While connecting fails, it is tried less and less
often, so that each further call to a silent host fails at once.

What is done to a file is one script and one round trip. An error's text is the kernel's, as the programs print it.
"""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Sequence

from upswitch.basics.errors import HostError, NotAppendedError
from upswitch.basics.result import Why
from upswitch.basics.text import plain, printable
from upswitch.hosts import sh
from upswitch.hosts.host import JOURNAL, Chunk, Follower, Ran, Tell
from upswitch.hosts.kept_log import KeptLogs
from upswitch.hosts.sh import Exit
from upswitch.hosts.ssh.connection import TIMEOUT
from upswitch.hosts.ssh.follower import FarFollower
from upswitch.hosts.ssh.keys import Ask, Keyring, check_files
from upswitch.hosts.ssh.lock import FencedError, SshLock
from upswitch.hosts.ssh.login import Login, load, login
from upswitch.hosts.ssh.shell import Shell, Shells, open_shell, quoted
from upswitch.hosts.ssh.streams import Pipe, Programs, Streams

_AGAIN_S = 5.0
"""For each part of connecting anew."""
_MOST_SELDOM_S = 30.0
_FILE_S = 20.0
"""For a script that reads or writes a file."""
_MOST_AHEAD = 1 << 16  # bytes; an argument may have twice as many (MAX_ARG_STRLEN)
_PACKAGE = "upswitch.hosts.ssh"


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


class FarHost:
    """A machine whose programs `connect` can start, given the seconds for it. Connected at its first use. `tell` hears of drops."""

    streams: tuple[str, ...] = ()

    def __init__(self, name: str, connect: Callable[[float], Programs], *, shown: str, tell: Tell | None = None) -> None:
        self.name = name
        self._tell = tell
        self._connect = connect
        self._shown = shown
        self._connecting = threading.RLock()
        self._streams: Programs | None = None
        self._shells = Shells(lambda: self._open_shell(0))
        self._failed = 0
        self._failure: HostError | None = None
        self._next_try = 0.0
        self._lock: SshLock | None = None
        self._waiting = _Waiting()
        self._kept = KeptLogs(self.run, self.open_pipe)

    def lock_in(self, folder: str) -> SshLock:
        run, shown = self.run, self._shown
        self._lock = SshLock(folder, open_shell=self._open_shell, run=run, shown=shown, check_reach=self._check_reach)
        return self._lock

    def _check_reach(self) -> None:
        """HostError where it is known that the machine does not run: a lost connection is seen by itself."""

    @property
    def lost(self) -> str:
        """How the connection ended; "" while it stands, and before it is opened."""
        return self._streams.lost if self._streams else ""

    def reconnect(self) -> Programs:
        """A new connection, and the lock again if it is still ours; where it is not, every change is refused."""
        timeout = _AGAIN_S if self._streams else TIMEOUT
        self.close()
        self._streams = self._connect(timeout)
        self._shells = Shells(lambda: self._open_shell(0))
        if self._lock is not None and self._lock.is_claimed:
            with contextlib.suppress(FencedError):
                self._lock.regain()
        return self._streams

    def _connected(self) -> Programs:
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
            if self._streams:
                self._streams.close()

    def run(self, argv: Sequence[str], *, deadline: float, stdin: bytes = b"", holds_lock: bool = False) -> Ran:
        """HostError where the connection was lost before the command could be sent; once it is sent, exit None."""
        self._connected()
        path, data = self._waiting.take()
        before = self._appending(path, data) if data else ""
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
        if data and ran.exit == Exit.NOT_APPENDED:  # so the command was not begun
            raise NotAppendedError(f"append to {path}", _last_words(ran), why=ran.why)
        return ran

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 24) -> Chunk | None:
        if path.startswith(JOURNAL):
            return self._kept.read(KeptLogs.journal(path), offset=offset, limit=limit)
        ran = self.run(sh.argv(_PACKAGE, "read.sh", path, str(offset), str(limit)), deadline=_FILE_S)
        if ran.exit == Exit.NOT_THERE:
            return None
        _check(ran, f"read {path}")
        head, _, data = ran.out.partition(b"\n")
        inode, _, size = head.partition(b" ")
        return Chunk(inode=int(inode), size=int(size), data=data)

    def write(self, path: str, data: bytes, *, mode: int) -> None:
        folder, _, name = path.rpartition("/")
        temp = f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
        argv = sh.argv(_PACKAGE, "write.sh", path, temp, f"{mode:o}", str(len(data)))
        _check(self.run(argv, deadline=_FILE_S, stdin=data), f"write {path}")

    def append(self, path: str, data: bytes, *, is_ahead: bool = False) -> None:
        if path != self._waiting.path:
            try:
                self._send_waiting()
            except HostError as exc:
                raise NotAppendedError(exc.what, exc.reason, why=exc.why) from exc
        self._waiting.add(path, data)
        if not is_ahead or len(self._waiting.data) > _MOST_AHEAD:
            self._send_waiting()

    def _send_waiting(self) -> None:
        self._connected()
        path, data = self._waiting.take()
        if data:
            with self._shells.one() as shell:
                _check(shell.evaluate(self._appending(path, data), deadline=_FILE_S), f"append to {path}")

    def _appending(self, path: str, data: bytes) -> str:
        """A script that appends, if the lock is still ours where we claim it. A NUL byte can't be appended."""
        fence = self._lock.fence if self._lock else ("", "")
        text = data.decode("utf-8", "surrogateescape")
        return f"{sh.script(_PACKAGE, 'append.sh')}append {quoted((path, str(len(data)), *fence, text))}"

    def connect(self, address: str, *, timeout: float) -> Pipe:
        return self._connected().open(address, timeout=timeout)

    def follow(self, path: str) -> Follower:
        if path.startswith(JOURNAL):
            return self._kept.follow(KeptLogs.journal(path))
        self._connected()
        return FarFollower(path, open_pipe=self.open_pipe)

    def _open_shell(self, lease: int) -> Shell:
        return open_shell(self.open_pipe, lease=lease)

    def open_pipe(self, argv: Sequence[str]) -> Pipe:
        """Start a program whose streams the caller has."""
        return (self._streams or self._connected()).run(argv)


class SshHost(FarHost):
    """Commands run as `user`, by sudo where the login user is another."""

    def __init__(self, name: str, login: Login, *, keyring: Keyring, user: str = "", tell: Tell | None = None) -> None:
        def connect(timeout: float) -> Streams:
            return Streams(login, keyring, user=user or login.user, timeout=timeout)

        super().__init__(name, connect, shown=login.shown, tell=tell)


class _Waiting(threading.local):
    """What one thread has appended and not sent yet. It is sent with that thread's next command."""

    path: str = ""
    data: bytes = b""

    def add(self, path: str, data: bytes) -> None:
        self.path, self.data = path, self.data + data

    def take(self) -> tuple[str, bytes]:
        data, self.data = self.data, b""
        return self.path, data


def _check(ran: Ran, what: str) -> None:
    """HostError unless it has ended well."""
    if ran.exit is None:
        raise HostError(what, f"no answer came, so it may have been done: {ran.words}", why=ran.why)
    if ran.exit:
        raise HostError(what, "it is no regular file" if ran.exit == Exit.NOT_REGULAR else _last_words(ran), why=ran.why)


def _last_words(ran: Ran) -> str:
    lines = ran.err.strip().splitlines() or [b""]
    return printable(lines[-1].rpartition(b": ")[2]) or f"exit {ran.exit}"

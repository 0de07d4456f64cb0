"""This machine, as a Host, and the lock on it."""

import contextlib
import errno
import fcntl
import functools
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from upswitch.basics.errors import HostError, Owner
from upswitch.basics.result import Why, is_own_limit
from upswitch.hosts import sh
from upswitch.hosts.host import JOURNAL, Chunk, Clock, Follower, Ran
from upswitch.hosts.local import opened
from upswitch.hosts.local.follow import LogFollower, mapped

if TYPE_CHECKING:
    from upswitch.hosts.kept_log import KeptLogs

_LINGER_S = 0.2
_FENCED = "another upswitch or the dead-man has changed this host since this run took the lock"


class LocalHost:
    """Plain files and processes. Commands get a session of their own: a Ctrl-C at our terminal must not reach `nginx -t`."""

    name = "localhost"
    streams: tuple[str, ...] = ()

    def __init__(self, clock: Clock, lock: "FileLock | None" = None) -> None:
        self._clock = clock
        self._lock = lock

    def run(self, argv: Sequence[str], *, deadline: float, stdin: bytes = b"", holds_lock: bool = False) -> Ran:
        if holds_lock and self._lock and not self._lock.is_ours:
            return Ran(exit=sh.Exit.FENCED, err=f"refused: {_FENCED}".encode())
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=self._lock.descriptors if self._lock and holds_lock else (),
            )
        except OSError as exc:
            if is_own_limit(exc):
                return Ran(exit=None, reason=f"{argv[0]} could not be started: {exc.strerror}")
            return Ran(exit=127, err=f"{argv[0]}: {exc.strerror}".encode())
        with process:
            try:
                out, err = self._outputs(process, stdin, self._clock.monotonic() + deadline)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return Ran(exit=None, reason=f"no end within {deadline:g} s")
        if process.returncode < 0:
            return Ran(exit=None, out=out, err=err, reason=f"killed by signal {-process.returncode}")
        return Ran(exit=process.returncode, out=out, err=err)

    def _outputs(self, process: subprocess.Popen[bytes], stdin: bytes, until: float) -> tuple[bytes, bytes]:
        """Both outputs, up to the program's own end: a child that it leaves behind may hold them open for ever."""
        is_over, given = False, stdin or None
        while True:
            left = max(0.0, until - self._clock.monotonic())
            try:
                return process.communicate(given, timeout=min(_LINGER_S, left))
            except subprocess.TimeoutExpired as exc:
                if is_over:  # read once more after its end
                    return exc.stdout or b"", exc.stderr or b""
                is_over, given = process.poll() is not None, None
                if not left and not is_over:
                    raise

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 24) -> Chunk | None:
        if path.startswith(JOURNAL):
            return self._kept.read(self._kept.journal(path), offset=offset, limit=limit)
        with mapped(f"read {path}"):
            try:
                descriptor = opened.regular(path)
            except FileNotFoundError:
                return None
            with open(descriptor, "rb") as file:
                status = os.fstat(file.fileno())
                file.seek(offset)
                return Chunk(inode=status.st_ino, size=status.st_size, data=file.read(limit))

    def write(self, path: str, data: bytes, *, mode: int) -> None:
        folder, name = os.path.split(path)
        temp = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
        with mapped(f"write {path}"):
            try:
                _write_synced(temp, data, mode)
                _keep_owner(path, temp)
                os.rename(temp, path)
            except OSError:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temp)
                raise
            _sync_folder(folder)

    def append(self, path: str, data: bytes, *, is_ahead: bool = False) -> None:
        del is_ahead  # there is no round trip to save here
        if not data:
            return
        if self._lock and not self._lock.is_ours:
            raise HostError(f"append to {path}", f"refused: {_FENCED}", why=Why.FENCED)
        with mapped(f"append to {path}"):
            descriptor = opened.regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW)
            try:
                before = os.fstat(descriptor).st_size
                written = os.write(descriptor, data)
                if written != len(data):  # the next line, appended to half a line, would make the journal corrupt
                    os.ftruncate(descriptor, before)
                    raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes could be written")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def connect(self, address: str, *, timeout: float) -> socket.socket:
        if address.startswith("unix:"):
            unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            unix.settimeout(timeout)
            try:
                unix.connect(address.removeprefix("unix:"))
            except OSError:
                unix.close()
                raise
            return unix
        name, _, port = address.rpartition(":")
        return socket.create_connection((name.strip("[]"), int(port)), timeout)

    @functools.cached_property
    def _kept(self) -> "KeptLogs":
        """Only a host whose nginx logs to the journal needs it, and it imports paramiko."""
        open_pipe = import_module("upswitch.hosts.local.channel").open_pipe
        found: KeptLogs = import_module("upswitch.hosts.kept_log").KeptLogs(self.run, open_pipe)
        return found

    def follow(self, path: str) -> Follower:
        if path.startswith(JOURNAL):
            return self._kept.follow(self._kept.journal(path))
        return LogFollower(path, clock=self._clock)


def _write_synced(path: str, data: bytes, mode: int) -> None:
    descriptor = opened.regular(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def _keep_owner(path: str, temp: str) -> None:
    """A file that is replaced keeps its owner and mode; a new one has ours."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        return
    os.chown(temp, old.st_uid, old.st_gid)
    os.chmod(temp, stat.S_IMODE(old.st_mode))


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- the lock ----

LEASE_S = 10
"""Seconds that one beat renews the lease for."""


class FileLock:
    """The kernel's lock: flock on one file. The kernel frees it as soon as its holder has ended, even by kill -9.

    The lock file names its holder, for people only. Two files beside it are for a holder that is frozen:
    `lease` is the time until which the holder claims to live, in seconds of /proc/uptime, which no clock change moves.
    `epoch` counts the holders. The dead-man counts it up before it acts for a frozen holder. From then on every command of the
    older epoch is refused.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lease = os.path.join(os.path.dirname(path), "lease")
        self._epoch_file = os.path.join(os.path.dirname(path), "epoch")
        self._descriptor: int | None = None
        self.epoch = 0

    def acquire(self, owner: Owner) -> Owner | None:
        """None when it is ours now; else its holder. HostError where the lock file can't be made."""
        with mapped(f"open the lock {self._path}"):
            descriptor = opened.regular(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = holder_in(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            return holder
        with contextlib.suppress(OSError):  # a full disk: the name is for people only
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(owner) + b"\n", 0)
        self._descriptor = descriptor
        try:
            self._begin_epoch()
            self.beat()
        except HostError:
            self.release()
            raise
        return None

    @property
    def is_ours(self) -> bool:
        """False once somebody has acted in our place: the host may have changed since we read it."""
        return self._descriptor is None or _number(self._epoch_file) == self.epoch

    def beat(self) -> None:
        """Renew the lease. HostError where it can't be written. A full disk does not stop it: the file has its blocks already."""
        if not self.is_ours:
            raise HostError(f"renew the lease {self._lease}", _FENCED, why=Why.FENCED)
        with open("/proc/uptime", encoding="ascii") as uptime:
            until = int(float(uptime.read().split()[0])) + LEASE_S
        with mapped(f"renew the lease {self._lease}"):
            _write(self._lease, until)

    def _begin_epoch(self) -> None:
        self.epoch = _number(self._epoch_file) + 1
        with mapped(f"write {self._epoch_file}"):
            _write(self._epoch_file, self.epoch)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """For a child that must keep the lock when we are killed: none while we do not hold it."""
        return () if self._descriptor is None else (self._descriptor,)

    def holder(self) -> Owner | None:
        """Who holds it now, by /proc/locks: to look must not take the lock, even for a moment."""
        try:
            inode = os.stat(self._path).st_ino
            with open("/proc/locks", encoding="ascii") as locks, open(opened.regular(self._path), "rb") as file:
                is_held = any(f":{inode} " in line and "FLOCK" in line for line in locks)
                return holder_in(file.read(4096)) if is_held else None
        except OSError:
            return None

    def release(self) -> None:
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # also for a process that a command under the lock left behind
            os.close(self._descriptor)
            self._descriptor = None


_DIGITS = 10


def _write(path: str, number: int) -> None:
    """In place and always of one length, so that it needs no new block. A shell reads it, so no zeros stand in front."""
    descriptor = opened.regular(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW)
    try:
        os.pwrite(descriptor, f"{number:<{_DIGITS}}\n".encode(), 0)
    finally:
        os.close(descriptor)


def _number(path: str) -> int:
    """0 where there is none."""
    try:
        with open(opened.regular(path), "rb") as file:
            text = file.read(_DIGITS + 1).strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def holder_in(data: bytes) -> Owner:
    """Who the lock's file says it is; its holder may not have written it yet."""
    try:
        return msgspec.json.decode(data, type=Owner)
    except msgspec.MsgspecError:
        return Owner(user="?", host="?", pid=0, since="?", reason="its holder has not written its name yet")

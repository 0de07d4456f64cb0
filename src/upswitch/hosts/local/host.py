"""This machine, as a Host, and the lock on it."""

import contextlib
import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Sequence

import msgspec

from upswitch.basics.errors import HostError, Owner
from upswitch.basics.result import Why, why_of
from upswitch.hosts import sh
from upswitch.hosts.host import Chunk, Clock, Follower, Ran
from upswitch.hosts.local.follow import LogFollower

_FENCED = "refused: somebody else has acted here since we took the lock"


class LocalHost:
    """Plain files and processes. Commands get a session of their own: a Ctrl-C at our terminal must not reach `nginx -t`."""

    name = "localhost"

    def __init__(self, clock: Clock, lock: "FileLock | None" = None) -> None:
        self._clock = clock
        self._lock = lock

    def run(self, argv: Sequence[str], *, deadline: float, stdin: bytes = b"", holds_lock: bool = False) -> Ran:
        if holds_lock and self._lock and not self._lock.is_ours:
            return Ran(exit=sh.Exit.FENCED, err=_FENCED.encode())
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
            return Ran(exit=127, err=f"{argv[0]}: {exc.strerror}".encode())
        with process:
            try:
                out, err = process.communicate(stdin, timeout=deadline)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return Ran(exit=None, reason=f"no end within {deadline:g} s")
        if process.returncode < 0:
            return Ran(exit=None, out=out, err=err, reason=f"killed by signal {-process.returncode}")
        return Ran(exit=process.returncode, out=out, err=err)

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 24) -> Chunk | None:
        try:
            # Not blocking: a FIFO in a log's or the journal's place must not hold a way back.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise HostError(f"read {path}", "it is no regular file")
                file.seek(offset)
                return Chunk(inode=status.st_ino, size=status.st_size, data=file.read(limit))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise HostError(f"read {path}", exc.strerror or str(exc), why=why_of(exc)) from exc

    def write(self, path: str, data: bytes, *, mode: int) -> None:
        folder, name = os.path.split(path)
        temp = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
        try:
            try:
                _write_synced(temp, data, mode)
                _keep_owner(path, temp)
                os.rename(temp, path)
            except OSError:
                _unlink(temp)
                raise
            _sync_folder(folder)
        except OSError as exc:
            raise HostError(f"write {path}", exc.strerror or str(exc), why=why_of(exc)) from exc

    def append(self, path: str, data: bytes, *, is_ahead: bool = False) -> None:
        del is_ahead  # there is no way to save here
        if not data:
            return
        if self._lock and not self._lock.is_ours:
            raise HostError(f"append to {path}", _FENCED, why=Why.FENCED)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                before = os.fstat(descriptor).st_size
                written = os.write(descriptor, data)
                if written != len(data):  # a half line that the next one is appended to would be a corrupt journal
                    os.ftruncate(descriptor, before)
                    raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes could be written")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise HostError(f"append to {path}", exc.strerror or str(exc), why=why_of(exc)) from exc

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

    def follow(self, path: str) -> Follower:
        return LogFollower(path, clock=self._clock)


def _write_synced(path: str, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- the lock ----

LEASE_S = 10
"""For how long one beat is good."""


class FileLock:
    """The kernel's lock: flock on one file. It is free the moment its holder is gone, however it went.

    What the file says about its holder is for people only; the lock is the kernel's. Two files beside it are for a holder that is
    not gone but frozen: `lease` says until when it claims to live, in seconds of /proc/uptime, which no clock change moves; `epoch`
    counts the holders. Whoever acts in a frozen holder's place (the dead-man) counts it up, and what was begun under an older epoch
    is refused from then on.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lease = os.path.join(os.path.dirname(path), "lease")
        self._epoch_file = os.path.join(os.path.dirname(path), "epoch")
        self._descriptor: int | None = None
        self.epoch = 0

    def acquire(self, owner: Owner) -> Owner | None:
        """None when it is ours now; else its holder. HostError where the lock file can't be made."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as exc:
            raise HostError(f"open the lock {self._path}", exc.strerror or str(exc), why=why_of(exc)) from exc
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
        self._begin_epoch()
        self.beat()
        return None

    @property
    def is_ours(self) -> bool:
        """False once somebody acted in our place: whatever we meant to do, the host is no longer as we knew it."""
        return self._descriptor is None or _number(self._epoch_file) == self.epoch

    def beat(self) -> None:
        """Renew the lease. HostError where it can't be written; the file has its blocks already, so a full disk is no reason."""
        if not self.is_ours:
            raise HostError(f"renew the lease {self._lease}", "somebody else has acted here since we took the lock", why=Why.FENCED)
        with open("/proc/uptime", encoding="ascii") as uptime:
            until = int(float(uptime.read().split()[0])) + LEASE_S
        try:
            _write(self._lease, until)
        except OSError as exc:
            raise HostError(f"renew the lease {self._lease}", exc.strerror or str(exc), why=why_of(exc)) from exc

    def _begin_epoch(self) -> None:
        self.epoch = _number(self._epoch_file) + 1
        try:
            _write(self._epoch_file, self.epoch)
        except OSError as exc:
            self.release()
            raise HostError(f"write {self._epoch_file}", exc.strerror or str(exc), why=why_of(exc)) from exc

    @property
    def descriptors(self) -> tuple[int, ...]:
        """For a child that must keep the lock when we are killed: none while we do not hold it."""
        return () if self._descriptor is None else (self._descriptor,)

    def holder(self) -> Owner | None:
        """Who holds it now, by /proc/locks: looking must not take it, not even for a moment."""
        try:
            inode = os.stat(self._path).st_ino
            with open("/proc/locks", encoding="ascii") as locks, open(self._path, "rb") as file:
                is_held = any(f":{inode} " in line and "FLOCK" in line for line in locks)
                return holder_in(file.read(4096)) if is_held else None
        except OSError:
            return None

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_DIGITS = 10


def _write(path: str, number: int) -> None:
    """In place and of one length (a shell reads it, so no zeros in front): nothing is cut off, and no new block is needed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, f"{number:<{_DIGITS}}\n".encode(), 0)
    finally:
        os.close(descriptor)


def _number(path: str) -> int:
    """0 where there is none."""
    try:
        with open(path, "rb") as file:
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

"""The machine we stand on, as a Host."""

import errno
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Sequence

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why, why_of
from upswitch.hosts import sh
from upswitch.hosts.host import Chunk, Clock, Follower, Ran
from upswitch.hosts.local.follow import LogFollower
from upswitch.hosts.local.lock import FileLock

_FENCED = "refused: somebody else has acted here since we took the lock"


class LocalHost:
    """Plain files and processes. Commands get a session of their own: a Ctrl-C at our terminal must not reach `nginx -t`."""

    name = "localhost"

    def __init__(self, clock: Clock, lock: FileLock | None = None) -> None:
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

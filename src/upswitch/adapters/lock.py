"""The kernel's lock: flock on one file. It is free the moment its holder is gone, however it went.

What the file says about its holder is for people only; the lock is the kernel's.
"""

import contextlib
import fcntl
import os

import msgspec

from upswitch.core.errors import HostError, Owner


class FileLock:
    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, owner: Owner) -> Owner | None:
        """None when it is ours now; else its holder. HostError where the lock file can't be made."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as exc:
            raise HostError(f"open the lock {self._path}", exc.strerror or str(exc)) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            return holder
        with contextlib.suppress(OSError):  # a full disk: the name is for people only
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(owner) + b"\n", 0)
        self._descriptor = descriptor
        return None

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
                return _holder(file.read(4096)) if is_held else None
        except OSError:
            return None

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _holder(data: bytes) -> Owner:
    try:
        return msgspec.json.decode(data, type=Owner)
    except msgspec.MsgspecError:
        return Owner(user="?", host="?", pid=0, since="?", reason="its holder has not written its name yet")

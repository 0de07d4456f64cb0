"""The kernel's lock: flock on one file. It is free the moment its holder is gone, however it went.

What the file says about its holder is for people only; the lock is the kernel's. Two files beside it are for a holder that is
not gone but frozen: `lease` says until when it claims to live, in seconds of /proc/uptime, which no clock change moves; `epoch`
counts the holders. Whoever acts in a frozen holder's place (the dead-man) counts it up, and what was begun under an older epoch
is refused from then on.
"""

import contextlib
import fcntl
import os

import msgspec

from upswitch.basics.errors import HostError, Owner
from upswitch.basics.result import Why, why_of

LEASE_S = 10
"""For how long one beat is good."""


class FileLock:
    """A ports.Lock on this machine."""

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

"""The kernel's lock on the host. A shell there holds its descriptor. The files are those of hosts/local/host.py.

lock    flock is on it; holds its owner's name, for people
epoch   counts the holders. A command under the lock runs only while the epoch is still its holder's; else it ends with FENCED.
        So a holder that was frozen and wakes up can't change what another has begun
lease   the time until which the holder counts as alive, in seconds of /proc/uptime; each frame renews it

The shell ends, and the lock is free, when no frame has come for LEASE_S: a silent upswitch does not hold it for ever. A
command that runs under the lock has the descriptor too: nobody else gets the lock before that command has ended.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence

import msgspec

from upswitch.basics.errors import HostError, Owner
from upswitch.basics.result import Why
from upswitch.basics.text import told
from upswitch.hosts import sh
from upswitch.hosts.host import Ran
from upswitch.hosts.local.host import holder_in
from upswitch.hosts.sh import Exit, script
from upswitch.hosts.ssh.shell import Shell

LEASE_S = 15
_DEADLINE = 10.0
_PATIENCE_S = 8
"""Seconds to wait for a command of our own that was begun before the connection was lost."""


class FencedError(HostError):
    """Somebody else has had the lock since it was ours."""


class SshLock:
    """`open_shell` opens a shell with a lease of so many seconds; `run` runs a command in any shell.

    `check_reach` raises a HostError where the machine is known not to run: a shell that is frozen with it still takes a heartbeat.
    """

    def __init__(
        self,
        folder: str,
        *,
        open_shell: Callable[[int], Shell],
        run: Callable[..., Ran],
        shown: str,
        check_reach: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._open_shell = open_shell
        self._run = run
        self._shown = shown
        self._check_reach = check_reach
        self._shell: Shell | None = None
        self._owner = b""
        self._is_released = False
        self._regaining = threading.Lock()
        self.epoch = 0

    @property
    def is_claimed(self) -> bool:
        """It was acquired and not released; whether it is still ours is only known on the host."""
        return self.epoch > 0 and not self._is_released

    @property
    def fence(self) -> tuple[str, str]:
        """The epoch's file and what it must say for a change to be ours to make; two "" while nothing is claimed."""
        return (f"{self._folder}/epoch", str(self.epoch)) if self.is_claimed else ("", "")

    def acquire(self, owner: Owner) -> Owner | None:
        """None when it is ours now; else its holder. HostError where it is unknown whether the lock is held."""
        self._owner = msgspec.json.encode(owner)
        ran, _ = self._take(epoch="", patience=0)
        return holder_in(ran.out) if ran.exit == Exit.HELD else None

    def regain(self) -> Shell:
        """After a cut: ours again if nobody has had it since. HostError, "fenced", where somebody had."""
        with self._regaining:
            if self._shell is not None and self._shell.is_alive:
                return self._shell
            ran, shell = self._take(epoch=str(self.epoch), patience=_PATIENCE_S)
        if ran.exit == Exit.FENCED:
            raise FencedError(f"hold the lock on {self._shown}", f"{holder_in(ran.out).text} took the lock", why=Why.FENCED)
        if ran.exit == Exit.HELD:
            raise HostError(f"hold the lock on {self._shown}", f"an earlier command still holds the lock after {_PATIENCE_S} s")
        return shell

    def run(self, argv: Sequence[str], *, deadline: float, stdin: bytes = b"", before: str = "") -> Ran:
        """A command under the lock: exit FENCED, and nothing is done, when others have had it since. `before`: see `Shell.run`."""
        if self._shell is not None and self._shell.is_alive:
            with contextlib.suppress(HostError):  # the shell ended before the command was sent
                ran = self._shell.run(argv, deadline=deadline, stdin=stdin, before=before)
                if not self._shell.is_over:
                    return ran
        try:
            shell = self.regain()
        except FencedError as exc:
            return Ran(exit=Exit.FENCED, err=str(exc).encode())
        return shell.run(argv, deadline=deadline, stdin=stdin, before=before)

    def holder(self) -> Owner | None:
        ran = self._run(sh.argv("upswitch.hosts.ssh", "holder.sh", f"{self._folder}/lock"), deadline=_DEADLINE)
        return holder_in(ran.out) if ran.exit == 0 else None

    def beat(self) -> None:
        """Renew the lease. Where the far shell is gone and the host is not, the lock is taken again, if nobody has had it since."""
        if self._shell is None:
            return
        self._check_reach()
        if self._shell.is_alive:
            self._shell.beat()
        else:
            self.regain()

    def release(self) -> None:
        """Free at the return, or as soon as the host sees that the connection is gone."""
        self._is_released = True
        if self._shell is None:
            return
        with contextlib.suppress(HostError):
            self._shell.evaluate("flock -u 9; exec 9>&-", deadline=_DEADLINE)
        self._shell.close()
        self._shell = None

    def _take(self, *, epoch: str, patience: int) -> tuple[Ran, Shell]:
        shell = self._open_shell(LEASE_S)
        args = (self._folder, self._owner.decode(), epoch, str(patience))
        ran = shell.evaluate(script("upswitch.hosts.ssh", "lock.sh"), *args, deadline=_DEADLINE + patience)
        if ran.exit == 0:
            self.epoch = int(ran.out)
            self._shell, self._is_released = shell, False
            return ran, shell
        shell.close()
        if ran.exit not in {Exit.HELD, Exit.FENCED}:
            raise HostError(f"open the lock {self._folder}/lock on {self._shown}", told(ran.err).rpartition(": ")[2] or "no answer")
        return ran, shell

"""A few shells on one host, opened when they are needed: a long command does not hold a short one up."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from upswitch.basics.errors import HostError
from upswitch.hosts.ssh.shell import Shell

MOST = 3
"""sshd's MaxSessions is 10: the lock, the followed logs and the relays need some too."""


class Shells:
    """Given out to one thread at a time."""

    def __init__(self, open_shell: Callable[[], Shell]) -> None:
        self._open = open_shell
        self._changed = threading.Condition()
        self._free: list[Shell] = []
        self._count = 0

    @contextmanager
    def one(self) -> Iterator[Shell]:
        """HostError where none can be opened."""
        shell = self._take()
        try:
            yield shell
        finally:
            self._give(shell)

    def close(self) -> None:
        with self._changed:
            for shell in self._free:
                shell.close()

    def _take(self) -> Shell:
        while True:
            with self._changed:
                if self._free:
                    return self._free.pop()
                if self._count == MOST:
                    self._changed.wait()
                    continue
                self._count += 1
            try:
                return self._open()
            except HostError:
                if not self._is_another_awaited():
                    raise

    def _is_another_awaited(self) -> bool:
        """One more could not be opened. Where others are at work one of theirs will do."""
        with self._changed:
            self._count -= 1
            if self._count and not self._free:
                self._changed.wait()
            return self._count > 0

    def _give(self, shell: Shell) -> None:
        with self._changed:
            if shell.is_alive:
                self._free.append(shell)
            else:
                self._count -= 1
            self._changed.notify()

"""Real processes of the laboratory: started in a session of their own, ended by their id, waited for with a deadline."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO


class LabError(Exception):
    """The laboratory could not do it; the text says what it was and shows what the process said."""


def until(condition: Callable[[], bool], *, deadline: float = 10.0, what: str = "a condition") -> None:
    """Return as soon as `condition` holds; LabError after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise LabError(f"waited {deadline:g} s in vain for {what}")
        time.sleep(0.01)


class Process:
    """One child in its own session, so that Ctrl-C at the terminal reaches us alone. Its stdin is our pipe."""

    def __init__(self, argv: tuple[str, ...], *, out: IO[bytes]) -> None:
        self.argv = argv
        self._popen = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        """Not yet ended. The dead child is left unreaped: until `end` its number can be nobody else's."""
        if self._popen.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None

    def signal(self, number: signal.Signals) -> None:
        if self.is_alive:
            os.kill(self.pid, number)

    def close_stdin(self) -> None:
        if self._popen.stdin is not None:
            self._popen.stdin.close()

    def end(self, *, patience: float = 5.0) -> None:
        """SIGTERM, after `patience` seconds SIGKILL; then SIGKILL to what is left of its group (orphaned workers)."""
        if self._popen.returncode is not None:
            return
        self.close_stdin()
        self.signal(signal.SIGTERM)
        with suppress(LabError):
            until(lambda: not self.is_alive, deadline=patience)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

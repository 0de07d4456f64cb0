"""The real clock, and the signals that end a sleep. A signal is only counted: it never breaks a step in the middle."""

import signal
import threading
import time
from datetime import UTC, datetime
from types import FrameType


class SystemClock:
    """CLOCK_MONOTONIC for every deadline; wall time for people only."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> str:
        return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPWR, signal.SIGXCPU)
"""Signals that ask us to stop."""

_IGNORED = (signal.SIGTTIN, signal.SIGTTOU)
"""A job in the background gets them from its terminal. With a handler it would try again and again to write there."""

_OURS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS)
"""Faults of our own."""

_HARMLESS = (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH)
"""What the kernel does with them by itself ends nobody."""

_OTHERS = signal.valid_signals() - {*STOPPING, *_IGNORED, *_OURS, *_HARMLESS, signal.SIGKILL, signal.SIGSTOP}
"""They would end us, or stop us so that the lease expires. Nobody means anything by them here."""


class Interrupts:
    """`count` is how many signals came; `name` is the last one's."""

    def __init__(self) -> None:
        self.count = 0
        self.name = ""
        self._came = threading.Event()

    def install(self) -> None:
        """From here on signals to stop are only counted, and all others do nothing.

        By a handler that does nothing, as a program that we start inherits no handler, but it inherits that a signal is ignored.
        """
        for number in _OTHERS | {*STOPPING}:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a job in the background
                signal.signal(number, self._note if number in STOPPING else _pass)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)

    def sleep(self, seconds: float) -> None:
        """Sleep, but wake at a signal (and never sleep again after one)."""
        self._came.wait(max(0.0, seconds))

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.count += 1
        self.name = signal.Signals(number).name
        self._came.set()


def ignore_signals() -> None:
    """While the result is printed. At its end Python resets its own handlers to the default, but no ignored signal."""
    for number in _OTHERS | {*STOPPING, *_IGNORED}:
        signal.signal(number, signal.SIG_IGN)


def _pass(number: int, frame: FrameType | None) -> None:
    del number, frame

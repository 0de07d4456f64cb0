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


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """`count` is how many signals came; `name` is the last one's."""

    def __init__(self) -> None:
        self.count = 0
        self.name = ""
        self._came = threading.Event()

    def install(self) -> None:
        """From here on such signals are only counted."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a job in the background
                signal.signal(number, self._note)

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
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)

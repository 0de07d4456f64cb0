"""Signals that end the demo: the first one is raised, the undoing that it leads to is not cut short by a second."""

import signal
from types import FrameType
from typing import NoReturn, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stops:
    """A context. Inside it the first of the signals raises KeyboardInterrupt; one that was ignored before stays ignored."""

    def __init__(self) -> None:
        self._former = {number: signal.getsignal(number) for number in _SIGNALS}
        self._caught = [number for number, former in self._former.items() if former is not signal.SIG_IGN]

    def __enter__(self) -> Self:
        for number in self._caught:
            signal.signal(number, self._raise)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._caught:
            signal.signal(number, self._former[number])

    def ignore(self) -> None:
        """From here on everything is only being ended."""
        for number in self._caught:
            signal.signal(number, signal.SIG_IGN)

    def _raise(self, number: int, frame: FrameType | None) -> NoReturn:
        del number, frame
        self.ignore()
        raise KeyboardInterrupt

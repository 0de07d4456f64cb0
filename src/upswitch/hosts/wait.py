"""Waiting for a state: look, and look again, until what is seen is final."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from upswitch.basics.errors import HostError
from upswitch.hosts.host import Clock

# Something done again and again beside the main loop, so that a server that hangs can't stop the watch from looking.


T = TypeVar("T")


class Pace:
    """How often to look: `every` seconds from start to start, on the given clock and sleep."""

    def __init__(self, every: float, *, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._every = every
        self._monotonic = monotonic
        self._sleep = sleep

    def until(self, is_final: Callable[[T], bool], look: Callable[[], T]) -> T:
        """The first thing seen that is final. The deadline is the business of `is_final`."""
        import tenacity  # noqa: PLC0415  (7 ms; `status` never waits)

        began = self._monotonic()

        def left(state: tenacity.RetryCallState) -> float:
            return max(0.0, began + state.attempt_number * self._every - self._monotonic())

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda seen: not is_final(seen)),
            wait=left,
            sleep=self._sleep,
        )
        return retrying(look)


_KEPT = 1000


class Pulse(Generic[T]):
    """Calls `act` every `every` seconds, from start to start, in a thread of its own until `stop`."""

    def __init__(self, act: Callable[[], T], *, every: float, clock: Clock) -> None:
        self._act = act
        self._every = every
        self._clock = clock
        self._seen: deque[T] = deque(maxlen=_KEPT)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def taken(self) -> list[T]:
        """What came since the last call, oldest first. RuntimeError where the thread died: no guard fails in silence."""
        if not self._thread.is_alive() and not self._over.is_set():
            raise RuntimeError("a guard of the watch died")
        return [self._seen.popleft() for _ in range(len(self._seen))]

    def stop(self) -> None:
        """No further beat; one that is under way ends by its own deadline."""
        self._over.set()

    def _beat(self) -> None:
        while not self._over.is_set():
            began = self._clock.monotonic()
            with contextlib.suppress(
                HostError
            ):  # the host is out of reach: that says nothing of what is asked, and is seen elsewhere
                self._seen.append(self._act())
            self._over.wait(max(0.0, began + self._every - self._clock.monotonic()))

"""Waiting: everything that looks or tries again and again does it here, by tenacity, with the caller's clock and sleep.

tenacity's own `stop_after_delay` reads the real clock. So what ends a wait is made here, from the clock that is passed in.
"""

import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from upswitch.basics.errors import HostError
from upswitch.hosts.host import Clock, Interrupts

if TYPE_CHECKING:
    import tenacity

T = TypeVar("T")

_Wait = Callable[["tenacity.RetryCallState"], float]
_LOOK_EVERY = 0.2  # seconds


def until(
    is_final: Callable[[T], bool],
    look: Callable[[], T],
    *,
    every: float,
    clock: Clock,
    within: float = math.inf,
    interrupts: Interrupts | None = None,
    sleep: Callable[[float], Any] | None = None,
) -> T:
    """Look, and look again, until what is seen is final, `within` seconds are over or a signal came: the last thing seen.

    `every`: seconds from the start of one look to the start of the next. `sleep`: by default that of `interrupts`, else the
    clock's. An error of `look` ends the wait.
    """
    sleep = sleep or (interrupts or clock).sleep
    return _waited(
        is_final, look, wait=_steady(every, clock), sleep=sleep, is_over=_ended(clock, within=within, interrupts=interrupts)
    )


def met(
    changed: threading.Condition,
    is_met: Callable[[], bool],
    *,
    clock: Clock,
    within: float = math.inf,
    interrupts: Interrupts | None = None,
) -> bool:
    """Wait on a condition, whose lock the caller holds, until `is_met`, `within` seconds are over or a signal came.

    It looks at each notification, and every 0.2 s for a signal.
    """
    import tenacity  # noqa: PLC0415  (7 ms; `status` never waits)

    is_over = _ended(clock, within=within, interrupts=interrupts)
    return _waited(bool, is_met, wait=tenacity.wait_fixed(_LOOK_EVERY), sleep=changed.wait, is_over=is_over)


def _waited(
    is_final: Callable[[T], bool],
    look: Callable[[], T],
    *,
    wait: _Wait,
    sleep: Callable[[float], Any],
    is_over: Callable[["tenacity.RetryCallState"], bool],
) -> T:
    import tenacity  # noqa: PLC0415  (7 ms; `status` never waits)

    def last(state: tenacity.RetryCallState) -> Any:
        return state.outcome and state.outcome.result()

    retry = tenacity.retry_if_result(lambda seen: not is_final(seen))
    return tenacity.Retrying(retry=retry, wait=wait, sleep=sleep, stop=is_over, retry_error_callback=last)(look)


def _steady(every: float, clock: Clock) -> _Wait:
    """From start to start, however long a look takes."""
    began = clock.monotonic()
    return lambda state: max(0.0, began + state.attempt_number * every - clock.monotonic())


def _ended(clock: Clock, *, within: float, interrupts: Interrupts | None) -> Callable[["tenacity.RetryCallState"], bool]:
    end = clock.monotonic() + within
    return lambda _: clock.monotonic() >= end or (interrupts is not None and interrupts.count > 0)


_KEPT = 1000


class Pulse(Generic[T]):
    """Calls `act` every `every` seconds, from start to start, in a thread of its own, so that nothing else waits for it."""

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
        wait = _steady(self._every, self._clock)
        _waited(lambda _: self._over.is_set(), self._once, wait=wait, sleep=self._over.wait, is_over=lambda _: self._over.is_set())

    def _once(self) -> None:
        if self._over.is_set():  # tenacity calls once more after the sleep that `stop` ends; what it would ask is closed by then
            return
        with contextlib.suppress(HostError):  # the host is out of reach: that says nothing of what is asked, and is seen elsewhere
            self._seen.append(self._act())

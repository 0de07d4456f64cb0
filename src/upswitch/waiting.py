"""Waiting for a state: look, and look again, until what is seen is final."""

from collections.abc import Callable
from typing import TypeVar

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

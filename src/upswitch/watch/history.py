"""Requests by the second, and what of the time before a switch was usual.

Theory. NEW compares with the worst stretch before (watch/rule.py), so one incident before a switch would hide a failing release.
What a site always has comes again and again; what came once, and lasted, is an incident, and is left out:

    bad second   at least 10 % of its requests failed (at least one)
    run          bad seconds at most 3 s apart
    incident     a run of 10 s or more

Nothing is left out where three runs of 5 s or more show that such bursts recur here, and where incidents would be half of the time
or more: then that is how the site is.
"""

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from upswitch.basics.result import Failure
from upswitch.basics.value import Value

_BAD_PERCENT = 10
_APART_S = 3
_INCIDENT_S = 10
_BURST_S, _RECURS = 5, 3


class Second(Value):
    """Requests of one second, those of them that failed in each way, and those of the others that their client gave up."""

    total: int = 0
    gateway: int = 0
    hung: int = 0
    app: int = 0
    given_up: int = 0

    @property
    def has_failed(self) -> bool:
        return self.failures > 0

    @property
    def failures(self) -> int:
        """Requests that failed, in whatever way."""
        return self.gateway + self.hung + self.app

    def failed(self, kind: Failure) -> int:
        match kind:
            case Failure.GATEWAY:
                return self.gateway
            case Failure.HUNG:
                return self.hung
            case Failure.APP:
                return self.app
            case Failure.GIVEN_UP:
                return self.given_up
            case Failure.NONE:
                return self.total - self.failures

    @property
    def whole(self) -> int:
        """Requests that did not fail, and whose clients waited for the end of the answer."""
        return max(0, self.total - self.failures - self.given_up)

    def __add__(self, other: "Second") -> "Second":
        return Second(
            total=self.total + other.total,
            gateway=self.gateway + other.gateway,
            hung=self.hung + other.hung,
            app=self.app + other.app,
            given_up=self.given_up + other.given_up,
        )


class History(Value):
    """The seconds before the switch, oldest first, at most 600; quiet seconds are in it as zeros."""

    seconds: tuple[Second, ...] = ()


def added(hosts: Iterable[Sequence[Second]]) -> tuple[Second, ...]:
    """The seconds since each host's own switch, summed over the hosts."""
    return tuple(sum(column, Second()) for column in zip_longest(*hosts, fillvalue=Second()))


def added_histories(histories: Iterable[History]) -> History:
    """The histories of several hosts as one, aligned at the switch; as long as the longest."""
    return History(seconds=added(history.seconds[::-1] for history in histories)[::-1])


def usual(seconds: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """The seconds without incidents. Of each the requests that failed and all of them."""
    runs = _runs([at for at, each in enumerate(seconds) if _is_bad(*each)])
    recurs = sum(len(run) >= _BURST_S for run in runs) >= _RECURS
    incidents = [run for run in runs if len(run) >= _INCIDENT_S]
    if recurs or sum(map(len, incidents)) * 2 >= len(seconds):
        return seconds
    for run in reversed(incidents):
        seconds = (*seconds[: run.start], *seconds[run.stop :])
    return seconds


def _is_bad(failed: int, total: int) -> bool:
    return failed > 0 and failed * 100 >= total * _BAD_PERCENT


def _runs(bad: Iterable[int]) -> list[range]:
    runs: list[range] = []
    for at in bad:
        is_next = runs and at - runs[-1].stop < _APART_S
        if is_next:
            runs[-1] = range(runs[-1].start, at + 1)
        else:
            runs.append(range(at, at + 1))
    return runs

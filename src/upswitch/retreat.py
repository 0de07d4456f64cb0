"""A rollback of several hosts at once: each waits until all have said where they stand, and then goes or stays."""

import threading

from upswitch.core.errors import Refusal, RefusedError
from upswitch.core.retreat import SplitError, Stand, going
from upswitch.ports import Clock, Turn
from upswitch.rollout import Alone

_PATIENCE = 30.0  # seconds for a host to say where it stands; one that hangs does not keep the others from going back
_LOOK_EVERY = 0.2


class Retreat:
    """What the hosts of one rollback know of each other."""

    def __init__(self, names: frozenset[str], *, clock: Clock) -> None:
        self._names = names
        self._clock = clock
        self._meeting = threading.Condition()
        self._stands: dict[str, Stand] = {}
        self._ended: set[str] = set()

    def turn(self, name: str) -> Turn:
        return _Turn(self, name)

    def ended(self, name: str, failure: str) -> None:
        """A host's command is over; what it came to is its own business: the others go on past it."""
        del failure
        with self._meeting:
            self._ended.add(name)
            self._meeting.notify_all()

    def goes(self, name: str, stand: Stand) -> bool:
        """Whether this host goes back. RefusedError where the hosts would serve different pools afterwards."""
        until = self._clock.monotonic() + _PATIENCE
        with self._meeting:
            self._stands[name] = stand
            self._meeting.notify_all()
            while self._names - self._stands.keys() - self._ended and self._clock.monotonic() < until:
                self._meeting.wait(_LOOK_EVERY)
            try:
                return name in going(self._stands)
            except SplitError as exc:
                hint = "`switch --to POOL` takes all of them to one; `upswitch rollback --host NAME` takes one back"
                raise RefusedError(Refusal(what=f"the hosts would serve different pools: {exc}", hint=hint)) from exc


class _Turn(Alone):
    """One host's, by its name."""

    def __init__(self, retreat: Retreat, name: str) -> None:
        self._retreat = retreat
        self._name = name

    def goes_back(self, stand: Stand) -> bool:
        return self._retreat.goes(self._name, stand)

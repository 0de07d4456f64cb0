"""A rollback of several hosts at once: each waits until all have reported what they serve, and then goes back or stays.

It takes back the newest run, and nothing else. Each host alone would go to what it served before; where a run reached only some
hosts (a wave that failed, a host that was skipped), the others would go to the very release that has failed. So the newest run
that made anything live is undone where it is still live. A host that it never reached, or that is back already, stays.
"""

import threading
from collections.abc import Mapping

from upswitch.basics.errors import Refusal, RefusedError
from upswitch.basics.result import Why
from upswitch.hosts.host import Clock
from upswitch.hosts.wait import met
from upswitch.switch.session import Alone, Stand, Turn

_PATIENCE = 30.0  # seconds for a host to report; one that hangs does not keep the others from going back


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
        """A host's command is over. However it ended, the other hosts go on."""
        del failure
        with self._meeting:
            self._ended.add(name)
            self._meeting.notify_all()

    def goes(self, name: str, stand: Stand) -> bool:
        """Whether this host goes back. RefusedError where the hosts would serve different pools afterwards."""
        with self._meeting:
            self._stands[name] = stand
            self._meeting.notify_all()
            met(self._meeting, lambda: not self._names - self._stands.keys() - self._ended, clock=self._clock, within=_PATIENCE)
            try:
                return name in going(self._stands)
            except SplitError as exc:
                hint = "`switch --to POOL` takes all of them to one; `upswitch rollback --host NAME` takes one back"
                raise RefusedError(Refusal(what=f"the hosts would serve different pools: {exc}", hint=hint, why=Why.SPLIT)) from exc


class _Turn(Alone):
    """One host's, by its name."""

    def __init__(self, retreat: Retreat, name: str) -> None:
        self._retreat = retreat
        self._name = name

    def goes_back(self, stand: Stand) -> bool:
        return self._retreat.goes(self._name, stand)


class SplitError(Exception):
    """They would serve different pools afterwards; the text says which."""


def going(stands: Mapping[str, Stand]) -> frozenset[str]:
    """The hosts that go back; the others stay as they are. Where the newest run was itself a rollback, it is undone."""
    newest = max(stand.run for stand in stands.values())
    reached = frozenset(name for name, stand in stands.items() if stand.run == newest)
    found = frozenset(name for name in reached if not stands[name].is_back) or reached
    pools: dict[str, list[str]] = {}
    for name, stand in sorted(stands.items()):
        pools.setdefault(stand.before if name in found else stand.pool, []).append(name)
    if len(pools) > 1:
        raise SplitError("; ".join(f"{pool or 'nothing'} on {', '.join(names)}" for pool, names in pools.items()))
    return found

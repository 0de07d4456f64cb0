"""Several hosts as one switch or one rollback: when each host may switch, and one verdict over what all of them see.

It may import switch and the rooms below; only the command line imports it, and it knows nothing of views.
`together` runs an act on every host at once. Begin with switching.py; going_back.py is the same for a rollback.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from upswitch.switch.session import Turn

S = TypeVar("S")
T = TypeVar("T")


class Hosts(Protocol):
    """Where the hosts of one command meet: a `Rollout` or a `Retreat`."""

    def turn(self, name: str) -> Turn:
        """The place of one host among them."""
        ...

    def ended(self, name: str, failure: str) -> None:
        """A host's command is over; `failure` says why it did not do as asked, "" where it did."""
        ...


def together(
    sessions: Mapping[str, S], act: Callable[[S], T], *, meeting: Hosts | None, failure: Callable[[T], str]
) -> dict[str, T]:
    """What `act`, which raises nothing, gives for each session. The meeting hears of each end as `failure` puts it."""

    def on(name: str) -> T:
        found = act(sessions[name])
        if meeting is not None:
            meeting.ended(name, failure(found))
        return found

    if not sessions:
        return {}
    with ThreadPoolExecutor(len(sessions), thread_name_prefix="host") as pool:
        return dict(zip(sessions, pool.map(on, sessions), strict=True))

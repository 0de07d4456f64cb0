"""One command on every host at once, each in a thread of its own."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from upswitch import fleetreport
from upswitch.core import outcome
from upswitch.core.errors import HostError
from upswitch.core.words import Outcome, Unreachable
from upswitch.fleetviews import FleetView
from upswitch.retreat import Retreat
from upswitch.rollout import Rollout
from upswitch.session import Act, Session
from upswitch.views import Acted, View

_DONE = {Outcome.SWITCHED.value, Outcome.UNCHANGED.value}


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Hosts that can't be reached, and what a switch does about it."""

    errors: Mapping[str, HostError]
    policy: Unreachable

    def view(self, command: str, error: HostError) -> View:
        """What such a host comes to: of a way back nobody knows whether it happened there."""
        is_left = command == "switch" and self.is_skipped
        exit_ = 0 if is_left else outcome.EXIT[Outcome.STUCK if command in {"rollback", "repair"} else Outcome.REFUSED]
        return fleetreport.unreachable(command, str(error), exit_)

    @property
    def is_skipped(self) -> bool:
        return self.policy is Unreachable.SKIP


def serve(command: str, sessions: Mapping[str, Session], lost: Lost, *, act: Act, meeting: Rollout | Retreat | None) -> FleetView:
    """What `act` says of each host, and of those that are `lost`. `act` raises nothing. With a `meeting` they go together."""
    if isinstance(meeting, Rollout) and not lost.is_skipped:
        for name, error in lost.errors.items():
            meeting.fails(name, f"can't be reached: {error}")

    def on(name: str) -> View:
        view = act(sessions[name])
        if meeting is not None:
            meeting.ended(name, view.said if isinstance(view, Acted) and view.outcome not in _DONE else "")
        return view

    views: dict[str, View] = {name: lost.view(command, error) for name, error in lost.errors.items()}
    if sessions:
        with ThreadPoolExecutor(len(sessions), thread_name_prefix="host") as pool:
            views |= zip(sessions, pool.map(on, sessions), strict=True)
    return fleetreport.together(command, views)

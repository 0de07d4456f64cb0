"""One command on every host at once, each in a thread of its own."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from upswitch.basics.errors import HostError
from upswitch.cli import exit_codes
from upswitch.cli.session import Act
from upswitch.cli.views import fleet_summary
from upswitch.cli.views.fleet import FleetView
from upswitch.cli.views.parts import Acted, View
from upswitch.fleet.going_back import Retreat
from upswitch.fleet.switching import Rollout
from upswitch.site.words import Unreachable
from upswitch.switch.session import Session
from upswitch.switch.words import Outcome

_DONE = {Outcome.SWITCHED.value, Outcome.UNCHANGED.value}


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Hosts that can't be reached, and what a switch does about it."""

    errors: Mapping[str, HostError]
    policy: Unreachable

    def view(self, command: str, error: HostError) -> View:
        """What such a host comes to: of a way back nobody knows whether it happened there."""
        is_left = command == "switch" and self.is_skipped
        exit_ = 0 if is_left else exit_codes.EXIT[Outcome.STUCK if command in {"rollback", "repair"} else Outcome.REFUSED]
        return fleet_summary.unreachable(command, str(error), exit_)

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
    return fleet_summary.together(command, views)

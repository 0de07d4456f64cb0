"""What to do next when hosts ended differently."""

from collections.abc import Mapping, Sequence

from upswitch.basics.result import Why
from upswitch.cli.views import View
from upswitch.cli.views.acted import Acted
from upswitch.cli.views.plan import PlanView
from upswitch.cli.views.status import StatusView
from upswitch.switch.machine import Outcome
from upswitch.switch.outcome import UNREACHABLE_PAGES

UNREACHABLE, SKIPPED, SPLIT = "UNREACHABLE", "SKIPPED", "SPLIT"
_SHOWN = 12


def names(hosts: Sequence[str]) -> str:
    more = len(hosts) - _SHOWN
    return ", ".join(hosts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def page_of(*whys: str) -> str:
    """The page for hosts that could not be reached, for these reasons. A wrong host key comes before anything else."""
    return UNREACHABLE_PAGES[Why.HOST_KEY if Why.HOST_KEY in whys else Why.UNREACHABLE]


def next_step(command: str, kind: str, worst: str, views: Mapping[str, View]) -> str:
    """`kind` is the outcome of all hosts, `worst` the host that a person must see first."""
    under_way = {name: view.lock for name, view in views.items() if isinstance(view, StatusView) and view.lock}
    if under_way:
        return f"wait: a run is under way on {names(sorted(under_way))}, by {next(iter(under_way.values()))}"
    if kind == SPLIT:
        return _joined(command)
    if kind == UNREACHABLE:
        return _reached_again(command, views)
    if kind == Outcome.HELD:
        return _decided(views)
    if not views[worst].exit and (skipped := _of(views, SKIPPED)):
        return _for_later(skipped, views)
    view = views[worst]
    planned = next((each for each in views.values() if isinstance(each, PlanView) and not each.unchanged), None)
    if planned and not view.exit:
        return f"`upswitch switch --to {planned.pool}` does it"
    found = _remedy(view, worst) if isinstance(view, StatusView) else getattr(view, "hint", "")
    return found or ("nothing to do" if not view.exit else f"`upswitch {command} --host {worst}` looks at one host alone")


def _joined(command: str) -> str:
    first = "" if command == "repair" else "`upswitch repair`, then "
    return f"{first}`switch --to POOL` with the pool that is to serve everywhere; `upswitch help split`"


def _reached_again(command: str, views: Mapping[str, View]) -> str:
    lost = _of(views, UNREACHABLE)
    again = "the same again" if command == "switch" else f"`upswitch {command} {_options(lost)}`"
    return f"see why ssh can't reach {names([*lost])}, then {again}; {page_of(*(view.why for view in lost.values()))}"


def _decided(views: Mapping[str, View]) -> str:
    """Only the hosts that hold have something to go back from."""
    held = _of(views, Outcome.HELD)
    view = next(iter(held.values()))
    back = f"`upswitch rollback {_options(held)}` for {view.former_pool}"
    return f"decide: {back}, or fix {view.pool}; `upswitch help held`"


def _for_later(skipped: Mapping[str, Acted], views: Mapping[str, View]) -> str:
    """What is skipped still serves what it served, and may need the former pool."""
    first = next((view for view in views.values() if isinstance(view, Acted) and view.pool), None)
    again = f"`switch --to {first.pool} {_options(skipped)}`" if first else "the same again"
    kept = f"; until then keep {first.former_pool} running" if first and first.former_pool not in {"", first.pool} else ""
    return f"see why ssh can't reach {names([*skipped])}, then {again}{kept}; {page_of(*(view.why for view in skipped.values()))}"


def _remedy(view: StatusView, host: str) -> str:
    if view.needs_repair:
        return "`upswitch repair`; `upswitch help dead-man`"
    return f"see to the FINDING of {host}; `upswitch status --host {host}` looks again" if view.findings else ""


def _of(views: Mapping[str, View], outcome: str) -> dict[str, Acted]:
    return {name: view for name, view in sorted(views.items()) if isinstance(view, Acted) and view.outcome == outcome}


def _options(hosts: Mapping[str, object]) -> str:
    return " ".join(f"--host {name}" for name in hosts)

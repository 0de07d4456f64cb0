"""What to do next when several hosts came to several things."""

from collections.abc import Mapping, Sequence

from upswitch.cli.views import View
from upswitch.cli.views.acted import Acted
from upswitch.cli.views.fleet import HostLine
from upswitch.cli.views.plan import PlanView
from upswitch.cli.views.status import StatusView
from upswitch.switch.words import Outcome

UNREACHABLE, SKIPPED, SPLIT = "UNREACHABLE", "SKIPPED", "SPLIT"

_SPLIT_PAGE = "`upswitch help split`"
_UNREACHABLE_PAGE = "`upswitch help unreachable`"
_HOST_KEY_PAGE = "`upswitch help host-key`"
_SHOWN = 12


def names(hosts: Sequence[str]) -> str:
    more = len(hosts) - _SHOWN
    return ", ".join(hosts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def page_of(why: str) -> str:
    """The page for a host that could not be reached; a key that is not the recorded one has its own (hosts/ssh/keys.py)."""
    return _HOST_KEY_PAGE if "its host key " in why else _UNREACHABLE_PAGE


def next_step(command: str, kind: str, worst: HostLine, views: Mapping[str, View]) -> str:
    """`worst` is the host that a person must see first."""
    under_way = {name: view.lock for name, view in views.items() if isinstance(view, StatusView) and view.lock}
    if under_way:
        return f"wait: a run is under way on {names(sorted(under_way))}, by {next(iter(under_way.values()))}"
    if kind == SPLIT:
        return _joined(command)
    if kind == UNREACHABLE:
        return _reached_again(command, views)
    if kind == Outcome.HELD:
        return _decided(views)
    if not worst.exit and (skipped := _of(views, SKIPPED)):
        return _for_later(skipped, views)
    planned = next((each for each in views.values() if isinstance(each, PlanView) and not each.unchanged), None)
    if planned and not worst.exit:
        return f"`upswitch switch --to {planned.pool}` does it"
    view = views[worst.host]
    found = _remedy(view, worst.host) if isinstance(view, StatusView) else getattr(view, "hint", "")
    return found or ("nothing to do" if not worst.exit else f"`upswitch {command} --host {worst.host}` looks at one host alone")


def _joined(command: str) -> str:
    first = "" if command == "repair" else "`upswitch repair`, then "
    return f"{first}`switch --to POOL` with the pool that is to serve everywhere; {_SPLIT_PAGE}"


def _reached_again(command: str, views: Mapping[str, View]) -> str:
    lost = _of(views, UNREACHABLE)
    again = "the same again" if command == "switch" else f"`upswitch {command} {_options(lost)}`"
    return f"see why ssh can't reach {names([*lost])}, then {again}; {_page(lost)}"


def _decided(views: Mapping[str, View]) -> str:
    """Only the hosts that hold have something to go back from."""
    held = _of(views, Outcome.HELD)
    view = next(iter(held.values()))
    back = f"`upswitch rollback {_options(held)}` for {view.former_pool}"
    return f"decide: {back}, or mend {view.pool}; `upswitch help held`"


def _for_later(skipped: Mapping[str, Acted], views: Mapping[str, View]) -> str:
    """What is skipped still serves what it served, and may need the former pool."""
    first = next((view for view in views.values() if isinstance(view, Acted) and view.pool), None)
    again = f"`switch --to {first.pool} {_options(skipped)}`" if first else "the same again"
    kept = f"; until then keep {first.former_pool} running" if first and first.former_pool not in {"", first.pool} else ""
    return f"see why ssh can't reach {names([*skipped])}, then {again}{kept}; {_page(skipped)}"


def _remedy(view: StatusView, host: str) -> str:
    """A finding has its own remedy; its text says it."""
    if any("`upswitch repair`" in finding for finding in view.findings):
        return "`upswitch repair`; `upswitch help dead-man`"
    return f"see to the FINDING of {host}; `upswitch status --host {host}` looks again" if view.findings else ""


def _of(views: Mapping[str, View], outcome: str) -> dict[str, Acted]:
    return {name: view for name, view in sorted(views.items()) if isinstance(view, Acted) and view.outcome == outcome}


def _options(hosts: Mapping[str, object]) -> str:
    return " ".join(f"--host {name}" for name in hosts)


def _page(hosts: Mapping[str, Acted]) -> str:
    """A wrong key is seen to before anything else."""
    pages = {page_of(view.said) for view in hosts.values()}
    return _HOST_KEY_PAGE if _HOST_KEY_PAGE in pages else _UNREACHABLE_PAGE

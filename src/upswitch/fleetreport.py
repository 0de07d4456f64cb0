"""From what each host's command came to, to one view of all of them: one exit code, and who serves what."""

from collections.abc import Mapping, Sequence

from upswitch.core import outcome
from upswitch.core.words import Outcome
from upswitch.fleetviews import FleetView, HostLine
from upswitch.report import hint_of
from upswitch.views import Acted, Production, StatusView, View

UNREACHABLE, SKIPPED, SPLIT = "UNREACHABLE", "SKIPPED", "SPLIT"

_WORST = (5, outcome.BUG, 7, 4, outcome.LOCKED, 130, 3, outcome.USAGE, 0)  # exit codes, the one that a person must see first
_AS_ASKED = {Outcome.SWITCHED.value, Outcome.UNCHANGED.value, SKIPPED}
_PAGE = {SPLIT: "playbooks/incident/split.md", UNREACHABLE: "playbooks/incident/unreachable.md"}


def unreachable(command: str, why: str, exit_: int) -> Acted:
    """A host in the table that nobody could ask. Exit 0 where it is skipped by choice."""
    return Acted(
        command=command,
        outcome=UNREACHABLE if exit_ else SKIPPED,
        exit=exit_,
        said=f"{UNREACHABLE if exit_ else SKIPPED}: {why}",
        production=None,
        hint=hint_of(f"see why ssh can't reach it; {_PAGE[UNREACHABLE]}"),
    )


def together(command: str, views: Mapping[str, View]) -> FleetView:
    """One view of all hosts, in their order."""
    table = tuple(_line(name, view) for name, view in sorted(views.items()))
    is_acting = command in {"switch", "rollback", "repair"}
    found = _acted(command, table) if is_acting else _read(command, table)
    exit_, said, kind = found
    return FleetView(
        command=command,
        exit=exit_,
        outcome=kind if is_acting else "",
        said=said,
        table=table,
        hosts=dict(sorted(views.items())),
        hint=hint_of(_hint(command, kind, table, views)),
    )


def _line(name: str, view: View) -> HostLine:
    production: Production | None = getattr(view, "production", None)
    return HostLine(
        host=name,
        outcome=view.outcome if isinstance(view, Acted) else "findings" if view.exit else "ok",
        exit=view.exit,
        pool=production.pool if production else "",
        generation=production.running if production else "",
        proved=production.proved if production else False,
        said=_short(view),
    )


def _short(view: View) -> str:
    if isinstance(view, Acted):
        return view.said.split(" | ")[0]
    return "; ".join(view.findings) if isinstance(view, StatusView) else ""


def _acted(command: str, table: Sequence[HostLine]) -> tuple[int, str, str]:
    """Exit code, sentence, outcome."""
    worst = min((line.exit for line in table), key=_WORST.index)
    done = [line for line in table if line.outcome in _AS_ASKED]
    switched = [line for line in table if line.outcome == Outcome.SWITCHED]
    if command == "switch" and switched and len(done) < len(table) and worst != outcome.EXIT[Outcome.HELD]:
        return outcome.EXIT[Outcome.STUCK], f"{SPLIT}: {_shares(table)}", SPLIT
    kind = next(line.outcome for line in table if line.exit == worst)
    if not worst:
        kind = Outcome.SWITCHED.value if switched else kind
        skipped = [line.host for line in table if line.outcome == SKIPPED]
        left = f"; NOT REACHED, left as they were: {', '.join(skipped)}" if skipped else ""
        return 0, f"{kind} {len(done) - len(skipped)} of {len(table)} hosts: {_shares(table)}{left}", kind
    return worst, f"{kind}: {_shares(table)}", kind


def _read(command: str, table: Sequence[HostLine]) -> tuple[int, str, str]:
    worst = min((line.exit for line in table), key=_WORST.index)
    if command != "status":
        return worst, f"{command} on {len(table)} hosts", ""
    pools = {line.pool for line in table if line.pool}
    lost = [line.host for line in table if line.outcome == UNREACHABLE]
    exit_ = max(worst, outcome.FINDINGS) if len(pools) > 1 or lost else worst
    split = f"{SPLIT}: " if len(pools) > 1 else ""
    return exit_, split + _shares(table), SPLIT if split else UNREACHABLE if lost else ""


def _shares(table: Sequence[HostLine]) -> str:
    """Who serves what: `B serves on lb1, lb2; A serves on lb3; not proved on lb4`."""
    pools: dict[str, list[str]] = {}
    for line in table:
        pools.setdefault(f"{line.pool} serves" if line.proved else "NOT PROVED", []).append(line.host)
    return "; ".join(
        f"{said} on {_names(hosts)}" for said, hosts in sorted(pools.items(), key=lambda each: each[0] == "NOT PROVED")
    )


_SHOWN = 12


def _names(hosts: Sequence[str]) -> str:
    more = len(hosts) - _SHOWN
    return ", ".join(hosts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _hint(command: str, kind: str, table: Sequence[HostLine], views: Mapping[str, View]) -> str:
    if kind == SPLIT:
        return f"`upswitch status` shows each host; `upswitch rollback --host NAME` takes one back; {_PAGE[SPLIT]}"
    if kind == UNREACHABLE:
        lost = " ".join(f"--host {line.host}" for line in table if line.outcome == UNREACHABLE)
        again = "the same again" if command == "switch" else f"`upswitch {command} {lost}`"
        return f"see why ssh can't reach it, then {again}; {_PAGE[UNREACHABLE]}"
    worst = min(table, key=lambda line: _WORST.index(line.exit))
    said = getattr(views[worst.host], "hint", "")
    return said or ("nothing to do" if not worst.exit else f"`upswitch {command} --host {worst.host}` looks at one host alone")

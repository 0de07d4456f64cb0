"""From what each host's command came to, to one view of all of them: one exit code, and who serves what."""

import re
import shlex
from collections.abc import Mapping, Sequence

import msgspec

from upswitch.basics.errors import HostError
from upswitch.cli.exit_codes import Exit
from upswitch.cli.invocation import SITE_FILE
from upswitch.cli.views import Production, View
from upswitch.cli.views.acted import Acted
from upswitch.cli.views.fleet import HELD_BACK, FleetView, HostLine
from upswitch.cli.views.fleet_hints import SKIPPED, SPLIT, UNREACHABLE, names, next_step, page_of
from upswitch.cli.views.status import StatusView
from upswitch.switch.words import Outcome


def with_config(view: View, config: str) -> View:
    """The commands in a hint as they must be typed here: with -c, unless the site file is the one that is found by itself."""
    if not isinstance(view, Acted | FleetView) or config == SITE_FILE:
        return view
    hint = re.sub(
        r"`((?:upswitch (?!help )|switch )[^`]*)(?<! --help)`", lambda found: f"`{found[1]} -c {shlex.quote(config)}`", view.hint
    )
    return msgspec.structs.replace(view, hint=hint)


_WORST = (
    *(Exit.STUCK, Exit.BUG, Exit.HELD, Exit.ROLLED_BACK, Exit.LOCKED, Exit.INTERRUPTED, Exit.REFUSED, Exit.USAGE, Exit.DONE),
)  # the one that a person must see first
_AS_ASKED = {Outcome.SWITCHED.value, Outcome.UNCHANGED.value, SKIPPED}
_UNTOUCHED = {Outcome.REFUSED.value, Outcome.UNCHANGED.value, Outcome.INTERRUPTED.value, "LOCKED", "USAGE", UNREACHABLE, SKIPPED}


def unreachable(command: str, error: HostError, *, is_skipped: bool = False) -> Acted:
    """A host in the table that could not be asked: of a way back nobody knows whether it happened there."""
    kind = SKIPPED if is_skipped else UNREACHABLE
    is_way_back = command in {"rollback", "repair"}
    return Acted(
        command=command,
        outcome=kind,
        exit=Exit.DONE if is_skipped else Exit.STUCK if is_way_back else Exit.REFUSED,
        said=f"{kind}: {error}",
        production=None,
        hint=f"see why ssh can't reach it; {page_of(str(error))}",
    )


def failure(view: View) -> str:
    """Why a host's command did not do as asked, "" where it did: for the other hosts."""
    return view.said if isinstance(view, Acted) and view.outcome not in {Outcome.SWITCHED, Outcome.UNCHANGED} else ""


def together(command: str, views: Mapping[str, View]) -> FleetView:
    """One view of all hosts, in their order."""
    table = tuple(_line(name, view) for name, view in sorted(views.items()))
    is_acting = command in {"switch", "rollback", "repair"}
    exit_, said, kind = _acted(command, table) if is_acting else _read(command, table)
    worst = min(table, key=lambda line: (_WORST.index(line.exit), line.outcome in _UNTOUCHED))
    return FleetView(
        command=command,
        exit=exit_,
        outcome=kind if is_acting else "",
        said=said,
        table=table,
        hosts=dict(sorted(views.items())),
        hint=next_step(command, kind, worst, views),
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
    """Of a host that another one held back (fleet/switching.py): only which, and why."""
    if isinstance(view, Acted):
        said = view.said.split(" | ")[0].replace("REFUSED: not begun: ", "not begun, because of ")
        return next((said[said.index(words) :] for words in HELD_BACK if words in said), said)
    return "; ".join(view.findings) if isinstance(view, StatusView) else ""


def _acted(command: str, table: Sequence[HostLine]) -> tuple[int, str, str]:
    """Exit code, sentence, outcome."""
    worst = _worst(table)
    if _is_split(command, table) and worst != Exit.HELD:
        is_for_nothing = command == "repair" and not _touched(table)
        exit_ = Exit.FINDINGS if is_for_nothing else Exit.STUCK
        return exit_, f"{SPLIT}: {_shares(table)}", SPLIT
    if worst:
        kind = next(line.outcome for line in table if line.exit == worst)
        return worst, f"{kind}: {_shares(table)}", kind
    return _done(table)


def _done(table: Sequence[HostLine]) -> tuple[int, str, str]:
    """No host failed. Where nothing was done and somebody was skipped it is not as asked."""
    reached = [line for line in table if line.outcome != SKIPPED]
    skipped = [line.host for line in table if line.outcome == SKIPPED]
    kind = next(iter(_touched(table)), SKIPPED if skipped else Outcome.UNCHANGED.value)
    shares = _shares(reached) if reached else "no host could be reached"
    left = f"; NOT REACHED, left as they were: {names(skipped)}" if skipped else ""
    return Exit.FINDINGS if kind == SKIPPED else 0, f"{kind} {len(reached)} of {len(table)} hosts: {shares}{left}", kind


def _is_split(command: str, table: Sequence[HostLine]) -> bool:
    """Whether the hosts serve different pools although something was done, or all is as it was asked for.

    A switch that was refused, or that found a lock, leaves a split as it was, and somebody else may be at it.
    """
    is_as_asked = all(line.outcome in _AS_ASKED for line in table)
    has_switched = any(line.outcome == Outcome.SWITCHED for line in table)
    if command == "switch" and has_switched and not is_as_asked:
        return len({line.pool if line.proved else "" for line in table}) > 1
    return len({line.pool for line in table if line.proved}) > 1 and bool(_touched(table) or is_as_asked)


def _touched(table: Sequence[HostLine]) -> list[str]:
    """The outcomes of hosts on which something was done."""
    return [line.outcome for line in table if line.outcome not in _UNTOUCHED]


def _read(command: str, table: Sequence[HostLine]) -> tuple[int, str, str]:
    """As `_acted`, of a command that only reads."""
    worst = _worst(table)
    if command != "status":
        return worst, f"{command} on {len(table)} hosts", ""
    pools = {line.pool for line in table if line.pool}
    lost = [line.host for line in table if line.outcome == UNREACHABLE]
    exit_ = max(worst, Exit.FINDINGS) if len(pools) > 1 or lost else worst
    split = f"{SPLIT}: " if len(pools) > 1 else ""
    return exit_, split + _shares(table), SPLIT if split else UNREACHABLE if lost else ""


def _worst(table: Sequence[HostLine]) -> int:
    """The exit code that a person must see first."""
    return min((line.exit for line in table), key=_WORST.index)


def _shares(table: Sequence[HostLine]) -> str:
    """Who serves what: `B serves on lb1, lb2; A serves on lb3; not proved on lb4`."""
    pools: dict[str, list[str]] = {}
    for line in table:
        pools.setdefault(f"{line.pool} serves" if line.proved else "NOT PROVED", []).append(line.host)
    return "; ".join(f"{said} on {names(hosts)}" for said, hosts in sorted(pools.items(), key=lambda each: each[0] == "NOT PROVED"))

"""Several hosts as one: one exit code, which host serves what, a table, and what each host said where that matters."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.basics.value import Value
from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View, lint, next_lines
from upswitch.cli.views.acted import Acted
from upswitch.cli.views.plan import PlanView
from upswitch.cli.views.status import StatusView
from upswitch.generations.generation import Live
from upswitch.switch.machine import Outcome
from upswitch.switch.outcome import UNREACHABLE_PAGES

UNREACHABLE, SKIPPED, SPLIT = "UNREACHABLE", "SKIPPED", "SPLIT"
_SHOWN = 12  # hosts in a sentence
# The exit code that a person must see first.
_WORST = (Exit.STUCK, Exit.BUG, Exit.HELD, Exit.ROLLED_BACK, Exit.LOCKED, Exit.INTERRUPTED, Exit.REFUSED, Exit.USAGE, Exit.DONE)
_AS_ASKED = {Outcome.SWITCHED, Outcome.UNCHANGED, SKIPPED}
_UNTOUCHED = {Outcome.REFUSED, Outcome.UNCHANGED, Outcome.INTERRUPTED, "LOCKED", "USAGE", UNREACHABLE, SKIPPED}


class HostLine(Value):
    """A row of the table. `pool` and `generation` were read when the command ended; "" where they could not be read.

    `serves`: it was proved, and nothing is known that keeps its servers from clients.
    """

    host: str
    outcome: str
    exit: int
    pool: str
    generation: str
    proved: bool
    serves: bool
    said: str
    why: Why = Why.NONE


class FleetView(View):
    """Several hosts as one; `hosts` has the view of each host. `outcome` is "" for a command that only reads."""

    outcome: str
    said: str
    table: tuple[HostLine, ...]
    hosts: dict[str, View]
    hint: str
    notices: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        if document := lint.of_hosts(tuple(self.hosts.values())) or self._report:
            return document
        is_known = self.outcome or any(line.generation for line in self.table)
        drawn = _drawn(self.table, {name: _watched(view) for name, view in self.hosts.items()}) if is_known else []
        return "\n".join([self.said, *drawn, *self._details, *next_lines(self.hint)])

    @property
    def _report(self) -> str:
        if self.command != "report":
            return ""
        from upswitch.cli.views import report

        return report.of_hosts(self.hosts)

    @property
    def _details(self) -> list[str]:
        """The hosts where an acting command failed, or that have a remark; all of a reading command. Same texts are one entry."""
        if self.outcome:
            return [*_failures(self.table), *_remarks(self.hosts)]
        if self.command == "plan":
            return _plans(self.hosts)
        texts = _gathered((view.text, name) for name, view in self.hosts.items())
        return [f"== {', '.join(hosts)}\n{text}" for text, hosts in texts]


# ---- one view of all hosts ----


def together(command: str, views: Mapping[str, View]) -> FleetView:
    """One view of all hosts, in the order of their names."""
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
        hint=_next_step(command, kind, worst.host, views),
    )


def unreachable(command: str, error: HostError, *, is_skipped: bool = False) -> Acted:
    """A host that could not be asked. After a rollback or a repair its state is not known: exit 5."""
    kind = SKIPPED if is_skipped else UNREACHABLE
    is_way_back = command in {"rollback", "repair"}
    return Acted(
        command=command,
        outcome=kind,
        exit=Exit.DONE if is_skipped else Exit.STUCK if is_way_back else Exit.REFUSED,
        said=f"{kind}: {error}",
        production=None,
        hint=f"find out why ssh can't reach the host; {_page_of(error.why)}",
        why=error.why,
    )


def failure(view: View) -> str:
    """Why a host's command did not do as asked, "" where it did: for the other hosts."""
    return view.said if isinstance(view, Acted) and view.outcome not in {Outcome.SWITCHED, Outcome.UNCHANGED} else ""


def with_site(view: View, words: tuple[str, ...]) -> View:
    """The same view with the options that choose the site, such as `-s NAME`, in the commands of its hint."""
    if not isinstance(view, Acted | FleetView) or not words:
        return view
    command = r"`((?:upswitch (?!help )|switch )[^`]*)(?<! --help)`"
    hint = re.sub(command, lambda found: f"`{found[1]} {shlex.join(words)}`", view.hint)
    return msgspec.structs.replace(view, hint=hint)


def _line(name: str, view: View) -> HostLine:
    production: Live | None = getattr(view, "production", None)
    acted = view if isinstance(view, Acted) else None
    return HostLine(
        host=name,
        outcome=acted.outcome if acted else "findings" if view.exit else "ok",
        exit=view.exit,
        pool=production.pool if production else "",
        generation=production.running if production else "",
        proved=production.agrees if production else False,
        serves=production.serves if production else False,
        said=acted.said if acted else "; ".join(view.findings) if isinstance(view, StatusView) else "",
        why=acted.why if acted else Why.NONE,
    )


def _acted(command: str, table: Sequence[HostLine]) -> tuple[int, str, str]:
    """Exit code, sentence, outcome."""
    worst = _worst(table)
    if _is_split(command, table) and worst != Exit.HELD:
        is_for_nothing = command == "repair" and not _touched(table)
        return Exit.FINDINGS if is_for_nothing else Exit.STUCK, f"{SPLIT}: {_shares(table)}", SPLIT
    if worst:
        kind = next(line.outcome for line in table if line.exit == worst)
        return worst, f"{kind}: {_shares(table)}", kind
    return _done(table)


def _done(table: Sequence[HostLine]) -> tuple[int, str, str]:
    """No host failed. Hosts were skipped and nothing was done: that is not as asked."""
    reached = [line for line in table if line.outcome != SKIPPED]
    skipped = [line.host for line in table if line.outcome == SKIPPED]
    kind = next(iter(_touched(table)), SKIPPED if skipped else Outcome.UNCHANGED.value)
    shares = _shares(reached) if reached else "no host could be reached"
    left = f"; NOT REACHED, left as they were: {_names(skipped)}" if skipped else ""
    said = f"{kind}{_unproven(table)} {len(reached)} of {len(table)} hosts: {shares}{left}"
    return Exit.FINDINGS if kind == SKIPPED else Exit.DONE, said, kind


def _unproven(table: Sequence[HostLine]) -> str:
    """A pool that was kept without proof must not look like one that served its clients."""
    switched = [line for line in table if line.outcome == Outcome.SWITCHED]
    hosts = [line.host for line in switched if line.why == Why.UNPROVEN]
    where = "" if len(hosts) == len(switched) else f" on {_names(hosts)}"
    return f", NOT PROVEN BY TRAFFIC{where}:" if hosts else ""


def _is_split(command: str, table: Sequence[HostLine]) -> bool:
    """Whether the hosts serve different pools although something was done, or although all went as asked.

    A switch that was refused, or that found a lock, leaves a split as it was, and another run may be under way.
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
    is_split = len({line.pool for line in table if line.pool}) > 1
    is_lost = any(line.outcome == UNREACHABLE for line in table)
    exit_ = max(worst, Exit.FINDINGS) if is_split or is_lost else worst
    return exit_, (f"{SPLIT}: " if is_split else "") + _shares(table), SPLIT if is_split else UNREACHABLE if is_lost else ""


def _worst(table: Sequence[HostLine]) -> int:
    return min((line.exit for line in table), key=_WORST.index)


def _shares(table: Sequence[HostLine]) -> str:
    """Which hosts serve which pool: `B serves on lb1, lb2; A is live, but FAILS on lb3; NOT PROVED on lb4`."""
    proved = _gathered(
        (f"{line.pool} {'serves' if line.serves else 'is live, but FAILS'}", line.host) for line in table if line.proved
    )
    rest = _gathered(("NOT PROVED", line.host) for line in table if not line.proved)
    return "; ".join(f"{said} on {_names(hosts)}" for said, hosts in (*proved, *rest))


# ---- its text ----


def _gathered(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """The hosts that say the same, in the order of the first of them."""
    found: dict[str, list[str]] = {}
    for said, name in pairs:
        found.setdefault(said, []).append(name)
    return [*found.items()]


def _drawn(table: Sequence[HostLine], watched: Mapping[str, str]) -> list[str]:
    """The table, with a last column where a host was watched."""
    rows = [("HOST", "OUTCOME", "SERVES", "GENERATION", "PROVED", "WATCHED" if any(watched.values()) else "")]
    for each in table:
        proved = "yes" if each.proved else "NO"
        rows.append((each.host, each.outcome, each.pool or "?", each.generation or "?", proved, watched[each.host]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _watched(view: View) -> str:
    """What the watch counted since the switch; "" where there was none."""
    watch = view.watch if isinstance(view, Acted) else None
    return f"{watch.failed} of {watch.total} failed in {watch.seconds} s" if watch else ""


def _failures(table: Sequence[HostLine]) -> list[str]:
    """Each host that did not do as asked. Those that only followed another host say so where that host's reason is shown."""
    bad = [line for line in table if line.exit]
    is_told = any(line.why != Why.OTHER_HOST for line in bad)
    gathered = _gathered((_followed(line) if is_told and line.why == Why.OTHER_HOST else line.said, line.host) for line in bad)
    return [f"{', '.join(hosts)}: {said}" for said, hosts in gathered]


def _remarks(hosts: Mapping[str, View]) -> list[str]:
    """What hosts that did as asked have to say besides."""
    done = ((name, view) for name, view in hosts.items() if isinstance(view, Acted) and not view.exit)
    gathered = _gathered((detail, name) for name, view in done for detail in view.details)
    return [f"{', '.join(hosts)}: {said}" for said, hosts in gathered]


def _followed(line: HostLine) -> str:
    return f"{line.outcome.replace('_', ' ')}, because another host failed"


def _plans(hosts: Mapping[str, View]) -> list[str]:
    """Each plan once. Plans count as the same where only the numbers of generations differ."""
    found = []
    for _, (first, *others) in _gathered((_plan_key(view), name) for name, view in hosts.items()):
        found.append(f"== {first}\n{hosts[first].text}")
        found += [f"== {', '.join(others)}: the same"] if others else []
    return found


def _plan_key(view: View) -> str:
    if not isinstance(view, PlanView):
        return view.text
    found, plan = view.planned, view.planned.plan
    servers = [(each.target.server, each.is_up) for each in (*found.gate.new, *found.gate.old)]
    diff = re.sub(r"\d{6,}-", "N-", found.diff)
    notes = [re.sub(r"\S*[/:]\S*", "", note) for note in found.notes]  # paths and addresses differ from host to host
    return f"{plan.pool} {plan.former_pool} {found.is_unchanged} {found.refusals} {found.steps} {notes} {servers} {diff}"


# ---- what to do next ----


def _next_step(command: str, kind: str, worst: str, views: Mapping[str, View]) -> str:
    """`kind` is the outcome of all hosts, `worst` the host that a person must see first."""
    view = views[worst]
    under_way = {name: each.lock for name, each in views.items() if isinstance(each, StatusView) and each.lock}
    if under_way:
        return f"wait: a run is under way on {_names(sorted(under_way))}, by {next(iter(under_way.values()))}"
    if kind == SPLIT:
        first = "run " if command == "repair" else "run `upswitch repair`; then run "
        return f"{first}`switch --to POOL` with the pool that should serve on all hosts; `upswitch help split`"
    if kind == UNREACHABLE:
        lost = _of(views, UNREACHABLE)
        return _reach(lost, "run the same command again" if command == "switch" else f"`upswitch {command} {_options(lost)}`")
    if kind == Outcome.HELD:
        held = _of(views, Outcome.HELD)  # only these have something to go back from
        one = next(iter(held.values()))
        return f"decide now: fix {one.pool}, or go back with `upswitch rollback {_options(held)}`; `upswitch help held`"
    if view.exit:
        return _remedy(view, worst) or f"`upswitch {command} --host {worst}` looks at one host alone"
    if skipped := _of(views, SKIPPED):
        return _for_later(skipped, views)
    planned = next((each for each in views.values() if isinstance(each, PlanView) and not each.planned.is_unchanged), None)
    return f"`upswitch switch --to {planned.planned.plan.pool}` does it" if planned else _remedy(view, worst) or "nothing to do"


def _reach(lost: Mapping[str, Acted], again: str) -> str:
    return f"find out why ssh can't reach {_names([*lost])}; then {again}; {_page_of(*(view.why for view in lost.values()))}"


def _page_of(*whys: Why) -> str:
    """The page for hosts that could not be reached, for these reasons. A wrong host key comes before anything else."""
    return UNREACHABLE_PAGES[Why.HOST_KEY if Why.HOST_KEY in whys else Why.UNREACHABLE]


def _for_later(skipped: Mapping[str, Acted], views: Mapping[str, View]) -> str:
    """A skipped host still serves what it served, and may need the former pool."""
    first = next((view for view in views.values() if isinstance(view, Acted) and view.pool), None)
    if first is None:
        return _reach(skipped, "run the same command again")
    kept = f"; until then keep {first.former_pool} running" if first.former_pool not in {"", first.pool} else ""
    return _reach(skipped, f"`switch --to {first.pool} {_options(skipped)}`{kept}")


def _remedy(view: View, host: str) -> str:
    if not isinstance(view, StatusView):
        return getattr(view, "hint", "")
    if view.needs_repair:
        return "run `upswitch repair`; `upswitch help dead-man`"
    return f"fix the FINDING of {host}; `upswitch status --host {host}` looks again" if view.findings else ""


def _of(views: Mapping[str, View], outcome: str) -> dict[str, Acted]:
    return {name: view for name, view in sorted(views.items()) if isinstance(view, Acted) and view.outcome == outcome}


def _options(hosts: Mapping[str, object]) -> str:
    return " ".join(f"--host {name}" for name in hosts)


def _names(hosts: Sequence[str]) -> str:
    more = len(hosts) - _SHOWN
    return ", ".join(hosts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

"""What a command on several hosts prints: a table, and what each host said where that matters."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence

from upswitch.basics.value import Value
from upswitch.cli.views import View
from upswitch.cli.views.acted import Acted
from upswitch.cli.views.plan import PlanView

HELD_BACK = ("not switched, because of ", "not begun, because of ")
"""How a line begins of a host that another one held back; then that host's name, a colon, and why."""


class HostLine(Value):
    """A row of the table. `pool` and `generation` were read when the command ended; "" where they could not be."""

    host: str
    outcome: str
    exit: int
    pool: str
    generation: str
    proved: bool
    said: str


class FleetView(Value):
    """Several hosts as one; `hosts` has what the command says of each alone. `outcome` is "" for a command that only reads."""

    command: str
    exit: int
    outcome: str
    said: str
    table: tuple[HostLine, ...]
    hosts: dict[str, View]
    hint: str

    @property
    def text(self) -> str:
        return "\n".join([self.said, *self._drawn, *self._details, f"Next: {self.hint}"])

    @property
    def _drawn(self) -> list[str]:
        """The table, where the command has looked at what serves."""
        is_known = self.outcome or any(line.generation for line in self.table)
        return _drawn(self.table, {name: _watched(view) for name, view in self.hosts.items()}) if is_known else []

    @property
    def _details(self) -> list[str]:
        """Of acting commands the hosts that did not do as asked; of reading ones every host, those together that say the same."""
        if self.outcome:
            return _failures(self.table)
        if self.command == "plan":
            return _plans(self.hosts)
        return [
            f"== {', '.join(names)}\n{text}" for text, names in _gathered((view.text, name) for name, view in self.hosts.items())
        ]


def _gathered(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """The names that say the same, in the order of the first of them."""
    found: dict[str, list[str]] = {}
    for said, name in pairs:
        found.setdefault(said, []).append(name)
    return [*found.items()]


def _drawn(table: Sequence[HostLine], watched: Mapping[str, str]) -> list[str]:
    """Columns as wide as they must be; the last one where somebody was watched."""
    rows = [("HOST", "OUTCOME", "SERVES", "GENERATION", "PROVED", "WATCHED" if any(watched.values()) else "")]
    for each in table:
        proved = "yes" if each.proved else "NO"
        rows.append((each.host, each.outcome, each.pool or "?", each.generation or "?", proved, watched[each.host]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _watched(view: View) -> str:
    """How it is known that the new pool serves well: failed requests of all, since the switch; "" where nobody watched."""
    watch = view.watch if isinstance(view, Acted) else None
    return f"{watch.failed} of {watch.total} failed in {watch.seconds} s" if watch else ""


def _failures(table: Sequence[HostLine]) -> list[str]:
    """Each host that did not do as asked, those together that say the same; the reason of others is said where it stands."""
    bad = [line for line in table if line.exit]
    told = {line.host for line in bad if not line.said.startswith(HELD_BACK)}
    gathered = _gathered((_without_reason(line.said, told), line.host) for line in bad)
    return [f"{', '.join(names)}: {said}" for said, names in gathered]


def _without_reason(said: str, told: Container[str]) -> str:
    """`not switched, because of lb1: …`, where the line of lb1 says why."""
    held_back = next((words for words in HELD_BACK if said.startswith(words)), "")
    host = said.removeprefix(held_back).partition(":")[0]
    return f"{held_back}{host}" if held_back and host in told else said


def _plans(hosts: Mapping[str, View]) -> list[str]:
    """The first host's whole; of the others what is not the same but for numbers of generations, which are each host's own."""
    found = []
    for _, (first, *others) in _gathered((_plan_key(view), name) for name, view in hosts.items()):
        found.append(f"== {first}\n{hosts[first].text}")
        found += [f"== {', '.join(others)}: the same"] if others else []
    return found


def _plan_key(view: View) -> str:
    if not isinstance(view, PlanView):
        return view.text
    servers = [(each.server, each.up) for each in (*view.gate.new, *view.gate.old)]
    diff = re.sub(r"\d{6,}-", "N-", view.diff)
    notes = [re.sub(r"\S*[/:]\S*", "", note) for note in view.notes]  # paths and addresses are each host's own
    return f"{view.pool} {view.former_pool} {view.unchanged} {view.steps} {notes} {servers} {diff}"

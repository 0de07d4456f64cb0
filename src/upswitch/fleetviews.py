"""What a command on several hosts prints: a table, and what each host said where that matters."""

from collections.abc import Sequence

from upswitch.core.words import Value
from upswitch.views import View


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
        return _drawn(self.table) if is_known else []

    @property
    def _details(self) -> list[str]:
        """Of acting commands the hosts that did not do as asked; of reading ones every host, those together that say the same."""
        if self.outcome:
            return [f"{line.host}: {line.said}" for line in self.table if line.exit]
        texts: dict[str, list[str]] = {}
        for name, view in self.hosts.items():
            texts.setdefault(view.text, []).append(name)
        return [f"== {', '.join(names)}\n{text}" for text, names in texts.items()]


def _drawn(table: Sequence[HostLine]) -> list[str]:
    """Columns as wide as they must be."""
    rows = [("HOST", "OUTCOME", "SERVES", "GENERATION", "PROVED")]
    rows += [(each.host, each.outcome, each.pool or "?", each.generation or "?", "yes" if each.proved else "NO") for each in table]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

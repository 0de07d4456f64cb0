"""What `sites` prints: each site of this machine, and what serves."""

from collections.abc import Iterable, Iterator

from upswitch.basics.value import Value
from upswitch.cli.exit_codes import Exit
from upswitch.cli.site_files import folder
from upswitch.cli.views import View
from upswitch.cli.views.acted import Acted
from upswitch.cli.views.fleet import FleetView
from upswitch.generations.generation import Live


class SiteLine(Value):
    """One site on one host. `host` is "" for this machine.

    `problem` is why nobody could be asked, what was not proved, or what nginx's own health check holds down.
    """

    name: str
    file: str
    host: str
    pool: str
    generation: str
    proved: bool
    problem: str = ""


class SitesView(View):
    """`sites`: exit 0 where each site was proved to serve one generation, 3 where one was not, or is held down."""

    folder: str
    sites: tuple[SiteLine, ...]

    @property
    def text(self) -> str:
        if not self.sites:
            return f"{self.folder} has no site file; `upswitch init` makes one"
        rows = [("SITE", "HOST", "SERVES", "GENERATION", "FILE"), *map(_row, self.sites)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        kept = [at for at in range(len(widths)) if any(row[at] for row in rows[1:])]
        lines = ["  ".join(f"{row[at]:{widths[at]}}" for at in kept).rstrip() for row in rows]
        for line, site in zip(range(len(self.sites), 0, -1), reversed(self.sites), strict=True):
            lines[line + 1 : line + 1] = [f"    {site.problem}"] if site.problem else []
        return "\n".join(lines)


def sites(found: Iterable[tuple[str, tuple[str, View]]]) -> SitesView:
    """`found`: by site file the site's name and what its hosts said."""
    lines = tuple(line for file, (name, view) in found for line in _lines(name, file, view))
    exit_ = Exit.DONE if all(line.proved and not line.problem for line in lines) else Exit.FINDINGS
    return SitesView(command="sites", exit=exit_, folder=folder(), sites=lines)


def _lines(name: str, file: str, view: View) -> Iterator[SiteLine]:
    if isinstance(view, FleetView):
        for host, each in view.hosts.items():
            yield _line(name, file, host, each)
    else:
        yield _line(name, file, "", view)


def _line(name: str, file: str, host: str, view: View) -> SiteLine:
    seen: Live | None = getattr(view, "production", None)
    proved = seen is not None and seen.agrees
    said = "; ".join((view.said, *view.problems)) if isinstance(view, Acted) else seen.text if seen else ""
    return SiteLine(
        name=name,
        file=file,
        host=host,
        pool=seen.pool if seen else "",
        generation=seen.running if seen else "",
        proved=proved,
        problem="" if seen and seen.serves else said,
    )


def _row(line: SiteLine) -> tuple[str, ...]:
    return line.name, line.host, line.pool or "?", line.generation or "?", line.file

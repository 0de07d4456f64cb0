from collections.abc import Mapping

import click
from msgspec.structs import replace

from upswitch.cli.invocation import Common, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program
from upswitch.cli.report.out import html_option, out, refuse_both
from upswitch.cli.views import View, status
from upswitch.cli.views.fleet import FleetView
from upswitch.cli.views.status import HistoryView
from upswitch.switch.journal import journal_of
from upswitch.switch.session import Session


@click.command(
    cls=Documented,
    page="json",
    examples=[
        ("upswitch history --limit 5", "The last five runs."),
        ("upswitch history --html runs.html", "The list as a page."),
        ("upswitch history --json", "All about each run, for programs."),
    ],
)
@on_site
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N", help="How many runs at most.")
@html_option
@with_program
def history(program: Program, /, *, common: Common, limit: int, page: str) -> int:
    """List past runs, newest first.

    For each run: when it started, what it did, the generation that it made, who started it and why, and how it ended.
    """
    refuse_both(page, as_json=common.as_json)

    def act(session: Session) -> View:
        runs = journal_of(session.ports.host, session.site.nginx).read()
        return status.history(runs, limit=limit, site=session.site.name)

    return program.serve("history", common, act, then=lambda view: out(view, _page(view) if page else "", page, named=_with_page))


def _page(view: View) -> str:
    """ "" where no host has a list."""
    from upswitch.cli.report.page import runs_page

    found = {name: each for name, each in _hosts(view).items() if isinstance(each, HistoryView)}
    return runs_page({name: each.runs for name, each in found.items()}, next(iter(found.values())).site) if found else ""


def _with_page(view: View, path: str) -> View:
    if isinstance(view, FleetView):
        return replace(view, hosts={name: _with_page(each, path) for name, each in view.hosts.items()})
    return replace(view, page=path) if isinstance(view, HistoryView) else view


def _hosts(view: View) -> Mapping[str, View]:
    return view.hosts if isinstance(view, FleetView) else {"": view}

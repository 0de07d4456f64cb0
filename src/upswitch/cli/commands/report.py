"""`upswitch report`: all about one run, also as a page."""

from collections.abc import Mapping

import click
from msgspec.structs import replace

from upswitch.cli.invocation import Common, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program
from upswitch.cli.report.out import html_option, out, refuse_both
from upswitch.cli.views import View
from upswitch.cli.views import report as views
from upswitch.cli.views.acted import Acted
from upswitch.cli.views.fleet import FleetView
from upswitch.cli.views.report import Format, ReportView
from upswitch.site.model import parse_name
from upswitch.switch import record
from upswitch.switch.journal import journal_of
from upswitch.switch.run import Run
from upswitch.switch.session import Session, clean

_NAMED = 5  # runs that an error names


@click.command(
    cls=Documented,
    page="json",
    examples=[
        ("upswitch report", "The last run."),
        ("upswitch report 12 --html run12.html", "The run that made generation 12, as a page."),
        ("upswitch report --format markdown", "For a merge request."),
    ],
)
@on_site
@click.argument("wanted", default="", metavar="[RUN]")
@html_option
@click.option("--format", "form", type=click.Choice([each.value for each in Format]), default="text", show_default=True)
@with_program
def report(program: Program, /, *, common: Common, wanted: str, page: str, form: str) -> int:
    """Show all about one run, also as a page.

    RUN is the number of the generation that the run made, or the run's name. Without it, the last run is shown. `upswitch history`
    lists both.

    A run has these steps and results: who started it and why, how long each step took, how it was proved, the health checks, the
    requests before and after, the answers of the rule for a rollback, the causes of failures, and the changed files.
    """
    common = replace(common, as_json=common.as_json or form == Format.JSON)
    refuse_both(page, as_json=common.as_json)

    def act(session: Session) -> View:
        runs = journal_of(session.ports.host, session.site.nginx).read()
        run = _chosen(runs, wanted)
        kept = record.kept(session.ports.host, session.site.nginx.state, run.plan.run)
        holder = session.ports.lock.holder() if run.is_left else None
        return views.report(session.site.name, run, kept, Format(form), holder=holder.text if holder else "")

    return program.serve("report", common, act, then=lambda view: out(view, _page(view) if page else "", page, named=_with_page))


def _with_page(view: View, path: str) -> View:
    if isinstance(view, FleetView):
        hosts = {name: _with_page(each, path) for name, each in view.hosts.items()}
        return replace(view, hosts=hosts)
    return replace(view, page=path) if isinstance(view, ReportView) else view


def _page(view: View) -> str:
    """ "" where there is nothing to show."""
    from upswitch.cli.report.page import page

    hosts: Mapping[str, View] = view.hosts if isinstance(view, FleetView) else {"": view}
    found = {name: each for name, each in hosts.items() if isinstance(each, ReportView)}
    others = {name: each.said for name, each in hosts.items() if isinstance(each, Acted)}
    return page(found, others) if found else ""


def _chosen(runs: tuple[Run, ...], wanted: str) -> Run:
    """The last run, or the newest of that number or name. click.UsageError where there is none."""
    if not runs:
        raise click.UsageError("there is no run yet, so there is nothing to report")
    if not wanted:
        return runs[-1]
    found = [run for run in runs if _is_named(run, wanted)]
    if not found:
        have = ", ".join(run.plan.to for run in runs[: -_NAMED - 1 : -1])
        raise click.BadParameter(f"{clean(wanted)}: the last runs made {have}; `upswitch history` lists all", param_hint="RUN")
    return found[-1]


def _is_named(run: Run, wanted: str) -> bool:
    """By the run's name, or by a generation that it made: its name or its number."""
    plan = run.plan
    made = [name for name in map(parse_name, (plan.to, plan.back, plan.warm)) if name]
    number = int(wanted) if wanted.isascii() and wanted.isdigit() else 0
    return wanted == plan.run or any(wanted == each.name or number == each.number for each in made)

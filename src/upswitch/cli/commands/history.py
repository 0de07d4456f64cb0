import click

from upswitch.cli.invocation import Common, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program
from upswitch.cli.views import View, status
from upswitch.switch.journal import journal_of
from upswitch.switch.session import Session


@click.command(
    cls=Documented,
    page="json",
    examples=[
        ("upswitch history --limit 5", "The last five runs."),
        ("upswitch history --json", "All about each run, for programs."),
    ],
)
@on_site
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N", help="How many runs at most.")
@with_program
def history(program: Program, /, *, common: Common, limit: int) -> int:
    """List past runs, newest first.

    For each run: when it started, what it did, who started it and why, and how it ended.
    """

    def act(session: Session) -> View:
        return status.history(journal_of(session.ports.host, session.site.nginx).read(), limit=limit)

    return program.serve("history", common, act)

"""upswitch.cli.commands.history."""

import click

from upswitch.cli.commands.options import on_site
from upswitch.cli.session import App, Common
from upswitch.cli.views import read
from upswitch.cli.views.parts import View
from upswitch.switch.journal import journal_of
from upswitch.switch.session import Session


@click.command()
@on_site
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many runs.")
@click.pass_obj
def history(app: App, /, *, common: Common, limit: int) -> int:
    """Past runs, newest first: when, what, who, how it ended."""

    def act(session: Session) -> View:
        runs = journal_of(session.ports.host, session.site.nginx).read()
        return read.history(runs, limit=limit)

    return app.serve("history", common, act)

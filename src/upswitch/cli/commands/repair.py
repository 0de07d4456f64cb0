"""upswitch.cli.commands.repair."""

import click

from upswitch.cli.commands.options import live, on_site
from upswitch.cli.session import App, Common
from upswitch.cli.views import acted
from upswitch.cli.views.parts import View
from upswitch.switch.journal import journal_of
from upswitch.switch.session import Session


@click.command()
@on_site
@click.option("--forget", is_flag=True, help="Move a journal that can't be read aside, and go by what is live.")
@click.pass_obj
def repair(app: App, /, *, common: Common, forget: bool) -> int:
    """Finish or undo what a killed run left. Exit 0 when production is proved; 3 or 5 when a person must look."""
    from upswitch.switch import go, repair

    def act(session: Session) -> View:
        with go.locked(session.ports, session.site, session.owner("repair")):
            aside = ""
            if forget:
                aside = journal_of(session.ports.host, session.site.nginx).forget(session.ports.clock.now())
            return acted.repaired(repair.repair(session.ports, session.site), live(session), aside=aside)

    return app.serve("repair", common, act)

"""upswitch.cli.commands.rollback."""

import click

from upswitch.cli.commands.options import events_option, on_site
from upswitch.cli.session import App, Common
from upswitch.cli.views import acted
from upswitch.cli.views.parts import View
from upswitch.switch.session import Session


@click.command()
@on_site
@click.option("--to", "number", type=click.IntRange(1), help="A generation's number; else what was live before.")
@click.option("--reason", default="", help="For the history.")
@events_option
@click.pass_obj
def rollback(app: App, /, *, common: Common, number: int | None, reason: str) -> int:
    """Back to the pool that was live before. No gate, no template: the files that served then, tested and proved."""
    from upswitch.switch import go, rollback

    def act(session: Session) -> View:
        ask = session.ask("rollback", "", reason=reason)
        with go.locked(session.ports, session.site, session.owner(f"rollback {reason}")):
            return acted.acted("rollback", rollback.rollback(session.ports, session.site, ask, number=number))

    return app.serve("rollback", common, act)

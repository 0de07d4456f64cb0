"""upswitch.cli.commands.drain."""

import click

from upswitch.cli.commands.options import on_site
from upswitch.cli.session import App, Common
from upswitch.cli.views import read
from upswitch.cli.views.parts import View
from upswitch.switch.session import Session


@click.command()
@on_site
@click.option("--wait", "is_waiting", is_flag=True, help="Until it is safe, at most --deadline.")
@click.option("--deadline", type=click.FloatRange(0, 86400), default=300.0, show_default=True, help="Seconds for --wait.")
@click.pass_obj
def drain(app: App, /, *, common: Common, is_waiting: bool, deadline: float) -> int:
    """Whether the former pool may be stopped: old workers, and connections to its servers. Exit 3 while it may not."""
    from upswitch.switch import drained

    def act(session: Session) -> View:
        nginx = session.site.nginx
        if is_waiting:
            return read.drain(drained.wait(session.ports, nginx, deadline=deadline))
        return read.drain(drained.drained(session.ports, nginx))

    return app.serve("drain", common, act)

import click

from upswitch.cli.invocation import Common, on_site
from upswitch.cli.program import Program, with_program
from upswitch.cli.views import View, status
from upswitch.switch.session import Session


@click.command()
@on_site
@click.option("--wait", "is_waiting", is_flag=True, help="Wait until the former pool can be stopped, at most --deadline.")
@click.option(
    "--deadline", type=click.FloatRange(0, 86400), default=300.0, show_default=True, metavar="SECONDS", help="Limit of --wait."
)
@with_program
def drain(program: Program, /, *, common: Common, is_waiting: bool, deadline: float) -> int:
    """Show whether the former pool can be stopped.

    upswitch looks for old workers and open connections, for a run that may still go back, for other places of nginx's configuration
    that use these servers, and at the health and the last requests of the live pool. Exit 3 if the former pool must keep running,
    or if there is none.
    """
    from upswitch.switch import drained

    def act(session: Session) -> View:
        if is_waiting:
            return status.drain(drained.wait(session.ports, session.site, deadline=deadline))
        return status.drain(drained.drained(session.ports, session.site))

    return program.serve("drain", common, act)

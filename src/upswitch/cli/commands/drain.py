import click

from upswitch.cli.invocation import Common, Read, duration, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program
from upswitch.cli.views import View, status
from upswitch.switch.session import Session


@click.command(
    cls=Documented,
    page="requests-not-lost",
    examples=[
        ("upswitch drain", "Can the former pool be stopped now?"),
        ("upswitch drain --wait --deadline 5m", "Wait until it can."),
    ],
)
@on_site
@click.option("--wait", "is_waiting", is_flag=True, help="Wait until the former pool can be stopped, at most --deadline.")
@click.option(
    "--deadline",
    type=Read("duration", duration),
    default="5m",
    show_default=True,
    metavar="DURATION",
    help="Limit of --wait, such as 90s or 5m.",
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

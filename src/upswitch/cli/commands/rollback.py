import click

from upswitch.cli.invocation import Common, events_option, on_site
from upswitch.cli.program import Program, with_program
from upswitch.cli.views import View, acted
from upswitch.switch.session import Session


@click.command()
@on_site
@click.option("--to", "number", type=click.IntRange(1), metavar="N", help="Go back to generation N.")
@click.option("--reason", default="", metavar="TEXT", help="Why you go back; `upswitch history` shows it.")
@events_option
@with_program
def rollback(program: Program, /, *, common: Common, number: int | None, reason: str) -> int:
    """Go back to the pool that was live before.

    upswitch uses the former files again, tests them and proves that nginx serves them. To save time, no health check comes first.
    """
    from upswitch.switch import drive, rollback

    def act(session: Session) -> View:
        ask = session.ask("rollback", "", reason=reason)
        with drive.locked(session.ports, session.site, session.owner(f"rollback {reason}")):
            return acted.acted("rollback", rollback.rollback(session.ports, session.site, ask, number=number))

    return program.serve("rollback", common, act)

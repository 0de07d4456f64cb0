import click
import msgspec

from upswitch.cli.invocation import Common, events_option, on_site
from upswitch.cli.program import Program, with_program
from upswitch.cli.views import View, acted
from upswitch.switch.session import Session


@click.command()
@on_site
@click.option("--to", "number", type=click.IntRange(1), metavar="N", help="Go back to generation N.")
@click.option("--force", "is_forced", is_flag=True, help="Go back even to a dead pool, or to a generation that was rolled back.")
@click.option("--reason", default="", metavar="TEXT", help="Why you go back; `upswitch history` shows it.")
@events_option
@with_program
def rollback(program: Program, /, *, common: Common, number: int | None, is_forced: bool, reason: str) -> int:
    """Go back to the pool that was live before.

    upswitch uses the former files again, tests them and proves that nginx serves them. It checks first, once and in less than a
    second, that the former pool is alive. A rollback of a rollback undoes it.
    """
    from upswitch.switch import drive, rollback

    def act(session: Session) -> View:
        ask = session.ask("rollback", "", reason=reason)
        with drive.locked(session.ports, session.site, session.owner(f"rollback {reason}"), is_incident=True) as warned:
            view = acted.acted("rollback", rollback.rollback(session.ports, session.site, ask, number=number, is_forced=is_forced))
            return msgspec.structs.replace(view, problems=(*warned, *view.problems))

    return program.serve("rollback", common, act)

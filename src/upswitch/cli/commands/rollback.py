import click
import msgspec

from upswitch.cli import completion
from upswitch.cli.invocation import Common, Read, events_option, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program
from upswitch.cli.views import View, acted
from upswitch.site.read_upstreams import POOL_NAME
from upswitch.switch.session import Session


def _place(text: str) -> str:
    """A pool, or a generation by its number or its name."""
    if not POOL_NAME.fullmatch(text):
        raise ValueError("is neither the name of a pool nor the number of a generation")
    return text


@click.command(
    cls=Documented,
    page="incident",
    examples=[
        ("upswitch rollback", "Go back to what was live before."),
        ("upswitch rollback --to B", "Go to the newest generation of pool B that served well."),
        ("upswitch rollback --to 12", "Go to generation 12."),
    ],
)
@on_site
@click.option(
    "--to",
    "to",
    type=Read("pool or number", _place),
    metavar="POOL|N",
    help="Go to the newest good generation of POOL, or to generation N.",
    shell_complete=completion.pools,
)
@click.option(
    "--force", "is_forced", is_flag=True, help="Go even to a dead pool, or to a generation that was rolled back or never served."
)
@click.option("--reason", default="", metavar="TEXT", help="Why you go back; `upswitch history` shows it.")
@events_option
@with_program
def rollback(program: Program, /, *, common: Common, to: str | None, is_forced: bool, reason: str) -> int:
    """Go back to the pool that was live before.

    With --to POOL: to the newest generation of POOL that is known good, which served and was neither rolled back nor held.

    upswitch uses the former files again, tests them and proves that nginx serves them. It checks first, once and in less than a
    second, that the former pool is alive. A rollback of a rollback undoes it.
    """
    from upswitch.switch import drive, rollback

    def act(session: Session) -> View:
        ask = session.ask("rollback", "", reason=reason)
        with drive.locked(session.ports, session.site, session.owner(f"rollback {reason}"), is_incident=True) as warned:
            view = acted.acted("rollback", rollback.rollback(session.ports, session.site, ask, to=to or "", is_forced=is_forced))
            return msgspec.structs.replace(view, problems=(*warned, *view.problems))

    return program.serve("rollback", common, act)

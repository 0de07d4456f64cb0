import click
from msgspec.structs import replace

from upswitch.cli.exit_codes import Exit
from upswitch.cli.invocation import Common, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, live, with_program
from upswitch.cli.views import View
from upswitch.cli.views.plan import LeaveView
from upswitch.switch.session import Session


@click.command(
    cls=Documented,
    page="site-file",
    examples=[
        ("upswitch leave", "Show the one change."),
        ("upswitch leave --apply", "Make it."),
    ],
)
@on_site
@click.option("--apply", "is_applied", is_flag=True, help="Make the change: back up, test, reload, prove; undo it on failure.")
@with_program
def leave(program: Program, /, *, common: Common, is_applied: bool) -> int:
    """Take an nginx out of upswitch: show the one change, or make it.

    The upstream blocks of the live pool come back in the place of the include. Without --apply, nothing is changed.
    """
    from upswitch.init import leave as leaving

    def act(session: Session) -> View:
        proposal = leaving.propose_leave(session.ports, session.site)
        if not is_applied:
            return LeaveView(command="leave", exit=Exit.DONE, proposal=proposal)
        done = leaving.leave(session.ports, session.site, session.owner("leave"))
        now = replace(live(session), is_failing=bool(done.unserved))
        exit_ = Exit.FINDINGS if done.unserved else Exit.DONE
        return LeaveView(command="leave", exit=exit_, proposal=proposal, done=done, production=now, file=common.file.path)

    return program.serve("leave", common, act)

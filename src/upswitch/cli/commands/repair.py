import click
import msgspec

from upswitch.basics.errors import HostError
from upswitch.cli.invocation import Common, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, live, with_program
from upswitch.cli.views import View, acted
from upswitch.generations import survey
from upswitch.generations.generation import Live
from upswitch.health import compare
from upswitch.switch.journal import journal_of
from upswitch.switch.session import Session


@click.command(
    cls=Documented,
    page="incident",
    examples=[
        ("upswitch repair", "Finish or undo the run that was cut off."),
    ],
)
@on_site
@click.option("--forget", is_flag=True, help="Move a journal that can't be read aside, and continue with what is live.")
@with_program
def repair(program: Program, /, *, common: Common, forget: bool) -> int:
    """Finish or undo a run that was cut off.

    Exit 0 when nginx was proved to serve one whole generation, and the servers of the live pool are healthy. Exit 7 when the run
    was to be undone, but the former pool is dead. Exit 3 or 5 when a person must look.
    """
    from upswitch.switch import drive, repair

    def act(session: Session) -> View:
        with drive.locked(session.ports, session.site, session.owner("repair"), is_incident=True) as warned:
            journal = journal_of(session.ports.host, session.site.nginx)
            aside = journal.forget(session.ports.clock.now()) if forget else ""
            ending = repair.repair(session.ports, session.site)
            seen, sick = _seen(session)
            view = acted.repaired(ending, seen, aside=aside, sick=sick)
            return msgspec.structs.replace(view, problems=(*warned, *view.problems))

    return program.serve("repair", common, act)


def _seen(session: Session) -> tuple[Live, tuple[str, ...]]:
    """What serves, and what is wrong with the servers of the live pool."""
    ports, site = session.ports, session.site
    try:
        disk, running = survey.glance(ports.host, site.nginx)
        return survey.live(disk, running), compare.sick_pool(*compare.both(ports, site, disk.manifest, running.checked))
    except HostError as exc:
        return live(session), (f"the health of the live pool could not be checked: {exc}",)

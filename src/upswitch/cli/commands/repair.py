import click
import msgspec

from upswitch.basics.errors import HostError
from upswitch.cli.invocation import Common, on_site
from upswitch.cli.program import Program, live, with_program
from upswitch.cli.views import View, acted
from upswitch.generations import store
from upswitch.health import compare
from upswitch.switch.journal import journal_of
from upswitch.switch.session import Session


@click.command()
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
            view = acted.repaired(ending, live(session), aside=aside, sick=_sick(session))
            return msgspec.structs.replace(view, problems=(*warned, *view.problems))

    return program.serve("repair", common, act)


def _sick(session: Session) -> tuple[str, ...]:
    """What is wrong with the servers of the live pool."""
    try:
        disk = store.read_disk(session.ports.host, session.site.nginx)
        return compare.sick_pool(*compare.both(session.ports, session.site, disk.manifest))
    except HostError as exc:
        return (f"the health of the live pool could not be checked: {exc}",)

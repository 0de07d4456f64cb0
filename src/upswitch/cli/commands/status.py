import click

from upswitch.cli.invocation import Common, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program
from upswitch.cli.views import View
from upswitch.cli.views import status as views
from upswitch.generations import survey
from upswitch.generations.generation import Manifest
from upswitch.generations.survey import Configured
from upswitch.health import compare
from upswitch.switch import deadman
from upswitch.switch.journal import journal_of
from upswitch.switch.session import Session
from upswitch.watch.recent import Recent, recent, with_waiting


@click.command(
    cls=Documented,
    page="incident",
    examples=[
        ("upswitch status", "Which pool is live, and what is wrong."),
        ("upswitch status --watch", "The same, once a second."),
    ],
)
@on_site
@click.option("--no-probe", is_flag=True, help="Send no health checks to the servers.")
@click.option("--watch", "is_watching", is_flag=True, help="Repeat every second, until Ctrl-C.")
@with_program
def status(program: Program, /, *, common: Common, no_probe: bool, is_watching: bool) -> int:
    """Show which pool is live, and what needs attention.

    nginx itself is asked which generation it serves, and each server of every pool gets one health check. Findings are exit 3:
    edited files, unfinished runs, a configuration that `nginx -t` rejects, unhealthy servers of the live pool, and a live pool that
    failed half of its last requests.
    """
    return program.serve(
        "status",
        common,
        lambda each: _status(each, is_probing=not no_probe, is_once=not is_watching),
        every=1.0 if is_watching else None,
    )


def _status(session: Session, *, is_probing: bool, is_once: bool) -> View:
    host, nginx = session.ports.host, session.site.nginx
    disk, running = survey.glance(host, nginx)
    last = next(iter(journal_of(host, nginx).read()[::-1]), None)
    holder = session.ports.lock.holder()
    standing = deadman.look(host, nginx) if last is not None and last.is_left and holder is None else None
    compared, probed = compare.both(session.ports, session.site, disk.manifest, running.checked) if is_probing else ((), ())
    master = running.pid if running.master else 0
    configured = survey.configured(host, session.site, master=master) if is_once else Configured(problem="not with --watch")
    error_log = disk.manifest.error_log if disk.manifest else ""
    rejection = compare.last_rejection(host, error_log, running.family) if compared else None
    return views.status(
        disk,
        running,
        last=last,
        holder=holder,
        standing=standing,
        compared=compared,
        probed=probed,
        configured=configured,
        requests=_requests(session, configured, disk.manifest, running.pid) if disk.manifest else None,
        sick=compare.sick_pool(compared, probed),
        rejection=rejection or "",
        site=session.site.name,
    )


def _requests(session: Session, configured: Configured, live: Manifest, master: int) -> Recent:
    host = session.ports.host
    return with_waiting(host, recent(host, session.site, configured.access_logs, live), master, live.addresses)

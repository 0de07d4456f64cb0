"""`upswitch status`."""

import click

from upswitch.cli.commands.options import on_site, with_program
from upswitch.cli.invocation import Common
from upswitch.cli.program import Program
from upswitch.cli.views import read
from upswitch.cli.views.parts import View
from upswitch.generations import survey
from upswitch.health.module import compare
from upswitch.switch.deadman import arm
from upswitch.switch.journal import journal_of
from upswitch.switch.session import Session


@click.command()
@on_site
@click.option("--watch", "is_watching", is_flag=True, help="Repeat every second, until Ctrl-C.")
@with_program
def status(program: Program, /, *, common: Common, is_watching: bool) -> int:
    """Show which pool is live, and what needs attention.

    nginx itself is asked which generation it serves. Edited files, unfinished runs and servers that are down are findings: exit 3.
    """
    return program.serve("status", common, _status, every=1.0 if is_watching else None)


def _status(session: Session) -> View:
    host, nginx = session.ports.host, session.site.nginx
    disk, running = survey.glance(host, nginx)
    last = next(iter(journal_of(host, nginx).read()[::-1]), None)
    holder = session.ports.lock.holder()
    view = read.status(disk, running, last=last, holder=holder)
    if view.unfinished and holder is None:
        view = read.with_deadman(view, arm.look(host, nginx))
    compared = compare.compare(session.ports, session.site, disk.pool)
    if not compared:
        return view
    error_log = disk.manifest.error_log if disk.manifest else ""
    rejection = compare.last_rejection(host, error_log, running.family)
    return read.with_checks(view, compared, rejection=rejection or "")

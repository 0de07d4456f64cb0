import click

from upswitch.cli import site_files
from upswitch.cli.exit_codes import Exit
from upswitch.cli.invocation import json_option
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, live, with_program
from upswitch.cli.views import View
from upswitch.cli.views import sites as views
from upswitch.generations.generation import Live
from upswitch.switch.session import Session


@click.command(
    cls=Documented,
    page="site-file",
    examples=[
        ("upswitch sites", "Each site, and the pool that it serves."),
    ],
)
@json_option
@with_program
def sites(program: Program, /, *, as_json: bool) -> int:
    """List the sites of this machine, and which pool each serves.

    The site files are those in /etc/upswitch. nginx itself is asked what it serves, as `status` does. Exit 3 if it is not proved,
    or if nginx's own health check holds its servers down.
    """
    view = views.sites([(path, program.each(path, _serving)) for path in site_files.listed()])
    return program.show(view, as_json=as_json)


class _Serving(View):
    """What one host serves."""

    production: Live


def _serving(session: Session) -> View:
    seen = live(session)
    return _Serving(command="sites", exit=Exit.DONE if seen.serves else Exit.FINDINGS, production=seen)

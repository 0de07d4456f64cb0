import click

from upswitch.cli.invocation import Common, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program
from upswitch.cli.views import View, plan
from upswitch.switch.session import Session


@click.command(
    "drain-lines",
    cls=Documented,
    page="requests-not-lost",
    examples=[
        ("upswitch drain-lines", "The lines for each location of the site."),
    ],
)
@on_site
@with_program
def drain_lines(program: Program, /, *, common: Common) -> int:
    """Print the lines by which a reload loses no request.

    nginx before 1.27.4 needs them. upswitch prints them for each location that passes to the site's upstreams, with the place to
    paste them, and changes nothing.
    """
    from upswitch.nginx import commands, running
    from upswitch.nginx.drain_compare import advice

    def act(session: Session) -> View:
        site, host = session.site, session.ports.host
        build = running.read_build(host, site.nginx)
        conf = running.read_conf(host, site.nginx, build)
        names = [upstream.name for upstream in site.upstreams]
        needed = advice(conf, build, names, flag=site.nginx.drain_flag)
        return plan.drain_lines(needed, is_needed=build.needs_drain_flag, test=commands.test_line(site.nginx))

    return program.serve("drain-lines", common, act)

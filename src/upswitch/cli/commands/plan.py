from typing import Any

import click
import msgspec

from upswitch.cli.given import server_options
from upswitch.cli.invocation import Common, on_site, to_pool
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, live, with_program
from upswitch.cli.views import View
from upswitch.cli.views import plan as views
from upswitch.generations import templates
from upswitch.switch.machine import Step
from upswitch.switch.session import Choices, Session


@click.command(
    cls=Documented,
    page="tour",
    examples=[
        ("upswitch plan B", "What would change, and what would be refused."),
        ("upswitch plan B --json", "The same for a pipeline."),
        ("upswitch plan B --server 10.0.0.7:8080", "The same with this server."),
    ],
)
@on_site
@to_pool("The pool that would become live.")
@click.option("--adopt", is_flag=True, help="Accept live files that were edited by hand, as `switch --adopt` does.")
@click.option("--one-way", is_flag=True, help="Accept that the former pool is down, as `switch --one-way` does.")
@server_options
@with_program
def plan(program: Program, /, *, common: Common, pool: str, **options: Any) -> int:
    """Show what `switch` would do; change nothing.

    The steps, the changed files as a diff, one health check of each server, and the 502s that a plain reload would cost. Where the
    switch would be refused now, the last lines say why, and with which exit code it would end: exit 3.
    """
    common = msgspec.structs.replace(common, pool=pool, servers=options["servers"], upstream=options["upstream"])
    choices = Choices(adopt=options["adopt"], one_way=options["one_way"], shrink=options["accept_shrink"])
    return program.serve("plan", common, lambda session: show_plan(session, pool, choices=choices))


def show_plan(session: Session, pool: str, *, choices: Choices, is_unwatched: bool = False) -> View:
    from upswitch.switch import plan

    is_watched = session.site.watch.duration > 0 and not is_unwatched
    ask = session.ask("plan", pool, skips=() if is_watched else (Step.WATCH,))
    found = plan.plan(session.ports, session.site, ask, templates.load(session.site), choices=choices)
    return views.planned(found, live(session))

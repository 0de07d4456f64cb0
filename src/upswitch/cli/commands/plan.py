"""upswitch.cli.commands.plan."""

from typing import TYPE_CHECKING

import click

from upswitch.cli.commands.options import live, on_site
from upswitch.cli.session import App, Common
from upswitch.cli.views import read
from upswitch.cli.views.parts import View
from upswitch.site.model import Site
from upswitch.switch.session import Session
from upswitch.switch.words import Step

if TYPE_CHECKING:
    from upswitch.switch.go import Choices


@click.command()
@on_site
@click.option("--to", "pool", required=True, help="The pool that would serve.")
@click.option("--adopt", is_flag=True, help="As for switch.")
@click.pass_obj
def plan(app: App, /, *, common: Common, pool: str, adopt: bool) -> int:
    """What `switch --to` would do: steps, files as a diff, one probe of each server. Changes nothing."""
    from upswitch.switch import go

    choices = go.Choices(adopt=adopt)
    return app.serve("plan", common, lambda session: show_plan(app, session, pool, choices=choices))


def show_plan(app: App, session: Session, pool: str, *, choices: "Choices", is_unwatched: bool = False) -> View:
    from upswitch.switch import plan

    _check_pool(session.site, pool)
    is_watched = session.site.watch.duration > 0 and not is_unwatched
    ask = session.ask("plan", pool, skips=() if is_watched else (Step.WATCH,))
    found = plan.plan(session.ports, session.site, ask, app.templates(session.site), choices=choices)
    return read.planned(found, live(session))


def _check_pool(site: Site, pool: str) -> None:
    if pool not in site.pools:
        raise click.BadParameter(f"{pool!r}: the site has {', '.join(site.pools)}", param_hint="--to")

"""The commands as they are typed. Each says what it does in terms of switch/switch.py, and nothing about how.

A command imports what only it needs when it runs: `status` and `--help` must start fast.
"""

import click
import msgspec

from upswitch.cli.commands.options import events_option, on_site
from upswitch.cli.commands.plan import show_plan
from upswitch.cli.session import App, Common
from upswitch.cli.views import acted
from upswitch.cli.views.parts import View
from upswitch.site.words import SpikePolicy
from upswitch.switch.session import Session
from upswitch.switch.words import Step


@click.command()
@on_site
@click.option("--to", "pool", required=True, help="The pool that is to serve.")
@click.option("--reason", default="", help="For the history and for whoever waits for the lock.")
@click.option("--no-watch", is_flag=True, help="Stop after the proof; do not watch for 502s.")
@click.option("--on-spike", type=click.Choice([policy.value for policy in SpikePolicy]), help="Overrides watch.on_spike.")
@click.option("--adopt", is_flag=True, help="Accept live files that were edited by hand, as the way back.")
@click.option("--one-way", is_flag=True, help="Accept that the former pool is dead: no way back.")
@click.option("--yes", is_flag=True, help="Both --adopt and --one-way.")
@click.option("--dry-run", is_flag=True, help="The same as `upswitch plan`.")
@events_option
@click.pass_obj
def switch(app: App, /, *, common: Common, pool: str, **options: object) -> int:
    """Switch to another pool: gate, stage, test, warm, swap, reload, prove, watch; back by itself when it fails."""
    from upswitch.switch import go, switch

    common = msgspec.structs.replace(common, pool=pool, on_spike=str(options["on_spike"] or ""))
    choices = go.Choices(adopt=bool(options["adopt"] or options["yes"]), one_way=bool(options["one_way"] or options["yes"]))
    if options["dry_run"]:
        is_unwatched = bool(options["no_watch"])
        return app.serve("plan", common, lambda session: show_plan(app, session, pool, choices=choices, is_unwatched=is_unwatched))

    def act(session: Session) -> View:
        is_watched = session.site.watch.duration > 0 and not options["no_watch"]
        ask = session.ask("switch", pool, reason=str(options["reason"]), skips=() if is_watched else (Step.WATCH,))
        templates = app.templates(session.site)
        with go.locked(session.ports, session.site, session.owner(f"switch to {pool} {ask.reason}")):
            return acted.acted("switch", switch.switch(session.ports, session.site, ask, templates, choices=choices))

    return app.serve("switch", common, act)

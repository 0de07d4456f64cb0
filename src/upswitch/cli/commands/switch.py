"""`upswitch switch`. What it does is the story of switch/switch.py."""

from typing import Any

import click
import msgspec

from upswitch.cli.commands.plan import show_plan
from upswitch.cli.given import server_options
from upswitch.cli.invocation import Common, events_option, on_site, to_pool
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program
from upswitch.cli.views import View, acted
from upswitch.generations import templates
from upswitch.site.model import SpikePolicy
from upswitch.switch.machine import Step
from upswitch.switch.session import Choices, Session


@click.command(
    cls=Documented,
    page="tour",
    examples=[
        ("upswitch switch B", "Switch to pool B."),
        ('upswitch switch B --reason "release 7"', "The history shows the reason."),
        ("upswitch switch B --server 10.0.0.7:8080", "Switch to this server, whatever the site file has."),
        ("upswitch switch B -s shop --strict", "Roll back too where traffic proves nothing."),
    ],
)
@on_site
@to_pool("The pool that is to become live.")
@click.option("--reason", default="", metavar="TEXT", help="For the history, and for users who wait for the lock.")
@click.option("--no-watch", is_flag=True, help="Do not watch for 502s after the switch.")
@click.option("--on-spike", type=click.Choice([policy.value for policy in SpikePolicy]), help="Overrides watch.on_spike.")
@click.option("--strict", is_flag=True, help="Roll back if traffic does not prove the new pool: watch.on_silence = rollback.")
@click.option(
    "--accept-elevated", is_flag=True, help="Keep a pool that fails 10 % or more of the last requests, but less than half."
)
@click.option("--adopt", is_flag=True, help="Accept live files that were edited by hand: a rollback returns to them.")
@click.option("--one-way", is_flag=True, help="Accept that the former pool is down: no rollback is possible.")
@click.option("--force", is_flag=True, help="Both --adopt and --one-way: go on in spite of these two safety checks.")
@click.option("--yes", is_flag=True, hidden=True)
@click.option("--dry-run", is_flag=True, help="The same as `upswitch plan`.")
@server_options
@events_option
@with_program
def switch(program: Program, /, *, common: Common, pool: str, **options: Any) -> int:
    """Switch to another pool; roll back automatically if it fails.

    The steps: check the pool's health, write and test the new files, reload nginx, prove that it serves them, watch for 502s.
    """
    from upswitch.switch import drive, switch

    common = msgspec.structs.replace(common, pool=pool, on_spike=options["on_spike"] or "")
    common = msgspec.structs.replace(common, is_strict=options["strict"], accepts_elevated=options["accept_elevated"])
    common = msgspec.structs.replace(common, servers=options["servers"], upstream=options["upstream"])
    if options["yes"]:
        click.echo("--yes is deprecated: it skips two safety checks. Use --force, or only one of --adopt and --one-way.", err=True)
    is_forced = options["force"] or options["yes"]
    choices = Choices(adopt=options["adopt"] or is_forced, one_way=options["one_way"] or is_forced, shrink=options["accept_shrink"])
    if options["dry_run"]:
        return program.serve("plan", common, lambda each: show_plan(each, pool, choices=choices, is_unwatched=options["no_watch"]))

    def act(session: Session) -> View:
        is_watched = session.site.watch.duration > 0 and not options["no_watch"]
        ask = session.ask("switch", pool, reason=options["reason"], skips=() if is_watched else (Step.WATCH,))
        texts = templates.load(session.site)
        with drive.locked(session.ports, session.site, session.owner(f"switch to {pool} {ask.reason}")):
            return acted.acted("switch", switch.switch(session.ports, session.site, ask, texts, choices=choices))

    return program.serve("switch", common, act)

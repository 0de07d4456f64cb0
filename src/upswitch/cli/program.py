"""What every command has in common: the site file, the adapters, the printed result, and what becomes of an error."""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from upswitch.basics.errors import RefusedError, UntrustedError
from upswitch.basics.text import plain
from upswitch.cli import journald, streams
from upswitch.cli.given import sourced
from upswitch.cli.invocation import Act, Command, Common, become, person
from upswitch.cli.open import Fleet, Here, Shared, Wiring
from upswitch.cli.progress import Teller
from upswitch.cli.site_files import NoSiteError, SiteFile, chosen_site, site_if_any
from upswitch.cli.views import View, acted, fleet
from upswitch.cli.views.keys import encoded
from upswitch.generations import survey
from upswitch.generations.generation import Live
from upswitch.hosts.clock import Interrupts, ignore_signals
from upswitch.nginx.commands import test_line
from upswitch.site.model import Gate, Nginx, SilencePolicy, Site, SpikePolicy, Watch
from upswitch.site.read import SiteInvalid
from upswitch.switch.session import Alone, Session, clean

_CHANGING = {"switch", "rollback", "repair"}  # after a bug in one of these, a run may have to be rolled back
_INCIDENT = {"rollback", "repair"}  # these must go on though others may write a folder: they end an outage
_COUNTING_SIGNALS = _CHANGING | {"init", "status", "watch"}


class Program:
    """Runs a command: `serve` reads the site, lets the command act on each host, prints, and returns the exit code."""

    def __init__(self, wiring: Wiring | None) -> None:
        self._wiring = wiring or Wiring()

    def serve(
        self, command: str, common: Common, act: Act, *, every: float | None = None, then: Callable[[View], View] | None = None
    ) -> int:
        """With `every`: again after so many seconds, until a signal. Every ending is a view; a bug is one too.

        `then` gets the view of all hosts and gives the one that is printed.
        """
        warn = _warn if command in _INCIDENT else None
        return self._serve(command, common, lambda: (chosen_site(common.file, warn=warn), act), every=every, then=then)

    def serve_files(self, command: str, common: Common, act: Callable[[Session, Site | None], View]) -> int:
        """The same on files of this machine, as the caller's own user: nothing that the site file names is run.

        The site is None where none was asked for and none can be read.
        """

        def read() -> tuple[Site, Act]:
            site = site_if_any(common.file)
            nowhere = Site(nginx=Nginx(user=""), upstreams=(), gate=Gate(), watch=Watch())
            return nowhere, lambda session: act(session, site)

        return self._serve(command, common, read)

    def serve_site(self, command: str, common: Common, site: Site, *, act: Act) -> int:
        """The same for a site that is known already."""
        return self._serve(command, common, lambda: (site, act))

    def each(self, path: str, act: Act) -> tuple[str, View]:
        """The name of the site in this file, and what came of `act` on its hosts. Nothing is printed."""
        try:
            site = chosen_site(SiteFile(path=path, is_asked=True))
        except (SiteInvalid, NoSiteError, UntrustedError) as exc:
            return Path(path).stem, acted.ended("sites", exc, None, file=clean(path))
        if site.nginx.user and not site.hosts:
            become(site.nginx.user)
        try:
            with self._opened(site, Interrupts(), "") as opened:
                return site.name, opened.serve("sites", act)
        except (SiteInvalid, RefusedError) as exc:  # its container can't be used
            return site.name, acted.ended("sites", exc, None, file=clean(path))

    def _serve(
        self,
        command: str,
        common: Common,
        read: Callable[[], tuple[Site, Act]],
        *,
        every: float | None = None,
        then: Callable[[View], View] | None = None,
    ) -> int:
        try:
            site, act = read()
            site = _asked_for(site, common)
        except (SiteInvalid, NoSiteError, UntrustedError, click.UsageError) as exc:
            return self.show(acted.ended(command, exc, None, file=clean(common.file.path)), as_json=common.as_json)
        if site.nginx.user and not site.hosts:
            become(site.nginx.user)
        interrupts = Interrupts()
        if command in _COUNTING_SIGNALS:
            interrupts.install()  # and left in place: a late Ctrl-C must not cost the result and the exit code
        try:
            site, act = sourced(site, common, act)
            self._before(site, command, common.pool)
            with self._opened(site, interrupts, common.events) as opened:
                view = opened.serve(command, act)
                while every and not interrupts.count and not streams.is_lost():
                    self.show(fleet.with_site(view, common.file.words), as_json=common.as_json)
                    interrupts.sleep(every)
                    view = opened.serve(command, act)
        except (UntrustedError, SiteInvalid, RefusedError, click.UsageError) as exc:  # before any host was reached
            view = acted.ended(command, exc, None, file=clean(common.file.path))
        view = fleet.with_site(view, common.file.words)
        return self._told(site, then(view) if then else view, as_json=common.as_json)

    def _told(self, site: Site, view: View, *, as_json: bool) -> int:
        """Show the result, send its notices and run its hook. Only JSON waits for them: it is one object."""
        if view.command not in _CHANGING or not (site.notify or site.hooks.after(getattr(view, "outcome", ""))[1]):
            return self.show(view, as_json=as_json)
        from upswitch.cli import hooks, notify

        sending = notify.Sending(site, view, self._wiring.clock())
        code = view.exit if as_json else self.show(view, as_json=False)
        failures = (*hooks.after(site, view, self._wiring.journald), *sending.failures())
        if as_json:
            return self.show(notify.with_failures(view, failures), as_json=True)
        for line in failures:
            click.echo(f"  {line}")
        return code

    def _before(self, site: Site, command: str, pool: str) -> None:
        if site.hooks.before_switch:
            from upswitch.cli import hooks

            hooks.before(site, command, pool, self._wiring.journald)

    def show(self, view: View, *, as_json: bool) -> int:
        """Print the result on stdout; its exit code. A reader that went away changes nothing."""
        click.echo(msgspec.json.encode(encoded(view)) if as_json else _safe(view.text))
        if view.command in _CHANGING:
            journald.tell(view, self._wiring.journald)
        return view.exit

    @contextmanager
    def _opened(self, site: Site, interrupts: Interrupts, events: str) -> Iterator[Here | Fleet]:
        with ExitStack() as closing:
            clock = self._wiring.clock()
            stream = closing.enter_context(_events(events)) if events else None
            hosts = tuple(host.name for host in site.hosts)
            teller = Teller(now=clock.now, monotonic=clock.monotonic, events=stream, hosts=hosts)
            closing.callback(teller.close)
            shared = Shared(clock=clock, interrupts=interrupts, tell=teller, closing=closing, user=person(), guarded=_acted)
            yield Fleet(site, shared) if site.hosts else Here(site, shared, self._wiring)


def with_program(command: Command) -> Command:
    """The command's first argument is the Program that runs it. After the command no signal can cost its exit code."""

    @functools.wraps(command)
    @click.pass_obj
    def run(wiring: Wiring | None, /, **options: Any) -> int:
        code = command(Program(wiring), **options)
        ignore_signals()
        return code

    return run


def live(session: Session) -> Live:
    """What serves now."""
    return survey.live_now(session.ports.host, session.site.nginx)


def _warn(error: UntrustedError) -> None:
    click.echo(_safe(error.warning), err=True)


def _safe(text: str) -> str:
    """Text with bytes of a host in it: nothing in it but newlines and tabs can act on a terminal."""
    return "".join(part if part in "\n\t" else plain(part) for part in re.split(r"([\n\t])", text))


def _asked_for(site: Site, common: Common) -> Site:
    """The site as the command line changes it. click.UsageError for a pool or a host that it does not have."""
    known = [host.name for host in site.hosts]
    if unknown := [name for name in common.hosts if name not in known]:
        have = f"the site has {', '.join(known)}" if known else "the site has no [hosts]: it is this machine"
        raise click.BadParameter(f"{clean(unknown[0])}: {have}", param_hint="--host")
    if common.hosts:
        site = msgspec.structs.replace(site, hosts=tuple(host for host in site.hosts if host.name in common.hosts))
    if common.pool and common.pool not in site.pools:
        raise click.BadParameter(f"{clean(common.pool)!r}: the site has {', '.join(site.pools)}", param_hint="--to")
    watch = msgspec.structs.replace(
        site.watch,
        on_spike=SpikePolicy(common.on_spike or site.watch.on_spike),
        on_silence=SilencePolicy.ROLLBACK if common.is_strict else site.watch.on_silence,
        accepts_elevated=common.accepts_elevated,
    )
    return msgspec.structs.replace(site, watch=watch)


def _events(path: str) -> IO[bytes]:
    """Unbuffered and never waited for: a FIFO that nobody reads, or a full disk, must not hold a switch."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return open(os.open(path, flags, 0o644), "ab", buffering=0)
    except OSError as exc:
        raise click.BadParameter(f"{path}: {exc.strerror}", param_hint="--events") from exc


def _acted(command: str, session: Session, act: Act) -> View:
    """The command's view, or that of the error that ended it (acted.ENDINGS)."""
    state = session.site.nginx.state
    try:
        return act(session)
    except Exception as exc:  # noqa: BLE001  (the one broad catch: after any error, production is read and shown)
        if acted.is_expected(exc):
            is_asked = not isinstance(exc, click.UsageError)
            now, test = live(session) if is_asked else None, test_line(session.site.nginx)
            return acted.ended(command, exc, now, file=f"{state}/journal.jsonl", test=test)
        import traceback

        trace = traceback.format_exc()
        session.ports.lock.release()
        if command in _CHANGING:
            _repair_after_bug(session)
        return acted.ended(command, exc, live(session), file=_kept(trace, state))


def _repair_after_bug(session: Session) -> None:
    """A bug in the middle of a run must not leave it there."""
    from upswitch.switch import drive, repair

    try:
        ports = dataclasses.replace(session.ports, turn=Alone())  # the other hosts were told already
        with drive.locked(ports, session.site, session.owner("repair after a bug")):
            repair.repair(ports, session.site)
    except Exception as exc:  # noqa: BLE001  (the second bug is reported with the first; the live state is read either way)
        session.ports.tell("repair", f"failed too: {type(exc).__name__}: {exc}")


def _kept(trace: str, state: str) -> str:
    """The file with the traceback; on stderr where no file can be made."""
    import tempfile

    folder = state if os.access(state, os.W_OK) else None
    try:
        descriptor, path = tempfile.mkstemp(prefix="bug-", suffix=".txt", dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(trace)
    except OSError:
        click.echo(trace, err=True)
        return "the lines above"
    return path

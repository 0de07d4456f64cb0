"""upswitch.cli.program."""

import dataclasses
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, TypeVar

import click
import msgspec

from upswitch.basics.errors import HostError, JournalCorruptError, LockedError, RefusedError, StuckError
from upswitch.basics.text import plain
from upswitch.cli.commands.options import live
from upswitch.cli.invocation import become, person, read_site, site_if_any
from upswitch.cli.open import Fleet, Here, Opened, Shared, Wiring
from upswitch.cli.progress import Teller
from upswitch.cli.session import Common
from upswitch.cli.views import acted, fleet_summary, parts
from upswitch.cli.views.parts import View
from upswitch.hosts.signals import Interrupts
from upswitch.site.model import Gate, Nginx, Site, Watch
from upswitch.site.read import SiteInvalid
from upswitch.site.words import SpikePolicy
from upswitch.switch.session import Session, clean
from upswitch.switch.turn import Alone

_Read = TypeVar("_Read")
_CHANGING = {"switch", "rollback", "repair"}  # commands after whose bugs a run may have to be taken back


class Program:
    """What every command has in common: the site file, the ports, the print, and what becomes of an error."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self.has_reader = True

    def serve(self, command: str, common: Common, act: Callable[[Session], View], *, every: float | None = None) -> int:
        """Read the site, act, print. Every expected ending is a view; a bug is one too, after its traceback is kept."""
        return self._with_site(
            command, common, read_site, lambda site: self.serve_site(command, common, site, act=act, every=every)
        )

    def serve_files(self, command: str, common: Common, act: Callable[[Session, Site | None], View]) -> int:
        """The same on files alone, as whoever runs it."""
        nowhere = Site(nginx=Nginx(user=""), upstreams=(), gate=Gate(), watch=Watch())
        return self._with_site(
            command,
            common,
            site_if_any,
            lambda site: self.serve_site(command, common, nowhere, act=lambda session: act(session, site)),
        )

    def _with_site(self, command: str, common: Common, read: Callable[[str], _Read], serve: Callable[[_Read], int]) -> int:
        try:
            site = read(common.config)
        except SiteInvalid as exc:
            return self.show(acted.usage(command, clean(common.config), exc.problems), as_json=common.as_json)
        except OSError as exc:
            return self.show(acted.no_site(command, clean(common.config), exc.strerror or str(exc)), as_json=common.as_json)
        return serve(site)

    def serve_site(
        self, command: str, common: Common, site: Site, *, act: Callable[[Session], View], every: float | None = None
    ) -> int:
        """The same for a site that is known already."""
        try:
            site = _asked_for(site, common)
        except click.UsageError as exc:
            return self.show(acted.wrong_words(command, exc.format_message()), as_json=common.as_json)
        if site.nginx.user and not site.hosts:
            become(site.nginx.user)
        interrupts = Interrupts()
        if command in _CHANGING or command in {"init", "status", "watch"}:
            interrupts.install()  # and left in place: a late Ctrl-C must not cost the result and the exit code
        with self._opened(site, interrupts, common.events) as opened:
            view = opened.serve(command, act)
            while every and self.has_reader and not interrupts.count:
                self.show(fleet_summary.with_config(view, common.config), as_json=common.as_json)
                interrupts.sleep(every)
                view = opened.serve(command, act)
        return self.show(fleet_summary.with_config(view, common.config), as_json=common.as_json)

    def show(self, view: View, *, as_json: bool) -> int:
        """The result on stdout. A reader that went away changes nothing."""
        try:
            text = parts.to_json(view) if as_json else _safe(view.text)
            click.echo(text)
        except OSError:
            self.has_reader = False
            let_go()
        return view.exit

    def templates(self, site: Site) -> dict[str, str]:
        from upswitch.generations import templates

        return templates.load(site)

    @contextmanager
    def _opened(self, site: Site, interrupts: Interrupts, events: str) -> Iterator[Opened]:
        with ExitStack() as closing:
            clock = self._wiring.clock()
            stream = closing.enter_context(_events(events)) if events else None
            hosts = tuple(host.name for host in site.hosts)
            teller = Teller(now=clock.now, monotonic=clock.monotonic, events=stream, hosts=hosts)
            closing.callback(teller.close)
            shared = Shared(clock=clock, interrupts=interrupts, tell=teller, closing=closing, user=person(), guarded=_acted)
            yield Fleet(site, shared) if site.hosts else Here(site, shared, self._wiring)


def _safe(text: str) -> str:
    """Whatever a file of a host said: no byte of it but lines and tabs acts on a terminal."""
    return "".join(part if part in "\n\t" else plain(part) for part in re.split(r"([\n\t])", text))


def _asked_for(site: Site, common: Common) -> Site:
    """The site as the command line asks for it. click.UsageError for a pool or a host that it has not."""
    site = _chosen(site, common.hosts)
    if common.pool and common.pool not in site.pools:
        raise click.BadParameter(f"{clean(common.pool)!r}: the site has {', '.join(site.pools)}", param_hint="--to")
    if not common.on_spike:
        return site
    return msgspec.structs.replace(site, watch=msgspec.structs.replace(site.watch, on_spike=SpikePolicy(common.on_spike)))


def _chosen(site: Site, names: tuple[str, ...]) -> Site:
    """The site with the hosts that --host names, or all."""
    known = [host.name for host in site.hosts]
    unknown = [name for name in names if name not in known]
    if unknown:
        have = f"the site has {', '.join(known)}" if known else "the site has no [hosts]: it is this machine"
        raise click.BadParameter(f"{clean(unknown[0])}: {have}", param_hint="--host")
    return msgspec.structs.replace(site, hosts=tuple(host for host in site.hosts if not names or host.name in names))


def _events(path: str) -> IO[bytes]:
    """Unbuffered and never waited for: a FIFO that nobody reads, or a full disk, must not hold a switch."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return open(os.open(path, flags, 0o644), "ab", buffering=0)
    except OSError as exc:
        raise click.BadParameter(f"{path}: {exc.strerror}", param_hint="--events") from exc


def flush() -> None:
    """A reader that went away must not change the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        let_go()


def let_go() -> None:
    """What is still in the buffer goes nowhere, and Python's own flush at the end does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _acted(command: str, session: Session, act: Callable[[Session], View]) -> View:
    ports, site = session.ports, session.site
    try:
        return act(session)
    except click.UsageError as exc:
        return acted.wrong_words(command, exc.format_message())
    except RefusedError as exc:
        return acted.refused(command, exc, live(session))
    except LockedError as exc:
        return acted.locked(command, exc, live(session))
    except StuckError as exc:
        return acted.stuck(command, exc, live(session))
    except JournalCorruptError as exc:
        return acted.corrupt(command, f"{site.nginx.state}/journal.jsonl", exc, live(session))
    except HostError as exc:
        return acted.host_failed(command, exc, live(session))
    except Exception as exc:  # noqa: BLE001  (the one broad catch: whatever happened, production is looked at and told)
        trace = traceback.format_exc()
        ports.lock.release()
        if command in _CHANGING:
            _repair_after_bug(session)
        return acted.bug(command, f"{type(exc).__name__}: {exc}", _kept(trace, site), live(session))


def _repair_after_bug(session: Session) -> None:
    """A bug in the middle of a run must not leave it there."""
    from upswitch.switch import go, repair

    try:
        ports = dataclasses.replace(session.ports, turn=Alone())  # the others have heard of it
        with go.locked(ports, session.site, session.owner("repair after a bug")):
            repair.repair(ports, session.site)
    except Exception as exc:  # noqa: BLE001  (the second bug is told with the first; the live state is read either way)
        session.ports.tell("repair", f"failed too: {type(exc).__name__}: {exc}")


def _kept(trace: str, site: Site) -> str:
    """Where the traceback is kept; on stderr where no file can be had."""
    folder = site.nginx.state if os.access(site.nginx.state, os.W_OK) else None
    try:
        descriptor, path = tempfile.mkstemp(prefix="bug-", suffix=".txt", dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(trace)
    except OSError:
        click.echo(trace, err=True)
        return "the lines above"
    return path

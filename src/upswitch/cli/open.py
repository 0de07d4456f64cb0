"""The adapters of a command: those of this machine, or of every host of the site behind SSH."""

import dataclasses
import functools
import operator
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from upswitch.basics.errors import HostError, Refusal, RefusedError, UntrustedError
from upswitch.basics.result import Why
from upswitch.basics.text import plain, told
from upswitch.cli.invocation import Act
from upswitch.cli.journald import SOCKET
from upswitch.cli.progress import Teller
from upswitch.cli.views import View, fleet
from upswitch.hosts import container, opener, sh
from upswitch.hosts.clock import Interrupts, SystemClock
from upswitch.hosts.host import Clock, Host, Lock, Opener, Tell
from upswitch.hosts.local.host import FileLock, LocalHost
from upswitch.hosts.wait import until
from upswitch.site.model import HostEntry, Problem, Site, Unreachable, Vantage
from upswitch.site.read import SiteInvalid, in_waves
from upswitch.site.values import shown
from upswitch.switch.session import Alone, RunPorts, Session, new_run

if TYPE_CHECKING:
    from upswitch.fleet.going_back import Retreat
    from upswitch.fleet.switching import Rollout


_LOOK_EVERY = 0.2
_REACH = 20.0  # seconds for a host to answer the first time


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """How this machine's adapters are made. A test of crashes gives a host that dies."""

    clock: Callable[[], Clock] = SystemClock
    host: Callable[[Clock, FileLock], Host] = LocalHost
    journald: str = SOCKET


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all hosts of one command share. `guarded` acts on one host, and turns every error into a view."""

    clock: Clock
    interrupts: Interrupts
    tell: Teller
    closing: ExitStack
    user: str
    guarded: Callable[[str, Session, Act], View]


class Here:
    """This machine."""

    def __init__(self, site: Site, shared: Shared, wiring: Wiring) -> None:
        self._shared = shared
        self._site = site
        host, lock = self._contained() if site.nginx.container else self._plain(wiring)
        self._ports = _ports(shared, host, lock, shared.tell)

    def _plain(self, wiring: Wiring) -> tuple[Host, Lock]:
        lock = FileLock(f"{self._site.nginx.state}/lock")
        return wiring.host(self._shared.clock, lock), lock

    def _contained(self) -> tuple[Host, Lock]:
        """SiteInvalid where the container that the site file names can't be used; RefusedError where it only does not run now."""
        nginx = self._site.nginx
        host = container(nginx, tell=self._shared.tell)
        self._shared.closing.callback(host.close)
        try:
            ran = host.run(sh.look(), deadline=_REACH)
            wrong = sh.problem(ran.out) if ran.exit == sh.Exit.LACKS else ""
        except HostError as exc:
            if exc.why is Why.UNREACHABLE:
                hint = "fix what is named above; upswitch can't see what is live before; then run `upswitch status`"
                raise RefusedError(Refusal(what=str(exc), hint=hint, why=exc.why)) from exc
            wrong = exc.reason
        if wrong:
            raise SiteInvalid((Problem(key="nginx.container", value=shown(nginx.container), allowed=wrong),))
        return host, host.lock_in(nginx.state)

    def serve(self, command: str, act: Act) -> View:
        shared = self._shared
        session = _session(shared, self._site, self._ports, new_run(shared.clock.now()))
        return shared.guarded(command, session, act)


class Fleet:
    """Every host of a site, reached at once."""

    def __init__(self, site: Site, shared: Shared) -> None:
        self._site = site
        self._shared = shared
        self._lost: dict[str, HostError] = {}
        self._ports: dict[str, RunPorts] = {}
        self._boots: dict[str, str] = {}
        for name, ports in self._reached_all().items():
            if isinstance(ports, HostError):
                self._lost[name] = ports
                shared.tell.of(name)("ssh", f"UNREACHABLE: {ports}", is_bad=True)
            else:
                self._ports[name] = ports

    def serve(self, command: str, act: Act) -> View:
        from upswitch.fleet import together

        shared = self._shared
        is_skipping = command == "switch" and self._site.rollout.unreachable is Unreachable.SKIP
        meeting = self._meeting(command, is_skipping=is_skipping)
        run = new_run(shared.clock.now())
        sessions = {}
        for entry in self._site.hosts:
            if entry.name in self._ports:
                ports = self._ports[entry.name]
                ports = dataclasses.replace(ports, turn=meeting.turn(entry.name)) if meeting else ports
                sessions[entry.name] = _session(shared, self._site.on(entry), ports, run)
        views = together(sessions, lambda each: shared.guarded(command, each, act), meeting=meeting, failure=fleet.failure)
        lost = {name: fleet.unreachable(command, error, is_skipped=is_skipping) for name, error in self._lost.items()}
        return fleet.together(command, views | lost)

    def _meeting(self, command: str, *, is_skipping: bool) -> "Rollout | Retreat | None":
        """Where the hosts of this command wait for each other; None where each goes on alone."""
        from upswitch.fleet.going_back import Retreat
        from upswitch.fleet.switching import Rollout

        shared, site = self._shared, self._site
        if command == "rollback":
            return Retreat(frozenset(self._ports), clock=shared.clock)
        if command != "switch" or not self._ports:
            return None
        waves = in_waves(sorted(self._ports), site.rollout.waves)
        rollout = Rollout(waves, site.watch, clock=shared.clock, interrupts=shared.interrupts, tell=shared.tell)
        for name, error in () if is_skipping else self._lost.items():
            rollout.fails(name, f"can't be reached: {error}")
        return rollout

    def _reached_all(self) -> dict[str, RunPorts | HostError]:
        """Every host by its name. A signal does not wait for hosts that don't answer."""
        hosts, interrupts = self._site.hosts, self._shared.interrupts
        try:
            machines = opener("ssh", ask=_ask)
        except UntrustedError:
            raise
        except HostError as exc:
            return {entry.name: HostError(plain(exc.what), plain(exc.reason), why=exc.why) for entry in hosts}
        found: dict[str, RunPorts | HostError] = {}

        def reach(entry: HostEntry) -> None:
            found[entry.name] = self._reached(entry, machines)

        threads = [threading.Thread(target=reach, args=(entry,), daemon=True) for entry in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            look = thread.is_alive
            until(operator.not_, look, every=_LOOK_EVERY, clock=self._shared.clock, interrupts=interrupts, sleep=thread.join)
        for untrusted in found.values():
            if isinstance(untrusted, UntrustedError):  # files of this machine
                raise untrusted
        cut = HostError("reach the host", f"{interrupts.name} came before the host answered", why=Why.UNREACHABLE)
        return self._each_once({entry.name: found.get(entry.name, cut) for entry in hosts})

    def _each_once(self, found: dict[str, RunPorts | HostError]) -> dict[str, RunPorts | HostError]:
        """A host with two names would wait for its own lock for ever: its second name is an error."""
        seen: dict[tuple[str, ...], str] = {}
        for entry in self._site.hosts:
            if isinstance(found[entry.name], HostError):
                continue
            first = seen.setdefault((self._boots[entry.name], entry.nginx.container, entry.nginx.state), entry.name)
            if first != entry.name:
                found[entry.name] = HostError(f"use the host {entry.name}", f"{first} is the same machine: remove one")
        return found

    def _reached(self, entry: HostEntry, machines: Opener) -> RunPorts | HostError:
        shared, tell = self._shared, self._shared.tell.of(entry.name)
        try:
            host = machines.open(entry.name, entry.ssh, user=entry.nginx.user, tell=tell)
            shared.closing.callback(host.close)
            if entry.nginx.container:
                host = container(entry.nginx, outer=host, tell=tell, name=entry.name)
            lock = host.lock_in(entry.nginx.state)
            self._boots[entry.name] = _boot(host, entry)
        except UntrustedError as exc:
            return exc
        except HostError as exc:
            return HostError(plain(exc.what), plain(exc.reason), why=exc.why)
        here = LocalHost(shared.clock) if self._site.gate.vantage is Vantage.HERE else None
        return _ports(shared, host, lock, tell, probed_from=here)


def _boot(host: Host, entry: HostEntry) -> str:
    """The id of the host's boot. HostError where it can't be asked, or lacks a program that every command needs."""
    ran = host.run(sh.look(), deadline=_REACH)
    if ran.exit != 0:
        raise HostError(f"use the host {entry.ssh}", sh.problem(ran.out) if ran.exit == sh.Exit.LACKS else ran.words)
    return told(ran.out)


def _ask(prompt: str) -> str | None:
    """A secret from the user at the terminal; None without a terminal."""
    import getpass

    return getpass.getpass(prompt) if sys.stdin and sys.stdin.isatty() else None


def _ports(shared: Shared, host: Host, lock: Lock, tell: Tell, *, probed_from: Host | None = None) -> RunPorts:
    from upswitch.health.prober import NetProber
    from upswitch.watch.through import ThroughProbe

    prober = NetProber(probed_from or host, shared.clock)
    shared.closing.callback(prober.close)
    return RunPorts(
        host=host,
        prober=prober,
        through=functools.partial(ThroughProbe, host=host),
        clock=shared.clock,
        lock=lock,
        interrupts=shared.interrupts,
        tell=tell,
        turn=Alone(),
        home=LocalHost(shared.clock),
    )


def _session(shared: Shared, site: Site, ports: RunPorts, run: str) -> Session:
    return Session(site=site, ports=ports, user=shared.user, machine=socket.gethostname(), pid=os.getpid(), run=run)

"""Edits of nginx's own files, made for real: tested first, backed up, reloaded, proved, and undone where that fails.

What init and leave have in common. apply.py has the theory of the order.
"""

from collections.abc import Callable, Collection
from contextlib import ExitStack, closing
from typing import Generic, TypeVar

from msgspec.structs import replace

from upswitch.basics.errors import HostError, Refusal, RefusedError, StuckError
from upswitch.basics.result import Result, Took
from upswitch.basics.text import printable
from upswitch.generations.survey import Facts
from upswitch.health import nginx_check
from upswitch.hosts.host import Asking, Host, Ran
from upswitch.hosts.sh import WRITE_S, Exit
from upswitch.hosts.wait import until
from upswitch.init import bound
from upswitch.init.edits import Edit
from upswitch.init.own_log import OwnLog
from upswitch.init.propose import program
from upswitch.nginx import commands, configuration, processes, running
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.entrances import entrances
from upswitch.nginx.processes import Family
from upswitch.site.model import Nginx
from upswitch.switch import proof
from upswitch.switch.reload import Reloader
from upswitch.switch.session import RunPorts

_LOOK_EVERY = 0.02
_SERVED_S = 2.0  # seconds for a request to be answered again after the reload
_MOST_ASKED = 8  # requests
_NO_SERVER = frozenset({0, 502, 503, 504})
"""What nginx answers where no server of the upstream does. 0: no answer. A 404 or 401 comes from the application."""


Done = TypeVar("Done")


class StepError(Exception):
    """A step failed, so what was done so far is undone."""


class Change(Generic[Done]):
    """Edits on one host. Each step puts its inverse on the stack before it acts. `after` is the configuration as it will be."""

    def __init__(
        self, ports: RunPorts, nginx: Nginx, facts: Facts, edits: tuple[Edit, ...], *, after: NginxConf, upstreams: Collection[str]
    ) -> None:
        self._ports = ports
        self._host = ports.host
        self._edits = edits
        self._nginx = nginx
        self._facts = facts
        self._after = after
        self._upstreams = upstreams
        self._reloader = Reloader(ports, nginx, facts)
        self._backups: dict[str, str] = {}
        self._fault = ""  # why undoing stopped: nothing more is undone then

    def run(self) -> Done:
        """RefusedError: nginx is as it was. StuckError: it may not be."""
        try:
            with ExitStack() as undo:
                done = self._take(undo)
                undo.pop_all()
                return done
        except (StepError, HostError) as exc:
            if self._fault:
                raise StuckError(str(exc), self._fault) from exc
            verb = "is as it was" if len(self._edits) == 1 else "are as they were"
            hint = f"{', '.join(edit.path for edit in self._edits)} {verb}; fix the cause, then run the same command again"
            raise RefusedError(Refusal(what=str(exc), hint=hint)) from exc

    def _take(self, undo: ExitStack) -> Done:
        raise NotImplementedError

    def _edit(self, undo: ExitStack) -> str:
        """Test the edits, back the files up and write them. How they were tested."""
        tested = self._test()
        if self._ports.interrupts.count:
            raise StepError(f"interrupted by {self._ports.interrupts.name} before the edit")
        for edit in self._edits:
            self._backups[edit.path] = self._make_backup(edit)
            if len(self._backups) == 1:
                undo.callback(self._undo, self._take_edits_back)
        for edit in self._edits:
            self._host.write(edit.path, edit.new.encode(), mode=0o644)
        return tested or self._test_after()

    def _make_log(self, log: OwnLog, undo: ExitStack) -> None:
        """nginx must find the file with its rights: it would make one that everybody may read."""
        if log.path:
            undo.callback(self._undo, lambda: bound.remove(self._host, log.name, log.path))
            bound.make(self._host, log)

    # ---- what clients get ----

    def _unserved(self) -> dict[str, str]:
        """One request through nginx at each entrance: what came instead of a server's answer, by URL. HostError."""
        found = {}
        for each in entrances(self._after, self._upstreams)[:_MOST_ASKED]:
            asking = Asking(url=f"{each.origin}/", name=each.name)
            with closing(self._ports.through(asking)) as through:
                asked = through.ask()
            if asked.status in _NO_SERVER:
                found[f"{asking.shown} ({each.upstream})"] = asked.said
        return found

    def _still_unserved(self, before: dict[str, str]) -> tuple[str, ...]:
        """A reload may make nginx's own check begin anew, so a request that was answered before is waited for."""
        checks = [each.check for each in nginx_check.checked_of_conf(self._after) if each.name in self._upstreams]
        to_up = max(map(nginx_check.longest_to_up, checks), default=0.0)
        within = _SERVED_S + to_up
        now = until(lambda seen: not seen.keys() - before.keys(), self._unserved, every=0.2, clock=self._ports.clock, within=within)
        status = running.ask_status(self._host, self._nginx) if now else None
        down = [each.text for each in status.servers if each.upstream in self._upstreams and not each.is_up] if status else []
        soon = f"a healthy server is up after {to_up:.0f} s at the latest"
        held = (f"nginx's own health check holds down: {', '.join(down)}; {soon}",) if down else ()
        said = tuple(f"{url}: {what}" for url, what in now.items())
        if now.keys() - before.keys():
            raise StepError(f"requests that were answered before are not answered now: {'; '.join((*said, *held))}")
        return (*said, *held)

    # ---- before and after the edit ----

    def _test(self) -> str:
        """How the edits were tested while the real files stayed; "" where they can only be tested afterwards."""
        new = b"".join(edit.new.encode() for edit in self._edits)
        if self._facts.can_mount:
            files = [word for edit in self._edits for word in (edit.path, str(len(edit.new.encode())))]
            words = (self._nginx.dir, str(len(self._edits)), *files, *self._test_argv())
            ran = self._host.run(program("test_covered", *words), deadline=running.NGINX_S, stdin=new)
            if ran.exit != Exit.NO_MOUNT:
                return passed(ran, "in a private mount namespace, live files untouched")
        if [edit.path for edit in self._edits] == [self._facts.conf.path]:
            folder, _, name = self._nginx.conf.rpartition("/")
            candidate = f"{folder}/.{name}.upswitch-test"  # in the same folder: includes start from there
            ran = self._host.run(
                program("test_beside", candidate, *self._test_argv(candidate)), deadline=running.NGINX_S, stdin=new
            )
            return passed(ran, "under another name beside it, live files untouched")
        self._test_alone()
        return ""

    def _test_argv(self, conf: str = "") -> tuple[str, ...]:
        return commands.nginx_argv(replace(self._nginx, conf=conf or self._nginx.conf), self._facts.build, "-t")

    def _test_alone(self) -> None:
        """A test of what can be tested while the included files stay."""

    def _make_backup(self, edit: Edit) -> str:
        argv = program("backup", edit.path, edit.backup)
        ran = self._do(argv, f"back {edit.path} up", stdin=edit.old.encode())
        return ran.out.decode("utf-8", "surrogateescape").removesuffix("\n")

    def _test_after(self) -> str:
        ran = self._host.run(self._test_argv(), deadline=running.NGINX_S)
        return passed(ran, "after the edit, as no mount is allowed here")

    # ---- undoing ----

    def _undo(self, step: Callable[[], None]) -> None:
        """Undo one step, but nothing after a failure: what is left may need the files of the other steps."""
        if self._fault:
            return
        try:
            step()
        except (StepError, HostError) as exc:
            self._fault = str(exc)

    def _take_edits_back(self) -> None:
        for edit in (each for each in reversed(self._edits) if each.path in self._backups):
            backup = self._backups[edit.path]
            argv = program("take_back", edit.path, backup)
            self._do(argv, f"put {backup} back as {edit.path}", stdin=edit.new.encode())
        before = running.read_family(self._host, self._facts.running.pid)
        must(self._reloader.reload())
        missing = self._missing(before)
        if missing:
            raise StepError(f"{self._edits[0].path} is as it was, but after a reload {missing}")

    def _missing(self, before: Family) -> str:
        """Wait until only new workers accept. What is missing of that at the deadline, else ""."""
        names = configuration.named_servers(self._facts.conf)
        within = proof.DEADLINE_NAMES if names else proof.DEADLINE

        def look() -> str:
            return _unsettled(before, running.read_family(self._host, self._facts.running.pid))

        return until(lambda missing: not missing, look, every=_LOOK_EVERY, clock=self._ports.clock, within=within)

    def _do(self, argv: tuple[str, ...], what: str, *, stdin: bytes = b"", on: Host | None = None) -> Ran:
        ran = (on or self._host).run(argv, deadline=WRITE_S, stdin=stdin)
        if ran.exit == 0:
            return ran
        why = "somebody else changed it" if ran.exit == Exit.CHANGED else printable(ran.err) or f"exit {ran.exit}"
        raise StepError(f"can't {what}: {why}")


def must(took: Took) -> None:
    """StepError unless it is done."""
    if took.result is not Result.OK:
        raise StepError(took.said)


def passed(ran: Ran, way: str) -> str:
    """How nginx's test passed. StepError has nginx's own words where it did not."""
    if ran.exit == 0:
        return f"nginx -t passed ({way})"
    lines = [printable(line) for line in ran.err.splitlines() if line.strip()]
    said = [line for line in lines if "[emerg]" in line] or lines or [f"exit {ran.exit}"]
    raise StepError(f"nginx -t failed ({way}): {' / '.join(said[:3])}")


def _unsettled(before: Family, now: Family) -> str:
    old = processes.keys(before.children)
    accepting = [worker.pid for worker in now.workers if worker.key in old]
    if accepting:
        return f"old workers still accept: {', '.join(map(str, accepting))}"
    if any(child.is_master for child in now.children):
        return "new workers are still starting"
    return "" if now.workers else "nginx has no worker"

"""`upswitch init --apply`: does what init/propose.py proposes, and undoes it where that fails.

Theory. The order makes every moment safe, also for a kill -9 and for a restart of nginx by another program:
1. The first generation, the live link and the site file are written. nginx's configuration names none of them yet, and no include
   matches them (propose.py refuses that), so nginx is as it was.
2. The edited file is tested with the real nginx while the real file stays as it is. Either a mount of ours covers the file, or the
   main file is tested under another name beside it. Where neither is possible, the generation is tested alone, and the whole test
   follows the edit. That is the one window, as long as one `nginx -t`, in which an untested file is live.
3. The backup is made beside the file. Then one rename puts the edit in place. All that it includes is on disk and synced since
   step 1, and holds the same servers. Whoever starts or reloads nginx from here on gets the same pool, with our marker.
   With --drain-lines there are more files: each has its backup before the first edit, and nginx starts after each single one.
4. nginx is reloaded and must answer with the generation. Any failure undoes the steps in reverse. The backup is renamed back (its
   bytes are on disk already, so a full disk can't stop that), and nginx is reloaded until only new workers accept. Only then are
   the link and the generation deleted: never while a file of nginx's may include them.
A killed init leaves what the next one accepts as its own (`leftover`, an equal site file), or, after step 3, an nginx that only
needs a reload.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing

from msgspec.structs import replace

from upswitch.basics.errors import HostError, Owner, Refusal, RefusedError, StuckError
from upswitch.basics.result import Result, Took
from upswitch.basics.text import printable
from upswitch.basics.value import Value
from upswitch.generations import store
from upswitch.generations.survey import Facts
from upswitch.health import nginx_check
from upswitch.hosts.host import Asking, Ran
from upswitch.hosts.sh import WRITE_S, Exit
from upswitch.hosts.wait import until
from upswitch.init.adopt import Proposal
from upswitch.init.edits import Edit
from upswitch.init.propose import program, read_facts, refuse_obstacles
from upswitch.init.site_text import has_secret
from upswitch.nginx import commands, configuration, processes, running
from upswitch.nginx.entrances import entrances
from upswitch.nginx.processes import Family
from upswitch.switch import drive, proof
from upswitch.switch.proof import Proof
from upswitch.switch.reload import Reloader
from upswitch.switch.session import RunPorts

_LOOK_EVERY = 0.02
_SERVED_S = 2.0  # seconds for a request to be answered again after the reload
_MOST_ASKED = 8  # requests
_NO_SERVER = frozenset({0, 502, 503, 504})
"""What nginx answers where no server of the upstream does. 0: no answer. A 404 or 401 comes from the application."""


class Applied(Value):
    """A first use that nginx confirmed. `backups` are the edited files as they were, that of the adoption first.

    `unserved`: requests through nginx that no server answers, as before.
    """

    generation: str
    backups: tuple[str, ...]
    tested: str
    proof: str
    unserved: tuple[str, ...] = ()


class _StepError(Exception):
    """A step failed, so what was done so far is undone."""


def apply(ports: RunPorts, proposal: Proposal, owner: Owner) -> Applied:
    """Do what was proposed, under the host's lock. RefusedError: nginx is as it was. StuckError: it may not be."""
    with drive.locked(ports, proposal.site, owner):
        facts = read_facts(ports.host, proposal.site.nginx)
        refuse_obstacles(ports.host, proposal, facts)
        if facts.running.problem:
            raise RefusedError(Refusal(what=facts.running.problem, hint="start nginx, then run init --apply again"))
        return _Adoption(ports, proposal, facts).run()


class _Adoption:
    """One first use. Each step puts its inverse on the stack before it acts."""

    def __init__(self, ports: RunPorts, proposal: Proposal, facts: Facts) -> None:
        self._ports = ports
        self._host = ports.host
        self._proposal = proposal
        self._edits = proposal.edits
        self._nginx = proposal.site.nginx
        self._upstreams = [upstream.name for upstream in proposal.site.upstreams]
        self._facts = facts
        self._reloader = Reloader(ports, self._nginx, facts)
        self._backups: dict[str, str] = {}
        self._fault = ""  # why undoing stopped: nothing more is undone then

    def run(self) -> Applied:
        try:
            with ExitStack() as undo:
                applied = self._take(undo)
                undo.pop_all()
                return applied
        except (_StepError, HostError) as exc:
            if self._fault:
                raise StuckError(str(exc), self._fault) from exc
            verb = "is as it was" if len(self._edits) == 1 else "are as they were"
            hint = f"{', '.join(edit.path for edit in self._edits)} {verb}; fix the cause, then run init --apply again"
            raise RefusedError(Refusal(what=str(exc), hint=hint)) from exc

    def _take(self, undo: ExitStack) -> Applied:
        name = self._proposal.generation
        before = self._unserved()
        undo.callback(self._undo, self._forget)
        _must(store.stage(self._host, self._nginx, {name: self._proposal.files}))
        self._link(name)
        self._write_site_file(undo)
        tested = self._test()
        if self._ports.interrupts.count:
            raise _StepError(f"interrupted by {self._ports.interrupts.name} before the edit")
        for edit in self._edits:
            self._backups[edit.path] = self._make_backup(edit)
            if len(self._backups) == 1:
                undo.callback(self._undo, self._take_edits_back)
        for edit in self._edits:
            self._host.write(edit.path, edit.new.encode(), mode=0o644)
        tested = tested or self._test_after()
        _must(self._reloader.reload())
        finding = self._reloader.confirm(name)
        if finding.proof is not Proof.APPLIED:
            raise _StepError(f"{finding.proof}: {finding.said}")
        return Applied(
            generation=name,
            backups=tuple(self._backups.values()),
            tested=tested,
            proof=finding.said,
            unserved=self._still_unserved(before),
        )

    def _unserved(self) -> dict[str, str]:
        """One request through nginx at each entrance: what came instead of a server's answer, by URL. HostError."""
        found = {}
        for each in entrances(self._proposal.after, self._upstreams)[:_MOST_ASKED]:
            asking = Asking(url=f"{each.origin}/", name=each.name)
            with closing(self._ports.through(asking)) as through:
                asked = through.ask()
            if asked.status in _NO_SERVER:
                found[f"{asking.shown} ({each.upstream})"] = asked.said
        return found

    def _still_unserved(self, before: dict[str, str]) -> tuple[str, ...]:
        """A reload may make nginx's own check begin anew, so a request that was answered before is waited for."""
        checks = [each.check for each in nginx_check.checked_of_conf(self._proposal.after) if each.name in self._upstreams]
        to_up = max(map(nginx_check.longest_to_up, checks), default=0.0)
        within = _SERVED_S + to_up
        now = until(lambda seen: not seen.keys() - before.keys(), self._unserved, every=0.2, clock=self._ports.clock, within=within)
        status = running.ask_status(self._host, self._nginx) if now else None
        down = [each.text for each in status.servers if each.upstream in self._upstreams and not each.is_up] if status else []
        soon = f"a healthy server is up after {to_up:.0f} s at the latest"
        held = (f"nginx's own health check holds down: {', '.join(down)}; {soon}",) if down else ()
        said = tuple(f"{url}: {what}" for url, what in now.items())
        if now.keys() - before.keys():
            raise _StepError(f"requests that were answered before are not answered now: {'; '.join((*said, *held))}")
        return (*said, *held)

    # ---- before the edit ----

    def _link(self, name: str) -> None:
        if self._proposal.leftover:
            _must(store.point(self._host, self._nginx, expect=self._proposal.leftover, to=name))
            return
        self._do(program("first_link", self._nginx.dir, name), f"make {self._nginx.live}")

    def _write_site_file(self, undo: ExitStack) -> None:
        out, data = self._proposal.request.out, self._proposal.site_text.encode()
        if self._host.read(out) is None:
            undo.callback(self._undo, self._remove_site_file)
            self._do(program("folder", out.rpartition("/")[0] or "/"), f"make the folder of {out}")
            self._host.write(out, data, mode=0o640 if has_secret(self._proposal.site) else 0o644)

    def _test(self) -> str:
        """How the edits were tested while the real files stayed; "" where they can only be tested afterwards."""
        new = b"".join(edit.new.encode() for edit in self._edits)
        if self._facts.can_mount:
            files = [word for edit in self._edits for word in (edit.path, str(len(edit.new.encode())))]
            words = (self._nginx.dir, str(len(self._edits)), *files, *self._test_argv())
            ran = self._host.run(program("test_covered", *words), deadline=running.NGINX_S, stdin=new)
            if ran.exit != Exit.NO_MOUNT:
                return _passed(ran, "in a private mount namespace, live files untouched")
        if [edit.path for edit in self._edits] == [self._facts.conf.path]:
            folder, _, name = self._nginx.conf.rpartition("/")
            candidate = f"{folder}/.{name}.upswitch-test"  # in the same folder: includes start from there
            ran = self._host.run(
                program("test_beside", candidate, *self._test_argv(candidate)), deadline=running.NGINX_S, stdin=new
            )
            return _passed(ran, "under another name beside it, live files untouched")
        self._test_alone()
        return ""

    def _test_argv(self, conf: str = "") -> tuple[str, ...]:
        return commands.nginx_argv(replace(self._nginx, conf=conf or self._nginx.conf), self._facts.build, "-t")

    def _test_alone(self) -> None:
        folder = f"{self._nginx.dir}/generations/{self._proposal.generation}"
        modules, http = configuration.load_modules(self._facts.conf), configuration.resolvers(self._facts.conf)
        conf = commands.wrapper(folder, self._facts.build, modules=modules, http=http)
        ran = self._host.run(commands.test_alone(self._nginx, self._facts.build, conf), deadline=running.NGINX_S)
        _passed(ran, "the generation alone")

    def _make_backup(self, edit: Edit) -> str:
        argv = program("backup", edit.path, edit.backup)
        ran = self._do(argv, f"back {edit.path} up", stdin=edit.old.encode())
        return ran.out.decode("utf-8", "surrogateescape").removesuffix("\n")

    def _test_after(self) -> str:
        ran = self._host.run(self._test_argv(), deadline=running.NGINX_S)
        return _passed(ran, "after the edit, as no mount is allowed here")

    # ---- undoing ----

    def _undo(self, step: Callable[[], None]) -> None:
        """Undo one step, but nothing after a failure: what is left may need the files of the other steps."""
        if self._fault:
            return
        try:
            step()
        except (_StepError, HostError) as exc:
            self._fault = str(exc)

    def _take_edits_back(self) -> None:
        for edit in (each for each in reversed(self._edits) if each.path in self._backups):
            backup = self._backups[edit.path]
            argv = program("take_back", edit.path, backup)
            self._do(argv, f"put {backup} back as {edit.path}", stdin=edit.new.encode())
        before = running.read_family(self._host, self._facts.running.pid)
        _must(self._reloader.reload())
        missing = self._missing(before)
        if missing:
            raise _StepError(f"{self._edits[0].path} is as it was, but after a reload {missing}")

    def _missing(self, before: Family) -> str:
        """Wait until only new workers accept. What is missing of that at the deadline, else ""."""
        names = configuration.named_servers(self._facts.conf)
        within = proof.DEADLINE_NAMES if names else proof.DEADLINE

        def look() -> str:
            return _unsettled(before, running.read_family(self._host, self._facts.running.pid))

        return until(lambda missing: not missing, look, every=_LOOK_EVERY, clock=self._ports.clock, within=within)

    def _remove_site_file(self) -> None:
        out = self._proposal.request.out
        self._do(program("remove_ours", out), f"remove {out}", stdin=self._proposal.site_text.encode())

    def _forget(self) -> None:
        self._do(program("forget", self._nginx.dir, self._proposal.generation), f"remove {self._nginx.live}")

    def _do(self, argv: tuple[str, ...], what: str, *, stdin: bytes = b"") -> Ran:
        ran = self._host.run(argv, deadline=WRITE_S, stdin=stdin)
        if ran.exit == 0:
            return ran
        why = "somebody else changed it" if ran.exit == Exit.CHANGED else printable(ran.err) or f"exit {ran.exit}"
        raise _StepError(f"can't {what}: {why}")


def _must(took: Took) -> None:
    if took.result is not Result.OK:
        raise _StepError(took.said)


def _passed(ran: Ran, way: str) -> str:
    """How nginx's test passed. _StepError has nginx's own words where it did not."""
    if ran.exit == 0:
        return f"nginx -t passed ({way})"
    lines = [printable(line) for line in ran.err.splitlines() if line.strip()]
    said = [line for line in lines if "[emerg]" in line] or lines or [f"exit {ran.exit}"]
    raise _StepError(f"nginx -t failed ({way}): {' / '.join(said[:3])}")


def _unsettled(before: Family, now: Family) -> str:
    old = processes.keys(before.children)
    accepting = [worker.pid for worker in now.workers if worker.key in old]
    if accepting:
        return f"old workers still accept: {', '.join(map(str, accepting))}"
    if any(child.is_master for child in now.children):
        return "new workers are still starting"
    return "" if now.workers else "nginx has no worker"

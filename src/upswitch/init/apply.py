"""`upswitch init --apply`: taking an nginx over as init/propose.py says, and giving it back as it was where that fails.

Theory. The order makes every moment safe, also for a kill -9 and for a restart of nginx by somebody else:
1. the first generation, the live link and the site file are written. nginx's configuration names none of them yet, and no
   pattern of it reads them (init/obstacles.py refuses where one would), so nginx is as it was;
2. the edited file is tested with the real nginx while the real file stays as it is: covered by a mount of our own, or (the
   main file) from a name beside it that nothing reads. Where neither can be had, the generation alone was tested, the backup
   is made, and the test follows the edit: the one window, of one `nginx -t`, in which an untested file is live;
3. the backup is made beside the file; then one rename puts the edit in its place. All that it includes is on disk and synced
   since 1, and holds the same servers: whoever starts or reloads nginx from here on gets the same pool, with our marker;
4. reload, and nginx's own answer. Any failure takes the steps back in the opposite order: the backup is renamed back (bytes
   that are on disk already, so a full disk can't stop it), nginx is reloaded and seen to have new workers, and only then go
   the link and the generation: never while a file of nginx's may include them.
A killed init leaves what the next one accepts as its own (`leftover`, an equal site file), or, after 3, an nginx that needs
only a reload.
"""

from collections.abc import Callable
from contextlib import ExitStack

from upswitch.basics.errors import HostError, Owner, Refusal, RefusedError, StuckError
from upswitch.basics.result import Result, Took
from upswitch.basics.text import printable
from upswitch.basics.value import Value
from upswitch.generations import store
from upswitch.generations.survey import Facts
from upswitch.hosts import sh
from upswitch.hosts.host import Ran
from upswitch.hosts.wait import Pace
from upswitch.init import first_scripts, obstacles
from upswitch.init.proposal import Proposal
from upswitch.init.propose import read_facts, refuse_if
from upswitch.init.site_text import has_secret
from upswitch.nginx import commands, configuration, processes, running
from upswitch.nginx.processes import Family
from upswitch.switch import go
from upswitch.switch.reload import proof
from upswitch.switch.reload.proof import Proof
from upswitch.switch.reload.reloader import Reloader
from upswitch.switch.turn import RunPorts

_WRITE = 20.0  # seconds for a script that writes and syncs a small file
_TEST = 15.0  # seconds for `nginx -t`; a name that does not resolve takes 10 s
_LOOK_EVERY = 0.02


class Applied(Value):
    """A first use that nginx itself confirmed. `backup` is the file as it was."""

    generation: str
    backup: str
    tested: str
    proof: str


class _NotTakenError(Exception):
    """A step failed; what was done so far has to be undone."""


def apply(ports: RunPorts, proposal: Proposal, owner: Owner) -> Applied:
    """Do what was proposed, under the host's lock. RefusedError: nginx is as it was, confirmed. StuckError: see there."""
    with go.locked(ports, proposal.site, owner):
        facts = read_facts(ports.host, proposal.site.nginx)
        refuse_if(obstacles.found(ports.host, proposal, facts))
        if facts.running.problem:
            raise RefusedError(Refusal(what=facts.running.problem, hint="start nginx, then run init --apply again"))
        return _Taking(ports, proposal, facts).run()


class _Taking:
    """One first use. Each step puts its inverse on the stack before it acts."""

    def __init__(self, ports: RunPorts, proposal: Proposal, facts: Facts) -> None:
        self._ports = ports
        self._host = ports.host
        self._proposal = proposal
        self._edit = proposal.edit
        self._nginx = proposal.site.nginx
        self._facts = facts
        self._reloader = Reloader(ports, self._nginx, facts)
        self._backup = ""
        self._fault = ""  # why the way back stopped; what is left then is left as it is

    def run(self) -> Applied:
        try:
            with ExitStack() as undo:
                applied = self._take(undo)
                undo.pop_all()
                return applied
        except (_NotTakenError, HostError) as exc:
            if self._fault:
                raise StuckError(str(exc), self._fault) from exc
            hint = f"{self._edit.path} is as it was; mend the cause, then run init --apply again"
            raise RefusedError(Refusal(what=str(exc), hint=hint)) from exc

    def _take(self, undo: ExitStack) -> Applied:
        name = self._proposal.generation
        undo.callback(self._back, self._forget)
        _must(store.put(self._host, self._nginx, name, self._proposal.files))
        self._link(name)
        self._write_site_file(undo)
        tested = self._test()
        if self._ports.interrupts.count:
            raise _NotTakenError(f"{self._ports.interrupts.name} before the edit")
        self._backup = self._make_backup()
        undo.callback(self._back, self._take_edit_back)
        self._host.write(self._edit.path, self._edit.new.encode(), mode=0o644)
        tested = tested or self._test_after()
        _must(self._reloader.reload())
        finding = self._reloader.confirm(name)
        if finding.proof is not Proof.APPLIED:
            raise _NotTakenError(f"{finding.proof}: {finding.said}")
        return Applied(generation=name, backup=self._backup, tested=tested, proof=finding.said)

    # ---- before the edit ----

    def _link(self, name: str) -> None:
        if self._proposal.leftover:
            _must(store.point(self._host, self._nginx, expect=self._proposal.leftover, to=name))
            return
        self._do(first_scripts.first_link(self._nginx.dir, name), f"make {self._nginx.live}")

    def _write_site_file(self, undo: ExitStack) -> None:
        out, data = self._proposal.request.out, self._proposal.site_text.encode()
        if self._host.read(out) is None:
            undo.callback(self._back, self._remove_site_file)
            self._host.write(out, data, mode=0o640 if has_secret(self._proposal.site_text) else 0o644)

    def _test(self) -> str:
        """What proved the edit while the real file stayed; "" where only a test after the edit can."""
        new = self._edit.new.encode()
        if self._facts.can_mount:
            argv = first_scripts.test_covered(self._nginx, self._facts.build, file=self._edit.path)
            ran = self._host.run(argv, deadline=_TEST, stdin=new)
            if ran.exit != sh.Exit.NO_MOUNT:
                return _passed(ran, "in a private mount namespace, live files untouched")
        if self._edit.path == self._facts.conf.path:
            ran = self._host.run(first_scripts.test_beside(self._nginx, self._facts.build), deadline=_TEST, stdin=new)
            return _passed(ran, "under a name beside it, live files untouched")
        self._test_alone()
        return ""

    def _test_alone(self) -> None:
        folder = f"{self._nginx.dir}/generations/{self._proposal.generation}"
        modules, http = configuration.load_modules(self._facts.conf), configuration.resolvers(self._facts.conf)
        conf = commands.wrapper(folder, self._facts.build, modules=modules, http=http)
        ran = self._host.run(commands.test_alone(self._nginx, self._facts.build, conf), deadline=_TEST)
        _passed(ran, "the generation alone")

    def _make_backup(self) -> str:
        argv = first_scripts.backup(self._edit.path, self._proposal.backup)
        ran = self._do(argv, f"back {self._edit.path} up", stdin=self._edit.old.encode())
        return ran.out.decode("utf-8", "surrogateescape").removesuffix("\n")

    def _test_after(self) -> str:
        ran = self._host.run(first_scripts.test(self._nginx, self._facts.build), deadline=_TEST)
        return _passed(ran, "after the edit: no mount namespace is allowed here")

    # ---- the way back ----

    def _back(self, step: Callable[[], None]) -> None:
        """One step back; none where an earlier one failed, for what it left may still need this one's files."""
        if self._fault:
            return
        try:
            step()
        except (_NotTakenError, HostError) as exc:
            self._fault = str(exc)

    def _take_edit_back(self) -> None:
        argv = first_scripts.take_back(self._edit.path, self._backup)
        self._do(argv, f"put {self._backup} back as {self._edit.path}", stdin=self._edit.new.encode())
        before = running.read_family(self._host, self._facts.running.pid)
        _must(self._reloader.reload())
        missing = self._missing(before)
        if missing:
            raise _NotTakenError(f"{self._edit.path} is as it was, but after a reload {missing}")

    def _missing(self, before: Family) -> str:
        """Waits for new workers alone, past the last of the old ones that accept; what is missing of that at the deadline."""
        clock = self._ports.clock
        names = configuration.named_servers(self._facts.conf)
        until = clock.monotonic() + (proof.DEADLINE_NAMES if names else proof.DEADLINE)

        def look() -> str:
            return _unsettled(before, running.read_family(self._host, self._facts.running.pid))

        pace = Pace(_LOOK_EVERY, monotonic=clock.monotonic, sleep=clock.sleep)
        return pace.until(lambda missing: not missing or clock.monotonic() >= until, look)

    def _remove_site_file(self) -> None:
        out = self._proposal.request.out
        self._do(first_scripts.remove_ours(out), f"remove {out}", stdin=self._proposal.site_text.encode())

    def _forget(self) -> None:
        self._do(first_scripts.forget(self._nginx.dir, self._proposal.generation), f"remove {self._nginx.live}")

    def _do(self, argv: tuple[str, ...], what: str, *, stdin: bytes = b"") -> Ran:
        ran = self._host.run(argv, deadline=_WRITE, stdin=stdin)
        if ran.exit == 0:
            return ran
        why = "somebody else changed it" if ran.exit == sh.Exit.CHANGED else printable(ran.err) or f"exit {ran.exit}"
        raise _NotTakenError(f"can't {what}: {why}")


def _must(took: Took) -> None:
    if took.result is not Result.OK:
        raise _NotTakenError(took.said)


def _passed(ran: Ran, way: str) -> str:
    """How it was tested; _NotTakenError with nginx's own words where it did not pass."""
    if ran.exit == 0:
        return f"nginx -t passed ({way})"
    lines = [printable(line) for line in ran.err.splitlines() if line.strip()]
    said = [line for line in lines if "[emerg]" in line] or lines or [f"exit {ran.exit}"]
    raise _NotTakenError(f"nginx -t ({way}): {' / '.join(said[:3])}")


def _unsettled(before: Family, now: Family) -> str:
    old = processes.keys(before.children)
    accepting = [worker.pid for worker in now.workers if worker.key in old]
    if accepting:
        return f"old workers still accept: {', '.join(map(str, accepting))}"
    if any(child.is_master for child in now.children):
        return "new workers are still starting"
    return "" if now.workers else "nginx has no worker"

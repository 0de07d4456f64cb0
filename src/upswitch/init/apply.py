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

from contextlib import ExitStack

from upswitch.basics.errors import Owner, Refusal, RefusedError
from upswitch.basics.value import Value
from upswitch.generations import store
from upswitch.generations.survey import Facts
from upswitch.init.adopt import Proposal
from upswitch.init.change import Change, StepError, must, passed
from upswitch.init.propose import program, read_facts, refuse_obstacles
from upswitch.init.site_text import has_secret
from upswitch.nginx import commands, configuration, running
from upswitch.switch import drive
from upswitch.switch.proof import Proof
from upswitch.switch.session import RunPorts


class Applied(Value):
    """A first use that nginx confirmed. `backups` are the edited files as they were, that of the adoption first.

    `unserved`: requests through nginx that no server answers, as before.
    """

    generation: str
    backups: tuple[str, ...]
    tested: str
    proof: str
    unserved: tuple[str, ...] = ()


def apply(ports: RunPorts, proposal: Proposal, owner: Owner) -> Applied:
    """Do what was proposed, under the host's lock. RefusedError: nginx is as it was. StuckError: it may not be."""
    with drive.locked(ports, proposal.site, owner):
        facts = read_facts(ports.host, proposal.site.nginx)
        refuse_obstacles(ports, proposal, facts)
        if facts.running.problem:
            raise RefusedError(Refusal(what=facts.running.problem, hint="start nginx, then run init --apply again"))
        return _Adoption(ports, proposal, facts).run()


class _Adoption(Change[Applied]):
    """One first use."""

    def __init__(self, ports: RunPorts, proposal: Proposal, facts: Facts) -> None:
        names = [upstream.name for upstream in proposal.site.upstreams]
        super().__init__(ports, proposal.site.nginx, facts, proposal.edits, after=proposal.after, upstreams=names)
        self._proposal = proposal
        self._home = ports.home

    def _take(self, undo: ExitStack) -> Applied:
        name = self._proposal.generation
        before = self._unserved()
        undo.callback(self._undo, self._forget)
        must(store.stage(self._host, self._nginx, {name: self._proposal.files}))
        self._link(name)
        self._write_site_file(undo)
        self._make_log(self._proposal.own_log, undo)
        tested = self._edit(undo)
        must(self._reloader.reload())
        finding = self._reloader.confirm(name)
        if finding.proof is not Proof.APPLIED:
            raise StepError(f"{finding.proof}: {finding.said}")
        return Applied(
            generation=name,
            backups=tuple(self._backups.values()),
            tested=tested,
            proof=finding.said,
            unserved=self._still_unserved(before),
        )

    def _link(self, name: str) -> None:
        if self._proposal.leftover:
            must(store.point(self._host, self._nginx, expect=self._proposal.leftover, to=name))
            return
        self._do(program("first_link", self._nginx.dir, name), f"make {self._nginx.live}")

    def _write_site_file(self, undo: ExitStack) -> None:
        out, data = self._proposal.request.out, self._proposal.site_text.encode()
        if self._home.read(out) is None:
            undo.callback(self._undo, self._remove_site_file)
            self._do(program("folder", out.rpartition("/")[0] or "/"), f"make the folder of {out}", on=self._home)
            self._home.write(out, data, mode=0o640 if has_secret(self._proposal.site) else 0o644)

    def _test_alone(self) -> None:
        folder = f"{self._nginx.dir}/generations/{self._proposal.generation}"
        modules, http = configuration.load_modules(self._facts.conf), configuration.resolvers(self._facts.conf)
        conf = commands.wrapper(folder, self._facts.build, modules=modules, http=http)
        ran = self._host.run(commands.test_alone(self._nginx, self._facts.build, conf), deadline=running.NGINX_S)
        passed(ran, "the generation alone")

    def _remove_site_file(self) -> None:
        out = self._proposal.request.out
        self._do(program("remove_ours", out), f"remove {out}", stdin=self._proposal.site_text.encode(), on=self._home)

    def _forget(self) -> None:
        self._do(program("forget", self._nginx.dir, self._proposal.generation), f"remove {self._nginx.live}")

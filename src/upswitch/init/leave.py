"""`upswitch leave`: the plain configuration of the live pool comes back in the place of the include, with the same proof.

The servers stay the same, so at every moment whoever starts nginx gets the same pool. The live link is removed last: no file of
nginx's may include it then. The generations, the journal and the site file stay.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack

from msgspec.structs import replace

from upswitch.basics.errors import HostError, Owner, Refusal, RefusedError
from upswitch.basics.value import Value
from upswitch.generations.generation import MARKER, STANDBY
from upswitch.generations.survey import Facts
from upswitch.hosts.host import Host
from upswitch.init import bound, edits, own_log, places, propose
from upswitch.init.change import Change, StepError, must
from upswitch.init.edits import Edit
from upswitch.nginx import configuration, drain_compare, running
from upswitch.nginx.conf_logs import own_format_name
from upswitch.nginx.dump import Directive, NginxConf, walk
from upswitch.nginx.upstream_file import read_upstreams
from upswitch.site.model import Nginx, Site
from upswitch.site.names import prefix_of
from upswitch.switch import drive, preflight
from upswitch.switch.journal import journal_of
from upswitch.switch.session import RunPorts

_RENDERED = re.compile(r"^# rendered by upswitch; [^\n]*\n", re.MULTILINE)


class Leaving(Value):
    """What leave would change. `include` is where our include stands. The last edit has the blocks of the live generation there.

    `own_log` is the log of our own, "" without one: it goes, with what keeps it small, which has the name of its format.
    `notes` are sentences for the owner.
    """

    site: Site
    generation: str
    pool: str
    include: str
    edits: tuple[Edit, ...]
    diff: str
    after: NginxConf
    own_log: str = ""
    log_format: str = ""
    notes: tuple[str, ...] = ()


class Left(Value):
    """nginx serves as before, without upswitch. `backups` are the edited files as they were. `unserved`: see init.

    `remains`: why the log of our own could not be removed, "" where it was.
    """

    tested: str
    proof: str
    backups: tuple[str, ...]
    unserved: tuple[str, ...] = ()
    remains: str = ""


def propose_leave(ports: RunPorts, site: Site) -> Leaving:
    """Work it out; nothing is changed. RefusedError has what stands against it."""
    facts = preflight.surveyed(ports.host, site, adopt=True)
    last = next(iter(journal_of(ports.host, site.nginx).read()[::-1]), None)
    if last is not None and last.is_left:
        raise RefusedError(Refusal(what=f"run {last.plan.run} is unfinished", hint="run `upswitch repair`, then leave"))
    include = configuration.includes_live(facts.conf, site.nginx.include)
    if include is None or not facts.live_files:
        raise RefusedError(Refusal(what=f"the files of {facts.disk.live} can't be read", hint="run `upswitch status`"))
    if used := list(_uses(facts.conf, site.nginx)):
        hint = "remove these lines, or take another log format, and reload nginx; then leave"
        raise RefusedError(Refusal(what=f"nginx uses variables of upswitch at {', '.join(used)}", hint=hint))
    prefix = configuration.variable_prefix(facts.conf, live=site.nginx.live, otherwise=prefix_of(site.name))
    wanted = _wanted(facts, include, site, prefix)
    after = edits.edited(facts.conf, wanted, {})
    return Leaving(
        site=site,
        generation=facts.disk.live,
        pool=facts.disk.pool,
        include=include.place,
        edits=_resolved(ports.host, facts.conf, wanted),
        diff="".join(edits.diff(edit.old, edit.new, edit.path) for edit in wanted),
        after=after,
        own_log=own_log.own_path(facts.conf, facts.build, prefix),
        log_format=own_format_name(prefix),
        notes=tuple(_notes(after, site)),
    )


def leave(ports: RunPorts, site: Site, owner: Owner) -> Left:
    """Do it, under the host's lock. RefusedError: nginx is as it was. StuckError: it may not be."""
    with drive.locked(ports, site, owner):
        leaving = propose_leave(ports, site)
        left = _Leave(ports, leaving, preflight.surveyed(ports.host, site, adopt=True)).run()
        return replace(left, remains=_remove_log(ports.host, leaving))


def _remove_log(host: Host, leaving: Leaving) -> str:
    """nginx writes it no more. Why it could not be removed, else ""."""
    try:
        if leaving.own_log:
            bound.remove(host, leaving.log_format, leaving.own_log)
    except HostError as exc:
        return str(exc)
    return ""


def _uses(conf: NginxConf, nginx: Nginx) -> Iterator[str]:
    """Where a file of the owner's uses a variable that the live generation defines: a log format, mostly."""
    ours = f"{nginx.live}/"
    blocks = configuration.http_children(conf, "map", "geo", "split_clients")
    variables = {each.args[-1] for each in blocks if each.file.startswith(ours)}
    own = own_format_name(configuration.variable_prefix(conf, live=nginx.live, otherwise=""))
    for each in walk(conf.tree):
        if (
            own not in each.args
            and not each.file.startswith(ours)
            and any(variable in arg for variable in variables for arg in each.args)
        ):
            yield each.place


def _notes(after: NginxConf, site: Site) -> Iterator[str]:
    nginx = site.nginx
    trusted = [each.name for each in site.upstreams if each.check is not None and each.check.default_down]
    if trusted:
        said = f"the check of upstream {', '.join(trusted)} gets default_down=false, so that this reload causes no 502s"
        yield f"{said}. Without it the module calls servers down that a later reload adds, until they pass"
    at = [jump.test.place for jump in drain_compare.jumps(after, flag=nginx.drain_flag) if jump.is_ours]
    if at and not configuration.lives(after):
        first = f"{at[0]}{f' and in {len(at) - 1} other places' if at[1:] else ''}"
        yield f"the drain lines stay (at {first}). They do nothing without {nginx.drain_flag}; remove them when you like"


def _plain(facts: Facts, site: Site) -> str:
    """The upstream blocks of the live generation as an owner has them, in the order of the site file."""
    order = {f"{each.name}.conf": number for number, each in enumerate(site.upstreams)}
    names = [name for name in facts.live_files if name.endswith(".conf") and name not in (MARKER, STANDBY)]
    texts = [
        facts.live_files[name].decode("utf-8", "surrogateescape") for name in sorted(names, key=lambda name: order.get(name, -1))
    ]
    return "\n".join(_RENDERED.sub("", text).strip("\n") for text in texts if _is_used(facts.conf, site, text))


def _is_used(conf: NginxConf, site: Site, text: str) -> bool:
    """The first generation may still have the block of a former name (app_blue), which nothing names any more."""
    names = [each.name for each in read_upstreams(text).upstreams]
    own = {each.name for each in site.upstreams}
    return not names or any(name in own or places.named(conf, name) for name in names)


def _wanted(facts: Facts, include: Directive, site: Site, prefix: str) -> list[Edit]:
    """The file of the include last, and before it the one with our log's format: nginx starts after each edit."""
    texts = {each.path: each.text for each in facts.conf.files}
    lines = own_log.without_own_log(facts.conf, prefix)
    changes = [*lines, places.instead_of(texts[include.file], include, _plain(facts, site))]
    formats = [each.file for each in configuration.http_children(facts.conf, "log_format") if own_format_name(prefix) in each.args]
    last = dict.fromkeys((include.file, *formats))
    paths = [*(each.path for each in changes if each.path not in last), *reversed(last)]
    new = {path: places.spliced(texts[path], [each for each in changes if each.path == path]) for path in dict.fromkeys(paths)}
    return [Edit(path=path, old=texts[path], new=text) for path, text in new.items()]


def _resolved(host: Host, conf: NginxConf, wanted: list[Edit]) -> tuple[Edit, ...]:
    """The edits of the files themselves. RefusedError where one can't be made."""
    found, _ = propose.resolved(host, conf, tuple(wanted))
    if obstacles := tuple(obstacle for edit in found for obstacle in propose.edit_obstacle(host, edit)):
        raise RefusedError(*obstacles)
    return found


class _Leave(Change[Left]):
    """One leaving."""

    def __init__(self, ports: RunPorts, leaving: Leaving, facts: Facts) -> None:
        names = [upstream.name for upstream in leaving.site.upstreams]
        super().__init__(ports, leaving.site.nginx, facts, leaving.edits, after=leaving.after, upstreams=names)
        self._leaving = leaving

    def _take(self, undo: ExitStack) -> Left:
        before = self._unserved()
        tested = self._edit(undo)
        family = running.read_family(self._host, self._facts.running.pid)
        must(self._reloader.reload())
        if missing := self._missing(family):
            raise StepError(f"after the reload {missing}")
        if running.ask_marker(self._host, self._nginx) is not None:
            raise StepError("nginx rejected the reload: it still reports the generation")
        unserved = self._still_unserved(before)
        argv = propose.program("unlink_live", self._nginx.dir, self._leaving.generation)
        self._do(argv, f"remove {self._nginx.live}")
        said = "only new workers accept requests, and nginx reports no generation any more"
        return Left(tested=tested, proof=said, backups=tuple(self._backups.values()), unserved=unserved)

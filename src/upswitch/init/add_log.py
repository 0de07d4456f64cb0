"""`upswitch init` on a site that upswitch manages already: adds the log of our own where the owner's logs lack something."""

from contextlib import ExitStack

from upswitch.basics.errors import Owner, Refusal, RefusedError
from upswitch.basics.value import Value
from upswitch.generations.survey import Facts
from upswitch.init import bound, edits, propose
from upswitch.init.change import Change, StepError, must
from upswitch.init.own_log import OwnLog, WantsLog
from upswitch.nginx import configuration, running
from upswitch.nginx.dump import NginxConf
from upswitch.site.model import Site
from upswitch.switch import drive, preflight
from upswitch.switch.session import RunPorts


class AddingLog(Value):
    """What would change: the lines of our log. `own_log.edits` is empty where nothing is needed; `notes` say why."""

    site: Site
    own_log: OwnLog
    diff: str
    notes: tuple[str, ...]
    after: NginxConf


class LogAdded(Value):
    """nginx writes our log. `backups` are the edited files as they were. `unserved`: see init."""

    tested: str
    proof: str
    backups: tuple[str, ...]
    unserved: tuple[str, ...] = ()


def propose_log(ports: RunPorts, site: Site, wanted: WantsLog) -> AddingLog:
    """Work it out; nothing is changed. RefusedError has what stands against it."""
    return _proposed(ports, site, wanted, preflight.surveyed(ports.host, site, adopt=True))


def add_log(ports: RunPorts, site: Site, wanted: WantsLog, owner: Owner) -> LogAdded:
    """Do it, under the host's lock. RefusedError: nginx is as it was. StuckError: it may not be."""
    with drive.locked(ports, site, owner):
        facts = preflight.surveyed(ports.host, site, adopt=True)
        return _Adding(ports, _proposed(ports, site, wanted, facts), facts).run()


def _proposed(ports: RunPorts, site: Site, wanted: WantsLog, facts: Facts) -> AddingLog:
    if configuration.includes_live(facts.conf, site.nginx.include) is None:
        hint = "give init --upstream and --pool to put it under upswitch"
        raise RefusedError(Refusal(what=f"{facts.conf.path} does not include the live generation of this site", hint=hint))
    found = bound.proposed(ports.host, wanted, (), facts.conf, site=site, facts=facts)
    resolved, notes = propose.resolved(ports.host, facts.conf, found.edits)
    if obstacles := tuple(obstacle for edit in resolved for obstacle in propose.edit_obstacle(ports.host, edit)):
        raise RefusedError(*obstacles)
    return AddingLog(
        site=site,
        own_log=OwnLog(path=found.path, edits=resolved, name=found.name, scheduler=found.scheduler),
        diff="".join(edits.diff(edit.old, edit.new, edit.path) for edit in resolved),
        notes=(*notes, *found.notes),
        after=edits.edited(facts.conf, found.edits, {}),
    )


class _Adding(Change[LogAdded]):
    """One addition."""

    def __init__(self, ports: RunPorts, adding: AddingLog, facts: Facts) -> None:
        names = [upstream.name for upstream in adding.site.upstreams]
        super().__init__(ports, adding.site.nginx, facts, adding.own_log.edits, after=adding.after, upstreams=names)
        self._log = adding.own_log

    def _take(self, undo: ExitStack) -> LogAdded:
        before = self._unserved()
        self._make_log(self._log, undo)
        tested = self._edit(undo)
        family = running.read_family(self._host, self._facts.running.pid)
        must(self._reloader.reload())
        if missing := self._missing(family):
            raise StepError(f"after the reload {missing}")
        return LogAdded(
            tested=tested,
            proof="only new workers accept requests",
            backups=tuple(self._backups.values()),
            unserved=self._still_unserved(before),
        )

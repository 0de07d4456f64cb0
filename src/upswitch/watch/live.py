"""The watch without a switch: what the rule says of the live pool's traffic, second by second, against its own ten minutes before.

It changes nothing and takes no lock. A switch that others make meanwhile is seen by the marker, and from then on the new
generation is judged, against what the former one got.
"""

from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from upswitch.basics.errors import NginxBrokenError, Refusal, RefusedError
from upswitch.basics.result import Failure, Why
from upswitch.basics.value import Value
from upswitch.diagnose.diagnose import Diagnosis, about, diagnose, sentence
from upswitch.diagnose.directives import known_of
from upswitch.generations import store, survey
from upswitch.generations.generation import Manifest
from upswitch.generations.survey import Facts
from upswitch.health import rounds
from upswitch.health.gate import ServerHealth
from upswitch.hosts.host import Ports
from upswitch.hosts.wait import Pulse
from upswitch.nginx.marker import Marker
from upswitch.nginx.running import ask_marker
from upswitch.site.model import Site
from upswitch.watch.attribution import Attribution
from upswitch.watch.logs import AccessLogs, ErrorLog, Notes
from upswitch.watch.probation import Brought, Probation
from upswitch.watch.rule import Final, Judgement, Second
from upswitch.watch.watch import THROUGH_EVERY

_MARKER_EVERY = 1.0


class Frame(Value):
    """One second. `at_s` is seconds since the begin, or since a switch in it. `others` are no requests to the pool.

    `said` is a line for it; `words` are all lines: the rule's answers, where something failed, and why. `down` are
    servers.
    """

    at_s: int
    pool: str
    new: Second
    others: Second
    said: str
    words: tuple[str, ...] = ()
    is_failing: bool = False
    down: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Observed(Value):
    """What was seen. `verdict` is `rollback` where a switch would ever have failed, else how a watch of all of it would have ended.

    All is of the generation that failed, else of the last one; `judgement`, `why` and `at_s` ("" and None without) of the first
    look that said so. `began` is wall time. `reasons` is what the logs tell of the failures, in a sentence.
    """

    verdict: str
    began: str
    pool: str
    generation: str
    at_s: int | None
    why: str
    progress: str
    judgement: Judgement
    seconds: int
    failed: int
    total: int
    mode: str
    peers_down: tuple[str, ...]
    reasons: str
    changes: tuple[str, ...]
    notes: tuple[str, ...]


Show = Callable[[Frame], None]


def observe(ports: Ports, site: Site, show: Show, *, duration: float | None) -> Observed:
    """Until `duration` seconds have passed (None: for ever) or a signal. RefusedError where nothing of ours is live."""
    known = _Known(site=site, facts=_facts(ports, site))
    with ExitStack() as closing:
        observation = _Observation(ports, known, closing)
        observation.run(show, duration=duration)
        return observation.observed()


def _facts(ports: Ports, site: Site) -> Facts:
    try:
        facts = survey.survey(ports.host, site.nginx, tuple(upstream.name for upstream in site.upstreams))
    except NginxBrokenError as exc:
        raise RefusedError(
            Refusal(what=f"nginx -T fails: {exc.said}", hint="fix it until `nginx -t` passes", why=Why.BAD_CONFIG)
        ) from exc
    if facts.running.marker is None:
        what = f"nothing of ours answers on nginx.marker, {site.nginx.marker}: there is no live pool to watch"
        raise RefusedError(
            Refusal(what=what, hint="`upswitch status` shows what is live; `upswitch init` puts nginx under upswitch")
        )
    return facts


class _Known(Value):
    """The site, and its nginx as it was when the watch began."""

    site: Site
    facts: Facts


class _Live(Value):
    """A generation that is judged, and the one whose requests are its history: itself, where it was live already."""

    new: Manifest
    former: Manifest


class _Release:
    """One generation being judged."""

    def __init__(self, ports: Ports, known: _Known, live: _Live, notes: Notes) -> None:
        site, facts = known.site, known.facts
        attribution = Attribution(
            generation=live.new.name,
            addresses=frozenset(live.new.addresses),
            former_generation=live.former.name,
            former_addresses=frozenset(live.former.addresses),
            upstreams=frozenset(upstream.name for upstream in site.upstreams),
        )
        self.live = live.new
        self.servers = attribution.servers
        self.began = ports.clock.now()
        self.access = AccessLogs(ports, facts.access_logs, attribution, notes)
        targets = rounds.staged_targets(site, live.new, dialect=facts.dialect)
        self.probation = Probation(
            pool=live.new.pool,
            history=self.access.history(),
            tallies=tuple(ServerHealth(target=each, is_up=True) for each in targets),  # they serve already
            log_mode=self.access.mode if self.access.is_any else "",
            silent_after=self.access.silent_after,
        )
        self._gate = Pulse(lambda: ports.prober.round(targets), every=site.gate.interval, clock=ports.clock)
        self.look = self.probation.look()
        self.failed_at_s: int | None = None
        self.why = ""
        self.answers: tuple[object, ...] = ()

    def take(self, through: list[Failure], crashes: int) -> Frame:
        """Everything that arrived in the second that has just passed, and what is to say of it. The first failure decides."""
        read = self.access.read()
        brought = Brought(
            new=read.new,
            former=read.former.total,
            through=tuple(through),
            rounds=tuple(self._gate.taken()),
            crashes=crashes,
        )
        self.probation = probation = self.probation.after(brought).aged()
        look = probation.look()
        failed = probation.failure(look)
        if self.failed_at_s is None:
            self.look, self.why = look, " | ".join((failed.said(), *failed.details)) if failed else ""
            self.failed_at_s = probation.at_s if failed else None
        words = (failed.said(), *failed.details) if failed else (probation.sentence(look),) if look.failed else ()
        self.answers = (failed is None, look.kind, look.is_enough, look.is_big, look.is_new, look.is_not_luck) if words else ()
        return Frame(
            at_s=probation.at_s,
            pool=self.live.pool,
            new=probation.latest,
            others=read.former + Second(total=read.other),
            said=probation.progress(look),
            words=words,
            is_failing=failed is not None,
            down=probation.down,
        )

    @property
    def verdict(self) -> str:
        if self.failed_at_s is not None:
            return "rollback"
        return Final.UNPROVEN if self.access.is_behind else self.probation.final(self.look)

    def close(self) -> None:
        self._gate.stop()
        self.access.close()


class _Observation:
    """All that is watched, and what has been seen of it."""

    def __init__(self, ports: Ports, known: _Known, closing: ExitStack) -> None:
        self._ports, self._known, self._closing = ports, known, closing
        self._notes = Notes()
        self._changes: list[str] = []
        self._failed: _Release | None = None
        self._diagnosis = Diagnosis()
        self._told: object = ((), (), frozenset())
        running = known.facts.running
        staged = store.read_manifests(ports.host, known.site.nginx).values()
        names = {name for manifest in staged for name in manifest.servers}
        addresses = {name: frozenset(each for of in staged for each in of.servers.get(name, ())) for name in names}
        self._errors = ErrorLog(ports, known.facts.error_log, running.pid, self._notes, addresses=addresses)
        closing.callback(self._errors.close)
        name = running.marker.generation if running.marker else ""
        self._release = self._judge(name, former=name)

    def _judge(self, generation: str, *, former: str) -> _Release:
        """From now on. A generation whose manifest can't be read has no addresses: only its name tells its requests."""
        found = store.read_manifests(self._ports.host, self._known.site.nginx)
        new, before = (
            found.get(name) or Manifest(name=name, pool=name.partition("-")[2], sha256={}) for name in (generation, former)
        )
        release = _Release(self._ports, self._known, _Live(new=new, former=before), self._notes)
        self._closing.callback(release.close)
        return release

    def run(self, show: Show, *, duration: float | None) -> None:
        """Once a second, on time: a second that took longer is made up for."""
        ports, site = self._ports, self._known.site
        through = ports.through(site.watch.probe) if site.watch.probe else None
        through_pulse = Pulse(through.ask, every=THROUGH_EVERY, clock=ports.clock) if through else None
        marker_pulse = Pulse(lambda: ask_marker(ports.host, site.nginx), every=_MARKER_EVERY, clock=ports.clock)
        self._closing.callback(marker_pulse.stop)
        if through and through_pulse:
            self._closing.callback(through.close)
            self._closing.callback(through_pulse.stop)
        began, seconds = ports.clock.monotonic(), 0
        while not ports.interrupts.count and (duration is None or seconds < duration):
            seconds += 1
            ports.interrupts.sleep(began + seconds - ports.clock.monotonic())
            show(self._second(through_pulse.taken() if through_pulse else []))
            self._follow(marker_pulse.taken())

    def _second(self, through: list[Failure]) -> Frame:
        """Its words are said whole where they tell something new; else the numbers will do."""
        self._errors.read()
        self._release.access.has_errors |= self._errors.has_new
        frame = self._release.take(through, self._errors.crashes)
        if self._release.failed_at_s is not None and self._failed is None:
            self._failed = self._release
        if self._errors.has_new:
            self._diagnosis = self._diagnose()
        reasons = sentence(self._diagnosis)
        words = (*(frame.words or (frame.said,)), *((f"cause: {reasons}",) if reasons else ()))
        causes = frozenset((each.code, frozenset(each.servers)) for each in self._diagnosis.findings)
        told = (self._release.answers, frame.down, causes)
        said = frame.said if told == self._told else " | ".join(words)
        self._told = told
        return msgspec.structs.replace(frame, said=said, words=words, notes=(*self._changes, *self._notes.all))

    def _diagnose(self) -> Diagnosis:
        facts = self._known.facts
        found = diagnose(self._errors.errors, self._release.access.failing, known_of(facts.conf, facts.build))
        return about(found, self._release.servers)

    def _follow(self, markers: list[Marker | None]) -> None:
        """Where nginx answers with another generation now, that is judged from now on."""
        names = [marker.generation for marker in markers if marker]
        former = self._release
        if not names or names[-1] == former.live.name:
            return
        self._changes.append(f"t+{former.probation.at_s}s: {names[-1]} is live now, {former.live.name} was; judged from here on")
        self._release = self._judge(names[-1], former=former.live.name)
        former.close()

    def observed(self) -> Observed:
        told = self._failed or self._release
        probation = told.probation
        return Observed(
            verdict=told.verdict,
            began=told.began,
            pool=told.live.pool,
            generation=told.live.name,
            at_s=told.failed_at_s,
            why=told.why,
            progress=probation.progress(told.look),
            judgement=told.look,
            seconds=probation.at_s,
            failed=probation.whole.gateway + probation.whole.hung,
            total=probation.whole.total,
            mode=probation.mode,
            peers_down=self._release.probation.down,
            reasons=sentence(self._diagnose()),
            changes=tuple(self._changes),
            notes=tuple(self._notes.all),
        )

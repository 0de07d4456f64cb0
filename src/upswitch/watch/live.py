"""The watch without a switch: what the rule says of the live pool's traffic, second by second, against its own ten minutes before.

It changes nothing and takes no lock. A switch that others make meanwhile is seen by the marker, and from then on the new
generation is judged, against what the former one got.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing
from itertools import count
from math import ceil

import msgspec

from upswitch.basics.errors import NginxBrokenError, Refusal, RefusedError
from upswitch.basics.result import Failure, Why
from upswitch.basics.value import Value
from upswitch.diagnose.diagnose import Diagnosis, sentence
from upswitch.diagnose.directives import known_of
from upswitch.generations import store, survey
from upswitch.generations.generation import Manifest
from upswitch.generations.survey import Facts
from upswitch.health import rounds
from upswitch.health.gate import ServerHealth
from upswitch.hosts.host import Asking, Ports
from upswitch.hosts.wait import Pulse
from upswitch.nginx import commands
from upswitch.nginx.conf_logs import tells_crashes
from upswitch.nginx.marker import Marker
from upswitch.nginx.running import ask_marker
from upswitch.site.model import Site
from upswitch.watch.attribution import Attribution
from upswitch.watch.ending import Final
from upswitch.watch.error_log import ErrorLog
from upswitch.watch.history import Second
from upswitch.watch.logs import Notes
from upswitch.watch.rule import Judgement
from upswitch.watch.watch import PoolWatch, each_second

_MARKER_EVERY = 1.0
_VERDICT = "a switch would roll back now"


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
    judgement: Judgement
    seconds: int
    failed: int
    total: int
    mode: str
    notes: tuple[str, ...]
    why: str = ""
    progress: str = ""
    peers_down: tuple[str, ...] = ()
    reasons: str = ""
    changes: tuple[str, ...] = ()


Show = Callable[[Frame], None]


def observe(ports: Ports, site: Site, show: Show, *, duration: float | None, taken_back: tuple[range, ...] = ()) -> Observed:
    """Until `duration` seconds have passed (None: for ever) or a signal. RefusedError where nothing of ours is live.

    `taken_back`: when releases served that were taken back (Attribution).
    """
    facts = _facts(ports, site)
    with ExitStack() as stack:
        observation = _Observation(ports, site, facts, stack, taken_back=taken_back)
        observation.run(show, duration=duration)
        return observation.observed()


def _facts(ports: Ports, site: Site) -> Facts:
    try:
        facts = survey.survey(ports.host, site.nginx, tuple(upstream.name for upstream in site.upstreams))
    except NginxBrokenError as exc:
        raise RefusedError(
            Refusal(
                what=f"nginx -T fails: {exc.said}",
                hint=f"fix it until `{commands.test_line(site.nginx)}` passes",
                why=Why.BAD_CONFIG,
            )
        ) from exc
    if facts.running.marker is None:
        what = f"nginx does not answer on nginx.marker, {site.nginx.marker}, so there is no live pool to watch"
        raise RefusedError(
            Refusal(what=what, hint="`upswitch status` shows what is live; `upswitch init` puts nginx under upswitch")
        )
    return facts


class _Release:
    """One generation that is watched, and what is to say of it. `former` is the one whose requests are its history."""

    def __init__(
        self,
        ports: Ports,
        site: Site,
        facts: Facts,
        errors: ErrorLog,
        *,
        live: Manifest,
        former: Manifest,
        taken_back: tuple[range, ...],
    ) -> None:
        attribution = Attribution(
            generation=live.name,
            addresses=frozenset(live.addresses),
            former_generation=former.name,
            former_addresses=frozenset(former.addresses),
            upstreams=frozenset(upstream.name for upstream in site.upstreams),
            ignores_app=site.watch.ignores_app,
            taken_back=taken_back,
        )
        self.live = live
        self.began = ports.clock.now()
        self.pool = PoolWatch(ports, attribution, facts.access_logs, errors)
        targets = rounds.staged_targets(site, live, dialect=facts.dialect)
        servers = tuple(ServerHealth(target=each, is_up=True) for each in targets)  # they serve already
        self.pool.begin(live.pool, servers, every=site.gate.interval)
        self.look = self.pool.look
        self.failed_at_s: int | None = None
        self.is_doubtful = False
        self.why = ""
        self.answers: tuple[object, ...] = ()

    def second(self, asked: list[Failure]) -> Frame:
        """What arrived in the second that has just passed, and what is to say of it. The first failure decides."""
        failed = self.pool.second(asked, is_endless=True)
        probation, look, read = self.pool.probation, self.pool.look, self.pool.read
        if self.failed_at_s is None:
            self.is_doubtful = failed is not None and bool(failed.doubt)
            self.look, self.why = look, " ".join((f"{failed.said(_VERDICT)}.", *failed.details)) if failed else ""
            self.failed_at_s = probation.at_s if failed else None
        words = (f"{failed.said(_VERDICT)}.", *failed.details) if failed else probation.words(look) if look.failed else ()
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
        if self.failed_at_s is None:
            return self.pool.final
        return Final.HELD if self.is_doubtful else "rollback"


class _Observation:
    """All that is watched, and what has been seen of it."""

    def __init__(self, ports: Ports, site: Site, facts: Facts, stack: ExitStack, *, taken_back: tuple[range, ...]) -> None:
        self._taken_back = taken_back
        self._ports, self._site, self._facts, self._stack = ports, site, facts, stack
        self._notes = Notes()
        self._changes: list[str] = []
        self._failed: _Release | None = None
        self._diagnosis = Diagnosis()
        self._told: object = ((), (), frozenset())
        running = facts.running
        staged = store.read_manifests(ports.host, site.nginx).values()
        names = {name for manifest in staged for name in manifest.servers}
        addresses = {name: frozenset(each for of in staged for each in of.servers.get(name, ())) for name in names}
        tells = tells_crashes(facts.conf, facts.build)
        if facts.error_gap:
            self._notes.add(facts.error_gap)
        self._errors = ErrorLog(ports, facts.error_log, running.pid, self._notes, tells_crashes=tells, addresses=addresses)
        stack.callback(self._errors.close)
        name = running.marker.generation if running.marker else ""
        self._release = self._judge(name, former=name)

    def _judge(self, generation: str, *, former: str) -> _Release:
        """From now on. A generation whose manifest can't be read has no addresses: only its name tells its requests."""
        found = store.read_manifests(self._ports.host, self._site.nginx)
        new, before = (
            found.get(name) or Manifest(name=name, pool=name.partition("-")[2], sha256={}) for name in (generation, former)
        )
        release = _Release(self._ports, self._site, self._facts, self._errors, live=new, former=before, taken_back=self._taken_back)
        self._stack.callback(release.pool.close)
        return release

    def run(self, show: Show, *, duration: float | None) -> None:
        """Once a second, on time: a second that took longer is made up for."""
        ports, site = self._ports, self._site
        throughs = [ports.through(Asking(url=site.watch.probe))] if site.watch.probe else []
        for each in throughs:
            self._stack.callback(each.close)
        markers = Pulse(lambda: ask_marker(ports.host, site.nginx), every=_MARKER_EVERY, clock=ports.clock)
        self._stack.callback(markers.stop)
        seconds = self._stack.enter_context(closing(each_second(ports, throughs)))
        for _ in range(ceil(duration)) if duration is not None else count():
            if ports.interrupts.count:
                return
            show(self._second(next(seconds)))
            self._follow(markers.taken())

    def _second(self, asked: list[Failure]) -> Frame:
        """Its words are said whole where they tell something new; else the numbers will do."""
        frame = self._release.second(asked)
        if self._release.failed_at_s is not None and self._failed is None:
            self._failed = self._release
        if self._errors.has_new:
            self._diagnosis = self._diagnose()
        reasons = sentence(self._diagnosis)
        words = (*(frame.words or (frame.said,)), *((f"Cause: {reasons}.",) if reasons else ()))
        causes = frozenset((each.code, frozenset(each.servers)) for each in self._diagnosis.findings)
        told = (self._release.answers, frame.down, causes)
        said = frame.said if told == self._told else " ".join(words)
        self._told = told
        return msgspec.structs.replace(frame, said=said, words=words, notes=(*self._changes, *self._notes.all))

    def _diagnose(self) -> Diagnosis:
        return self._release.pool.diagnosis(known_of(self._facts.conf, self._facts.build))

    def _follow(self, markers: list[Marker | None]) -> None:
        """Where nginx answers with another generation now, that is judged from now on."""
        names = [marker.generation for marker in markers if marker]
        former = self._release
        if not names or names[-1] == former.live.name:
            return
        at_s = former.pool.probation.at_s
        self._changes.append(f"t+{at_s}s: {names[-1]} is live now instead of {former.live.name}. The watch judges it from here on.")
        self._release = self._judge(names[-1], former=former.live.name)
        former.pool.close()

    def observed(self) -> Observed:
        told = self._failed or self._release
        probation = told.pool.probation
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
            failed=probation.whole.failures,
            total=probation.whole.total,
            mode=probation.mode,
            peers_down=self._release.pool.probation.down,
            reasons=sentence(self._diagnose()),
            changes=tuple(self._changes),
            notes=tuple(self._notes.all),
        )

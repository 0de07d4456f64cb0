"""The watch without a switch: what the rule says of the live pool's traffic, second by second, against its own ten minutes before.

It changes nothing and takes no lock. A switch that others make meanwhile is seen by the marker, and from then on the new
generation is judged, against what the former one got.
"""

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from upswitch import gating, survey
from upswitch.core import gate, rule
from upswitch.core.attribution import Attribution
from upswitch.core.confirm import Marker
from upswitch.core.diagnosis import diagnose, sentence
from upswitch.core.errors import NginxBrokenError, Refusal, RefusedError
from upswitch.core.gate import Tally
from upswitch.core.generation import Manifest
from upswitch.core.known import known_of
from upswitch.core.rule import HISTORY_S, Failure, Final, History, Judgement, Second, Seen
from upswitch.core.site import Site
from upswitch.core.words import Value
from upswitch.marker import ask_marker
from upswitch.ports import Ports
from upswitch.pulse import Pulse
from upswitch.survey import Facts
from upswitch.watchlogs import AccessLogs, ErrorLog, Notes

_MARKER_EVERY, _THROUGH_EVERY = 1.0, 0.5
_BLIND_AFTER = 10  # answered requests of ours without one line in the logs


class Frame(Value):
    """One second. `at_s` is seconds since the begin, or since a switch in it. `others` are no requests to the pool."""

    at_s: int
    pool: str
    new: Second
    others: Second
    said: str
    notes: tuple[str, ...] = ()


class Observed(Value):
    """What was seen. `verdict` is `rollback` where the rule ever said so, else how a watch of all of it would have ended.

    All is of the generation that it said so of, else of the last one; `judgement` and `at_s` (None without) of the first look that
    did. `began` is wall time. `reasons` is what the logs tell of the failures, in a sentence.
    """

    verdict: str
    began: str
    pool: str
    generation: str
    at_s: int | None
    judgement: Judgement | None
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
        raise RefusedError(Refusal(what=f"nginx -T fails: {exc.said}", hint="mend it until `nginx -t` passes")) from exc
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
    """One generation being judged. Seconds older than ten minutes become history: days cost no more than minutes."""

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
        self.began = ports.clock.now()
        self.access = AccessLogs(ports, facts.access_logs, attribution, notes)
        self._history = deque(self.access.history().seconds, maxlen=HISTORY_S)
        self._tallies = gate.begin(gating.staged_targets(site, live.new, dialect=facts.dialect))
        targets = [each.target for each in self._tallies]
        self._gate = Pulse(lambda: ports.prober.round(targets), every=site.gate.interval, clock=ports.clock)
        self._seconds: deque[Second] = deque()
        self._probes: deque[Second] = deque()
        self._silent_s = self._unseen = 0
        self.at_s = self.former = 0
        self.whole, self.answered = Second(), Second()
        self.judgement: Judgement | None = None
        self.spiked_at_s: int | None = None

    def take(self, through: list[Failure]) -> Frame:
        """Everything that arrived in the second that has just passed, and what the rule says of all of it."""
        read = self.access.read()
        for probes in self._gate.taken():
            self._tallies = tuple(map(gate.observe, self._tallies, probes))
        asked = Second(total=len(through), gateway=through.count(Failure.GATEWAY), hung=through.count(Failure.HUNG))
        self._keep(read.new, asked)
        self._silent_s = 0 if read.lines else self._silent_s + 1
        self._unseen = 0 if read.lines else self._unseen + asked.total
        self.former += read.former.total
        look = rule.judge(History(seconds=tuple(self._history)), self._effective())
        if self.spiked_at_s is None:
            self.judgement = look
            self.spiked_at_s = self.at_s if look.is_spike else None
        return Frame(
            at_s=self.at_s,
            pool=self.live.pool,
            new=asked if self.is_log_blind else read.new,
            others=read.former + Second(total=read.other),
            said=rule.sentence(look, self.at_s, self.live.pool),
        )

    def _keep(self, new: Second, asked: Second) -> None:
        self.at_s += 1
        self.whole, self.answered = self.whole + new, self.answered + asked
        self._seconds.append(new)
        self._probes.append(asked)
        if len(self._seconds) > HISTORY_S:
            self._history.append(self._seconds.popleft())
            self._probes.popleft()

    def _effective(self) -> tuple[Second, ...]:
        """What the rule judges: the logs, or our own requests where those are blind."""
        return tuple(self._probes if self.is_log_blind else self._seconds)

    @property
    def is_silent(self) -> bool:
        """Our own requests don't show up in what we follow."""
        return self.access.is_any and self._unseen >= _BLIND_AFTER and self._silent_s >= self.access.silent_after

    @property
    def is_log_blind(self) -> bool:
        return self.is_silent or not self.access.is_any

    @property
    def mode(self) -> str:
        if self.is_log_blind:
            return "probes" if self.answered.total else "blind"
        return self.access.mode

    @property
    def verdict(self) -> str:
        if self.judgement and self.judgement.is_spike:
            return "rollback"
        if self.judgement is None or self.access.is_behind:
            return Final.UNPROVEN
        seen = Seen(
            has_log=self.access.is_any,
            is_silent=self.is_silent,
            new=self.whole.total,
            former=self.former,
            probes=self.answered.total,
        )
        return rule.finish(self.judgement, seen)

    @property
    def down(self) -> tuple[Tally, ...]:
        """Servers that failed `fall` probes in a row. One that has only not yet answered `rise` times is not called down."""
        return tuple(each for each in self._tallies if -each.streak >= each.target.rule.fall)

    def close(self) -> None:
        self._gate.stop()
        self.access.close()


class _Observation:
    """All that is watched, and what has been seen of it."""

    def __init__(self, ports: Ports, known: _Known, closing: ExitStack) -> None:
        self._ports, self._known, self._closing = ports, known, closing
        self._notes = Notes()
        self._changes: list[str] = []
        self._spiked: _Release | None = None
        running = known.facts.running
        self._errors = ErrorLog(ports, known.facts.error_log, running.pid, self._notes)
        closing.callback(self._errors.close)
        name = running.marker.generation if running.marker else ""
        self._release = self._judge(name, former=name)

    def _judge(self, generation: str, *, former: str) -> _Release:
        """From now on. A generation whose manifest can't be read has no addresses: only its name tells its requests."""
        found = survey.read_manifests(self._ports.host, self._known.site.nginx)
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
        through_pulse = Pulse(through.ask, every=_THROUGH_EVERY, clock=ports.clock) if through else None
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
        self._errors.read()
        frame = self._release.take(through)
        if self._release.spiked_at_s is not None and self._spiked is None:
            self._spiked = self._release
        reasons = self._reasons() if self._errors.has_new else ""
        said = f"{frame.said} | why: {reasons}" if reasons else frame.said
        return msgspec.structs.replace(frame, said=said, notes=(*self._changes, *self._notes.all))

    def _reasons(self) -> str:
        facts = self._known.facts
        return sentence(diagnose(self._errors.errors, self._release.access.failing, known_of(facts.conf, facts.build)))

    def _follow(self, markers: list[Marker | None]) -> None:
        """Where nginx answers with another generation now, that is judged from now on."""
        names = [marker.generation for marker in markers if marker]
        former = self._release
        if not names or names[-1] == former.live.name:
            return
        self._changes.append(f"t+{former.at_s}s: {names[-1]} is live now, {former.live.name} was; judged from here on")
        self._release = self._judge(names[-1], former=former.live.name)
        former.close()

    def observed(self) -> Observed:
        told = self._spiked or self._release
        return Observed(
            verdict=told.verdict,
            began=told.began,
            pool=told.live.pool,
            generation=told.live.name,
            at_s=told.spiked_at_s,
            judgement=told.judgement,
            seconds=told.at_s,
            failed=told.whole.gateway + told.whole.hung,
            total=told.whole.total,
            mode=told.mode,
            peers_down=tuple(each.target.server for each in self._release.down),
            reasons=self._reasons(),
            changes=tuple(self._changes),
            notes=tuple(self._notes.all),
        )

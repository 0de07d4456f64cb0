"""Several hosts as one switch: when each host may go, and one verdict over what all of them see.

Each host runs the whole machine in a thread of its own, exactly as it would alone (switch/switch.py). This is where the threads
meet: before the locks, before the first change (the barrier, then wave by wave), every second of the watch, and before the end.
A host waits here for the others and never acts for them. A host that fails goes back by its own machine. The others hear of it
at their next meeting and go back by theirs, all at once; they do not wait for a host that hangs.

A host that was switched stays in its watch until the last wave has passed and every host has confirmed it once more. Then all meet
for the last time, and only after that it is too late to go back together. A host that does not answer misses this meeting; it
would go back alone by its dead-man.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest

from upswitch.basics.result import Result, Took, Why
from upswitch.hosts.host import Clock, Interrupts, Tell
from upswitch.hosts.wait import met
from upswitch.site.model import Watch
from upswitch.switch import machine
from upswitch.switch.machine import Step
from upswitch.switch.session import Alone, Meeting, Turn
from upswitch.watch import clients
from upswitch.watch.history import added, added_histories
from upswitch.watch.probation import Failed, Probation

_LAST_MEETING = 10.0  # seconds that a judged host waits for the others


class Rollout:
    """What the hosts of one command know of each other. `waves` are names of hosts; `tell` reports what concerns all hosts."""

    def __init__(self, waves: Sequence[Sequence[str]], watch: Watch, *, clock: Clock, interrupts: Interrupts, tell: Tell) -> None:
        self._watch = watch
        self._waves = [set(wave) for wave in waves]
        self._clock = clock
        self._interrupts = interrupts
        self._tell = tell
        self._meeting = threading.Condition()
        self._names = {name for wave in waves for name in wave}
        self._first = min(self._names)
        self._locked: set[str] = set()
        self._prepared: set[str] = set()
        self._passed: set[str] = set()
        self._agreed: set[str] = set()  # those that passed once more since all had
        self._is_closing = False
        self._judged: set[str] = set()
        self._ended: set[str] = set()
        self._wave = -1  # the one that goes now; -1 before the barrier
        self._stop: Took | None = None
        self._pooled = _Pooled()

    def turn(self, name: str) -> Turn:
        return _Turn(self, name)

    def fails(self, name: str, why: str) -> None:
        """The fleet goes no further."""
        with self._changing():
            self._fail(Took(result=Result.FAILED, said=f"{name}: {why}", why=Why.OTHER_HOST))

    def ended(self, name: str, failure: str) -> None:
        """A host's command is over; `failure` says why it did not do as asked, "" where it did."""
        with self._changing():
            if failure:
                self.fails(name, failure)  # before it counts as ended: else the last meeting could be over without it
            self._ended.add(name)
            self._go_on()

    # ---- what a host's turn asks; see switch/session.py ----

    def meet(self, name: str, at: Meeting) -> Took | None:
        match at:
            case Meeting.LOCK:
                return self._before_lock(name)
            case Meeting.LOCKED:
                with self._changing():
                    self._locked.add(name)
                return None
            case Meeting.PREPARED:
                return self._prepared_all(name)
            case Meeting.CHANGE:
                return self.stopped
            case Meeting.UNCHANGED:
                self._stands_by(name)
                return None

    def _before_lock(self, name: str) -> Took | None:
        """The first host in sorted order decides between two commands that come at once; the others follow it."""
        with self._meeting:
            if not self._met(lambda: self._first in {name, *self._locked, *self._ended} or self._stop is not None):
                return Took(result=Result.INTERRUPTED, said=f"{self._interrupts.name} before the lock was taken", why=Why.SIGNAL)
            return self._refusal

    def _prepared_all(self, name: str) -> Took | None:
        with self._changing():
            self._prepared.add(name)
            self._go_on()
            if not self._met(lambda: self._stop is not None or self._may_go(name)):
                said = f"{self._interrupts.name} while waiting for its wave"
                return Took(result=Result.INTERRUPTED, said=said, why=Why.SIGNAL)
            return self._refusal

    def saw(self, name: str, step: Step, took: Took) -> None:
        if not machine.turns(step, took.result):
            return
        with self._changing():
            result = Result.HOLD if took.result is Result.HOLD else Result.FAILED
            self._fail(Took(result=result, said=f"{name}: {step.replace('_', ' ')}: {took.said}", why=Why.OTHER_HOST))

    @property
    def stopped(self) -> Took | None:
        return None if self._is_over else self._stop

    def heard(self, name: str, probation: Probation) -> Took | None:
        with self._changing():
            spike = self._pooled.heard(name, probation, now=self._clock.monotonic())
            if spike:
                is_held = self._watch.holds(spike.failure)
                said = f"all {len(self._pooled.hosts)} switched hosts together: {spike.said('SPIKE' if is_held else 'ROLLBACK')}"
                result = Result.HOLD if is_held else Result.FAILED
                self._fail(Took(result=result, said=said, details=spike.details, why=spike.why))
            return self.stopped

    def passed(self, name: str) -> bool:
        """Where it is true of all each host ends its watch; see `judged`."""
        with self._changing():
            if name not in self._passed and self._wave + 1 < len(self._waves):
                self._tell(
                    "wave",
                    f"{name} has passed its watch; it is watched until the last wave has passed, so that it can still go back",
                )
            self._passed.add(name)
            if self._is_closing:
                self._agreed.add(name)
            self._go_on()
            return self._is_closed and self._stop is None

    def _stands_by(self, name: str) -> None:
        with self._changing():
            for met in (self._prepared, self._passed, self._agreed, self._judged):
                met.add(name)
            self._go_on()
            self._met(lambda: not self._missing)

    def judged(self, name: str) -> Took | None:
        """The last meeting, and the point of no return: a host that misses it turns all back, and after it each is on its own."""
        with self._changing():
            self._judged.add(name)
            self._meeting.notify_all()

            def is_over() -> bool:
                return self._stop is not None or not self._missing

            if not met(self._meeting, is_over, clock=self._clock, within=_LAST_MEETING):
                missing = ", ".join(sorted(self._missing))
                said = f"{missing}: no answer since its watch passed"
                self._fail(Took(result=Result.FAILED, said=said, why=Why.OTHER_HOST))
            return self._stop

    # ---- all of these with the meeting held ----

    def _met(self, is_met: Callable[[], bool]) -> bool:
        """Wait for the others; False where a signal came first."""
        return met(self._meeting, is_met, clock=self._clock, interrupts=self._interrupts)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._meeting:
            yield
            self._meeting.notify_all()

    @property
    def _is_closed(self) -> bool:
        """All waves have passed."""
        return self._wave >= len(self._waves)

    @property
    def _missing(self) -> set[str]:
        return self._names - self._judged - self._ended

    @property
    def _is_over(self) -> bool:
        return self._is_closed and not self._missing

    def _fail(self, why: Took) -> None:
        if self._stop is None and not self._is_over:
            self._stop = why

    @property
    def _refusal(self) -> Took | None:
        """What stops the fleet, for a host that was not switched yet: a refusal."""
        if self._stop is None:
            return None
        return Took(result=Result.FAILED, said=f"not switched, because of {self._stop.said}", why=Why.OTHER_HOST)

    def _may_go(self, name: str) -> bool:
        return any(name in wave for wave in self._waves[: self._wave + 1])

    def _go_on(self) -> None:
        """The next wave, where all hosts are prepared and those that went have passed."""
        if self._stop is not None or self._names - self._prepared - self._ended:
            return
        if self._wave < 0:
            self._begin(0)
        while not self._is_closed and not self._waves[self._wave] - self._passed - self._ended:
            if self._wave + 1 == len(self._waves) and not self._are_agreed():
                return
            self._begin(self._wave + 1)

    def _are_agreed(self) -> bool:
        was_closing, self._is_closing = self._is_closing, True
        return len(self._names) == 1 or (was_closing and not self._names - self._agreed - self._ended)

    def _begin(self, wave: int) -> None:
        self._wave = wave
        names = self._waves[wave] - self._ended if wave < len(self._waves) else set()
        if names and len(self._names) > 1:
            self._tell("wave", f"{wave + 1} of {len(self._waves)}: {', '.join(sorted(names))}")
        self._meeting.notify_all()


class _Turn(Alone):
    """One host's, by its name. It goes back as if alone."""

    def __init__(self, rollout: Rollout, name: str) -> None:
        self._rollout = rollout
        self._name = name

    def meet(self, at: Meeting) -> Took | None:
        return self._rollout.meet(self._name, at)

    def saw(self, step: Step, took: Took) -> None:
        self._rollout.saw(self._name, step, took)

    def heard(self, probation: Probation) -> Took | None:
        return self._rollout.heard(self._name, probation)

    def passed(self) -> bool:
        return self._rollout.passed(self._name)

    def judged(self) -> Took | None:
        return self._rollout.judged(self._name)


class _Pooled:
    """What all switched hosts saw, each since its own switch, added up once a second."""

    def __init__(self) -> None:
        self.hosts: dict[str, Probation] = {}
        self._looked_at = float("-inf")

    def heard(self, name: str, probation: Probation, *, now: float) -> Failed | None:
        """Why all of them together are a spike; None while they are none, or only one was heard."""
        self.hosts[name] = probation
        if len(self.hosts) == 1 or now - self._looked_at < 1:
            return None
        self._looked_at = now
        pooled = Probation(
            pool=probation.pool,
            history=added_histories(each.history for each in self.hosts.values()),
            servers=(),
            log_mode="log",
            silent_after=0.0,
            seconds=added(each.seen for each in self.hosts.values()),
            clients=clients.added(each.clients for each in self.hosts.values()),
            known=clients.merged(each.known for each in self.hosts.values()),
            at_s=max(each.at_s for each in self.hosts.values()),
            gave_up=tuple(map(sum, zip_longest(*(each.gave_up for each in self.hosts.values()), fillvalue=0))),
            shared=next((each.shared for each in self.hosts.values() if each.shared), ""),
        )
        look = pooled.look()
        return pooled.spike(look) if look.is_spike and not pooled.is_doubtful(look) else None

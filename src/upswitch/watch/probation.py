"""A pool on probation: the seconds in which it is judged, what they held, and whether it may stay.

Three guards (docs/design.md): the rule over the access log, the gate, which stays armed, and nginx's workers. Where the log is
blind, the rule judges our own requests through nginx instead. `switch` and `watch` judge by this alike.
"""

from functools import reduce
from typing import Protocol

from msgspec.structs import replace

from upswitch.basics.result import Failure, Took, Why
from upswitch.basics.value import Value
from upswitch.health import gate
from upswitch.health.gate import ServerHealth
from upswitch.logs.line import HISTORY_S
from upswitch.site.model import Probe
from upswitch.watch import rule
from upswitch.watch.rule import Final, History, Judgement, Second, Seen

_BLIND_AFTER = 10  # answered requests of ours without one line of the pool in the logs
_CRASHES = 3  # more worker deaths than this in ten seconds is a crash loop


class Brought(Value):
    """What one second brought: requests to either pool by the logs, our own, rounds of the gate, worker deaths in ten seconds."""

    new: Second
    former: int = 0
    through: tuple[Failure, ...] = ()
    rounds: tuple[tuple[Probe, ...], ...] = ()
    crashes: int = 0

    @property
    def asked(self) -> Second:
        return Second(total=len(self.through), gateway=self.through.count(Failure.GATEWAY), hung=self.through.count(Failure.HUNG))


class Failed(Value):
    """Why a pool must not stay, seen `at_s` seconds after the switch. `details` are the rule's answers."""

    why: Why
    at_s: int
    what: str
    details: tuple[str, ...] = ()

    def said(self, verdict: str = "ROLLBACK") -> str:
        return f"t+{self.at_s}s {verdict}: {self.what}"


class Probation(Value):
    """`log_mode` is how requests are attributed, "" without a log to follow; `silent_after` is seconds.

    `seconds` and `probes` are what the rule judges, one each a second; `logged` and `asked` the sums of all `at_s` seconds.
    A server is down once its tally is not up: where it served already, that is after `fall` failures.
    """

    pool: str
    history: History
    tallies: tuple[ServerHealth, ...]
    log_mode: str
    silent_after: float
    seconds: tuple[Second, ...] = ()
    probes: tuple[Second, ...] = ()
    logged: Second = Second()
    asked: Second = Second()
    at_s: int = 0
    former: int = 0
    crashes: int = 0
    silent_s: int = 0
    unseen: int = 0

    def after(self, brought: Brought) -> "Probation":
        """With one more second."""
        is_seen, asked = brought.new.total > 0, brought.asked
        return replace(
            self,
            at_s=self.at_s + 1,
            seconds=(*self.seconds, brought.new),
            probes=(*self.probes, asked),
            logged=self.logged + brought.new,
            asked=self.asked + asked,
            former=self.former + brought.former,
            crashes=brought.crashes,
            silent_s=0 if is_seen else self.silent_s + 1,
            unseen=0 if is_seen else self.unseen + asked.total,
            tallies=reduce(lambda tallies, probes: tuple(map(gate.observe, tallies, probes)), brought.rounds, self.tallies),
        )

    def aged(self) -> "Probation":
        """Seconds older than ten minutes are history: of a pool that serves on, days cost no more than minutes."""
        old, history = self.seconds[:-HISTORY_S], self.history.seconds
        kept = History(seconds=(*history, *old)[-HISTORY_S:])
        return replace(self, history=kept, seconds=self.seconds[-HISTORY_S:], probes=self.probes[-HISTORY_S:]) if old else self

    @property
    def is_silent(self) -> bool:
        """Our own requests don't show up in what we follow, or not as the pool's."""
        return bool(self.log_mode) and self.unseen >= _BLIND_AFTER and self.silent_s >= self.silent_after

    @property
    def is_log_blind(self) -> bool:
        return self.is_silent or not self.log_mode

    @property
    def mode(self) -> str:
        if self.is_log_blind:
            return "probes" if self.asked.total else "blind"
        return self.log_mode

    @property
    def whole(self) -> Second:
        """All seconds together, of that which is judged."""
        return self.asked if self.is_log_blind else self.logged

    @property
    def latest(self) -> Second:
        """The last second of that which is judged."""
        return self.judged[-1] if self.judged else Second()

    @property
    def down(self) -> tuple[str, ...]:
        return tuple(each.target.server for each in self.tallies if not each.is_up)

    def look(self) -> Judgement:
        return rule.judge(self.history, self.judged)

    def failure(self, look: Judgement) -> Failed | None:
        """Why the pool must not stay; None while it may."""
        if look.is_spike:
            return self.spike(look)
        down = [each for each in self.tallies if not each.is_up]
        if down:
            what = f"the gate saw {down[0].text} ({len(down)} of {len(self.tallies)} down)"
            return Failed(why=Why.SERVERS_DOWN, at_s=self.at_s, what=what)
        if self.crashes > _CRASHES:
            return Failed(why=Why.WORKERS_DIED, at_s=self.at_s, what=f"{self.crashes} nginx workers died in 10 s")
        return None

    def spike(self, look: Judgement) -> Failed:
        what = rule.numbers(look, self.pool, self._requests)
        return Failed(why=Why.SPIKE, at_s=self.at_s, what=what, details=rule.answers(look))

    def sentence(self, look: Judgement) -> str:
        return rule.sentence(look, self.at_s, self.pool, requests=self._requests)

    def progress(self, look: Judgement) -> str:
        """What came so far, without the rule's answers."""
        failed, total = self.whole.gateway + self.whole.hung, self.whole.total
        before = f"before: {look.before_failed} of {look.before_total} in {look.before_s} s"
        silent = f"; none in the log for {self.silent_s} s, though ours are answered" if self.is_silent else ""
        return f"t+{self.at_s}s: {failed} of {total} {self._requests} to {self.pool} failed; {before}{silent}"

    def final(self, look: Judgement) -> Final:
        """How it ends where nothing failed."""
        seen = Seen(
            has_log=bool(self.log_mode),
            is_silent=self.is_silent,
            new=self.logged.total,
            former=self.former,
            probes=self.asked.total,
        )
        return rule.finish(look, seen)

    @property
    def judged(self) -> tuple[Second, ...]:
        """The seconds that the rule judges: the log's, or those of our own requests where it is blind."""
        return self.probes if self.is_log_blind else self.seconds

    @property
    def _requests(self) -> str:
        return "our own requests" if self.is_log_blind else "requests"


class Others(Protocol):
    """The other hosts that are switched together with this one. A result says why this host must not go on alone."""

    def heard(self, probation: Probation) -> Took | None:
        """One second of this host's watch. A result: the whole fleet stops. HOLD: every host stays as it is."""
        ...

    def passed(self) -> bool:
        """This host has been watched long enough, and it answers; whether all hosts have. Asked once a second until all have."""
        ...

    def judged(self) -> Took | None:
        """This host ends its watch. Returns when all do: None, or why it must go back after all."""
        ...

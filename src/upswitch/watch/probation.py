"""A pool on probation: the seconds in which it is judged, what they held, and whether it may stay.

Three guards (docs/design.md): the rule over the access log, the gate, which stays armed, and nginx's workers. Where the log is
blind, the rule judges our own requests through nginx instead. `switch` and `watch` judge by this alike.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Protocol

from msgspec.structs import replace

from upswitch.basics.result import Failure, Took, Why
from upswitch.basics.value import Value
from upswitch.health import gate
from upswitch.health.gate import ServerHealth
from upswitch.logs.line import ENOUGH_FAILED, HISTORY_S
from upswitch.site.model import Probe
from upswitch.watch import clients, ending, rule
from upswitch.watch.clients import Clients, Fair
from upswitch.watch.ending import Final
from upswitch.watch.history import History, Second
from upswitch.watch.rule import Judgement

_BLIND_AFTER = 10  # answered requests of ours without one line of the pool in the logs
_OWN = "requests by upswitch itself"
_NOBODY: Clients = {}
_CRASHES = 3  # more worker deaths than this in ten seconds is a crash loop


ENDED = {
    Final.KEEP: "There is no reason for a rollback",
    Final.KEEP_ELEVATED: "More requests fail than before, but not enough for a rollback",
    Final.HELD: "Too many of the last requests failed to keep it without a person",
    Final.UNPROVEN: "These are too few requests to judge the pool",
    Final.NOT_SWITCHED: "Requests still reach the former pool",
    Final.BLIND: "The watch could not see the requests",
}
"""What each ending of a watch means, after its numbers."""


class Failed(Value):
    """Why a pool must not stay, seen `at_s` seconds after the switch. `details` are the rule's answers, `failure` what spiked."""

    why: Why
    at_s: int
    what: str
    details: tuple[str, ...] = ()
    failure: Failure = Failure.NONE

    def said(self, verdict: str = "ROLLBACK") -> str:
        return f"t+{self.at_s}s {verdict}: {self.what}"


class Probation(Value):
    """`log_mode` is how requests are attributed, "" without a log to follow; `silent_after` is seconds.

    `seconds` and `probes` are what the rule judges, one each a second; `logged` and `asked` the sums of all `at_s` seconds.
    `clients` are those of `seconds`; `known` are the clients of the history.
    A server that serves already is down after `fall` failures.
    """

    pool: str
    history: History
    servers: tuple[ServerHealth, ...]
    log_mode: str
    silent_after: float
    seconds: tuple[Second, ...] = ()
    probes: tuple[Second, ...] = ()
    ours: tuple[Second, ...] = ()
    clients: tuple[Clients, ...] = ()
    known: Clients = _NOBODY
    logged: Second = Second()
    asked: Second = Second()
    at_s: int = 0
    former: int = 0
    crashes: int = 0
    silent_s: int = 0
    unseen: int = 0

    def after(
        self,
        *,
        new: Second,
        former: int = 0,
        through: Sequence[Failure] = (),
        ours: Second | None = None,
        clients: Clients = _NOBODY,
        rounds: Iterable[tuple[Probe, ...]] = (),
        crashes: int = 0,
    ) -> "Probation":
        """With one more second: requests to either pool, our own, rounds of checks, and worker deaths of the last ten seconds.

        `through` is what our own requests got, `ours` what the log says of them, where it can tell them.
        """
        asked = Second(
            total=len(through),
            gateway=through.count(Failure.GATEWAY),
            hung=through.count(Failure.HUNG),
            app=through.count(Failure.APP),
        )
        is_seen = new.total > 0 or (ours is not None and ours.total > 0)
        if ours is not None:  # an answer that broke off is logged as complete
            cut = min(asked.app, ours.failed(Failure.NONE))
            ours = replace(ours, app=ours.app + cut)
        return replace(
            self,
            at_s=self.at_s + 1,
            seconds=(*self.seconds, new),
            probes=(*self.probes, asked),
            ours=(*self.ours, ours or Second()),
            clients=(*self.clients, clients),
            logged=self.logged + new,
            asked=self.asked + asked,
            former=self.former + former,
            crashes=crashes,
            silent_s=0 if is_seen else self.silent_s + 1,
            unseen=0 if is_seen else self.unseen + asked.total,
            servers=reduce(lambda servers, probes: tuple(map(gate.observe, servers, probes)), rounds, self.servers),
        )

    def aged(self) -> "Probation":
        """Seconds older than ten minutes are history: of a pool that serves on, days cost no more than minutes."""
        old, history = self.seconds[:-HISTORY_S], self.history.seconds
        kept = History(seconds=(*history, *old)[-HISTORY_S:])
        last = slice(-HISTORY_S, None)
        rest = {"seconds": self.seconds[last], "probes": self.probes[last], "ours": self.ours[last], "clients": self.clients[last]}
        return replace(self, history=kept, **rest) if old else self

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
        """The last second."""
        return self.seen[-1] if self.seen else Second()

    @property
    def down(self) -> tuple[str, ...]:
        return tuple(each.target.server for each in self.servers if not each.is_up)

    def look(self) -> Judgement:
        if self.is_log_blind:
            return rule.judge(self.history, self.judged)
        return clients.judge(self.history, self.fair, self.clients, self.known)

    @property
    def fair(self) -> Fair:
        """The seconds of the log, without single clients that fail while others are fine."""
        return clients.fair(self.seconds, self.clients, self.known)

    def failure(self, look: Judgement) -> Failed | None:
        """Why the pool must not stay; None while it may."""
        if look.is_spike:
            return self.spike(look)
        own = None if self.is_log_blind else self._own_spike()
        if own:
            return own
        down = [each for each in self.servers if not each.is_up]
        if down:
            what = f"health check: {down[0].text} ({len(down)} of {len(self.servers)} servers are unhealthy)"
            return Failed(why=Why.SERVERS_DOWN, at_s=self.at_s, what=what)
        if self.crashes > _CRASHES:
            return Failed(why=Why.WORKERS_DIED, at_s=self.at_s, what=f"{self.crashes} nginx workers died in 10 s")
        return None

    def _own_spike(self) -> Failed | None:
        """Of our own requests, beside those of clients."""
        if sum(each.failures for each in self.own) < ENOUGH_FAILED:  # most seconds: no need to look
            return None
        look = rule.judge(self.history, self.own)
        what = rule.numbers(look, self.pool, _OWN)
        failed = Failed(why=Why.SPIKE, at_s=self.at_s, what=what, details=rule.answers(look), failure=look.kind)
        return failed if look.is_spike else None

    def spike(self, look: Judgement) -> Failed:
        what = rule.numbers(look, self.pool, self._requests)
        return Failed(why=Why.SPIKE, at_s=self.at_s, what=what, details=rule.answers(look), failure=look.kind)

    def words(self, look: Judgement) -> tuple[str, ...]:
        """All that there is to say of a look without a spike, a sentence each."""
        return rule.lines(look, self.at_s, self.pool, requests=self._requests)

    def progress(self, look: Judgement) -> str:
        """What came so far, without the rule's answers."""
        failed, total = self.whole.failures, self.whole.total
        before = f" (before: {look.before_failed} of {look.before_total} in {look.before_s} s)" if look.before_s else ""
        silent = f"; no request in the log for {self.silent_s} s, but nginx answers upswitch" if self.is_silent else ""
        said = f"t+{self.at_s}s: {failed} of {total} {self._requests} to {self.pool} failed"
        return f"{said}{before}{self._own}{silent}{self._left_out}"

    @property
    def _own(self) -> str:
        """What our own requests got, where clients' requests are judged and say little, or ours failed."""
        asked = self.asked
        is_worth_it = asked.total > 0 and (asked.failures > 0 or self.logged.total < ending.PROVING_REQUESTS)
        return f"; {asked.failures} of {asked.total} {_OWN} failed" if is_worth_it and not self.is_log_blind else ""

    @property
    def _left_out(self) -> str:
        fair = self.fair
        return f"; {fair.failed} failures of {' and '.join(fair.out)} alone are left out, as others are fine" if fair.out else ""

    def final(self, look: Judgement, *, accepts_elevated: bool = False) -> Final:
        """How it ends where no look was a spike."""
        return ending.finish(
            look,
            self.last,
            accepts_elevated=accepts_elevated,
            has_log=bool(self.log_mode),
            is_silent=self.is_silent,
            new=self.logged.total,
            former=self.former,
            probes=self.asked.total,
        )

    @property
    def last(self) -> Judgement:
        """The last requests of clients; our own where only those fail."""
        of_clients, own = ending.last(self.history, self.seen, self.judged), rule.last(self.history, self.own)
        is_own = own.failed >= ENOUGH_FAILED and ending.fails_half(own) and not ending.fails_half(of_clients)
        return own if is_own else of_clients

    def held(self) -> Failed:
        """Why a person must decide, where the last requests fail."""
        last = self.last
        requests = _OWN if last == rule.last(self.history, self.own) else self._requests
        what = rule.numbers(last, self.pool, requests)
        details = (f"{ending.held_because(last)}.", *rule.compared(last))
        return Failed(why=Why.SPIKE, at_s=self.at_s, what=what, details=details)

    @property
    def judged(self) -> tuple[Second, ...]:
        """The seconds that the rule judges: the log's, or those of our own requests where it is blind."""
        return self.probes if self.is_log_blind else self.fair.seconds

    @property
    def seen(self) -> tuple[Second, ...]:
        """The same with all clients."""
        return self.probes if self.is_log_blind else self.seconds

    @property
    def own(self) -> tuple[Second, ...]:
        """Our own requests: what the log says of them, else what they got. They are judged beside those of clients."""
        return self.ours if any(each.total for each in self.ours) else self.probes

    @property
    def _requests(self) -> str:
        return _OWN if self.is_log_blind else "requests"


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

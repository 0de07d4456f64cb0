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
from upswitch.watch.attribution import Mode
from upswitch.watch.clients import Clients, Fair
from upswitch.watch.ending import Final
from upswitch.watch.history import History, Second
from upswitch.watch.rule import Judgement

_BLIND_AFTER = 10  # answered requests of ours without one line of the pool in the logs
_NOBODY: Clients = {}
_UNLOGGED_S, _ASSUMED = 10, 10  # seconds; requests a second
_DOUBT_S = 5  # seconds for the other guards to say whose failures these are
_CRASHES = 3  # more worker deaths than this in ten seconds is a crash loop


ENDED = {
    Final.KEEP: "There is no reason for a rollback",
    Final.KEEP_ELEVATED: "More requests fail than before, but not enough for a rollback",
    Final.HELD: "Too many of the last requests failed, or were given up, to keep it without a person",
    Final.UNPROVEN: "These are too few requests to judge the pool",
    Final.NOT_SWITCHED: "Requests still reach the former pool",
    Final.BLIND: "The watch could not see the requests",
}
"""What each ending of a watch means, after its numbers."""


class Failed(Value):
    """Why a pool must not stay, seen `at_s` seconds after the switch. `details` are the rule's answers, `failure` what spiked.

    `doubt`: why these may be another pool's failures, so that a person must decide; "" where they are not.
    """

    why: Why
    at_s: int
    what: str
    details: tuple[str, ...] = ()
    failure: Failure = Failure.NONE
    doubt: str = ""

    def said(self, verdict: str = "ROLLBACK") -> str:
        return f"t+{self.at_s}s {verdict}: {self.what}"


class Probation(Value):
    """`log_mode` is how requests are attributed, "" without a log to follow; `silent_after` is seconds.

    `seconds` and `probes` are what the rule judges, one each a second; `logged` and `asked` the sums of all `at_s` seconds.
    `clients` are those of `seconds`; `known` are the clients of the history.
    A server that serves already is down after `fall` failures. `gave_up` are attempts at the pool's servers that the error log says
    nginx gave up, by second; `gave_up_before` are those at the former pool's. `shared`: the log can't tell pools apart, and has
    requests to other upstreams too.
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
    gave_up: tuple[int, ...] = ()
    gave_up_before: tuple[int, ...] = ()
    shared: str = ""

    def after(
        self,
        *,
        new: Second,
        former: int = 0,
        through: Sequence[Failure] = (),
        ours: Second | None = None,
        clients: Clients = _NOBODY,
        gave_up: int = 0,
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
            gave_up=(*self.gave_up, gave_up),
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
        given_up = (*self.gave_up_before, *self.gave_up[:-HISTORY_S])[-HISTORY_S:]
        return replace(self, history=kept, gave_up=self.gave_up[last], gave_up_before=given_up, **rest) if old else self

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
        is_doubtful = self.is_doubtful(look)
        if look.is_spike and not is_doubtful:
            return self.spike(look)
        own = (None if self.is_log_blind else self._own_spike()) or self._unlogged_spike()
        if own:
            return own
        down = [each for each in self.servers if not each.is_up]
        if down:
            what = f"health check: {down[0].text} ({len(down)} of {len(self.servers)} servers are unhealthy)"
            return Failed(why=Why.SERVERS_DOWN, at_s=self.at_s, what=what)
        if self.crashes > _CRASHES:
            return Failed(why=Why.WORKERS_DIED, at_s=self.at_s, what=f"{self.crashes} nginx workers died in 10 s")
        lasts = is_doubtful and self.at_s > _DOUBT_S and rule.judge(self.history, self.judged[:-_DOUBT_S]).is_spike
        return replace(self.spike(look), doubt=self._doubt) if lasts else None

    def is_doubtful(self, look: Judgement) -> bool:
        """Whether this is a spike in a log that does not tell whose failures it has, and the error log does not either."""
        gave_up = sum(self.gave_up[-look.window_s :])
        return look.is_spike and bool(self.shared) and not self.is_log_blind and gave_up * 2 < look.failed

    @property
    def _doubt(self) -> str:
        return f"LIMITED MODE: {self.shared}, so it is not known whose failures these are"

    def _unlogged_spike(self) -> Failed | None:
        """Attempts that nginx gave up, more than known requests explain, at each server one: no log shows the others."""
        stretch, servers = max(_UNLOGGED_S, int(self.silent_after)), max(1, len(self.servers))
        known = sum(each.total for each in (*self.seconds[-stretch:], *self.probes[-stretch:]))
        gave_up, is_early = sum(self.gave_up[-stretch:]), bool(self.log_mode) and self.at_s < stretch
        if gave_up < ENOUGH_FAILED or is_early or gave_up <= known * servers:
            return None
        look = rule.judge(_padded(self.gave_up_before), _padded(self.gave_up).seconds)
        what = f"nginx gave up {look.failed} attempts at servers of {self.pool} in the last {look.window_s} s, says the error log"
        before = f"In the {len(self.gave_up_before)} s before, {sum(self.gave_up_before)} at the former pool's."
        details = ("No access log that upswitch reads has these requests.", before)
        return Failed(why=Why.SPIKE, at_s=self.at_s, what=what, details=details, failure=Failure.GATEWAY) if look.is_spike else None

    def _own_spike(self) -> Failed | None:
        """Of our own requests, beside those of clients."""
        if sum(each.failures for each in self.own) < ENOUGH_FAILED:  # most seconds: no need to look
            return None
        look = rule.judge(self.history, self.own)
        what = rule.numbers(look, self.pool, rule.OWN)
        failed = Failed(why=Why.SPIKE, at_s=self.at_s, what=what, details=rule.answers(look), failure=look.kind)
        return failed if look.is_spike else None

    def spike(self, look: Judgement) -> Failed:
        what = rule.numbers(look, self._to, self._requests)
        return Failed(why=Why.SPIKE, at_s=self.at_s, what=what, details=rule.answers(look), failure=look.kind)

    def words(self, look: Judgement) -> tuple[str, ...]:
        """All that there is to say of a look without a spike, a sentence each."""
        return rule.lines(look, self.at_s, self._to, requests=self._requests)

    def progress(self, look: Judgement) -> str:
        """What came so far, without the rule's answers."""
        failed, total = self.whole.failures, self.whole.total
        before = f" (before: {look.before_failed} of {look.before_total} in {look.before_s} s)" if look.before_s else ""
        if self.is_log_blind and not self.asked.total:
            return f"t+{self.at_s}s: the watch sees no requests to {self.pool}{self._given_up}"
        silent = f"; no request in the log for {self.silent_s} s, but nginx answers upswitch" if self.is_silent else ""
        said = f"t+{self.at_s}s: {failed} of {total} {self._requests} to {self._to} failed"
        return f"{said}{before}{self._own}{silent}{self._left_out}{self._given_up_by_clients}"

    @property
    def _given_up_by_clients(self) -> str:
        look = self.given_up
        return f"; {look.failed} of {look.total} answers were given up by their clients" if look.is_spike else ""

    @property
    def _given_up(self) -> str:
        return f"; nginx gave up {sum(self.gave_up)} attempts at its servers, says the error log" if any(self.gave_up) else ""

    @property
    def _own(self) -> str:
        """What our own requests got, where clients' requests are judged and say little, or ours failed."""
        asked = self.asked
        is_worth_it = asked.total > 0 and (asked.failures > 0 or self.logged.total < ending.PROVING_REQUESTS)
        return f"; {asked.failures} of {asked.total} {rule.OWN} failed" if is_worth_it and not self.is_log_blind else ""

    @property
    def _left_out(self) -> str:
        fair = self.fair
        return f"; {fair.failed} failures of {' and '.join(fair.out)} alone are left out, as others are fine" if fair.out else ""

    def final(self, look: Judgement, *, accepts_elevated: bool = False) -> Final:
        """How it ends where no look was a spike, or only a doubtful one."""
        if look.is_spike:
            return Final.HELD
        return ending.finish(
            look,
            self.last,
            accepts_elevated=accepts_elevated,
            has_log=bool(self.log_mode),
            is_silent=self.is_silent,
            is_given_up=self.given_up.is_spike,
            new=self.logged.total,
            former=self.former,
            probes=self.asked.total,
        )

    @property
    def given_up(self) -> Judgement:
        """The look at answers that clients gave up."""
        return clients.given_up(self.history, self.seconds, self.clients, self.known)

    @property
    def is_short(self) -> bool:
        """The log shows no request, and one that hangs would not show either in so few seconds."""
        return bool(self.log_mode) and not self.logged.total and self.at_s <= self.silent_after

    @property
    def last(self) -> Judgement:
        """The last requests of clients; our own where only those fail."""
        of_clients, own = ending.last(self.history, self.seen, self.judged), rule.last(self.history, self.own)
        is_own = own.failed >= ENOUGH_FAILED and ending.fails_half(own) and not ending.fails_half(of_clients)
        return own if is_own else of_clients

    def held(self) -> Failed:
        """Why a person must decide, where the last requests fail."""
        last, given_up = self.last, self.given_up
        if given_up.is_spike and not (ending.fails_half(last) or ending.fails_more(last) or self.look().is_spike):
            what = rule.numbers(given_up, self._to, "requests")
            details = (*ending.GIVEN_UP_BECAUSE, *rule.compared(given_up))
            return Failed(why=Why.GIVEN_UP, at_s=self.at_s, what=what, details=details, failure=Failure.GIVEN_UP)
        is_own = last == rule.last(self.history, self.own)
        what = rule.numbers(last, self.pool, rule.OWN) if is_own else rule.numbers(last, self._to, self._requests)
        doubt = (f"{self._doubt}.",) if self.shared else ()
        details = (f"{ending.held_because(last)}.", *doubt, *rule.compared(last))
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
        return rule.OWN if self.is_log_blind else "requests"

    @property
    def _to(self) -> str:
        is_any = self.log_mode == Mode.LIMITED and not self.is_log_blind
        return "any pool (LIMITED MODE)" if is_any else self.pool


def _padded(gave_up: Sequence[int]) -> History:
    """How many requests there were is not known: an assumed number that went well is added, the same before and after."""
    return History(seconds=tuple(Second(total=each + _ASSUMED, gateway=each) for each in gave_up))


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

"""The watch rule: when failures of the new pool are a spike, and take the switch back.

Theory. Failures come in bursts and every site has its own noise, so a count alone ("5 in 10 s") takes good releases back. A
spike must pass four questions at once, each of which stops another false alarm:

    ENOUGH    at least 5 failed, in at least 2 different seconds            one hiccup is no trend
    BIG       at least 1 % of the requests failed                           a certain but tiny change is for people
    NEW       at least 3 times the worst stretch of the same length in the  bursts that the site always had
              10 minutes before; or half fail, and that is 3 times the
              share of the last minute before
    NOT LUCK  one-sided Fisher odds under 1 in 1,000,000 against all of     small numbers
              the history

in the last 10 s, in the last 60 s, or since the switch (docs/design.md). Gateway failures and hung clients are judged
apart. It is looked at once a second; the seconds are those of arrival on a monotonic clock, complete ones only.

Where the rule is silent, this is what we do:
- A watch younger than a window has only what came since the switch. It is compared with worst stretches of that length, but never
  shorter than 10 s. (So between 10 s and 60 s "the last 60 s" is "since the switch".)
- A stretch longer than the history is the whole history, scaled up to the stretch: a watch of an hour against 10 minutes, a
  log that began 20 s ago. No history: nothing was worse before.
- A history of under 1,000 requests is filled up with assumed ones of which 0.1 % failed, rounded up to a whole failure. Only
  the odds see them; NEW and what is printed do not.
- The last minute before may be shorter or empty; an empty one had a share of nothing.
- Requests that failed in the other way are left out, before as after: they passed no more than they failed in this one. Else
  one more hung client could dilute a spike of 502s to under 1 %.
- Of several spikes the one with the lowest odds is reported, then the shortest window.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import accumulate, zip_longest
from math import exp, lgamma, log
from operator import add, sub

from upswitch.basics.result import Failure
from upswitch.basics.value import Value
from upswitch.logs.line import BIG_PERCENT, CLIENT_LEFT, ENOUGH_FAILED, GATEWAY, HUNG_S

ENOUGH_SECONDS = 2
NEW_TIMES = 3
LUCK = 1e-6
_SHORT_S, _LONG_S = 10, 60
_ASSUMED_TOTAL, _ASSUMED_ONE_IN = 1000, 1000
_PROVING_REQUESTS = 30
_FORMER_STILL_SERVES = 20
_READABLE = 10**12


_HOW = {
    Failure.GATEWAY: f"failed ({'/'.join(map(str, GATEWAY))})",
    Failure.HUNG: f"hung (the client left after {HUNG_S} s or more without an answer: {CLIENT_LEFT})",
}


class Thresholds(Value):
    """What the four questions ask for. The defaults are the rule; `watch --replay` tries others on past traffic.

    `enough` failed in `enough_seconds` different seconds; `big` is percent; `new` is times; `luck` is odds.
    """

    enough: int = ENOUGH_FAILED
    enough_seconds: int = ENOUGH_SECONDS
    big: float = BIG_PERCENT
    new: float = NEW_TIMES
    luck: float = LUCK


DEFAULT = Thresholds()


class Second(Value):
    """Requests of one second, and those of them that failed in either way."""

    total: int = 0
    gateway: int = 0
    hung: int = 0

    @property
    def has_failed(self) -> bool:
        return self.gateway + self.hung > 0

    def failed(self, kind: Failure) -> int:
        match kind:
            case Failure.GATEWAY:
                return self.gateway
            case Failure.HUNG:
                return self.hung
            case Failure.NONE:
                return self.total - self.gateway - self.hung

    def __add__(self, other: "Second") -> "Second":
        return Second(total=self.total + other.total, gateway=self.gateway + other.gateway, hung=self.hung + other.hung)


class History(Value):
    """The seconds before the switch, oldest first, at most 600; quiet seconds are in it as zeros."""

    seconds: tuple[Second, ...] = ()


class Judgement(Value):
    """One look: the stretch that speaks loudest, and the four answers with the numbers behind them.

    Counts are requests; the totals leave out those that failed in the other way.
    """

    kind: Failure
    window_s: int
    failed: int
    total: int
    failed_seconds: int
    stretch_s: int
    worst: float
    minute_failed: int
    minute_total: int
    odds: float
    before_failed: int
    before_total: int
    before_s: int
    is_enough: bool
    is_big: bool
    is_new: bool
    is_not_luck: bool
    thresholds: Thresholds = DEFAULT

    @property
    def answers(self) -> dict[str, bool]:
        return {"enough": self.is_enough, "big": self.is_big, "new": self.is_new, "not_luck": self.is_not_luck}

    @property
    def before(self) -> dict[str, int]:
        """The traffic that it compares with."""
        return {"failed": self.before_failed, "total": self.before_total, "seconds": self.before_s}

    @property
    def is_spike(self) -> bool:
        return self.is_certain and self.is_big and self.is_new

    @property
    def is_elevated(self) -> bool:
        """Certain, but not BIG (under 1 %) or not NEW (under 3 times what was): worth a look, not a rollback."""
        return self.is_certain and not self.is_spike

    @property
    def is_certain(self) -> bool:
        return self.is_enough and self.is_not_luck


def judge(history: History, since: Sequence[Second], thresholds: Thresholds = DEFAULT) -> Judgement:
    """One look at the complete seconds since the switch, oldest first (of all hosts: see `added`). Cost: linear in both."""
    return _loudest(_both(history, since), len(since), thresholds)


def looks(history: History, since: Sequence[Second], thresholds: Thresholds = DEFAULT) -> Iterator[Judgement]:
    """What `judge` says of the first second, of the first two, and so on to all of them. Cost: linear in all of them together."""
    both = _both(history, since)
    return (_loudest(both, end, thresholds) for end in range(1, len(since) + 1))


def added(hosts: Iterable[Sequence[Second]]) -> tuple[Second, ...]:
    """The seconds since each host's own switch, summed over the hosts."""
    return tuple(sum(column, Second()) for column in zip_longest(*hosts, fillvalue=Second()))


def added_histories(histories: Iterable[History]) -> History:
    """The histories of several hosts as one, aligned at the switch; as long as the longest."""
    return History(seconds=added(history.seconds[::-1] for history in histories)[::-1])


class _Sums(Value):
    """Running sums, each from a 0 on: requests that failed in one way, those that passed or failed in it, seconds with failures."""

    failed: list[int]
    total: list[int]
    seconds: list[int]

    @property
    def length(self) -> int:
        return len(self.failed) - 1

    def over(self, begin: int, end: int) -> tuple[int, int, int]:
        begin = max(0, begin)
        return self.failed[end] - self.failed[begin], self.total[end] - self.total[begin], self.seconds[end] - self.seconds[begin]


class _Sight(Value):
    """Of one way to fail: before the switch and since."""

    kind: Failure
    before: _Sums
    since: _Sums


def _both(history: History, since: Sequence[Second]) -> list[_Sight]:
    kinds = (Failure.GATEWAY, Failure.HUNG)
    return [_Sight(kind=kind, before=_sums(kind, history.seconds), since=_sums(kind, since)) for kind in kinds]


def _sums(kind: Failure, seconds: Sequence[Second]) -> _Sums:
    failed = [each.failed(kind) for each in seconds]
    passed = [each.failed(Failure.NONE) for each in seconds]
    return _Sums(failed=_running(failed), total=_running(map(add, failed, passed)), seconds=_running(map(bool, failed)))


def _running(counts: Iterable[int]) -> list[int]:
    return list(accumulate(counts, initial=0))


def _loudest(both: Sequence[_Sight], end: int, thresholds: Thresholds) -> Judgement:
    """The look at the first `end` seconds since the switch."""
    sights = [sight for sight in both if sight.since.failed[end]] or both[:1]
    found = [_look(sight, (end, stretch), thresholds) for sight in sights for stretch in _stretches(end)]
    return max(found, key=lambda look: (look.is_spike, look.is_elevated, -look.odds))


def _stretches(end: int) -> list[int]:
    reach = max(_SHORT_S, end)
    return sorted({_SHORT_S, min(_LONG_S, reach), reach})


def _worst(before: _Sums, stretch: int) -> float:
    """Most failures in any `stretch` seconds of the history; scaled up where the history is shorter."""
    if stretch >= before.length:
        return before.failed[-1] * stretch / before.length if before.length else 0.0
    return float(max(map(sub, before.failed[stretch:], before.failed)))


def _look(sight: _Sight, span: tuple[int, int], thresholds: Thresholds) -> Judgement:
    """`span`: so many seconds since the switch, and the stretch of the last ones among them."""
    (end, stretch), before = span, sight.before
    worst = _worst(before, stretch)
    failed, total, failed_seconds = sight.since.over(end - stretch, end)
    minute_failed, minute_total, _ = before.over(before.length - _LONG_S, before.length)
    before_failed, before_total = before.failed[-1], before.total[-1]
    chance = odds(failed, total, *_filled(before_failed, before_total))
    return Judgement(
        kind=sight.kind,
        window_s=min(stretch, end),
        failed=failed,
        total=total,
        failed_seconds=failed_seconds,
        stretch_s=stretch,
        worst=worst,
        minute_failed=minute_failed,
        minute_total=minute_total,
        odds=chance,
        before_failed=before_failed,
        before_total=before_total,
        before_s=before.length,
        is_enough=failed >= thresholds.enough and failed_seconds >= thresholds.enough_seconds,
        is_big=total > 0 and total * thresholds.big <= failed * 100,
        is_new=failed > 0
        and (failed >= thresholds.new * worst or _is_half((failed, total), (minute_failed, minute_total), thresholds.new)),
        is_not_luck=chance < thresholds.luck,
        thresholds=thresholds,
    )


def _filled(failed: int, total: int) -> tuple[int, int]:
    missing = max(0, _ASSUMED_TOTAL - total)
    return failed + -(-missing // _ASSUMED_ONE_IN), total + missing


def _is_half(now: tuple[int, int], minute: tuple[int, int], times: float) -> bool:
    """At least half fail, and that share is `times` the last minute's (cross-multiplied: no division by an empty minute)."""
    (failed, total), (minute_failed, minute_total) = now, minute
    return failed * 2 >= total and failed * minute_total >= times * minute_failed * total


class Final(StrEnum):
    """How a watch without a spike ends."""

    KEEP = "keep"
    KEEP_ELEVATED = "keep_elevated"
    UNPROVEN = "unproven"
    NOT_SWITCHED = "not_switched"
    BLIND = "blind"


def finish(last: Judgement, *, has_log: bool, new: int, former: int, probes: int, is_silent: bool = False) -> Final:
    """The ending of a watch whose every look was without a spike. ValueError where the last one has one: that is a rollback.

    `new` and `former` are requests to either pool since the switch, `probes` our own that were answered. `is_silent`: there are
    logs, and nothing comes in them though our own requests are answered.
    """
    if last.is_spike:
        raise ValueError("a spike is no ending to keep")
    if new == 0 and former >= _FORMER_STILL_SERVES:
        return Final.NOT_SWITCHED
    if is_silent or (not has_log and not probes):
        return Final.BLIND
    if new < _PROVING_REQUESTS and not probes:
        return Final.UNPROVEN
    return Final.KEEP_ELEVATED if last.is_elevated else Final.KEEP


def sentence(judgement: Judgement, at_s: int, pool: str, *, requests: str = "requests") -> str:
    """One line for people. `at_s` is seconds since the switch; `requests` says whose."""
    return " ".join(lines(judgement, at_s, pool, requests=requests))


def lines(judgement: Judgement, at_s: int, pool: str, *, requests: str = "requests") -> tuple[str, ...]:
    """A sentence each: what failed, then what follows from it and why."""
    verdict = " ROLLBACK" if judgement.is_spike else " elevated" if judgement.is_elevated else ""
    return (f"t+{at_s}s{verdict}: {numbers(judgement, pool, requests)}.", *answers(judgement))


def numbers(look: Judgement, pool: str, requests: str) -> str:
    share = look.failed / look.total if look.total else 0.0
    what = f"{look.failed} of {look.total} {requests} to {pool} {_HOW[look.kind]}"
    return f"{what} in the last {look.window_s} s ({share:.1%})"


def answers(look: Judgement) -> tuple[str, ...]:
    """Why this is no spike, if it is none; then what was before, and the odds: a sentence each."""
    if not look.failed:
        return ()
    missing = "; ".join(_missing(look))
    refusal = (f"Not rolled back yet: {missing}.",) if missing else ()
    return (*refusal, _before(look), f"The probability that this is chance is {_one_in(look.odds)}.")


def _missing(look: Judgement) -> Iterator[str]:
    """The answers that are no."""
    need = look.thresholds
    if look.failed < need.enough:
        yield f"{look.failed} {'failure' if look.failed == 1 else 'failures'} ({need.enough} needed)"
    elif not look.is_enough:
        when = "all in one second" if look.failed_seconds == 1 else f"in only {look.failed_seconds} different seconds"
        yield f"{look.failed} failures, but {when} ({need.enough_seconds} needed)"
    if not look.is_big:
        yield f"fewer than {need.big:g} % of the requests failed"
    if not look.is_new:
        yield f"not {need.new:g} times as many failures as before"
    if not look.is_not_luck:
        yield f"the failures may be chance (less than 1 in {1 / need.luck:,.0f} needed)"


def _before(look: Judgement) -> str:
    """The comparison that decided: with the worst stretch, or, where only that one says yes, with the last minute's share."""
    if not look.before_s:
        return "There is no history to compare with."
    whole = f"In the {look.before_s} s before, {look.before_failed} of {look.before_total} requests failed"
    if look.is_new and look.failed < look.thresholds.new * look.worst:
        minute = f"{look.minute_failed} of {look.minute_total} in the last minute of it"
        return f"{whole}, {minute}. Now at least half fail, {look.thresholds.new:g} times that share or more."
    if not look.before_failed:
        return f"{whole}."
    how = "at most" if look.stretch_s < look.before_s else "which makes"
    return f"{whole}, {how} {look.worst:.0f} failures in {look.stretch_s} s."


def _one_in(chance: float) -> str:
    """Rounded down; a person reads no more than a million million."""
    return f"1 in {int(1 / chance):,}" if chance * _READABLE > 1 else f"less than 1 in {_READABLE:,}"


_NEGLIGIBLE = 1e-15


def odds(failed: int, total: int, before_failed: int, before_total: int) -> float:
    """Probability (0..1) of `failed` or more of `total` by luck, given `before_failed` of `before_total`.

    1.0 when `failed` is not above what the two stretches together let expect; 0.0 when it is too small for a float.
    Relative error under 1e-5 for totals up to 1e8 (log-gamma's rounding), a few hundred terms there.
    """
    everything, all_failed = total + before_total, failed + before_failed
    if failed * everything <= all_failed * total:
        return 1.0
    first = _log_choose(total, failed) + _log_choose(before_total, before_failed) - _log_choose(everything, all_failed)
    return min(1.0, exp(first + log(_tail(failed, total, before_failed, before_total))))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _tail(failed: int, total: int, before_failed: int, before_total: int) -> float:
    """Sum of the tail's terms, in units of the first one."""
    before_passed = before_total - before_failed
    term = tail = 1.0
    for more in range(min(total - failed, before_failed)):
        term *= (total - failed - more) * (before_failed - more) / ((failed + more + 1) * (before_passed + more + 1))
        tail += term
        if term < tail * _NEGLIGIBLE:
            break
    return tail

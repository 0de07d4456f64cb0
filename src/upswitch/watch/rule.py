"""The watch rule: when failures of the new pool are a spike, and take the switch back.

Theory. Failures come in bursts and every site has its own noise, so a count alone ("5 in 10 s") takes good releases back. A
spike must pass four questions at once, each of which stops another false alarm:

    ENOUGH    at least 5 failed, in at least 2 different seconds            one hiccup is no trend
    BIG       at least 1 % of the requests failed                           a certain but tiny change is for people
    NEW       at least 3 times the worst stretch of the same length in the  bursts that the site always had
              10 minutes before; or half fail, and that is 3 times the
              share of the last minute before; and in both cases the share
              is more than 1.5 times that of the last minute
    NOT LUCK  one-sided Fisher odds under 1 in 1,000,000 against all of     small numbers
              the history

in the last 10 s, in the last 60 s, or since the switch (docs/design.md). Gateway failures and hung clients are judged
apart. It is looked at once a second; the seconds are those of arrival on a monotonic clock, complete ones only. Incidents are
left out of the history (watch/history.py), but not out of its last minute: a release that fails less than the former pool just
did is no reason to go back to that.

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
- Answers that clients give up are no failures. People do that in crowds: no incident is left out of their history, and where half
  are given up, that must be more than 1.5 times the worst stretch too.
- Of several spikes the one with the lowest odds is reported, then the shortest window.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from math import exp, lgamma, log
from operator import sub

import msgspec

from upswitch.basics.result import Failure
from upswitch.basics.value import Value
from upswitch.logs.line import BIG_PERCENT, CLIENT_LEFT, ENOUGH_FAILED, GATEWAY, HUNG_S, NOT_HTTP, OWN_ERROR
from upswitch.watch.history import History, Second, usual

ENOUGH_SECONDS = 2
NEW_TIMES = 3
WORSE_TIMES = 1.5
LUCK = 1e-6
_SHORT_S, _LONG_S = 10, 60
_ASSUMED_TOTAL, _ASSUMED_ONE_IN = 1000, 1000
_LAST_REQUESTS = 10
_KINDS = len(Failure)
_READABLE = 10**12

_HOW = {
    Failure.NONE: "failed",
    Failure.GATEWAY: f"failed ({'/'.join(map(str, GATEWAY))})",
    Failure.HUNG: f"hung (the client left after {HUNG_S} s or more without an answer: {CLIENT_LEFT})",
    Failure.APP: f"failed in the app ({OWN_ERROR} or another 5xx, {NOT_HTTP:03}, or cut short)",
    Failure.GIVEN_UP: f"were given up in the middle of the answer (the client left after {HUNG_S} s or more)",
}
_FAILURES = (Failure.GATEWAY, Failure.HUNG, Failure.APP)

OWN = "requests by upswitch itself"
_HOW_OWN = {
    Failure.GATEWAY: "failed (no answer, or none of 2xx and 3xx)",
    Failure.HUNG: "hung (no answer in time)",
}
"""What counts as a failure of those: more than of the requests of clients."""


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
    incidents_s: int
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


def given_up(history: History, since: Sequence[Second]) -> Judgement:
    """The same of answers that clients gave up, which are no failures: they never make a spike of `judge`."""
    return _loudest([_sight(Failure.GIVEN_UP, history, since)], len(since), DEFAULT)


def last(history: History, since: Sequence[Second], *, shortest_s: int = _SHORT_S) -> Judgement:
    """The last requests, however they failed (`kind` NONE): of the shortest stretch with enough of them, else all."""
    sight, end = _sight(Failure.NONE, history, since), len(since)
    least = min(shortest_s, max(_SHORT_S, end))
    stretches = [each for each in sorted({least, *_stretches(end)}) if each >= least]
    found = [_look(sight, (end, stretch), DEFAULT) for stretch in stretches]
    return next((look for look in found if look.total >= _LAST_REQUESTS), found[-1])


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
    """Of one way to fail (NONE: in whatever way): what was usual before the switch, all of the last minute, and since."""

    kind: Failure
    before: _Sums
    minute: _Sums
    since: _Sums
    incidents_s: int


def _both(history: History, since: Sequence[Second]) -> list[_Sight]:
    return [_sight(kind, history, since) for kind in _FAILURES]


def _sight(kind: Failure, history: History, since: Sequence[Second]) -> _Sight:
    return msgspec.structs.replace(_before_switch(kind, history), since=_sums(_counted(kind, since)))


@lru_cache(maxsize=_KINDS)
def _before_switch(kind: Failure, history: History) -> _Sight:
    """Remembered: the history stays the same from look to look."""
    counts = _counted(kind, history.seconds)
    normal = counts if kind is Failure.GIVEN_UP else usual(counts)
    return _Sight(
        kind=kind,
        before=_sums(normal),
        minute=_sums(counts[-_LONG_S:]),
        since=_sums(()),
        incidents_s=len(counts) - len(normal),
    )


def _counted(kind: Failure, seconds: Iterable[Second]) -> list[tuple[int, int]]:
    """Of each second the requests that failed so, and those with the ones that passed."""
    if kind is Failure.GIVEN_UP:
        return [(each.given_up, each.given_up + each.whole) for each in seconds]
    every = [(each.failures if kind is Failure.NONE else each.failed(kind), each.failed(Failure.NONE)) for each in seconds]
    return [(failed, failed + passed) for failed, passed in every]


def _sums(counts: Sequence[tuple[int, int]]) -> _Sums:
    failed = [some for some, _ in counts]
    return _Sums(failed=_running(failed), total=_running(of for _, of in counts), seconds=_running(map(bool, failed)))


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
    minute = sight.minute.failed[-1], sight.minute.total[-1]
    before_failed, before_total = before.failed[-1], before.total[-1]
    chance = odds(failed, total, *_filled(before_failed, before_total))
    is_jump = failed * 2 >= total and is_worse((failed, total), minute, thresholds.new)
    is_jump = is_jump and (sight.kind is not Failure.GIVEN_UP or failed > WORSE_TIMES * worst)
    return Judgement(
        kind=sight.kind,
        window_s=min(stretch, end),
        failed=failed,
        total=total,
        failed_seconds=failed_seconds,
        stretch_s=stretch,
        worst=worst,
        minute_failed=minute[0],
        minute_total=minute[1],
        odds=chance,
        before_failed=before_failed,
        before_total=before_total,
        before_s=before.length,
        incidents_s=sight.incidents_s,
        is_enough=failed >= thresholds.enough and failed_seconds >= thresholds.enough_seconds,
        is_big=total > 0 and total * thresholds.big <= failed * 100,
        is_new=is_worse((failed, total), minute, WORSE_TIMES) and (failed >= thresholds.new * worst or is_jump),
        is_not_luck=chance < thresholds.luck,
        thresholds=thresholds,
    )


def _filled(failed: int, total: int) -> tuple[int, int]:
    missing = max(0, _ASSUMED_TOTAL - total)
    return failed + -(-missing // _ASSUMED_ONE_IN), total + missing


def is_worse(now: tuple[int, int], minute: tuple[int, int], times: float) -> bool:
    """The share that fails is `times` the last minute's or more (cross-multiplied: no division by an empty minute)."""
    (failed, total), (minute_failed, minute_total) = now, minute
    return failed > 0 and failed * minute_total >= times * minute_failed * total


def sentence(judgement: Judgement, at_s: int, pool: str, *, requests: str = "requests") -> str:
    """One line for people. `at_s` is seconds since the switch; `requests` says whose."""
    return " ".join(lines(judgement, at_s, pool, requests=requests))


def lines(judgement: Judgement, at_s: int, pool: str, *, requests: str = "requests") -> tuple[str, ...]:
    """A sentence each: what failed, then what follows from it and why."""
    return (f"t+{at_s}s: {numbers(judgement, pool, requests)}.", *answers(judgement))


def numbers(look: Judgement, pool: str, requests: str) -> str:
    share = look.failed / look.total if look.total else 0.0
    how = (_HOW | _HOW_OWN if requests == OWN else _HOW)[look.kind]
    what = f"{look.failed} of {look.total} {requests} to {pool} {how}"
    return f"{what} in the last {look.window_s} s ({share:.1%})"


def answers(look: Judgement) -> tuple[str, ...]:
    """Why this is no spike, if it is none; then what was before, and the odds: a sentence each."""
    if not look.failed:
        return ()
    missing = "; ".join(_missing(look))
    refusal = (f"Not rolled back yet: {missing}.",) if missing else ()
    return (*refusal, *compared(look))


def compared(look: Judgement) -> tuple[str, str]:
    """What was before, and the odds."""
    return _before(look), f"The probability that this is chance is {one_in(look.odds)}."


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
        yield f"not {need.new:g} times as many failures as before" if _is_worse_now(look) else "the last minute before was as bad"
    if not look.is_not_luck:
        yield f"the failures may be chance (less than 1 in {1 / need.luck:,.0f} needed)"


def _is_worse_now(look: Judgement) -> bool:
    return is_worse((look.failed, look.total), (look.minute_failed, look.minute_total), WORSE_TIMES)


def _before(look: Judgement) -> str:
    """The comparison that decided: with the worst stretch, or with the last minute's share where that did."""
    if not look.before_s:
        return "There is no history to compare with" + (f", only an incident of {look.incidents_s} s." if look.incidents_s else ".")
    but = f" (without {look.incidents_s} s of incidents)" if look.incidents_s else ""
    is_given_up = look.kind is Failure.GIVEN_UP
    how, now, failures = ("were given up", "are", "of them") if is_given_up else ("failed", "fail", "failures")
    whole = f"In the {look.before_s} s before{but}, {look.before_failed} of {look.before_total} requests {how}"
    if look.failed and not _is_worse_now(look):
        return f"{whole}; in the last minute {look.minute_failed} of {look.minute_total}."
    if look.is_new and look.failed < look.thresholds.new * look.worst:
        minute = f"{look.minute_failed} of {look.minute_total} in the last minute of it"
        return f"{whole}, {minute}. Now at least half {now}, {look.thresholds.new:g} times that share or more."
    if not look.before_failed:
        return f"{whole}."
    most = "at most" if look.stretch_s < look.before_s else "which makes"
    return f"{whole}, {most} {look.worst:.0f} {failures} in {look.stretch_s} s."


def one_in(chance: float) -> str:
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

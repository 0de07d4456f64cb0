"""What a watch saw, kept for the report: requests by pool and by the second, and how long they took. Its size is bounded."""

from collections.abc import Iterable, Sequence
from math import ceil

from upswitch.basics.value import Value
from upswitch.watch.history import Second
from upswitch.watch.rule import Judgement, one_in

BEFORE_S = 120
"""Seconds before the switch that are kept."""
MOST_POINTS = 600
"""Of one segment; a longer watch is kept in steps of several seconds."""
LATENCY_STEP_S = 5
MOST_TIMES = 500
"""Requests of one pool and one step whose times count."""
_SLOWEST = 0.95


class Segment(Value):
    """Requests to one pool, in steps of `step_s` seconds from `begin_s` on; 0 is when the watch began, before it is negative.

    The lists have a number a step; those of failures are empty where nothing failed in that way.
    """

    pool: str
    begin_s: float
    step_s: float
    total: tuple[int, ...]
    gateway: tuple[int, ...] = ()
    hung: tuple[int, ...] = ()
    app: tuple[int, ...] = ()

    @property
    def failures(self) -> tuple[int, ...]:
        """Of each step, however they failed."""
        kinds = [each or (0,) * len(self.total) for each in (self.gateway, self.hung, self.app)]
        return tuple(map(sum, zip(*kinds, strict=True)))


class Latency(Value):
    """How long a sample of the requests to one pool took, in the LATENCY_STEP_S seconds from `at_s` on. Milliseconds."""

    pool: str
    at_s: int
    requests: int
    median_ms: int
    slowest_ms: int
    """95 % of them were as fast or faster."""


class Answer(Value):
    """One question of the rule, its answer, and the numbers behind it."""

    question: str
    numbers: str
    is_yes: bool


class Seen(Value):
    """What a watch saw. `began` is when it began, `seconds` how long it was.

    `mode` is how requests were told apart (attribution.Mode); or `probes`, where only upswitch's own requests were seen.
    `rule` is what the rule said at the end, a sentence each.
    """

    began: str
    seconds: int
    mode: str
    segments: tuple[Segment, ...]
    latency: tuple[Latency, ...]
    rule: tuple[str, ...]
    answers: tuple[Answer, ...]


def segment(pool: str, seconds: Sequence[Second], *, begin_s: float, step_s: float = 1) -> Segment:
    """In longer steps where there are too many."""
    size = max(1, ceil(len(seconds) / MOST_POINTS))
    steps = [sum(seconds[at : at + size], Second()) for at in range(0, len(seconds), size)]

    def failed(counts: Iterable[int]) -> tuple[int, ...]:
        found = tuple(counts)
        return found if any(found) else ()

    return Segment(
        pool=pool,
        begin_s=round(begin_s, 1),
        step_s=round(step_s * size, 2),
        total=tuple(each.total for each in steps),
        gateway=failed(each.gateway for each in steps),
        hung=failed(each.hung for each in steps),
        app=failed(each.app for each in steps),
    )


class Times:
    """How long requests took, by pool and by step. Seconds are those of `Seen`."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, int], list[float]] = {}

    def add(self, pool: str, at_s: int, time_s: float) -> None:
        kept = self._times.setdefault((pool, at_s // LATENCY_STEP_S * LATENCY_STEP_S), [])
        if len(kept) < MOST_TIMES:
            kept.append(time_s)

    @property
    def latency(self) -> tuple[Latency, ...]:
        """In the order of time; of so many steps at most."""
        found = sorted(self._times.items(), key=lambda each: (each[0][1], each[0][0]))
        return tuple(_latency(pool, at_s, sorted(times)) for (pool, at_s), times in found[-MOST_POINTS:])


def _latency(pool: str, at_s: int, times: Sequence[float]) -> Latency:
    last = len(times) - 1
    return Latency(
        pool=pool,
        at_s=at_s,
        requests=len(times),
        median_ms=round(times[last // 2] * 1000),
        slowest_ms=round(times[ceil(last * _SLOWEST)] * 1000),
    )


def answers(look: Judgement) -> tuple[Answer, ...]:
    """The rule's four questions. A release is rolled back where all four answers are yes."""
    need, share = look.thresholds, look.failed / look.total if look.total else 0.0
    seconds = "1 second" if look.failed_seconds == 1 else f"{look.failed_seconds} different seconds"
    many = f"{look.failed}, in {seconds}," if look.failed else "none"
    before = f"at most {look.worst:.0f} in {look.stretch_s} s before" if look.before_s else "there is no history"
    return (
        Answer(
            question=f"Are there at least {need.enough} failures, in at least {need.enough_seconds} different seconds?",
            numbers=f"{many} in the last {look.window_s} s",
            is_yes=look.is_enough,
        ),
        Answer(
            question=f"Did at least {need.big:g} % of the requests fail?",
            numbers=f"{look.failed} of {look.total} ({share:.1%})",
            is_yes=look.is_big,
        ),
        Answer(
            question=f"Are these at least {need.new:g} times as many failures as before?",
            numbers=f"{look.failed} now, {before}",
            is_yes=look.is_new,
        ),
        Answer(
            question=f"Is the probability that this is chance under 1 in {1 / need.luck:,.0f}?",
            numbers=f"the probability is {one_in(look.odds)}" if look.failed else "there is no failure",
            is_yes=look.is_not_luck,
        ),
    )

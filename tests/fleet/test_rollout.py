"""Several hosts as one switch: each in a thread of its own, here by hand instead of by the machine."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from upswitch.basics.result import Result, Took
from upswitch.fleet.switching import Rollout
from upswitch.hosts.clock import Interrupts, SystemClock
from upswitch.hosts.host import Clock
from upswitch.site.model import SpikePolicy, Watch
from upswitch.switch.machine import Step
from upswitch.switch.session import Meeting, Turn
from upswitch.watch.history import History, Second
from upswitch.watch.probation import Probation
from upswitch_lab.process import until

OK = Took(result=Result.OK, said="")
BAD = Took(result=Result.FAILED, said="it broke")
BUSY = History(seconds=(Second(total=1000),) * 300)
QUIET = History(seconds=(Second(total=20),) * 600)


class Later(SystemClock):
    """Some seconds pass at each look."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.at, self.seconds = 0.0, seconds

    def monotonic(self) -> float:
        self.at += self.seconds
        return self.at


class Story:
    """What happened on all hosts, in its order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        with self._lock:
            self.lines.append(line)


def probation(*seconds: Second, history: History = BUSY) -> Probation:
    return Probation(
        pool="B", history=history, servers=(), log_mode="generation", silent_after=0.0, seconds=seconds, at_s=len(seconds)
    )


def rollout(
    *waves: str,
    on_spike: SpikePolicy = SpikePolicy.ROLLBACK,
    story: Story | None = None,
    clock: Clock | None = None,
    interrupts: Interrupts | None = None,
) -> Rollout:
    told = story or Story()
    return Rollout(
        [wave.split() for wave in waves],
        Watch(on_spike=on_spike),
        clock=clock or SystemClock(),
        interrupts=interrupts or Interrupts(),
        tell=lambda step, said, **_: told.add(f"{step} {said}"),
    )


def play(found: Rollout, hosts: dict[str, Callable[[Turn], object]]) -> dict[str, object]:
    """Every host's part in a thread of its own; what each gave."""

    def part(name: str) -> object:
        try:
            return hosts[name](found.turn(name))
        finally:
            found.ended(name, "")

    with ThreadPoolExecutor(len(hosts)) as pool:
        return dict(zip(hosts, pool.map(part, hosts), strict=True))


def switching(story: Story, name: str) -> Callable[[Turn], object]:
    """A host on which all goes well."""

    def part(turn: Turn) -> object:
        stopped = turn.meet(Meeting.LOCK)
        if stopped:
            return stopped
        turn.meet(Meeting.LOCKED)
        story.add(f"{name} prepared")
        never = turn.meet(Meeting.PREPARED)
        if never:
            return never
        story.add(f"{name} switched")
        turn.saw(Step.SWAP, OK)
        while not turn.passed():
            if stop := turn.heard(probation(Second(total=10))):
                story.add(f"{name} back")
                return stop
        story.add(f"{name} passed")
        turn.judged()
        return None

    return part


def test_nothing_is_switched_before_all_are_prepared_and_waves_follow_each_other():
    story = Story()
    names = ["a", "b", "c", "d"]
    found = play(rollout("a", "b c", "d", story=story), {name: switching(story, name) for name in names})
    assert set(found.values()) == {None}
    order = story.lines.index
    assert max(order(f"{name} prepared") for name in names) < order("a switched")
    assert order("a switched") < min(order("b switched"), order("c switched")) < order("d switched")
    assert max(order("b switched"), order("c switched")) < order("d switched")
    assert order("d switched") < min(order(f"{name} passed") for name in names)
    assert [line for line in story.lines if " of 3: " in line] == ["wave 1 of 3: a", "wave 2 of 3: b, c", "wave 3 of 3: d"]


def test_one_that_cannot_be_prepared_leaves_all_others_as_they_are():
    story = Story()

    def broken(turn: Turn) -> object:
        turn.meet(Meeting.LOCK)
        turn.meet(Meeting.LOCKED)
        turn.saw(Step.GATE, BAD)
        return None

    found = play(rollout("a", "b", "c"), {"a": switching(story, "a"), "b": broken, "c": switching(story, "c")})
    assert found["a"].result is found["c"].result is Result.FAILED
    assert "b: gate: it broke" in found["a"].said
    assert not any(line.endswith("switched") for line in story.lines)


def test_a_failure_in_the_second_wave_turns_the_first_one_too_and_the_third_is_never_begun():
    story = Story()

    def failing(turn: Turn) -> object:
        turn.meet(Meeting.LOCKED)
        assert turn.meet(Meeting.PREPARED) is None
        turn.saw(Step.CONFIRM, BAD)
        return None

    found = play(rollout("a", "b", "c"), {"a": switching(story, "a"), "b": failing, "c": switching(story, "c")})
    assert found["a"].said == "b: confirm: it broke"
    assert found["c"].said == "not switched, because of b: confirm: it broke"
    assert "a back" in story.lines
    assert "c switched" not in story.lines


def test_a_hold_holds_all_where_they_are():
    def held(turn: Turn) -> object:
        turn.meet(Meeting.LOCKED)
        turn.meet(Meeting.PREPARED)
        turn.saw(Step.WATCH, Took(result=Result.HOLD, said="a spike"))
        return None

    found = play(rollout("a", "b"), {"a": switching(Story(), "a"), "b": held})
    assert found["a"].result is Result.HOLD


def test_a_reload_that_may_have_happened_stops_nobody():
    found = rollout("a", "b")
    found.turn("a").saw(Step.RELOAD, Took(result=Result.UNKNOWN, said="cut off"))
    assert found.turn("b").meet(Meeting.CHANGE) is None
    found.turn("a").saw(Step.SWAP, Took(result=Result.UNKNOWN, said="cut off"))
    assert found.turn("b").meet(Meeting.CHANGE).result is Result.FAILED


def test_failures_that_are_too_few_on_each_host_are_a_spike_together():
    found = rollout("a b c d", clock=Later())
    alone = probation(*(Second(total=20, gateway=1),) * 3, history=QUIET)
    assert not alone.look().is_spike
    for name in "abcd":
        found.turn(name).heard(alone)
    assert "switched hosts together: t+3s ROLLBACK" in found.turn("a").meet(Meeting.CHANGE).said


def test_the_first_host_decides_who_locks_and_the_others_give_up_with_it():
    found = rollout("a b c")

    def part(name: str) -> object:
        try:
            return found.turn(name).meet(Meeting.LOCK)
        finally:
            found.ended(name, "locked by somebody" if name == "a" else "")

    with ThreadPoolExecutor(3) as pool:
        a, b, c = pool.map(part, "abc")
    assert a is None
    for other in (b, c):
        assert "a: locked by somebody" in other.said


def test_a_signal_ends_the_wait_for_a_wave():
    interrupts = Interrupts()
    interrupts.count, interrupts.name = 1, "SIGTERM"
    found = rollout("a", "b", interrupts=interrupts)
    assert found.turn("b").meet(Meeting.PREPARED).result is Result.INTERRUPTED


@pytest.mark.parametrize("policy", SpikePolicy)
def test_a_pooled_spike_does_what_the_site_says(policy):
    found = rollout("a b", on_spike=policy, clock=Later())
    bad = probation(*(Second(total=10, gateway=9),) * 5)
    for name in "ab":
        found.turn(name).heard(bad)
    assert found.turn("a").meet(Meeting.CHANGE).result is (Result.HOLD if policy is SpikePolicy.HOLD else Result.FAILED)


def test_once_all_have_passed_a_later_failure_is_that_hosts_own():
    found = rollout("a b")
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(lambda name: found.turn(name).meet(Meeting.PREPARED), "ab")) == {None}
    assert [found.turn(name).passed() for name in "aba"] == [False] * 3
    assert found.turn("b").passed()
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(lambda name: found.turn(name).judged(), "ab")) == {None}
    found.turn("b").saw(Step.WATCH, BAD)
    assert found.turn("a").meet(Meeting.CHANGE) is None
    assert found.turn("a").passed()


def test_a_host_that_passed_and_fell_silent_holds_the_end_up_until_its_own_watch_fails():
    found = rollout("a", "b")
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(found.turn("b").meet, Meeting.PREPARED)
        assert found.turn("a").meet(Meeting.PREPARED) is None
        assert not found.turn("a").passed()
        assert waiting.result(10) is None
    assert not any(found.turn("b").passed() for _ in range(5))
    found.turn("a").saw(Step.WATCH, Took(result=Result.UNKNOWN, said="connection lost"))
    assert found.turn("b").meet(Meeting.CHANGE).result is Result.FAILED


def test_a_host_with_nothing_to_do_keeps_its_lock_until_the_others_are_done():
    story, found = Story(), rollout("a b")

    def standing_by(turn: Turn) -> object:
        turn.meet(Meeting.UNCHANGED)
        story.add("a unlocks")
        return None

    def last(turn: Turn) -> object:
        assert turn.meet(Meeting.PREPARED) is None
        until(turn.passed, what="the end of the watch")
        story.add("b is judged")
        turn.judged()
        return None

    play(found, {"a": standing_by, "b": last})
    assert story.lines == ["b is judged", "a unlocks"]


def test_a_judged_host_waits_for_the_others():
    story, found = Story(), rollout("a b")

    def first(turn: Turn) -> object:
        turn.judged()
        story.add("a goes on")
        return None

    def last(turn: Turn) -> object:
        until(lambda: "a" in found._judged, what="the first one's verdict")
        story.add("b is judged")
        turn.judged()
        return None

    play(found, {"a": first, "b": last})
    assert story.lines == ["b is judged", "a goes on"]


def test_a_host_that_never_ends_its_watch_turns_the_others_back():
    found = rollout("a b", clock=Later(seconds=20))
    assert found.turn("a").judged().said == "b: no answer since its watch passed"
    assert found.turn("b").judged().result is Result.FAILED


def test_a_watch_that_fails_while_others_wait_at_its_end_turns_them_back():
    found = rollout("a b")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(found.turn("a").judged)
        found.turn("b").saw(Step.WATCH, BAD)
        assert waiting.result(10).said == "b: watch: it broke"


def test_the_last_one_missing_that_ends_in_a_failure_turns_those_who_wait_back():
    found = rollout("a b")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(found.turn("a").judged)
        until(lambda: "a" in found._judged, what="the first one's verdict")
        found.ended("b", "it broke")
        assert waiting.result(10).said == "b: it broke"

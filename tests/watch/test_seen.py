"""What a watch keeps for the report: bounded, and with the numbers that were seen."""

from hypothesis import given
from hypothesis import strategies as st

from upswitch.watch.history import History, Second
from upswitch.watch.rule import judge
from upswitch.watch.seen import MOST_POINTS, MOST_TIMES, Times, answers, segment

SECONDS = st.builds(Second, total=st.integers(0, 99), gateway=st.integers(0, 9), app=st.integers(0, 9))


@given(st.lists(SECONDS, max_size=2500))
def test_a_segment_of_any_length_is_bounded_and_loses_no_request(seconds):
    found = segment("B", seconds, begin_s=0)
    assert len(found.total) <= MOST_POINTS
    assert sum(found.total) == sum(each.total for each in seconds)
    assert sum(found.failures) == sum(each.failures for each in seconds)
    assert found.step_s * len(found.total) >= len(seconds)


def test_the_times_of_requests_are_kept_by_pool_and_step_as_their_middle_and_what_most_are_under():
    times = Times()
    for number in range(100):
        times.add("B", 7, number / 1000)
    times.add("A", -1, 0.5)
    first, last = times.latency
    assert (first.pool, first.at_s, first.median_ms) == ("A", -5, 500)
    assert (last.pool, last.at_s, last.requests, last.median_ms, last.slowest_ms) == ("B", 5, 100, 49, 95)


def test_a_flood_of_times_is_a_sample():
    times = Times()
    for _ in range(MOST_TIMES * 3):
        times.add("B", 0, 0.001)
    assert times.latency[0].requests == MOST_TIMES


def test_the_four_answers_are_those_of_the_rule():
    before = History(seconds=(Second(total=100),) * 300)
    bad = judge(before, [Second(total=100, gateway=50)] * 10)
    assert [each.is_yes for each in answers(bad)] == [*bad.answers.values()] == [True] * 4
    assert answers(bad)[1].numbers == "500 of 1000 (50.0%)"
    good = answers(judge(before, [Second(total=100)] * 10))
    assert [each.is_yes for each in good] == [False] * 4
    assert good[0].numbers == "none in the last 10 s"

"""The watch rule by table, by property and by seeded simulation."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import loglines
from upswitch.basics.result import Failure
from upswitch.logs.line import compile_format
from upswitch.watch import ending
from upswitch.watch.attribution import Attribution
from upswitch.watch.ending import Final, finish
from upswitch.watch.history import History, Second, added, added_histories
from upswitch.watch.rule import judge, looks, odds, sentence


def seconds(total, failed, times=1):
    return (Second(total=total, gateway=failed),) * times


CLEAN = History(seconds=seconds(100, 0, 600))


def test_the_sentence_is_that_of_the_design():
    failing = {*range(0, 300, 12), 100, 101, 102, 6, 18}  # 30 of them, at most 4 in 10 s
    before = [Second(total=99, gateway=at in failing) for at in range(300)]
    before[0] += Second(total=29846 - 300 * 99)
    since = [Second(total=104, gateway=2)] * 6 + [Second(total=104, gateway=1), Second(total=101)]
    assert sentence(judge(History(seconds=tuple(before)), since), 8, "B") == (
        "t+8s: 13 of 829 requests to B failed (502/503/504) in the last 8 s (1.6%). "
        "In the 300 s before, 30 of 29846 requests failed, at most 4 failures in 10 s. "
        "The probability that this is chance is 1 in 15,461,999,885."
    )


@pytest.mark.parametrize(
    ("since", "missing"),
    [
        (seconds(100, 2, 2), "enough"),
        ((*seconds(100, 50), *seconds(100, 0)), "enough"),
        ((*seconds(10_000, 40), *seconds(10_000, 40)), "big"),
    ],
)
def test_a_spike_needs_every_answer(since, missing):
    look = judge(CLEAN, since)
    assert not look.is_spike
    assert not getattr(look, f"is_{missing}")


def test_five_of_a_hundred_after_a_thousand_good_ones_may_be_luck():
    look = judge(History(seconds=seconds(100, 0, 10)), (*seconds(50, 3), *seconds(50, 2)))
    assert (look.is_enough, look.is_big, look.is_new, look.is_not_luck) == (True, True, True, False)
    assert not look.is_spike


@pytest.mark.parametrize(
    ("history", "failed", "total"),
    [((), 1, 1000), (seconds(9, 0, 111), 1, 1000), (seconds(5, 1, 100), 101, 1000), (seconds(10, 1, 100), 100, 1000)],
)
def test_a_history_of_under_a_thousand_requests_is_filled_up_with_a_whole_failure(history, failed, total):
    assert judge(History(seconds=history), seconds(10, 9, 2)).odds == odds(18, 20, failed, total)


def test_five_failures_in_two_seconds_after_a_clean_history_are_a_spike():
    assert judge(CLEAN, (*seconds(100, 3), *seconds(100, 2))).is_spike


def test_bursts_that_the_site_always_had_are_no_spike_but_elevated_when_certain():
    bursty = History(seconds=(seconds(100, 0, 590) + seconds(100, 4, 5) + seconds(100, 0, 5)))
    look = judge(bursty, seconds(100, 11, 5))
    assert (look.worst, look.failed, look.is_new, look.is_elevated) == (20, 55, False, True)
    assert judge(bursty, seconds(100, 12, 5)).is_spike


def test_a_dead_pool_is_a_spike_even_after_a_worse_burst_long_ago():
    history = History(seconds=seconds(100, 100, 9) + seconds(10, 0, 580))
    look = judge(history, seconds(10, 10, 10))
    assert look.is_new
    assert look.failed < 3 * look.worst
    assert "0 of 600 in the last minute of it. Now at least half fail, 3 times that share or more." in sentence(look, 10, "B")


def test_an_outage_that_was_there_before_the_switch_is_not_the_new_pools():
    assert not judge(History(seconds=seconds(10, 10, 600)), seconds(10, 10, 60)).is_new


def test_without_any_history_five_failures_of_five_are_a_spike_and_of_a_thousand_are_not():
    assert judge(History(), (*seconds(3, 3), *seconds(2, 2))).is_spike
    assert not judge(History(), (*seconds(500, 3), *seconds(500, 2))).is_spike


def test_a_short_history_is_scaled_up_to_the_stretch():
    assert judge(History(seconds=seconds(100, 1, 5)), seconds(100, 2, 20)).worst in {10, 20}
    assert judge(History(seconds=seconds(100, 1, 600)), seconds(100, 2, 3600)).stretch_s in {10, 60, 3600}


def test_a_slow_rot_shows_in_the_long_windows_only():
    since = [second for _ in range(30) for second in (*seconds(30, 1), *seconds(30, 0))]
    look = judge(CLEAN, since)
    assert look.is_spike
    assert look.window_s == 60


def test_hung_clients_are_judged_apart_and_named():
    since = (Second(total=5, hung=3), Second(total=5, hung=3))
    look = judge(CLEAN, since)
    assert (look.kind, look.is_spike) == (Failure.HUNG, True)
    assert "6 of 10 requests to B hung (the client left after 1 s or more without an answer: 499)" in sentence(look, 2, "B")
    assert not judge(CLEAN, (Second(total=5, hung=2, gateway=2), Second(total=5, hung=2, gateway=2))).failed > 4


@pytest.mark.parametrize(
    ("since", "seen", "final"),
    [
        (seconds(100, 0, 60), {"has_log": True, "new": 6000, "former": 0, "probes": 0}, Final.KEEP),
        (seconds(10_000, 5, 60), {"has_log": True, "new": 600_000, "former": 0, "probes": 0}, Final.KEEP_ELEVATED),
        (seconds(1, 1, 2), {"has_log": True, "new": 2, "former": 0, "probes": 0}, Final.HELD),
        (seconds(1, 1, 1), {"has_log": True, "new": 1, "former": 0, "probes": 0}, Final.UNPROVEN),
        (seconds(0, 0, 60), {"has_log": True, "new": 29, "former": 0, "probes": 0}, Final.UNPROVEN),
        (seconds(0, 0, 60), {"has_log": True, "new": 1, "former": 0, "probes": 120}, Final.KEEP),
        (seconds(0, 0, 60), {"has_log": True, "new": 0, "former": 20, "probes": 0}, Final.NOT_SWITCHED),
        (seconds(0, 0, 60), {"has_log": True, "new": 0, "former": 19, "probes": 0}, Final.UNPROVEN),
        (seconds(0, 0, 60), {"has_log": False, "new": 0, "former": 0, "probes": 0}, Final.BLIND),
    ],
)
def test_a_watch_without_a_spike_ends_by_what_it_saw(since, seen, final):
    assert finish(judge(CLEAN, since), ending.last(CLEAN, since, since), **seen) is final


def test_a_spike_is_no_ending_to_keep():
    with pytest.raises(ValueError, match="spike"):
        finish(judge(CLEAN, seconds(10, 10, 5)), ending.last(CLEAN, (), ()), has_log=True, new=50, former=0, probes=0)


# ---- incidents: what came once is not what a site always has ----

QUIET, BROKEN = seconds(100, 0), seconds(100, 60)


def test_a_release_that_fails_after_an_incident_of_the_former_pool_is_a_spike():
    history = History(seconds=QUIET * 588 + BROKEN * 12)
    look = judge(history, seconds(100, 95, 2))
    assert (look.is_spike, look.incidents_s, look.before_failed) == (True, 12, 0)
    assert "In the 588 s before (without 12 s of incidents), 0 of 58800 requests failed." in sentence(look, 2, "B")
    look = judge(history, seconds(100, 15, 10))
    assert not look.is_spike
    assert "the last minute before was as bad" in sentence(look, 10, "B")


@pytest.mark.parametrize(
    ("before", "is_usual"),
    [
        (QUIET * 300 + BROKEN * 9 + QUIET * 291, True),  # short enough to be a burst
        (QUIET * 300 + BROKEN * 10 + QUIET * 290, False),
        (QUIET * 300 + (BROKEN + QUIET * 2) * 4 + QUIET * 288, False),  # bad seconds that are 3 s apart are one run
        ((BROKEN * 12 + QUIET * 100) * 2, False),
        ((BROKEN * 12 + QUIET * 100) * 3, True),  # they recur
        (QUIET * 290 + BROKEN * 310, True),  # most of the time
        (seconds(100, 9, 600), True),
    ],
)
def test_what_lasts_and_does_not_recur_is_an_incident(before, is_usual):
    assert (judge(History(seconds=before), seconds(100, 0, 10)).incidents_s == 0) is is_usual


# ---- the end of a watch looks at what is ----


@pytest.mark.parametrize(
    ("before", "since", "final"),
    [
        (seconds(100, 100, 600), seconds(100, 100, 60), Final.HELD),
        (seconds(100, 60, 600), seconds(100, 50, 60), Final.HELD),
        (seconds(100, 60, 600), seconds(100, 49, 60), Final.KEEP),  # the former pool failed more
        (seconds(100, 10, 600), seconds(100, 25, 60), Final.HELD),
        (seconds(100, 10, 600), seconds(100, 25, 30) + seconds(100, 9, 30), Final.KEEP_ELEVATED),  # the last 30 s are better
        (
            seconds(100, 0, 590) + seconds(100, 15, 9),
            seconds(100, 0, 50) + seconds(100, 11, 10),
            Final.KEEP_ELEVATED,
        ),  # a usual burst
        (seconds(1, 0, 600), seconds(1, 0, 57) + seconds(1, 1, 3), Final.KEEP),
        (seconds(1, 0, 600), (*seconds(0, 0, 57), *seconds(1, 1, 3)), Final.HELD),
    ],
)
def test_a_pool_that_fails_its_last_requests_is_held_whatever_came_before(before, since, final):
    history = History(seconds=before)
    look, end = judge(history, since), ending.last(history, since, since)
    assert finish(look, end, has_log=True, new=6000, former=0, probes=0) is final


def test_what_is_elevated_can_be_accepted_and_half_can_not():
    history = History(seconds=seconds(100, 20, 600))
    for failed, final in ((25, Final.KEEP_ELEVATED), (50, Final.HELD)):
        since = seconds(100, failed, 60)
        look, end = judge(history, since), ending.last(history, since, since)
        assert finish(look, end, has_log=True, new=6000, former=0, probes=0, accepts_elevated=True) is final


def test_all_ways_to_fail_count_together_at_the_end():
    since = (Second(total=90, gateway=15, hung=15, app=15),) * 60
    assert ending.last(History(seconds=since * 10), since, since).failed == 450


def test_errors_of_the_app_are_judged_apart_and_named():
    since = (Second(total=100, app=3, gateway=1),) * 4
    look = judge(CLEAN, since)
    assert (look.kind, look.is_spike, look.failed, look.total) == (Failure.APP, True, 12, 396)
    assert "12 of 396 requests to B failed in the app (500 or another 5xx, 009, or cut short)" in sentence(look, 4, "B")


def counts(most_failed):
    return st.builds(
        lambda ok, gateway, hung, app: Second(total=ok + gateway + hung + app, gateway=gateway, hung=hung, app=app),
        st.integers(0, 100),
        *[st.integers(0, most_failed)] * 3,
    )


SINCE = st.lists(counts(20) | counts(3), max_size=80)
HISTORY = st.builds(
    lambda some: History(seconds=tuple(some)), st.lists(counts(20), max_size=100) | st.lists(counts(1), max_size=100)
)
FAILED = {
    Failure.GATEWAY: Second(total=1, gateway=1),
    Failure.HUNG: Second(total=1, hung=1),
    Failure.APP: Second(total=1, app=1),
}


@st.composite
def worse(draw, some):
    """More failures, of either kind, in any of the seconds: requests that had passed, or requests more."""
    seconds = list(some)
    for _ in range(draw(st.integers(1, 4)) if seconds else 0):
        place, failed = draw(st.integers(0, len(seconds) - 1)), FAILED[draw(st.sampled_from(list(FAILED)))]
        times = draw(st.integers(1, 50) | st.integers(1000, 100_000))
        passed = min(times, seconds[place].failed(Failure.NONE)) if draw(st.booleans()) else 0
        more = sum([failed] * times, seconds[place])
        seconds[place] = replace(more, total=more.total - passed)
    return seconds


@given(HISTORY, SINCE, st.data())
def test_more_failures_never_turn_a_rollback_into_a_keep(history, since, data):
    was_spike = judge(history, since).is_spike
    assert judge(history, data.draw(worse(since))).is_spike or not was_spike


@given(HISTORY, SINCE, st.data())
def test_more_failures_in_the_minute_before_never_turn_a_keep_into_a_rollback_unless_they_make_an_incident(history, since, data):
    noisier = History(seconds=tuple(data.draw(worse(history.seconds))))
    look = judge(noisier, since)
    assert judge(history, since).is_spike or look.incidents_s or not look.is_spike


def test_hung_clients_are_no_served_ones_after_the_switch_or_before():
    since = [Second(total=250, gateway=3), Second(total=350, gateway=3)]
    assert judge(CLEAN, since).is_spike
    assert judge(CLEAN, [since[0], since[1] + Second(total=400, hung=400)]).is_spike
    hanging = History(seconds=(Second(total=100, hung=100), Second(total=100, gateway=1)) * 60)
    served = History(seconds=(Second(), Second(total=100, gateway=1)) * 60)
    assert judge(hanging, since).odds == judge(served, since).odds


def test_generated_watches_are_often_spikes_and_often_not():
    """What keeps the properties above from being true of nothing."""
    found = Counter()

    @settings(max_examples=150, database=None, derandomize=True)
    @given(HISTORY, SINCE)
    def look(history, since):
        found[judge(history, since).is_spike] += 1

    look()
    assert min(found[True], found[False]) > 30


@st.composite
def seen_by_hosts(draw):
    """Lines of a few seconds, and for each the host that saw it."""
    lines = st.sampled_from([*LINES, *LINES[1:3]])
    return draw(st.lists(st.lists(st.tuples(lines, st.integers(0, 2)), max_size=30), max_size=6))


READER = compile_format("$upstream_addr $upstream_status $status $request_time $upstream_header_time")
LINES = (
    b"b:1 200 200 0.010 0.010",
    b"b:1 502 502 0.001 -",
    b"b:1 - 499 2.000 -",
    b"a:1 502 502 0.001 -",
    b"x:1 200 200 0.1 0.1",
    b"\xff",
)
OURS = Attribution(addresses=frozenset({"b:1"}), former_addresses=frozenset({"a:1"}))


def counted(lines):
    return loglines.counted(READER, OURS, loglines.joined(lines))


@given(st.lists(st.sampled_from(LINES), max_size=40).flatmap(lambda lines: st.tuples(st.just(lines), st.permutations(lines))))
def test_the_order_of_the_lines_within_a_second_does_not_matter(both):
    as_written, shuffled = map(counted, both)
    assert shuffled == as_written
    assert as_written.lines == len(both[0])


@given(seen_by_hosts(), seen_by_hosts())
def test_several_hosts_are_judged_as_one_that_saw_all(before, after):
    def second_by_second(seen, hosts):
        return tuple(counted(line for line, host in lines if host in hosts).new for lines in seen)

    one = judge(History(seconds=second_by_second(before, {0, 1, 2})), second_by_second(after, {0, 1, 2}))
    histories = [History(seconds=second_by_second(before, {host})) for host in range(3)]
    assert judge(added_histories(histories), added(second_by_second(after, {host}) for host in range(3))) == one


@given(st.lists(HISTORY, min_size=1, max_size=3), st.lists(SINCE, min_size=1, max_size=3))
def test_the_counts_of_hosts_add_up(histories, sinces):
    whole, together = added_histories(histories), added(sinces)
    assert sum(whole.seconds, Second()) == sum((second for each in histories for second in each.seconds), Second())
    assert sum(together, Second()) == sum((second for each in sinces for second in each), Second())
    assert judge(whole, together) == judge(added_histories(reversed(histories)), added(reversed(sinces)))
    for back in range(1, len(whole.seconds) + 1):
        assert whole.seconds[-back] == sum((each.seconds[-back] for each in histories if len(each.seconds) >= back), Second())


@given(HISTORY, SINCE)
def test_what_is_printed_is_one_printable_line(history, since):
    assert sentence(judge(history, since), len(since), "B").isprintable()


def noisy(chance, total, share):
    return Second(total=total, gateway=sum(chance.random() < share for _ in range(total)))


def test_a_dead_pool_at_10_requests_a_second_is_found_within_3_seconds_in_every_run():
    chance = random.Random(1)
    for _ in range(200):
        history = History(seconds=tuple(noisy(chance, 10, 0.005) for _ in range(60)))
        assert any(judge(history, seconds(10, 10, at)).is_spike for at in (1, 2, 3))


def test_a_dead_pool_on_a_quiet_site_with_two_probes_a_second_is_found_in_3_seconds():
    assert judge(History(seconds=seconds(0, 0, 590) + seconds(1, 0, 10)), seconds(2, 2, 3)).is_spike


def test_steady_noise_of_half_a_percent_never_fires_in_300_runs():
    chance = random.Random(2)
    pool = [noisy(chance, 40, 0.005) for _ in range(20_000)]
    for _ in range(300):
        history = History(seconds=tuple(chance.choices(pool, k=300)))
        since = chance.choices(pool, k=40)
        assert not any(look.is_spike for look in looks(history, since))

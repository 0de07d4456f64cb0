"""The watch rule by table, by property and by seeded simulation."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.core.rule import Failure, Final, History, Second, Seen, added, added_histories, finish, judge, sentence


def seconds(total, failed, times=1):
    return (Second(total=total, gateway=failed),) * times


CLEAN = History(seconds=seconds(100, 0, 600))


def test_the_sentence_is_that_of_the_design():
    failing = {*range(0, 300, 12), 100, 101, 102, 6, 18}  # 30 of them, at most 4 in 10 s
    before = [Second(total=99, gateway=at in failing) for at in range(300)]
    before[0] += Second(total=29846 - 300 * 99)
    since = [Second(total=104, gateway=2)] * 6 + [Second(total=104, gateway=1), Second(total=101)]
    assert sentence(judge(History(seconds=tuple(before)), since), 8, "B") == (
        "t+8s ROLLBACK: 13 of 829 requests to B failed (502/503/504) in the last 8 s (1.6%)"
        " | enough yes (13 in 7 s, need 5 in 2) | big yes (need 1%)"
        " | new yes (worst 10 s before: 4, need 3x) | not luck yes (1 in 15,461,999,885) | before: 30 of 29846 in 300 s"
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


def test_five_failures_in_two_seconds_after_a_clean_history_are_a_spike():
    assert judge(CLEAN, (*seconds(100, 3), *seconds(100, 2))).is_spike


def test_bursts_that_the_site_always_had_are_no_spike_but_elevated_when_certain():
    bursty = History(seconds=(seconds(100, 0, 590) + seconds(100, 4, 5) + seconds(100, 0, 5)))
    look = judge(bursty, seconds(100, 11, 5))
    assert (look.worst, look.failed, look.is_new, look.is_elevated) == (20, 55, False, True)
    assert judge(bursty, seconds(100, 12, 5)).is_spike


def test_a_dead_pool_is_a_spike_even_after_a_worse_burst_long_ago():
    history = History(seconds=seconds(100, 100, 20) + seconds(10, 0, 580))
    look = judge(history, seconds(10, 10, 10))
    assert look.is_new
    assert look.failed < 3 * look.worst
    assert "new yes (at least half, and 3x the last minute before: 0 of 600)" in sentence(look, 10, "B")


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
    assert "6 of 10 requests to B hung (499 after 1 s or more with no answer)" in sentence(look, 2, "B")
    assert not judge(CLEAN, (Second(total=5, hung=2, gateway=2), Second(total=5, hung=2, gateway=2))).failed > 4


@pytest.mark.parametrize(
    ("since", "seen", "final"),
    [
        (seconds(100, 0, 60), Seen(has_log=True, new=6000, former=0, probes=0), Final.KEEP),
        (seconds(10_000, 5, 60), Seen(has_log=True, new=600_000, former=0, probes=0), Final.KEEP_ELEVATED),
        (seconds(0, 0, 60), Seen(has_log=True, new=29, former=0, probes=0), Final.UNPROVEN),
        (seconds(0, 0, 60), Seen(has_log=True, new=1, former=0, probes=120), Final.KEEP),
        (seconds(0, 0, 60), Seen(has_log=True, new=0, former=20, probes=0), Final.NOT_SWITCHED),
        (seconds(0, 0, 60), Seen(has_log=True, new=0, former=19, probes=0), Final.UNPROVEN),
        (seconds(0, 0, 60), Seen(has_log=False, new=0, former=0, probes=0), Final.BLIND),
    ],
)
def test_a_watch_without_a_spike_ends_by_what_it_saw(since, seen, final):
    assert finish(judge(CLEAN, since), seen) is final


def test_a_spike_is_no_ending_to_keep():
    with pytest.raises(ValueError, match="spike"):
        finish(judge(CLEAN, seconds(10, 10, 5)), Seen(has_log=True, new=50, former=0, probes=0))


SECOND = st.builds(
    lambda ok, gateway, hung: Second(total=ok + gateway + hung, gateway=gateway, hung=hung),
    st.integers(0, 50),
    st.integers(0, 20),
    st.integers(0, 20),
)
SINCE = st.lists(SECOND, max_size=80)
HISTORY = st.builds(lambda some: History(seconds=tuple(some)), st.lists(SECOND, max_size=100))


@given(HISTORY, SINCE, st.data())
def test_more_failures_never_turn_a_rollback_into_a_keep(history, since, data):
    was = judge(history, since)
    able = [place for place, second in enumerate(since) if second.gateway + second.hung < second.total]
    if not able:
        return
    place = data.draw(st.sampled_from(able))
    second = since[place]
    worse = [*since[:place], Second(total=second.total, gateway=second.gateway + 1, hung=second.hung), *since[place + 1 :]]
    if was.is_spike and was.kind is Failure.GATEWAY:
        assert judge(history, worse).is_spike
    more = [*since[:place], second + Second(total=1, hung=1), *since[place + 1 :]]
    if was.is_spike and was.kind is Failure.HUNG:
        assert judge(history, more).is_spike


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
        assert not any(judge(history, since[:at]).is_spike for at in range(2, 41, 2))

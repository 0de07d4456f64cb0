"""The arithmetic of the blackout, against the modules' timers played through."""

import random
from heapq import heapreplace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.health import nginx_check
from upswitch.site.model import Check, CheckType

QUICK = 1.0  # ms that a check takes


def seconds_to_up(check, *, servers, workers, dice, takes=QUICK):
    """One start: each worker looks after random() % max(interval, 1000) ms, then every half interval, and checks what is due."""
    return min(_up(check, workers, dice, takes) for _ in range(servers)) / 1000


def _up(check, workers, dice, takes):
    looks = sorted(dice.random() * max(check.interval_ms, 1000) for _ in range(workers))
    result = float("-inf")
    for _ in range(check.rise):
        while True:
            now = heapreplace(looks, looks[0] + check.interval_ms / 2)
            if now >= result + check.interval_ms:
                break
        result = now + takes
    return result


def starts(check, *, servers=1, workers=1, times=600, takes=QUICK):
    dice = random.Random(1)
    return [seconds_to_up(check, servers=servers, workers=workers, dice=dice, takes=takes) for _ in range(times)]


def test_the_configuration_this_project_comes_from_is_dark_for_up_to_two_minutes():
    check = Check(type=CheckType.TCP, interval_ms=30000, rise=3, fall=3, timeout_ms=30000)
    assert nginx_check.blackout_of(check, servers=2, workers=1) == nginx_check.Blackout(worst=120.0, likely=100.0)


@pytest.mark.parametrize(
    ("check", "worst"),
    [
        (Check(), 75.0),
        (Check(interval_ms=1000, rise=1), 1.0),
        (Check(interval_ms=1000, rise=3), 4.0),
        (Check(interval_ms=200, rise=1), 1.0),
        (Check(interval_ms=200, rise=3), 1.6),
        (Check(default_down=False), 0.0),
    ],
)
def test_the_worst_is_the_first_look_and_the_widest_gaps(check, worst):
    assert nginx_check.blackout_of(check, servers=1, workers=1).worst == pytest.approx(worst)


def test_without_default_down_nothing_is_dark_and_the_proof_takes_as_long_as_ever():
    check = Check(default_down=False)
    assert nginx_check.blackout_of(check, servers=4, workers=4) == nginx_check.NO_BLACKOUT
    assert nginx_check.longest_to_up(check) == nginx_check.longest_to_up(Check())


def test_the_deadline_counts_every_check_with_its_whole_timeout():
    assert nginx_check.longest_to_up(Check(interval_ms=1000, rise=3, timeout_ms=500)) == pytest.approx(4.0 + 3 * 0.5)


@pytest.mark.parametrize("workers", [1, 2, 4, 16])
@pytest.mark.parametrize("servers", [1, 2, 10])
@pytest.mark.parametrize(("interval", "rise"), [(1000, 2), (1000, 3), (30000, 1), (30000, 3), (300, 3)])
def test_the_likely_seconds_are_the_mean_of_many_starts(interval, rise, servers, workers):
    check = Check(interval_ms=interval, rise=rise)
    found = starts(check, servers=servers, workers=workers)
    assert nginx_check.blackout_of(check, servers=servers, workers=workers).likely == pytest.approx(
        sum(found) / len(found), rel=0.1
    )


@given(
    interval=st.integers(min_value=1, max_value=60000),
    rise=st.integers(min_value=1, max_value=6),
    workers=st.integers(min_value=1, max_value=8),
    part=st.floats(min_value=0, max_value=1),
)
def test_no_server_takes_longer_than_the_bound_whatever_its_checks_take(interval, rise, workers, part):
    check = Check(interval_ms=interval, rise=rise, timeout_ms=2 * interval)
    takes = part * check.timeout_ms
    slowest = max(starts(check, workers=workers, times=20, takes=takes))
    assert slowest <= nginx_check.longest_to_up(check) + 1e-6
    assert slowest <= nginx_check.blackout_of(check, servers=1, workers=workers).worst + (rise * takes) / 1000 + 1e-6


def test_the_worst_is_nearly_reached():
    check = Check(interval_ms=1000, rise=3)
    assert max(starts(check)) > 0.99 * nginx_check.blackout_of(check, servers=1, workers=1).worst


@given(workers=st.integers(min_value=1, max_value=64), servers=st.integers(min_value=1, max_value=64), rise=st.integers(1, 20))
def test_more_servers_and_more_workers_never_make_it_longer_and_likely_is_never_over_worst(workers, servers, rise):
    check = Check(rise=rise)
    here = nginx_check.blackout_of(check, servers=servers, workers=workers)
    more = nginx_check.blackout_of(check, servers=servers + 1, workers=workers + 1)
    assert more.likely <= here.likely <= here.worst

"""The odds against exact fractions."""

import time
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.watch.rule import odds


def exact(failed, total, before_failed, before_total):
    everything, all_failed = total + before_total, failed + before_failed
    worse = range(failed, min(total, all_failed) + 1)
    ways = sum(comb(total, some) * comb(before_total, all_failed - some) for some in worse)
    return Fraction(ways, comb(everything, all_failed))


def test_the_printed_example_of_the_design_is_1_in_15461999885():
    assert int(1 / odds(13, 829, 30, 29846)) == 15_461_999_885


@st.composite
def stretches(draw):
    total, before = draw(st.integers(0, 300)), draw(st.integers(0, 300))
    return draw(st.integers(0, total)), total, draw(st.integers(0, before)), before


@given(stretches())
def test_the_odds_are_those_of_exact_fractions_or_one_where_nothing_is_above_expectation(counts):
    failed, total, before_failed, before_total = counts
    is_above = failed * (total + before_total) > (failed + before_failed) * total
    expected = float(exact(*counts)) if is_above else 1.0
    assert odds(*counts) == pytest.approx(expected, rel=1e-9)


@given(stretches())
def test_one_more_failure_never_raises_the_odds(counts):
    failed, total, *before = counts
    if failed < total:
        assert odds(failed + 1, total, *before) <= odds(*counts) * (1 + 1e-9)


@pytest.mark.parametrize(
    "counts", [(50_010_000, 10**8, 50_000_000, 10**8), (5_000_300, 50_000_000, 5_000_000, 50_000_000), (10**6, 10**8, 0, 10**8)]
)
def test_a_hundred_million_requests_are_judged_in_a_tenth_of_a_second(counts):
    start = time.process_time()
    assert 0.0 <= odds(*counts) < 0.5
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (0, 10, 0, 10), (10, 10, 0, 0), (1, 10, 1, 10), (3, 100, 6, 100)])
def test_what_is_not_above_expectation_is_luck(counts):
    assert odds(*counts) == 1.0

"""A server's answer can't make a match run for ever."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from upswitch.site.values import compiled


def test_a_body_that_would_block_a_backtracking_matcher_is_searched_at_once():
    assert not compiled(r"^(a+)+$|ok").is_in("a" * 65536 + "!")
    assert compiled(r"release \d+").is_in("this is release 7")


@pytest.mark.parametrize("pattern", ["(", r"(?=x)", r"(a)\1"])
def test_a_pattern_that_can_not_be_matched_in_linear_time_is_refused(pattern):
    with pytest.raises(ValueError, match=r"\w"):
        compiled(pattern)


@pytest.mark.parametrize("pattern", ["((a{100}){100}){100}", "a{1001}", "(a{2,40}){,30}"])
def test_a_pattern_that_would_take_minutes_to_compile_is_refused(pattern):
    with pytest.raises(ValueError, match="more than 1000 repeats"):
        compiled(pattern)


def test_the_text_may_be_empty_or_hold_any_character():
    assert compiled("^$").is_in("")
    assert compiled("é.$").is_in("\ufffd\0 éé")
    assert not compiled("x").is_in("\ufffd")


def test_threads_may_search_with_one_pattern_at_once():
    pattern, text = compiled(r"needle \d$"), "hay" * 20000 + "needle 7"
    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(pattern.is_in, [text] * 500))

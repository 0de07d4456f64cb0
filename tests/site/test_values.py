"""Which regular expressions a site file may hold."""

import pytest

from upswitch.site.values import pattern


@pytest.mark.parametrize("text", ["", r"^release \d+$", r"(?<=v)7(?!\d)", r"(a)\1", "é", "[0-9]{1,1000}"])
def test_a_pattern_may_use_all_that_python_does(text):
    assert pattern(text) == text


@pytest.mark.parametrize("text", ["(", "[", r"\L<x>", "(" * 5000 + ")" * 5000])
def test_a_pattern_that_is_no_regular_expression_is_refused(text):
    with pytest.raises(ValueError, match=r"must be a regular expression \("):
        pattern(text)


@pytest.mark.parametrize("text", ["((a{100}){100}){100}", "a{1001}", "(a{40,}){30}", "(?x)a{ 1000 000 }"])
def test_a_pattern_that_would_take_gigabytes_to_compile_is_refused(text):
    with pytest.raises(ValueError, match="at most 1000 repeats"):
        pattern(text)

"""What a server says can't make a match run for ever."""

import pytest

from upswitch.site.allowed import compiled


def test_a_body_that_hangs_a_backtracking_matcher_is_matched_at_once():
    assert compiled(r"^(a+)+$|ok").search("a" * 65536 + "!") is None
    assert compiled(r"release \d+").search("this is release 7") is not None


@pytest.mark.parametrize("pattern", ["(", r"(?=x)", r"(a)\1"])
def test_a_pattern_that_can_not_be_matched_in_linear_time_is_refused(pattern):
    with pytest.raises(ValueError, match=r"\w"):
        compiled(pattern)

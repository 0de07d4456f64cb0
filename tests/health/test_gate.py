"""The gate's rule: rise, fall and default_down as the check module counts them, and its two additions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.health import gate
from upswitch.health.gate import begin, down, observe, serves, verdict
from upswitch.site.model import CheckType, GateRule, Probe, Target, Verdict


def rule(*, rise=2, fall=3, default_down=True, interval=1.0, deadline=20.0):
    return GateRule(
        type=CheckType.TCP,
        rise=rise,
        fall=fall,
        default_down=default_down,
        timeout=1.0,
        interval=interval,
        deadline=deadline,
        port=0,
        http_send="",
        http_expect_alive=(),
        expect_body="",
    )


def target(a_rule, *, upstream="app", server="10.0.0.1:80"):
    return Target(upstream=upstream, server=server, address=server, rule=a_rule)


def tally_of(answers, a_rule, **names):
    (tally,) = begin([target(a_rule, **names)])
    for answer in answers:
        tally = observe(tally, Probe(ok=answer == "+", error="" if answer == "+" else "refused"))
    return tally


@pytest.mark.parametrize(
    ("answers", "default_down", "is_up"),
    [
        ("", True, False),
        ("", False, True),
        ("+", True, False),
        ("++", True, True),
        ("+-+", True, False),
        ("+-++", True, True),
        ("++--", True, True),
        ("++---", True, False),
        ("++--+--", True, True),
        ("++---+", True, False),
        ("++---++", True, True),
        ("--", False, True),
        ("---", False, False),
        ("--+--", False, True),
    ],
)
def test_a_server_rises_and_falls_as_the_module_has_it(answers, default_down, is_up):
    assert tally_of(answers, rule(default_down=default_down)).is_up is is_up


@given(st.text("+-", max_size=60), st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_up_is_what_the_last_run_of_rise_or_fall_like_answers_says(answers, rise, fall, default_down):
    ups, downs = answers.rfind("+" * rise), answers.rfind("-" * fall)
    want = (not default_down) if ups == downs == -1 else ups > downs
    tally = tally_of(answers, rule(rise=rise, fall=fall, default_down=default_down))
    assert (tally.is_up, tally.ok, tally.failed) == (want, answers.count("+"), answers.count("-"))
    assert abs(tally.streak) == len(answers) - len(answers.rstrip(answers[-1:] or "+"))


@given(st.text("+-", max_size=40), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_no_server_passes_that_never_answered_and_none_is_failed_that_still_could(answers, rise, fall, default_down):
    a_rule = rule(rise=rise, fall=fall, default_down=default_down, deadline=40.0)
    tally = tally_of(answers, a_rule)
    elapsed = float(len(answers))
    said = verdict([tally], elapsed=elapsed)
    if said is Verdict.PASS:
        assert tally.ok
    if said is Verdict.FAIL:
        rest = "+" * int(a_rule.deadline - elapsed)
        assert not any(
            verdict([tally_of(answers + rest[:more], a_rule)], elapsed=elapsed + more) is Verdict.PASS
            for more in range(1, len(rest))
        )


@pytest.mark.parametrize(
    ("answers", "elapsed", "said"),
    [
        ("++", 1.0, Verdict.PASS),
        ("++", 99.0, Verdict.PASS),  # proved before anyone looked at the clock
        ("+", 1.0, Verdict.RUNNING),
        ("-" * 5, 5.0, Verdict.RUNNING),  # there is time for two successes
        ("-" * 18, 18.0, Verdict.RUNNING),
        ("-" * 19, 19.0, Verdict.FAIL),  # two more probes would end after the deadline
        ("-" * 17 + "+-", 19.0, Verdict.RUNNING),  # not down for `fall` probes: wait for the deadline
        ("-+" * 10, 20.0, Verdict.FAIL),
        ("", 20.0, Verdict.FAIL),
    ],
)
def test_the_verdict_waits_as_long_as_there_is_hope(answers, elapsed, said):
    assert verdict([tally_of(answers, rule())], elapsed=elapsed) is said


def test_a_server_that_starts_up_must_have_answered_once():
    tally = tally_of("--", rule(default_down=False))
    assert (tally.is_up, verdict([tally], elapsed=1.0)) == (True, Verdict.RUNNING)
    assert verdict([observe(tally, Probe(ok=True))], elapsed=2.0) is Verdict.PASS


def test_one_server_that_is_down_keeps_the_gate_shut_and_is_named():
    up, bad = tally_of("++", rule()), tally_of("--", rule(), server="10.0.0.2:80")
    assert verdict([up, bad], elapsed=2.0) is Verdict.RUNNING
    assert verdict([up, bad], elapsed=20.0) is Verdict.FAIL
    assert down([up, bad]) == (bad,)
    assert bad.text == "app 10.0.0.2:80 is unhealthy: 0 of 2 checks passed; refused"


def test_a_pool_serves_when_every_upstream_has_a_server_that_answers_now():
    answering, silent = tally_of("-+", rule()), tally_of("+-", rule())
    other = tally_of("-", rule(), upstream="api")
    assert serves([answering, silent])
    assert not serves([silent])
    assert not serves([answering, other])
    assert serves([answering, tally_of("+", rule(), upstream="api")])
    assert not serves(gate.begin([target(rule(default_down=False))]))  # nobody has asked yet


def test_what_was_wrong_is_said_with_the_first_bytes_of_the_body():
    tally = observe(begin([target(rule())])[0], Probe(ok=False, error="HTTP/1.1 500", head="Oops"))
    assert tally.text == 'app 10.0.0.1:80 is unhealthy: 0 of 1 checks passed; HTTP/1.1 500; the body began "Oops"'
    assert observe(tally, Probe(ok=True)).text == "app 10.0.0.1:80 is healthy so far: 1 of the 2 checks in a row that it needs"


def test_a_server_that_went_down_says_how_many_failed_in_a_row():
    tally = tally_of("+++++---", rule())
    assert tally.text == "app 10.0.0.1:80 is unhealthy: 5 of 8 checks passed, the last 3 failed (fall=3); refused"

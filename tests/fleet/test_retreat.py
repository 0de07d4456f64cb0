"""Where a rollback of several hosts leads."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from upswitch.basics.errors import RefusedError
from upswitch.fleet.going_back import Retreat, SplitError, going
from upswitch.hosts.clock import SystemClock
from upswitch.switch.session import Stand

FIRST, NEWEST = "20261121T100000-aaaaaa", "20261121T110000-bbbbbb"
SWITCHED = Stand(run=NEWEST, pool="B", before="A")
NEVER_REACHED = Stand(run=FIRST, pool="A", before="B")
BACK_ALREADY = Stand(run=NEWEST, pool="A", before="B", is_back=True)
BY_INIT = Stand(run="", pool="A", before="")


@pytest.mark.parametrize(
    ("stands", "goers"),
    [
        ([SWITCHED, SWITCHED], {0, 1}),
        ([SWITCHED, NEVER_REACHED, NEVER_REACHED], {0}),
        ([SWITCHED, BACK_ALREADY], {0}),
        ([SWITCHED, BY_INIT], {0}),
        ([BACK_ALREADY, BACK_ALREADY], {0, 1}),
        ([NEVER_REACHED, NEVER_REACHED], {0, 1}),
    ],
)
def test_the_newest_run_is_taken_back_where_it_is_live_and_nowhere_else(stands, goers):
    found = going({f"lb{number}": stand for number, stand in enumerate(stands)})
    assert found == {f"lb{number}" for number in goers}


def test_hosts_that_would_serve_different_pools_are_refused():
    with pytest.raises(SplitError, match="A on lb1; C on lb2"):
        going({"lb1": SWITCHED, "lb2": Stand(run=NEWEST, pool="B", before="C")})


def test_every_host_hears_the_same_and_a_dead_one_is_not_waited_for():
    retreat = Retreat(frozenset({"lb1", "lb2", "lb3"}), clock=SystemClock())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(retreat.turn("lb1").goes_back, SWITCHED)
        second = pool.submit(retreat.turn("lb2").goes_back, NEVER_REACHED)
        retreat.ended("lb3", "it can't be reached")
        assert (first.result(10), second.result(10)) == (True, False)


def test_a_disagreement_is_a_refusal_on_every_host():
    retreat = Retreat(frozenset({"lb1", "lb2"}), clock=SystemClock())
    with ThreadPoolExecutor(2) as pool:
        found = [
            pool.submit(retreat.turn(name).goes_back, stand)
            for name, stand in (("lb1", SWITCHED), ("lb2", Stand(run=NEWEST, pool="B", before="C")))
        ]
        for each in found:
            with pytest.raises(RefusedError, match="different pools"):
                each.result(10)

"""The gate over time: when the checks of a server began to pass or to fail."""

from upswitch.health import gate
from upswitch.health.timeline import MOST_SERVERS, MOST_SPANS, Checked, Timeline
from upswitch.site.model import Dialect, Gate, Probe, Target, Upstream, effective_check

UPSTREAM = Upstream(name="app", pools=())
UPSTREAM = Upstream(name="app", pools=())
UP, DOWN, UNMADE = Probe(ok=True), Probe(ok=False, error="refused"), Probe(ok=False, is_unknown=True, error="no socket")


def servers(number: int = 1):
    rule = effective_check(UPSTREAM, Gate(), Dialect.NONE)
    return gate.begin(Target(upstream="app", server=f"10.0.0.{each}:80", address="", rule=rule) for each in range(number))


def after(*rounds: Probe):
    seen, timeline = servers(), Timeline("B")
    for at_s, probe in enumerate(rounds):
        seen = tuple(gate.observe(each, probe) for each in seen)
        timeline.add(seen, at_s=at_s)
    return [(span.at_s, span.state) for span in timeline.lines[0].spans]


def test_a_span_begins_where_the_checks_change():
    assert after(DOWN, DOWN, UP, UP, UNMADE, UP) == [
        (0, Checked.FAILED),
        (2, Checked.PASSED),
        (4, Checked.UNKNOWN),
        (5, Checked.PASSED),
    ]


def test_a_server_that_is_not_asked_again_stays_healthy():
    healthy, timeline = tuple(gate.observe(each, UP) for each in servers()), Timeline("A")
    for at_s in range(3):
        timeline.add(healthy, at_s=at_s)
    assert [span.state for span in timeline.lines[0].spans] == [Checked.PASSED]


def test_a_server_that_flaps_and_a_pool_of_any_size_keep_a_bounded_timeline():
    assert len(after(*[UP, DOWN] * MOST_SPANS)) == MOST_SPANS
    timeline = Timeline("B")
    timeline.add(servers(MOST_SERVERS + 9), at_s=0)
    assert len(timeline.lines) == MOST_SERVERS

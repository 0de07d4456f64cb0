"""A run as `report` gets it, made by hand: no nginx is started for what only lays out."""

from datetime import UTC, datetime, timedelta

from upswitch.basics.result import Result, Why
from upswitch.cli.views.report import Format, ReportView, report
from upswitch.health.timeline import Checked, ServerLine, Span
from upswitch.switch.machine import Outcome, Phase, Step
from upswitch.switch.record import CauseKept, Record
from upswitch.switch.run import Closed, Ended, Plan, Run
from upswitch.watch.history import History, Second
from upswitch.watch.rule import judge
from upswitch.watch.seen import Latency, Seen, answers, segment

BEGAN = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
NAME = "20261201T120000-abcdef"
DIFF = """--- 000001-A/app.conf
+++ 000002-B/app.conf
@@ -1,3 +1,3 @@
 upstream app {
-    server 10.0.0.1:80;
+    server 10.0.0.2:80;
 }
"""


def at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def steps(*taken: tuple[Step, Result, float], why: Why = Why.NONE) -> tuple[Ended, ...]:
    """One after the other; the last one that is not OK has the reason."""
    found, now = [], 0.0
    for step, result, seconds in taken:
        now += seconds
        said = f"{step} said so"
        reason = why if result is not Result.OK else Why.NONE
        found.append(Ended(run=NAME, step=step, result=result, said=said, at=at(now), seconds=seconds, why=reason))
    return tuple(found)


SWITCHED = steps(
    (Step.GATE, Result.OK, 2.0),
    (Step.STAGE, Result.OK, 0.1),
    (Step.SWAP, Result.OK, 0.1),
    (Step.RELOAD, Result.OK, 0.1),
    (Step.CONFIRM, Result.OK, 0.7),
    (Step.WATCH, Result.OK, 30.0),
    (Step.FINISH, Result.OK, 0.2),
)


def run(
    phase: Phase = Phase.DONE, taken: tuple[Ended, ...] = SWITCHED, *, outcome: Outcome | None = Outcome.SWITCHED, **plan: str
) -> Run:
    """`outcome` None: it was cut off."""
    values = {"run": NAME, "command": "switch", "pool": "B", "former_pool": "A", "former": "000001-A", "to": "000002-B"}
    made = Plan(**values | {"back": "000003-A", "user": "ada", "reason": "release 7"} | plan)
    said = f"{outcome} to B (generation 000002-B), from A"
    closed = Closed(run=NAME, outcome=outcome, said=said.replace("_", " "), at=at(34)) if outcome else None
    return Run(plan=made, started=at(0), phase=phase, steps=taken, closed=closed)


def record(*, failed: int = 0, diff: str = DIFF, evidence: str = "connect() failed") -> Record:
    """Of a watch of 30 s, in whose last 10 s `failed` requests of each second failed."""
    before = [Second(total=100)] * 120
    since = [Second(total=100)] * 20 + [Second(total=100, gateway=failed)] * 10
    look = judge(History(seconds=tuple(before)), since)
    cause = CauseKept(
        code="refused",
        count=9,
        clients=9,
        servers=("10.0.0.2:80",),
        evidence=evidence,
        why="Nothing listens.",
        check="ss",
        fix="Start it.",
    )
    spans = (Span(at_s=0, state=Checked.FAILED), Span(at_s=1.2, state=Checked.PASSED))
    return Record(
        run=NAME,
        gate_s=2.0,
        gate=(ServerLine(pool="B", upstream="app", server="10.0.0.2:80", said="app 10.0.0.2:80 is healthy", spans=spans),),
        seen=Seen(
            began=at(3),
            seconds=30,
            mode="generation",
            segments=(segment("A", before, begin_s=-121), segment("B", since, begin_s=0)),
            latency=tuple(Latency(pool="B", at_s=each, requests=50, median_ms=3, slowest_ms=20) for each in range(0, 30, 5)),
            rule=("t+30s: 0 of 1000 requests to B failed.",),
            answers=answers(look),
        ),
        watch="t+30s: all is well",
        causes=(cause,) if failed else (),
        diff=diff,
    )


def view(made: Run | None = None, kept: Record | str | None = None, form: Format = Format.TEXT) -> ReportView:
    return report("shop", made or run(), record() if kept is None else kept, form)

"""What the watch of a switch came to."""

from upswitch.basics.result import Result, Why
from upswitch.basics.value import Value
from upswitch.diagnose.finding import Finding
from upswitch.watch.rule import Judgement


class WatchReport(Value):
    """How a watch ended. `final` is `rollback`, or one of ending.Final.

    `findings` are the causes that the logs of those seconds tell, worst first, `reasons` the same in a sentence.
    """

    result: Result
    final: str
    said: str
    pool: str
    seconds: int
    failed: int
    total: int
    mode: str
    judgement: Judgement
    details: tuple[str, ...] = ()
    why: Why = Why.NONE
    peers_down: tuple[str, ...] = ()
    reasons: str = ""
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

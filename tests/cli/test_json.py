"""docs/json.md is a contract: it names every key, and every command prints what it says."""

import typing
from types import NoneType, UnionType

import pytest

from command import upswitch
from jsonpage import documented
from upswitch.basics.errors import Refusal
from upswitch.cli.views import acted, diagnose, fleet, lint, plan, report, sites, status, watch
from upswitch.cli.views.keys import KEYS, getters
from upswitch.diagnose.finding import Finding, Setting
from upswitch.diagnose.host import Asked
from upswitch.diagnose.run import LogRead
from upswitch.generations.generation import Live
from upswitch.health.compare import Compared
from upswitch.health.gate import ServerHealth
from upswitch.health.rounds import GateReport
from upswitch.health.timeline import ServerLine, Span
from upswitch.init.add_log import AddingLog, LogAdded
from upswitch.init.adopt import InitRequest, Proposal
from upswitch.init.apply import Applied
from upswitch.init.found import FoundUpstream
from upswitch.init.leave import Leaving, Left
from upswitch.lint.rules import LintFinding
from upswitch.nginx.drain_lines import DrainLines
from upswitch.switch.drained import DrainReport
from upswitch.switch.plan import Planned
from upswitch.switch.record import CauseKept, Record
from upswitch.switch.run import Ended, Plan, Run
from upswitch.watch.report import WatchReport
from upswitch.watch.seen import Answer, Latency, Seen, Segment
from upswitch_lab.demo import Chapter, DemoView
from upswitch_lab.load import Summary

VIEWS = (
    *(
        acted.Acted,
        plan.PlanView,
        plan.InitView,
        plan.FoundView,
        plan.LeaveView,
        plan.LogView,
        plan.DrainLinesView,
        status.StatusView,
        status.HistoryView,
        status.DrainView,
        report.ReportView,
        lint.LintView,
    ),
    *(
        diagnose.DiagnoseView,
        watch.WatchView,
        fleet.FleetView,
        fleet.HostLine,
        sites.SitesView,
        sites.SiteLine,
        DemoView,
        Chapter,
        Summary,
    ),
)
EMBEDDED = (
    Live,
    GateReport,
    ServerHealth,
    WatchReport,
    Finding,
    Setting,
    Asked,
    Compared,
    Run,
    Ended,
    LintFinding,
    LogRead,
    DrainLines,
    FoundUpstream,
    Refusal,
    ServerLine,
    Span,
    Seen,
    Segment,
    Latency,
    Answer,
    CauseKept,
)
NAMES = {
    kind.__name__: kind
    for kind in (*EMBEDDED, AddingLog, Applied, DrainReport, InitRequest, Leaving, Left, LogAdded, Plan, Planned, Proposal, Record)
}
"""What the views import for type checkers only."""


@pytest.mark.parametrize("kind", [*VIEWS, *EMBEDDED], ids=lambda kind: kind.__name__)
def test_the_page_names_exactly_the_keys_of_each_object(kind):
    assert documented(kind.__name__) == set(getters(kind))


@pytest.mark.parametrize("kind", [kind for kind in (*VIEWS, *EMBEDDED) if kind.__name__ in KEYS], ids=lambda kind: kind.__name__)
def test_behind_each_key_is_an_attribute(kind):
    for word in KEYS[kind.__name__].split():
        here = kind
        for name in word.rpartition("=")[2].split("."):
            here = attribute_of(here, name)


def attribute_of(kind, name):
    """Its class, by the annotation; AssertionError where there is none."""
    hints = typing.get_type_hints(kind, localns=NAMES)
    assert name in hints or isinstance(getattr(kind, name, None), property), f"{kind.__name__} has no {name}"
    found = hints[name] if name in hints else typing.get_type_hints(getattr(kind, name).fget, localns=NAMES)["return"]
    return next(each for each in found.__args__ if each is not NoneType) if isinstance(found, UnionType) else found


def test_every_row_of_the_table_is_of_a_class_that_is_printed():
    assert {kind.__name__ for kind in (*VIEWS, *EMBEDDED)} >= KEYS.keys()


@pytest.mark.parametrize(
    ("words", "view"),
    [
        (["status"], status.StatusView),
        (["plan", "--to", "B"], plan.PlanView),
        (["switch", "--to", "B", "--no-watch"], acted.Acted),
        (["switch", "--to", "C"], acted.Acted),
        (["history"], status.HistoryView),
        (["drain"], status.DrainView),
        (["drain-lines"], plan.DrainLinesView),
        (["lint"], lint.LintView),
        (["repair"], acted.Acted),
        (["rollback"], acted.Acted),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else "",
)
def test_every_command_prints_one_object_of_its_kind(lab, words, view):
    answer = upswitch(lab, *words)
    assert answer.json["exit"] == answer.exit
    assert set(answer.json) == documented(view.__name__)

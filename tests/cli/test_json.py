"""docs/json.md is a contract: it names every key, and every command prints what it says."""

import msgspec
import pytest

from command import upswitch
from jsonpage import documented
from upswitch.cli import views
from upswitch.cli.views import acted, diagnose, fleet, plan, status, watch
from upswitch.diagnose.run import LogRead
from upswitch.switch.run import Ended
from upswitch_lab.demo import Chapter, DemoView
from upswitch_lab.load import Summary

MODULES = (views, acted, plan, status, diagnose, watch, fleet)
NAMED = {name: value for module in MODULES for name, value in vars(module).items() if isinstance(value, type)}
OURS = {
    name: value
    for name, value in NAMED.items()
    if issubclass(value, msgspec.Struct) and value.__module__.startswith(views.__name__) and value is not views.View
}
VIEWS = [*OURS.values(), Ended, LogRead, DemoView, Chapter, Summary]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_the_page_names_exactly_the_keys_of_each_object(view):
    assert documented(view.__name__) == set(view.__struct_fields__)


@pytest.mark.parametrize(
    ("words", "view"),
    [
        (["status"], status.StatusView),
        (["plan", "--to", "B"], plan.PlanView),
        (["switch", "--to", "B", "--no-watch"], acted.Acted),
        (["switch", "--to", "C"], acted.Acted),
        (["history"], status.HistoryView),
        (["drain"], status.DrainView),
        (["lint"], status.LintView),
        (["repair"], acted.Acted),
        (["rollback"], acted.Acted),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else "",
)
def test_every_command_prints_one_object_of_its_kind(lab, words, view):
    answer = upswitch(lab, *words)
    printed = msgspec.json.decode(answer.out, type=view)
    assert printed.exit == answer.exit
    assert set(answer.json) == set(view.__struct_fields__)

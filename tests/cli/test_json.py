"""docs/json.md is a contract: it names every key, and every command prints what it says."""

import re
from pathlib import Path

import msgspec
import pytest

from command import upswitch
from upswitch.basics.value import Value
from upswitch.cli.views import fleet, parts
from upswitch.cli.views import parts as views
from upswitch_lab.load import Summary
from upswitch_lab.told import Chapter, Told

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
STRUCTS = [value for value in vars(views).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)]
VIEWS = [
    *(value for value in STRUCTS if value is not Value),
    fleet.FleetView,
    fleet.HostLine,
    Told,
    Chapter,
    Summary,
]


def documented(name: str) -> set[str]:
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert section, f"docs/json.md has no section {name}"
    first_cells = re.findall(r"^\| (`[^|]*`) \|", section[1], re.MULTILINE)
    return {key for cell in first_cells for key in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_the_page_names_exactly_the_keys_of_each_object(view):
    assert documented(view.__name__) == set(view.__struct_fields__)


@pytest.mark.parametrize(
    ("words", "view"),
    [
        (["status"], parts.StatusView),
        (["plan", "--to", "B"], parts.PlanView),
        (["switch", "--to", "B", "--no-watch"], parts.Acted),
        (["switch", "--to", "C"], parts.Acted),
        (["history"], parts.HistoryView),
        (["drain"], parts.DrainView),
        (["lint"], parts.LintView),
        (["repair"], parts.Acted),
        (["rollback"], parts.Acted),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else "",
)
def test_every_command_prints_one_object_of_its_kind(lab, words, view):
    answer = upswitch(lab, *words)
    printed = msgspec.json.decode(answer.out, type=view)
    assert printed.exit == answer.exit
    assert set(answer.json) == set(view.__struct_fields__)

"""Reasons are values: nothing decides by reading a text, and a person finds every reason on a page."""

import ast
import re

import pytest

from sources import ROOT, sources
from upswitch.basics.result import Why

ROOMS = ("basics", "hosts", "generations", "health", "watch", "switch", "fleet", "init", "cli")
TEXTS = {"said", "headline", "hint", "reason", "reasons", "details", "problems", "findings"}
"""Attributes that hold sentences for people."""
READERS = {"startswith", "endswith", "removeprefix", "removesuffix", "split", "partition", "rpartition", "replace", "find", "index"}
LAYOUT = {
    "cli/views/fleet.py: `view.hint`",  # `-c FILE` is added to the commands of a hint
}
"""Where a text is only drawn."""
PAGES = {page.stem: page.read_text() for page in (ROOT / "playbooks/incident").glob("*.md")}


def is_text(node):
    return isinstance(node, ast.Attribute) and node.attr in TEXTS


def decisions(tree):
    """The texts that something is decided by: compared with words, searched, or taken apart."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            is_re = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
            read = node.args if is_re else [node.func.value] if node.func.attr in READERS else []
            yield from filter(is_text, read)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            is_emptiness = any(isinstance(side, ast.Constant) and side.value == "" for side in sides)
            yield from filter(is_text, [] if is_emptiness else sides)


def test_no_decision_is_made_by_reading_a_text():
    found = {
        f"{path.removeprefix('src/upswitch/')}: `{ast.unparse(node)}`"
        for path, tree in sources().items()
        if path.startswith(tuple(f"src/upswitch/{room}/" for room in ROOMS))
        for node in decisions(tree)
    }
    assert found <= LAYOUT


def named(page):
    """The reasons in the first column of a page's table of reasons."""
    rows = re.search(r"^\| `Why:` \|.*\n\|.*\n((?:\|.*\n)+)", PAGES[page], re.MULTILINE)
    return {Why(word) for row in rows[1].splitlines() for word in re.findall(r"`([a-z_]+)`", row.split("|")[1])}


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if "| `Why:` |" in text])
def test_a_page_names_only_reasons_that_there_are(page):
    assert named(page)


def test_every_reason_is_on_a_page_that_an_ending_leads_to():
    tables = {page for page, text in PAGES.items() if "| `Why:` |" in text}
    assert tables == {"refused", "rolled-back", "stuck", "held"}
    found = {why for page in tables for why in named(page)} | {
        Why(word) for word in re.findall(r"`Why: (\w+)`", "".join(PAGES.values()))
    }
    assert found == {*Why} - {Why.NONE}

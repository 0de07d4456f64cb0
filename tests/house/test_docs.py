"""What the pages say is true: examples parse, links lead somewhere, and every page that the program names is there."""

import re
from pathlib import Path

import pytest

from upswitch.cli.main import COMMANDS
from upswitch.site.read import parse_site

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("playbooks/**/*.md"),
]


def test_the_example_of_every_key_is_a_site_file():
    page = (ROOT / "docs" / "site-file.md").read_text()
    text = re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1]
    assert parse_site(text).pools == ("A", "B")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_readme_names_every_command():
    readme = (ROOT / "README.md").read_text()
    assert not [name for name in COMMANDS if f"`{name}" not in readme]


def test_the_readme_is_short():
    assert (ROOT / "README.md").read_text().count("\n") < 200


def test_every_file_that_the_page_of_the_code_names_is_there():
    page = (ROOT / "docs" / "code.md").read_text()
    named = re.findall(r"`((?:src|tests|playbooks|bench|scripts)/[^`]+|[A-Z]+\.md)`", page)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_tree_and_the_import_rule_of_that_page_are_those_of_the_code():
    page = (ROOT / "docs" / "code.md").read_text()
    tree, rule = re.findall(r"```\n(.*?)```", page, re.DOTALL)[:2]
    rooms = {path.parent.name for path in ROOT.glob("src/upswitch/*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/", tree, re.MULTILINE)) == rooms
    assert set(re.findall(r"\w+", rule)) == rooms


def test_nothing_that_a_person_reads_has_the_words_that_an_operator_would_have_to_learn():
    stilted = re.compile(r"\b([Ww]hom|[Mm]end(s|ed|ing)?|so does the disk|asked past|wrong words|took itself back|of nobody's)\b")
    folders = [path for name in ("src", "docs", "playbooks", "templates") for path in (ROOT / name).rglob("*")]
    texts = [path for path in folders if path.suffix in {".py", ".sh", ".md", ".j2", ".yml"}]
    found = {path: stilted.search(path.read_text()) for path in (*texts, *ROOT.glob("*.md"))}
    assert {path.relative_to(ROOT).as_posix(): word[0] for path, word in found.items() if word} == {}

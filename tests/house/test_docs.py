"""What the pages say is true: examples parse, links lead somewhere, and every page that the program names is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumps import TEMP_PATHS, real_dump
from upswitch.cli.main import COMMANDS
from upswitch.site.read import parse_site
from upswitch_lab.process import free_port

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("playbooks/**/*.md"),
]

RECORDED = {"README.md": "upswitch ", "tour.md": "$ "}
"""How the commands of these pages begin that scripts/record_tour.py runs."""
COMMAND = re.compile(r" *(\$ |- run: |(sudo|upswitch|switch|git|pipx|uv|docker|podman|nginx|systemctl|journalctl|ssh|ansible\S*) )")


def test_the_example_of_every_key_is_a_site_file():
    page = (ROOT / "docs" / "site-file.md").read_text()
    text = re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1]
    assert parse_site(text).pools == ("A", "B")


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Of each block: the last line before it, its language and its text."""
    before = language = ""
    inside: list[str] | None = None
    for line in page.read_text().splitlines(keepends=True):
        if not line.lstrip(" ").startswith("```"):
            if inside is not None:
                inside.append(line)
            elif line.strip():
                before = line.strip()
        elif inside is None:
            inside, language = [], line.strip("` \n")
        else:
            yield before, language, "".join(inside)
            inside, before = None, ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_commands_is_run_or_says_why_it_is_not(page):
    runs = re.findall(r"^ *<!-- run by: (\S+) -->$", page.read_text(), re.MULTILINE)
    assert [path for path in runs if not (ROOT / path).exists()] == []
    commands = [(before, text) for before, language, text in blocks(page) if language != "console" and COMMAND.match(text)]
    bare = [text for before, text in commands if not re.fullmatch(r"<!-- (run by|not run): .+ -->", before)]
    unknown = [text for text in bare if not text.lstrip().startswith(RECORDED.get(page.name, "\n"))]
    assert unknown == [], "make it a console block (tests/lab/pagestates.py), or write a comment before it"


@pytest.mark.parametrize("page", [path for path in PAGES if path.parent.name == "docs"], ids=lambda page: page.name)
def test_every_site_file_of_a_page_is_one(page):
    texts = [text for _, language, text in blocks(page) if language == "toml" and "[upstreams." in text]
    assert [len(parse_site(text).pools) for text in texts] == [2] * len(texts)


def test_nginx_takes_every_block_of_its_configuration(one_nginx, tmp_path):
    free = free_port("127.0.0.1")
    texts = [text for page in PAGES for _, language, text in blocks(page) if language == "nginx"]
    assert texts
    pool = 'map "" $upswitch_shop_pool { default blue; } upstream shop { server 127.0.0.1:9001; }'
    for text in texts:
        conf = f"pid p; events {{}} http {{ {TEMP_PATHS} access_log off; {pool} {text} }}".replace("listen 80;", f"listen {free};")
        real_dump(one_nginx, tmp_path, {"nginx.conf": conf, "fastcgi_params": ""})


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

"""The documentation site is built without a warning, asks nothing of the net, and has a page for everything that upswitch names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from upswitch.cli.commands.help import pages
from upswitch.cli.main import COMMANDS
from upswitch.diagnose.causes import catalogue as causes
from upswitch.lint.catalogue import catalogue as rules

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^"'\s>]+""")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Links that lead nowhere, unknown anchors and pages beside the navigation are warnings, and a warning ends the build."""
    folder = tmp_path_factory.mktemp("site")
    argv = (sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder))
    built = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_the_site_has_a_page_for_each_command_cause_rule_and_topic_of_help(site):
    parts = {"commands": COMMANDS, "causes": causes().causes, "rules": rules()}
    wanted = {f"reference/{part}/{name}.html" for part, names in parts.items() for name in names}
    incidents = {f"playbooks/incident/{path.stem}.html" for path in pages().values() if path.parent.name == "incident"} - {
        "playbooks/incident/README.html"
    }
    topics = {f"{path.stem}.html" for path in pages().values() if path.parent.name == "docs"}
    assert sorted(name for name in wanted | incidents | topics if not (site / name).exists()) == []


def test_no_page_of_the_site_loads_anything_from_the_net(site):
    texts = {path: path.read_text() for path in site.rglob("*.html")}
    assert len(texts) > 200
    assert {path.name: found[0] for path, text in texts.items() if (found := LINK.search(text))} == {}


def test_a_key_of_the_site_file_has_its_kind_its_default_and_the_words_of_the_example(site):
    row = next(
        line for line in (site / "reference" / "site-keys.html").read_text().split("<tr>") if "<code>on_spike</code>" in line
    )
    cells = re.findall(r"<td[^>]*>(.*?)</td>", re.sub(r"</?code>", "", row))
    assert cells == ["on_spike", '"hold": exit 7, and a person decides', "rollback, hold", '"rollback"']


def test_every_page_of_docs_is_in_the_navigation():
    named = set(re.findall(r"[\w-]+\.md", yaml.dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])))
    assert {path.name for path in ROOT.glob("docs/*.md")} <= named

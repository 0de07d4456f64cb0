"""The wheel brings all that the program reads, and runs away from the checkout, as pipx and `uv tool` install it."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from upswitch.cli import man
from upswitch.cli.commands.help import pages

ROOT = Path(__file__).parents[2]
CODE = ("src/upswitch", "src/upswitch_lab")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    argv = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    built = subprocess.run(argv, capture_output=True, check=False, text=True, cwd=ROOT, timeout=60)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def test_a_wheel_has_every_file_of_the_code_the_pages_the_playbooks_and_the_templates_and_what_man_reads(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    code = [path.relative_to(ROOT / "src") for folder in CODE for path in (ROOT / folder).rglob("*") if path.is_file()]
    more = [path.relative_to(ROOT) for folder in ("docs", "playbooks", "templates") for path in (ROOT / folder).rglob("*")]
    wanted = {str(path) for path in code if "__pycache__" not in path.parts}
    wanted |= {f"upswitch/{path}" for path in more if (ROOT / path).is_file()}
    data = next(name for name in names if ".data/" in name).partition("/")[0]
    wanted |= {f"{data}/data/share/man/man1/{page}" for page in man.pages()}
    assert sorted(wanted - names) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["help", "connect_refused"], "Found by lines of nginx's error log"),
        (["help", "php-fpm"], "# php-fpm"),
        (["schema"], "The site file of upswitch"),
    ],
)
def test_what_is_installed_from_the_wheel_runs_by_itself(wheel, tmp_path, words, says):
    """The packages that it needs are this environment's."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]; from upswitch.cli.main import main; main()"
    argv = (sys.executable, "-S", "-P", "-c", program, str(tmp_path), sysconfig.get_path("purelib"), *words)
    ran = subprocess.run(argv, capture_output=True, check=False, text=True, cwd=tmp_path, timeout=30, env=os.environ)
    assert (ran.returncode, says in ran.stdout) == (0, True), ran.stderr


def test_each_topic_of_help_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"upswitch/{path.relative_to(ROOT)}" for path in pages().values()} <= names

"""The demo, played for real."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

from upswitch_lab.find import ENV, find_nginx
from upswitch_lab.process import until

ONE = find_nginx()[:1]
needs_nginx = pytest.mark.skipif(not ONE, reason=f"no nginx here: run scripts/setup, or set {ENV}")


class Place:
    """A folder that a root's nginx can look into as nobody, and a mark by which every process started in it is known."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="upswitch-demo-test-"))
        self.folder.chmod(0o755)
        self.mark = f"UPSWITCH_DEMO_TEST={uuid.uuid4()}"
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *options: str) -> subprocess.Popen[str]:
        name, _, value = self.mark.partition("=")
        demo = subprocess.Popen(
            (sys.executable, "-m", "upswitch", "demo", *options),
            env={**os.environ, "TMPDIR": str(self.folder), name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._started.append(demo)
        return demo

    def close(self) -> None:
        """Nothing stays behind of a test that failed."""
        for demo in self._started:
            with demo:
                demo.terminate()
        shutil.rmtree(self.folder)

    @property
    def processes(self) -> list[int]:
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if self.mark.encode() in _environment(folder)]


def _environment(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def place():
    place = Place()
    yield place
    place.close()


@needs_nginx
def test_a_good_release_loses_nothing_and_a_bad_one_is_taken_back_by_itself(place):
    demo = place.start("--json", "--nginx", ONE[0][1])
    told = json.loads(demo.communicate(timeout=300)[0])
    chapters = {chapter["name"]: chapter for chapter in told["chapters"]}
    assert (demo.returncode, told["exit"], told["differs"]) == (0, 0, [])
    assert [chapter["exit"] for chapter in chapters.values()] == [0, 0, 4, 0, 0]
    assert [chapter["pool"] for chapter in chapters.values()] == ["A", "B", "B", "A", "B"]
    bad = chapters.pop("bad release")
    assert {chapter["failed"] for chapter in chapters.values()} == {0}
    assert all(chapter["requests"] > 100 for chapter in chapters.values())
    assert bad["failed"] == told["load"]["failed"] > 0
    assert 0 < told["suffered_s"] < 5
    assert "ROLLBACK" in told["rule"]
    assert "upstream_premature_close" in told["reason"]
    assert told["history"].count(" -> ") == 4
    assert (told["pool"], told["load"]["lost"]) == ("B", 0)
    assert not place.processes
    assert not list(place.folder.iterdir())


@needs_nginx
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cut_off_in_the_middle_of_a_command_it_leaves_no_process_and_no_folder(place, number):
    demo = place.start("--nginx", ONE[0][1])
    assert demo.stdout is not None
    next(line for line in demo.stdout if line.startswith("$ upswitch status"))
    assert len(place.processes) > 5
    demo.send_signal(number)
    demo.communicate(timeout=30)
    assert demo.returncode == 130
    until(lambda: not place.processes, what="the end of everything")
    assert not list(place.folder.iterdir())


def test_where_nginx_does_not_run_it_says_how_to_get_one_and_exits_with_2(place):
    demo = place.start("--json", "--nginx", "/bin/false")
    told = json.loads(demo.communicate(timeout=10)[0])
    assert demo.returncode == told["exit"] == 2
    assert "pip install 'upswitch[nginx]'" in told["hint"]
    assert "apt install nginx" in told["hint"]

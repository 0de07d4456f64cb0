"""The examples of docs/pipelines do what they say: they parse, and their own shell steps switch, fail and are cancelled here."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from command import on_disk, running, served_by
from skips import NONE_HERE
from upswitch import __version__
from upswitch_lab.conf import Layout
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab
from upswitch_lab.process import LabError, until

FOLDER = Path(__file__).parents[2] / "docs" / "pipelines"
PAGE = FOLDER.parent / "pipelines.md"
SITE = {"watch": {"duration": "1s"}, "gate": {"interval": "50ms", "deadline": "500ms"}}
BY_ITSELF = 60.0  # seconds: a lease of 10, 5 more, the proof, and a busy machine
GRACE = 2.0  # seconds between SIGTERM and SIGKILL: less than any of the three systems gives


def github() -> dict:
    return yaml.safe_load((FOLDER / "github-actions.yml").read_text())


def gitlab() -> dict:
    """The component's job, with the inputs that gitlab-ci.yml gives."""
    spec, text = (FOLDER / "gitlab-component.yml").read_text().split("\n---\n")
    (include,) = yaml.safe_load((FOLDER / "gitlab-ci.yml").read_text())["include"]
    defaults = {name: each.get("default") for name, each in yaml.safe_load(spec)["spec"]["inputs"].items()}
    values = {**defaults, **include["inputs"]}
    assert values.keys() == defaults.keys()
    assert None not in values.values()
    return yaml.safe_load(re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda name: str(values[name[1]]), text))["switch"]


def jenkins() -> str:
    return (FOLDER / "Jenkinsfile").read_text()


def github_step(name: str) -> str:
    return next(step["run"] for step in github()["jobs"]["switch"]["steps"] if step.get("name") == name)


SWITCHES: dict[str, tuple[list[str], Callable[[], str]]] = {
    "github": (["bash", "-e", "-c"], lambda: github_step("switch")),
    "gitlab": (["bash", "-eo", "pipefail", "-c"], lambda: "\n".join(gitlab()["script"])),
    "jenkins": (["sh", "-xe", "-c"], lambda: re.search(r"script: '''(.*?)'''", jenkins(), re.DOTALL)[1]),
}
AFTER: dict[str, tuple[list[str], Callable[[], str]]] = {
    "github": (["bash", "-e", "-c"], lambda: github_step("what it came to")),
    "gitlab": (["bash", "-eo", "pipefail", "-c"], lambda: "\n".join(gitlab()["after_script"])),
    "jenkins": (["sh", "-xe", "-c"], lambda: re.search(r"aborted \{.*?sh '''(.*?)'''", jenkins(), re.DOTALL)[1]),
}
"""What each runs after a cancel, and with which shell."""

NO_JQ = pytest.mark.skipif(not shutil.which("jq"), reason="the examples read JSON with jq, and it is not on the PATH")


ONE_NGINX = [pytest.param(path, id=version) for version, path in find_nginx()[-1:]] or [NONE_HERE]


@contextmanager
def a_job_folder(binary: str) -> Iterator[Lab]:
    """A laboratory whose folder is the job's: upswitch.toml lies there, and .venv is what `install` would have made."""
    with Lab(binary, Layout(site=SITE)) as lab:
        (lab.folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
        bin_ = lab.folder / "bin"
        bin_.mkdir()
        for name in ("curl", "ssh-agent", "ssh-add"):  # the pager and the agent: no part of what is tested
            (bin_ / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {lab.folder}/called\n')
            (bin_ / name).chmod(0o755)
        yield lab


@pytest.fixture(scope="module", params=ONE_NGINX)
def labs(request) -> Iterator[tuple[Lab, Lab]]:
    """One to work with, and one whose job is killed at once: it goes back by itself, 15 s later, while the other is worked with."""
    with a_job_folder(request.param) as lab, a_job_folder(request.param) as deserted:
        kill_in_the_watch(deserted)
        yield lab, deserted


@pytest.fixture
def lab(labs) -> Lab:
    return labs[0]


class Job:
    """A step of an example, in a process group of its own as a runner starts it."""

    def __init__(self, lab: Lab, step: tuple[list[str], Callable[[], str]], pool: str = "") -> None:
        self._lab = lab
        shell, script = step
        words = {"POOL": pool, "REASON": "release 7", "BUILD_TAG": "jenkins-switch-7", "CI_PIPELINE_ID": "7"}
        files = {"GITHUB_STEP_SUMMARY": f"{lab.folder}/summary", "GITHUB_OUTPUT": f"{lab.folder}/output"}
        path = {"PATH": f"{lab.folder}/bin:{os.environ['PATH']}", "PAGER_URL": "http://127.0.0.1:9", "GITLAB_USER_LOGIN": "me"}
        self._out = (lab.folder / "job.out").open("w+")
        self.process = subprocess.Popen(
            [*shell, script()],
            cwd=lab.folder,
            env={**os.environ, "SSH_KEY": "key", **words, **files, **path},
            stdout=self._out,
            stderr=self._out,
            start_new_session=True,
        )

    def told(self) -> str:
        return Path(self._out.name).read_text()

    def end(self) -> int:
        code = self.process.wait(timeout=60)
        self._out.close()
        return code

    def cancel(self) -> None:
        """SIGTERM to the whole group, SIGKILL to what is left of it after GRACE, as the shell executor of GitLab does."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            until(lambda: self.process.poll() is not None and not self._has_group(), deadline=GRACE, what="the end")
        except LabError:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.end()

    def _has_group(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


def other(lab: Lab) -> str:
    return "B" if on_disk(lab)[-1] == "A" else "A"


def assert_one_pool_serves(lab: Lab) -> None:
    assert running(lab) == on_disk(lab)
    assert {server[0] for server in served_by(lab)} == {on_disk(lab)[-1]}


@pytest.mark.parametrize("system", SWITCHES)
def test_the_step_that_switches_switches(lab, system):
    pool = other(lab)
    job = Job(lab, SWITCHES[system], pool)
    assert job.end() == 0, job.told()
    assert on_disk(lab)[-1] == pool
    assert_one_pool_serves(lab)
    assert (lab.folder / "events.jsonl").stat().st_size > 0


@pytest.mark.parametrize("system", SWITCHES)
def test_a_pool_that_is_down_makes_the_step_end_with_3_and_leaves_production(lab, system):
    before = on_disk(lab)
    lab.backend(other(lab), 1).kill()
    try:
        job = Job(lab, SWITCHES[system], other(lab))
        assert job.end() == 3, job.told()
    finally:
        lab.backend(other(lab), 1).restart()
    assert on_disk(lab) == before
    assert_one_pool_serves(lab)


MOMENTS: dict[str, Callable[[Lab, str], bool]] = {
    "before the swap": lambda lab, _: "stage" in events(lab),
    "right after the swap": lambda lab, before: on_disk(lab) != before,
    "during the watch": lambda lab, _: "confirm" in events(lab),
}
CANCELS = [
    *((system, "during the watch") for system in SWITCHES),
    ("gitlab", "before the swap"),
    ("jenkins", "right after the swap"),
]
"""The systems differ in whom they signal, which shows at any moment; of the moments each has one."""


def events(lab: Lab) -> str:
    path = lab.folder / "events.jsonl"
    return path.read_text() if path.exists() else ""


@NO_JQ
@pytest.mark.parametrize(("system", "moment"), CANCELS, ids=map("-".join, CANCELS))
def test_a_cancelled_job_leaves_the_former_pool_proved(lab, system, moment):
    before, job = begun(lab, system, moment)
    job.cancel()
    assert_settled(lab, system, before)


@NO_JQ
def test_a_job_that_was_killed_at_once_is_taken_back_by_its_last_step(lab):
    """No grace at all."""
    before = kill_in_the_watch(lab)
    assert_settled(lab, "github", before)
    assert "code=settled" in (lab.folder / "output").read_text()


@NO_JQ
def test_a_job_whose_machine_was_gone_too_long_finds_that_the_host_took_itself_back(labs):
    deserted = labs[1]
    until(lambda: running(deserted) == on_disk(deserted) == "000003-A", deadline=BY_ITSELF, what="the host's own way back")
    assert_settled(deserted, "github", "A")
    assert "code=settled" in (deserted.folder / "output").read_text()
    assert "the host rolled itself back" in (deserted.folder / "summary").read_text()


def kill_in_the_watch(lab: Lab) -> str:
    """SIGKILL to all of a job. The pool that served before it."""
    before, job = begun(lab, "github", "during the watch")
    os.killpg(job.process.pid, signal.SIGKILL)
    job.end()
    return before


def assert_settled(lab: Lab, system: str, pool: str) -> None:
    """The step that a system runs after a cancel finds `pool`, or brings it back."""
    after = Job(lab, AFTER[system])
    assert after.end() == 0, after.told()
    assert on_disk(lab)[-1] == pool
    assert_one_pool_serves(lab)


def begun(lab: Lab, system: str, moment: str) -> tuple[str, Job]:
    """The pool that serves, and a job that switches away from it and is at `moment`."""
    for name in ("events.jsonl", "result.json", "output"):
        (lab.folder / name).unlink(missing_ok=True)
    before = on_disk(lab)
    job = Job(lab, SWITCHES[system], other(lab))
    until(lambda: MOMENTS[moment](lab, before), deadline=30, what=moment)
    return before[-1], job


def test_two_never_run_at_once_and_a_waiting_one_cancels_nothing():
    assert github()["concurrency"] == {"group": "switch-production", "cancel-in-progress": False}
    assert (gitlab()["resource_group"], gitlab()["interruptible"]) == ("production", False)
    assert "lock(resource: 'switch-production')" in jenkins()
    assert "disableConcurrentBuilds()" in jenkins()
    assert "abortPrevious: true" not in jenkins()


@pytest.mark.parametrize("system", SWITCHES)
def test_a_step_is_one_that_its_shell_can_read(system):
    for shell, script in (SWITCHES[system], AFTER[system]):
        checked = subprocess.run([shell[0], "-n", "-c", script()], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_no_example_trusts_a_host_that_it_does_not_know():
    for text in (path.read_text() for path in FOLDER.iterdir()):
        assert "ssh-keyscan" not in text
        assert "StrictHostKeyChecking" not in text


def test_each_example_pins_this_version_and_needs_no_index_of_ours():
    for path in FOLDER.iterdir():
        assert f"v{__version__}" in path.read_text(), path
        assert "upswitch==" not in path.read_text(), path
    (step,) = yaml.safe_load((FOLDER.parents[1] / "action.yml").read_text())["runs"]["steps"]
    checked = subprocess.run(["bash", "-n", "-c", step["run"]], capture_output=True, text=True, check=False)
    assert (checked.returncode, "--require-hashes" in step["run"]) == (0, True), checked.stderr


def test_the_page_names_every_example():
    assert {path.name for path in FOLDER.iterdir()} == set(re.findall(r"\(pipelines/([\w.-]+)\)", PAGE.read_text()))

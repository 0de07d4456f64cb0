"""Reading a host: in as few scripts as can be, and whatever tools it has."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from skips import NONE_HERE
from upswitch.generations import survey
from upswitch.generations.generation import decode_manifest, encode_manifest
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.nginx import commands
from upswitch.nginx.running import read_running
from upswitch.site.model import Nginx
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab
from upswitch_lab.process import until


class Counting(LocalHost):
    """A host that counts what it is asked. `without`: a program that it has not."""

    def __init__(self, without=""):
        super().__init__(SystemClock())
        self.asked = 0
        self._without = without

    def run(self, argv, *, deadline, stdin=b"", holds_lock=False):
        self.asked += 1
        hidden = tuple(word.replace(f"command -v {self._without}", "false") if self._without else word for word in argv)
        return super().run(hidden, deadline=deadline, stdin=stdin, holds_lock=holds_lock)

    def connect(self, address, *, timeout):
        self.asked += 1
        return super().connect(address, timeout=timeout)


@pytest.fixture(scope="module", params=[pytest.param(path, id=version) for version, path in find_nginx()] or [NONE_HERE])
def lab(request):
    with Lab(request.param) as lab:
        yield lab


def staged_pid_file(lab, path):
    """The live manifest names another pid file."""
    manifest = Path(lab.site.nginx.live, "manifest.json")
    changed = msgspec.structs.replace(decode_manifest(manifest.read_bytes()), pid_file=path)
    manifest.write_bytes(encode_manifest(changed))


def test_a_glance_takes_one_command_and_a_survey_two(lab):
    host = Counting()
    disk, running = survey.glance(host, lab.site.nginx)
    assert (host.asked, running.problem, running.marker.generation, len(running.family.workers) > 0) == (1, "", disk.live, True)
    facts = survey.survey(host, lab.site.nginx, ("app",))
    assert host.asked == 3
    assert (facts.disk, facts.running.family, facts.pid_file) == (disk, running.family, f"{lab.folder}/nginx.pid")
    assert facts.live_files["marker.conf"] == Path(lab.site.nginx.live, "marker.conf").read_bytes()


def test_without_bash_the_marker_is_asked_from_here_about_the_generation_and_its_health_checks(lab):
    host = Counting(without="bash")
    assert survey.glance(host, lab.site.nginx)[1].marker.generation == lab.marker()
    assert host.asked == 3


@pytest.mark.parametrize("odd", ["/nowhere/at/all", "", '/tmp/"quoted"', "/tmp/back\\slash"])
def test_a_survey_uses_the_pid_file_of_nginx_now_and_not_the_one_in_the_manifest(lab, odd):
    before = Path(lab.site.nginx.live, "manifest.json").read_bytes()
    staged_pid_file(lab, odd)
    facts = survey.survey(Counting(), lab.site.nginx, ("app",))
    Path(lab.site.nginx.live, "manifest.json").write_bytes(before)
    assert (facts.running.pid_file, facts.running.problem) == (f"{lab.folder}/nginx.pid", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "does not exist"),
        ("", "holds no pid"),
        ("abc\n", "holds no pid"),
        ("1234567890123\n", "holds no pid"),
        ("0x10\n", "holds no pid"),
    ],
)
def test_a_pid_file_without_a_pid_is_reported(lab, tmp_path, text, said):
    pid_file = tmp_path / "pid"
    if text is not None:
        pid_file.write_text(text)
    running = read_running(Counting(), lab.site.nginx, f"{pid_file}")
    assert running.problem == f"{pid_file} {said}: nginx is not running, or it runs elsewhere"
    assert (running.pid, running.marker.generation) == (0, lab.marker())


def test_a_fifo_instead_of_the_pid_file_does_not_block(lab, tmp_path):
    os.mkfifo(tmp_path / "pid")
    assert "holds no pid" in read_running(Counting(), lab.site.nginx, f"{tmp_path}/pid").problem


def test_a_pid_file_without_a_line_break_is_read(lab, tmp_path):
    (tmp_path / "pid").write_text(f"{survey.glance(Counting(), lab.site.nginx)[1].pid}")
    assert read_running(Counting(), lab.site.nginx, f"{tmp_path}/pid").problem == ""


def test_a_binary_upgrade_under_way_is_a_problem_and_a_stale_oldbin_file_is_not(lab):
    oldbin = lab.folder / "nginx.pid.oldbin"
    oldbin.write_text(f"{os.getpid()}\n")
    assert f"the live process {os.getpid()}" in survey.glance(Counting(), lab.site.nginx)[1].problem
    oldbin.write_text("4000000\n")
    assert survey.glance(Counting(), lab.site.nginx)[1].problem == ""
    oldbin.unlink()


OLD = r"""#!/bin/sh
case " $* " in
  *' -V '*) echo 'nginx version: nginx/1.18.0' >&2; echo 'configure arguments: --prefix=/x' >&2; exit ;;
  *' -e '*) echo 'nginx: invalid option: "e"' >&2; exit 1 ;;
esac
printf '# configuration file /x/nginx.conf:\n%s\n' "$*"
echo a word >&2
exit 5
"""


def test_an_nginx_that_does_not_know_the_error_log_option_is_run_again_without_it(tmp_path):
    binary = tmp_path / "nginx"
    binary.write_text(OLD)
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    until(lambda: Counting().run((f"{binary}", "-V"), deadline=5).exit == 0, what="a file that nobody writes any more")
    nginx = Nginx(binary=f"{binary}", conf="/x/nginx.conf")
    ran = Counting().run(commands.dump_argv(nginx, seconds=5), deadline=10)
    assert (ran.exit, ran.out, ran.err) == (5, b"# configuration file /x/nginx.conf:\n-c /x/nginx.conf -T\n", b"a word\n")

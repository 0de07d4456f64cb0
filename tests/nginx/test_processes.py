"""The /proc script on real processes, and its output on hostile ones."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from frontend import frontend
from upswitch.nginx.processes import SCRIPT, Process, Sighting, keys, parse_family, problem
from upswitch_lab.process import until

HTTP = "access_log off; server { listen 127.0.0.1:PORT; }"


def output(pid, *, shell="sh"):
    return subprocess.run((shell, "-c", SCRIPT, "family", str(pid)), capture_output=True, check=True, timeout=10).stdout


def family_of(pid):
    return parse_family(output(pid), master=pid)


def problem_of(pid):
    return problem(Sighting(pid=pid, family=family_of(pid)))


def master_of(front):
    """nginx listens before it writes its pid file."""
    until(lambda: (front.folder / "pid").exists() and (front.folder / "pid").read_text().endswith("\n"), what="the pid file")
    return int((front.folder / "pid").read_text())


def state_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


@contextmanager
def child(*argv, **options):
    with subprocess.Popen(argv, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_real_nginx_is_a_master_with_workers_of_its_own(nginx, tmp_path):
    with frontend(nginx, tmp_path, HTTP) as front:
        pid = master_of(front)
        until(lambda: len(family_of(pid).workers) == 1)
        family = family_of(pid)
        assert problem_of(pid) == ""
        assert (family.master.pid, family.master.parent) == (pid, os.getpid())
        (worker,) = family.workers
        assert (worker.parent, worker.is_master, family.draining) == (pid, False, ())
        assert keys(family_of(pid).children) == {worker.key}


def test_a_reload_of_a_real_nginx_makes_workers_with_new_keys(nginx, tmp_path):
    with frontend(nginx, tmp_path, HTTP) as front:
        pid = master_of(front)
        until(lambda: len(family_of(pid).workers) == 1)
        old = keys(family_of(pid).workers)
        os.kill(pid, signal.SIGHUP)
        until(lambda: keys(family_of(pid).workers) and not keys(family_of(pid).workers) & old)
        assert problem_of(pid) == ""


def test_a_stopped_nginx_must_not_be_signalled(nginx, tmp_path):
    with frontend(nginx, tmp_path, HTTP) as front:
        pid = master_of(front)
        until(lambda: problem_of(pid) == "")  # nginx takes the master's title after it has written the pid file
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: problem_of(pid))
            assert problem_of(pid) == f"the nginx master {pid} is stopped (state T; kill -CONT {pid})"
        finally:
            os.kill(pid, signal.SIGCONT)


def test_the_children_are_found_without_a_children_file_too(nginx, tmp_path):
    with frontend(nginx, tmp_path, HTTP) as front:
        pid = master_of(front)
        until(lambda: len(family_of(pid).workers) == 1)
        script = SCRIPT.replace("/children", "/no-children")
        assert script != SCRIPT
        ran = subprocess.run(("sh", "-c", script, "family", str(pid)), capture_output=True, check=True, timeout=10)
        found = parse_family(ran.stdout, master=pid)
        assert (found.master.key, keys(found.children)) == (family_of(pid).master.key, keys(family_of(pid).children))


def test_another_process_with_the_pid_of_a_stale_pid_file_is_not_a_master():
    with child("sleep", "60") as sleep:
        until(lambda: problem_of(sleep.pid) == f'process {sleep.pid} is "sleep 60", not an nginx master')


def test_an_unused_pid_is_not_a_process():
    with child("true") as ended:
        ended.wait()
    assert problem_of(ended.pid) == f"no process {ended.pid}"


def test_a_zombie_counts_as_dead():
    with child("true") as zombie:
        until(lambda: state_of(zombie.pid) == "Z")
        assert problem_of(zombie.pid) == f"process {zombie.pid} is dead (state Z)"


RENAMED = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, b") S 1 (x) 7", 0, 0, 0)
print(flush=True)
sys.stdin.read()
"""


def test_a_name_that_holds_parentheses_and_spaces_is_read_to_its_real_end():
    with child(sys.executable, "-c", RENAMED, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as odd:
        odd.stdout.readline()
        family = family_of(odd.pid)
        assert b"() S 1 (x) 7)" in output(odd.pid)
        assert (family.master.pid, family.master.parent) == (odd.pid, os.getpid())


@pytest.mark.parametrize("separator", ["\n", "\u2028", "\x0b", "\x85", "\r"])
def test_an_argument_with_a_line_break_does_not_make_a_master(separator):
    script = f"import sys; sys.stdin.read(){separator if separator == chr(10) else ' #' + separator}nginx: master process"
    argv = (sys.executable, "-c", "import sys; sys.stdin.read()", f"x{separator}nginx: master process", script)
    with child(*argv, stdin=subprocess.PIPE) as odd:
        until(lambda: family_of(odd.pid).master.title.startswith(sys.executable))
        assert problem_of(odd.pid).endswith("not an nginx master")


def test_an_argument_cannot_pass_for_another_process():
    fake = "\u2028/proc/1/cmdline:nginx: master process\u2028/proc/1/stat:1 (x) S 0" + " 1" * 20
    with child(sys.executable, "-c", "import sys; sys.stdin.read()", fake, stdin=subprocess.PIPE) as odd:
        until(lambda: family_of(odd.pid).master.title.startswith(sys.executable))
        assert parse_family(output(odd.pid), master=1).master is None


@pytest.mark.parametrize("data", [b"", b"\xff\n", b"/proc/5/stat:\n/proc/5/cmdline:x\n", b"/proc/x/stat:5 (a) S 1\n"])
def test_empty_output_is_a_family_without_processes(data):
    assert parse_family(data, master=5).master is None


def test_a_dead_worker_is_not_a_worker():
    assert not Process(pid=2, parent=1, start=1, state="Z", title="nginx: worker process").is_worker

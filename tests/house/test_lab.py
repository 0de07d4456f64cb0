"""The laboratory itself: what the other tests stand on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forked import popen_forked
from upswitch_lab.conf import Layout
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab
from upswitch_lab.process import LabError, free_port, until

ONE_EACH = Layout(servers_per_pool=1)
DEBIANS = Path(__file__).parents[2] / ".lab/debian/usr/sbin/nginx"


@pytest.mark.skipif(not DEBIANS.exists(), reason="no nginx in .lab: run scripts/setup test")
def test_the_nginx_that_the_set_up_lays_into_the_lab_folder_is_one_that_tests_run_with():
    assert str(DEBIANS) in dict(find_nginx()).values()


def test_no_port_is_given_twice_though_several_processes_ask_and_nobody_has_bound_one_yet():
    def ask():
        sys.stdout.write(f"{' '.join(str(free_port('127.0.0.1')) for _ in range(100))}\n")
        sys.stdout.flush()
        sys.stdin.read()

    pipe = subprocess.PIPE
    asking = [popen_forked(ask, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    given = [int(port) for each in asking for port in each.stdout.readline().split()]
    for each in asking:
        each.communicate()
    assert len(set(given)) == len(given) == 400


def test_a_load_without_a_switch_loses_nothing_and_reaches_every_server_of_the_live_pool(lab):
    with lab.load("--connections", "16", "--think", "5", "--post-every", "4") as load:
        until(lambda: sum(line.requests for line in load.progress) > 500)
    assert (load.summary.failed, load.summary.lost) == (0, 0)
    assert load.summary.requests == load.summary.status["200"] == sum(load.summary.bodies.values())
    assert load.summary.bodies.keys() == {"A1", "A2"}


def test_nginx_answers_with_the_generation_and_logs_it(lab):
    assert lab.marker() == "000001-A"
    assert lab.get("/healthz")[0] == 200
    until(lambda: '"generation":"000001-A"' in lab.access_log.read_text())
    assert '"pool":"A"' in lab.access_log.read_text()


def test_a_killed_server_makes_failures_that_the_load_reports_and_a_restart_ends_them(any_nginx):
    with Lab(any_nginx, ONE_EACH) as lab, lab.load("--connections", "4", "--think", "5") as load:
        lab.backend("A", 1).kill()
        until(lambda: sum(line.failed for line in load.progress) > 5)
        lab.backend("A", 1).restart()
        until(lambda: load.progress[-1].failed == 0 and load.progress[-1].requests > 0)
    assert load.summary.failed == load.summary.status["502"] > 5
    assert load.summary.lost == 0
    assert load.summary.first_failure_s <= load.summary.last_failure_s < load.summary.seconds


def test_after_a_kill_of_nginx_the_load_reports_lost_and_refused_requests_and_nginx_starts_again(any_nginx):
    with Lab(any_nginx, ONE_EACH) as lab:
        with lab.load("--connections", "4", "--think", "1") as load:
            lab.backend("A", 1).mode("hang")
            seen = len(load.progress)
            until(lambda: len(load.progress) > seen and load.progress[-1].requests == 0)  # all four hang
            lab.stop_nginx()
            until(lambda: load.progress[-1].failed > 0)
        assert load.summary.lost >= 4  # and a connection that was still in the backlog
        assert load.summary.reasons["refused"] > 0
        lab.start_nginx()
        os.kill(lab.nginx_pid, signal.SIGKILL)
        lab.start_nginx()
        lab.backend("A", 1).mode("ok")
        assert lab.get() == (200, "A1\n")


@pytest.mark.parametrize(
    ("mode", "status", "health"), [("reset", 502, 502), ("close", 502, 502), ("error", 502, 502), ("sick", 200, 503)]
)
def test_a_mode_fails_as_it_says_and_a_lying_one_leaves_the_health_check_ok(any_nginx, mode, status, health):
    with Lab(any_nginx, ONE_EACH) as lab:
        server = lab.backend("A", 1)
        server.mode(mode)
        assert (lab.get()[0], lab.get("/healthz")[0]) == (status, health)
        server.mode(mode, lying=True)
        assert (lab.get()[0], lab.get("/healthz")) == (status, (200, "ok A1\n"))
        with pytest.raises(LabError, match="refused the mode"):
            server.mode("nonsense")


def test_a_release_that_turns_bad_under_traffic_keeps_its_health_check_ok(any_nginx):
    with Lab(any_nginx, ONE_EACH) as lab:
        lab.backend("A", 1).restart("--fail-after", "0.2", "--fail-mode", "error")
        assert lab.get("/healthz")[0] == 200
        assert lab.get()[0] == 200
        until(lambda: lab.get()[0] == 502)
        assert lab.get("/healthz")[0] == 200


@pytest.mark.every_nginx
def test_a_reload_from_the_shell_replaces_the_workers_and_its_losses_are_counted(any_nginx, record_property):
    with Lab(any_nginx, Layout(cure=False)) as lab:
        with lab.load("--connections", "32") as load:
            lab.renew()
        record_property("lost without a cure", load.summary.lost)
        assert load.summary.failed == load.summary.lost  # nothing but keep-alive losses: the pool never failed
        assert lab.get()[0] == 200


def test_nothing_is_left_when_the_laboratory_ends_even_after_kill_9(any_nginx):
    with Lab(any_nginx, ONE_EACH) as lab:
        pids = {lab.nginx_pid, lab.backend("A", 1).pid, lab.backend("B", 1).pid, *lab.workers}
        os.kill(lab.nginx_pid, signal.SIGKILL)
    assert not lab.folder.exists()
    until(lambda: not any(_is_running(pid) for pid in pids))


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

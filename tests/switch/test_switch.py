"""Every ending of a switch, produced by a real situation on a real nginx."""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from command import Command, agree, on_disk, running, served_by, upswitch
from forked import run_upswitch
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab
from upswitch_lab.process import until

WATCHED = Layout(site={"watch": {"duration": "20s"}})


@pytest.fixture
def lab(any_nginx):
    with Lab(any_nginx, Layout(site={"watch": {"duration": "2s"}})) as lab:
        yield lab


@pytest.fixture
def watched(any_nginx):
    with Lab(any_nginx, WATCHED) as lab:
        yield lab


def edit_conf(lab: Lab, old: str, new: str) -> None:
    path = lab.folder / "nginx.conf"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.every_nginx
def test_a_switch_under_load_serves_the_new_pool_and_loses_no_request(lab):
    with lab.load("--connections", "16", "--post-every", "5", "--rate", "400") as load:
        answer = upswitch(lab, "switch", "--to", "B")
    assert answer.exit == 0, answer
    assert answer.json["outcome"] == "SWITCHED"
    assert answer.json["watch"]["verdict"] == "keep"
    agree(lab, answer, "B")
    assert load.summary.failed == 0
    assert load.summary.requests > 100


def test_a_switch_to_what_is_live_writes_nothing_and_reloads_nothing(lab):
    before = lab.error_log.read_bytes().count(b"signal 1 ")
    journal = (lab.folder / "state" / "journal.jsonl").exists()
    answer = upswitch(lab, "switch", "--to", "A")
    assert (answer.exit, answer.json["outcome"]) == (0, "UNCHANGED"), answer
    assert lab.error_log.read_bytes().count(b"signal 1 ") == before
    assert (lab.folder / "state" / "journal.jsonl").exists() == journal
    agree(lab, answer, "A")


def test_a_live_pool_that_is_dead_is_no_success(lab):
    lab.backend("A", 2).kill()
    answer = upswitch(lab, "switch", "--to", "A")
    assert (answer.exit, answer.json["why"]) == (3, "servers_down"), answer
    assert lab.backend("A", 2).address in answer.json["said"]


def test_a_pool_that_does_not_answer_is_refused_and_each_server_is_named(lab):
    lab.backend("B", 2).kill()
    answer = upswitch(lab, "switch", "--to", "B")
    assert (answer.exit, answer.json["outcome"]) == (3, "REFUSED"), answer
    assert answer.json["why"] == "servers_down"
    assert lab.backend("B", 2).address in answer.details
    assert "refused" in answer.details
    agree(lab, answer, "A")


def test_a_wrong_body_is_refused_and_its_first_bytes_are_shown(any_nginx):
    with Lab(any_nginx, Layout(site={"gate": {"expect_body": "release 7"}})) as lab:
        answer = upswitch(lab, "switch", "--to", "B")
        assert answer.exit == 3, answer
        assert "ok B1" in answer.details


def test_the_live_pool_dead_means_no_way_back_and_is_a_question_before(lab):
    for number in (1, 2):
        lab.backend("A", number).kill()
    answer = upswitch(lab, "switch", "--to", "B")
    assert answer.exit == 3, answer
    assert answer.json["why"] == "no_way_back"
    answer = upswitch(lab, "switch", "--to", "B", "--one-way")
    assert answer.exit == 0, answer


@pytest.mark.every_nginx
def test_a_release_that_fails_after_the_gate_is_taken_back_by_itself(watched):
    for number in (1, 2):
        watched.backend("B", number).restart("--fail-after", "1", "--fail-mode", "close")
    with watched.load("--connections", "8", "--rate", "150"):
        answer = upswitch(watched, "switch", "--to", "B")
    assert (answer.exit, answer.json["outcome"]) == (4, "ROLLED_BACK"), answer
    assert answer.json["watch"]["verdict"] == "rollback"
    assert all(answer.json["watch"]["answers"].values())
    assert answer.json["why"] == "spike"
    assert "upstream_premature_close" in answer.details
    agree(watched, answer, "A")


def test_one_dead_server_behind_retries_is_taken_back_by_the_gate(watched):
    command = Command(watched, "switch", "--to", "B")
    with watched.load("--connections", "4", "--rate", "150") as load:
        command.wait_for("t+1s")
        watched.backend("B", 1).kill()
        answer = command.end()
    assert answer.exit == 4, answer
    assert answer.json["watch"]["peers_down"] == [watched.backend("B", 1).address]
    assert load.summary.failed == 0
    agree(watched, answer, "A")


def test_a_plan_says_why_a_switch_would_be_refused_now_and_what_was_accepted_is_named_in_the_result(lab):
    def plan(*words):
        answer = upswitch(lab, "plan", "--to", "B", *words)
        assert answer.exit == (3 if answer.json["refusals"] else 0), answer
        return [each["why"] for each in answer.json["refusals"]]

    assert plan() == []
    lab.backend("B", 1).kill()
    assert plan() == ["servers_down"]
    lab.backend("B", 1).restart()
    live = lab.folder / "upswitch" / "live" / "app.conf"
    live.write_text(live.read_text() + "# tuned by hand\n")
    assert upswitch(lab, "plan", "--to", "B").json["why"] == "edited"
    for server in lab.pool("A"):
        server.kill()
    assert plan("--adopt")[0] == "no_way_back"
    assert plan("--adopt", "--one-way") == []
    dead = run_upswitch(["plan", "--to", "A", "--adopt", "-c", str(lab.site_file)])
    assert (dead.returncode, b"would be refused because 2 of 2 servers of A fail" in dead.stdout) == (3, True), dead
    forced = upswitch(lab, "switch", "--to", "B", "--yes", "--no-watch")
    assert forced.exit == 0, forced
    assert "--yes is deprecated" in forced.err
    edited, way_back = forced.json["accepted"]
    assert "live/app.conf" in edited
    assert "A was unhealthy" in way_back
    assert upswitch(lab, "switch", "--to", "B", "--force").json["accepted"] == []


def test_a_spike_is_held_when_the_site_says_hold(watched):
    for number in (1, 2):
        watched.backend("B", number).restart("--fail-after", "1", "--fail-mode", "close")
    with watched.load("--connections", "8", "--rate", "150"):
        answer = upswitch(watched, "switch", "--to", "B", "--on-spike", "hold")
    assert (answer.exit, answer.json["outcome"]) == (7, "HELD"), answer
    assert answer.json["production"]["pool"] == "B"


def test_with_both_pools_dead_it_stays_and_asks_a_person(watched):
    command = Command(watched, "switch", "--to", "B")
    with watched.load("--connections", "4", "--rate", "150"):
        command.wait_for("t+1s")
        for name in "AB":
            for number in (1, 2):
                watched.backend(name, number).kill()
        answer = command.end()
    assert (answer.exit, answer.json["outcome"]) == (7, "HELD"), answer
    assert answer.json["why"] == "no_way_back"


def test_the_lock_names_its_holder(watched):
    first = Command(watched, "switch", "--to", "B", "--reason", "release 7")
    first.wait_for("t+1s")
    second = upswitch(watched, "rollback")
    assert second.exit == 6, second
    assert "release 7" in second.json["said"]
    assert str(first.process.pid) in second.json["said"]
    status = upswitch(watched, "status")
    assert "release 7" in status.json["lock"]
    first.signal(signal.SIGTERM)
    assert first.end().exit == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_swap_leaves_production_untouched(lab, number):
    lab.backend("B", 1).kill()
    command = Command(lab, "switch", "--to", "B")
    command.wait_for("gate ")
    command.signal(number)
    answer = command.end()
    assert (answer.exit, answer.json["outcome"]) == (130, "INTERRUPTED"), answer
    agree(lab, answer, "A")
    assert [each.name for each in (lab.folder / "upswitch" / "generations").iterdir()] == ["000001-A"]


def test_a_signal_during_the_watch_goes_back_and_a_second_one_does_not_cut_that_short(watched):
    command = Command(watched, "switch", "--to", "B")
    command.wait_for("t+1s")
    command.signal(signal.SIGINT)
    command.signal(signal.SIGINT)
    answer = command.end()
    assert (answer.exit, answer.json["outcome"]) == (4, "ROLLED_BACK"), answer
    agree(watched, answer, "A")


@pytest.mark.every_nginx
def test_a_rejected_reload_never_left_the_former_pool_and_says_what_nginx_said(lab):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        edit_conf(lab, "    server {", f"    server {{ listen 127.0.0.1:{port}; return 204; }}\n    server {{")
        answer = upswitch(lab, "switch", "--to", "B")
    assert (answer.exit, answer.json["outcome"]) == (4, "ROLLED_BACK"), answer
    assert answer.json["why"] == "rejected"
    assert "bind()" in answer.json["said"]
    agree(lab, answer, "A")


@pytest.mark.every_nginx
def test_an_outage_that_going_back_can_not_heal_is_stuck_and_repair_heals_it_later(lab):
    folder = lab.folder / "work"
    conf = lab.folder / "nginx.conf"
    conf.write_text(f"working_directory {folder};\n" + conf.read_text())
    answer = upswitch(lab, "switch", "--to", "B")
    assert (answer.exit, answer.json["outcome"]) == (5, "STUCK"), answer
    assert answer.json["why"] == "outage"
    assert not answer.json["production"]["proved"]
    assert "`upswitch help stuck`" in answer.json["hint"]
    folder.mkdir()
    repaired = upswitch(lab, "repair")
    assert repaired.exit == 0, repaired
    agree(lab, repaired, "A")


def test_a_bug_is_told_with_its_traceback_and_production_is_brought_back(lab):
    """A host whose append raises what no adapter may raise, at the worst moment: swapped and reloaded, not yet proved."""
    script = (
        "import sys\n"
        "from upswitch.hosts.clock import SystemClock\n"
        "from upswitch.hosts.local.host import LocalHost\n"
        "from upswitch.cli.main import main\n"
        "from upswitch.cli.open import Wiring\n"
        "class Buggy(LocalHost):\n"
        "    def append(self, path, data, **how):\n"
        '        if b\'"step":"confirm"\' in data and b"intent" in data:\n'
        '            raise ZeroDivisionError("a bug")\n'
        "        super().append(path, data, **how)\n"
        "main(sys.argv[1:], Wiring(host=Buggy))\n"
    )
    path = lab.folder / "buggy.py"
    path.write_text(script)
    words = [sys.executable, str(path), "switch", "--to", "B", "-c", str(lab.site_file), "--json"]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    view = json.loads(ran.stdout)
    assert (ran.returncode, view["outcome"]) == (1, "BUG"), ran
    assert "ZeroDivisionError" in view["said"]
    kept = view["said"].rpartition("traceback in ")[2].rstrip(")")
    assert "a bug" in Path(kept).read_text()
    assert view["production"]["proved"]
    assert view["production"]["pool"] == "A"
    assert running(lab) == on_disk(lab)


def test_a_wrong_site_file_is_exit_2_with_every_problem_and_nothing_changed(lab):
    text = lab.site_file.read_text()
    lab.site_file.write_text(text.replace("rise = 1", "rise = 0").replace('drain = "500ms"', 'drain = "soon"'))
    answer = upswitch(lab, "switch", "--to", "B")
    assert (answer.exit, answer.json["outcome"]) == (2, "USAGE"), answer
    assert len(answer.json["problems"]) == 2
    assert running(lab) == on_disk(lab) == "000001-A"


def test_an_unknown_pool_is_exit_2_and_names_the_pools(lab):
    answer = upswitch(lab, "switch", "--to", "C")
    assert (answer.exit, answer.json["outcome"]) == (2, "USAGE"), answer
    assert "A, B" in answer.json["said"]


def test_a_broken_nginx_conf_is_refused_before_anything_is_done(lab):
    edit_conf(lab, "http {", "http { nonsense on;")
    answer = upswitch(lab, "switch", "--to", "B")
    assert answer.exit == 3, answer
    assert answer.json["why"] == "bad_config"
    assert "nonsense" in answer.json["said"]
    assert running(lab) == on_disk(lab) == "000001-A"
    advised = re.findall("`([^`]* -t)`", answer.json["hint"] + upswitch(lab, "lint").json["findings"][0]["hint"])
    said = [subprocess.run(shlex.split(each), check=False, capture_output=True, text=True).stderr for each in advised]
    assert ["nonsense" in each for each in said] == [True, True], "a bare `nginx -t` would test another configuration"


def test_an_edit_by_hand_is_found_refused_and_never_overwritten(lab):
    path = lab.folder / "upswitch" / "live" / "app.conf"
    edited = path.read_bytes() + b"# tuned by hand\n"
    path.write_bytes(edited)
    answer = upswitch(lab, "switch", "--to", "B")
    assert answer.exit == 3, answer
    assert answer.json["why"] == "edited"
    assert "app.conf" in answer.json["said"]
    assert upswitch(lab, "status").exit == 3
    assert upswitch(lab, "switch", "--to", "B", "--adopt", "--no-watch").exit == 0
    assert (lab.folder / "upswitch" / "generations" / "000001-A" / "app.conf").read_bytes() == edited
    back = upswitch(lab, "rollback", "--to", "3")
    assert back.exit == 0, back
    assert b"tuned by hand" in path.read_bytes()


@pytest.mark.every_nginx
def test_rollback_goes_to_what_was_live_before(lab):
    assert upswitch(lab, "rollback").json["why"] == "nothing_before"
    assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
    back = upswitch(lab, "rollback")
    assert back.exit == 0, back
    agree(lab, back, "A")


def test_a_dead_nginx_is_refused_and_a_stale_pid_file_harms_nobody(lab):
    pid_file = lab.folder / "nginx.pid"
    innocent = Command(lab, "status", "--watch")
    real = pid_file.read_text()
    pid_file.write_text(f"{innocent.process.pid}\n")
    answer = upswitch(lab, "switch", "--to", "B")
    assert answer.exit == 3, answer
    assert answer.json["why"] == "no_master"
    assert f"put its id into {pid_file}" in answer.json["hint"], "nginx runs, so a start would fail"
    assert upswitch(lab, "status").json["master"] == 0
    assert innocent.process.poll() is None
    innocent.signal(signal.SIGINT)
    innocent.process.communicate(timeout=20)
    pid_file.write_text(real)


def test_a_stopped_master_is_refused(lab):
    os.kill(lab.nginx_pid, signal.SIGSTOP)
    try:
        answer = upswitch(lab, "switch", "--to", "B")
    finally:
        os.kill(lab.nginx_pid, signal.SIGCONT)
    assert answer.exit == 3, answer
    assert answer.json["why"] == "no_master"
    assert f"kill -CONT {lab.nginx_pid}" in answer.json["hint"]


def test_history_tells_every_run_newest_first(lab):
    upswitch(lab, "switch", "--to", "B", "--no-watch", "--reason", "release 7")
    upswitch(lab, "rollback", "--reason", "too slow")
    runs = upswitch(lab, "history").json["runs"]
    assert [(run["command"], run["pool"], run["outcome"], run["reason"]) for run in runs] == [
        ("rollback", "A", "SWITCHED", "too slow"),
        ("switch", "B", "SWITCHED", "release 7"),
    ]


def test_a_plan_shows_the_files_and_changes_nothing(lab):
    before = sorted(path.name for path in (lab.folder / "upswitch" / "generations").iterdir())
    answer = upswitch(lab, "plan", "--to", "B")
    assert answer.exit == 0, answer
    assert f"+    server {lab.backend('B', 1).address}" in answer.json["diff"]
    assert answer.json["steps"][-3:] == ["confirm", "watch", "finish"]
    assert sorted(path.name for path in (lab.folder / "upswitch" / "generations").iterdir()) == before


def test_a_site_with_no_traffic_and_no_probe_is_kept_and_said_to_be_unproven_and_strict_takes_it_back(any_nginx):
    with Lab(any_nginx, Layout(site={"watch": {"duration": "1s", "probe": None}, "gate": {"type": "tcp"}})) as lab:
        answer = upswitch(lab, "switch", "--to", "B")
        assert answer.exit == 0, answer
        assert (answer.json["watch"]["verdict"], answer.json["why"]) == ("unproven", "unproven")
        assert answer.json["said"].startswith("SWITCHED, NOT PROVEN BY TRAFFIC: no requests in 1 s; switched to B (generation ")
        answer = upswitch(lab, "switch", "--to", "A", "--strict")
        assert (answer.exit, answer.json["why"]) == (4, "unproven"), answer


def test_the_log_is_followed_over_a_rotation(watched):
    for number in (1, 2):
        watched.backend("B", number).restart("--fail-after", "3", "--fail-mode", "close")
    command = Command(watched, "switch", "--to", "B")
    with watched.load("--connections", "8", "--rate", "150"):
        command.wait_for("t+1s")
        watched.access_log.rename(watched.folder / "access.log.1")
        os.kill(watched.nginx_pid, signal.SIGUSR1)
        until(watched.access_log.exists, deadline=10, what="the new log")
        answer = command.end()
    assert answer.exit == 4, answer
    assert answer.json["watch"]["answers"]["not_luck"]
    agree(watched, answer, "A")


def test_new_servers_of_the_live_pool_are_taken_back_to_the_ones_it_had(any_nginx):
    """The way back is what is live on the disk, not what the site file says by now."""
    with Lab(any_nginx, Layout(pools=("A", "B"), site={"watch": {"duration": "20s"}})) as lab:
        text = lab.site_file.read_text()
        a, b = [lab.backend(pool, number).address for pool, number in (("A", 1), ("B", 1))]
        others = [lab.backend(pool, 2).address for pool in "AB"]
        lab.site_file.write_text(text.replace(a, "SWAP").replace(b, a).replace("SWAP", b))
        command = Command(lab, "switch", "--to", "A")
        command.wait_for("t+1s")
        lab.backend("B", 1).kill()
        answer = command.end()
        assert (answer.exit, answer.json["outcome"]) == (4, "ROLLED_BACK"), answer
        assert {line["server"] for line in answer.json["gate"]["old"]} == {a, others[0]}
        assert a in (lab.folder / "upswitch" / "live" / "app.conf").read_text()


def test_after_an_automatic_way_back_a_second_rollback_is_a_question(watched):
    assert upswitch(watched, "switch", "--to", "B", "--no-watch").exit == 0
    assert upswitch(watched, "switch", "--to", "A", "--no-watch").exit == 0
    command = Command(watched, "switch", "--to", "B")
    command.wait_for("t+1s")
    for number in (1, 2):
        watched.backend("B", number).kill()
    assert command.end().exit == 4
    answer = upswitch(watched, "rollback")
    assert answer.exit == 3, answer
    assert answer.json["why"] == "taken_back"
    agree(watched, answer, "A")


def test_rollback_after_a_killed_switch_is_the_repair_and_no_second_step_back(watched):
    assert upswitch(watched, "switch", "--to", "B", "--no-watch").exit == 0
    command = Command(watched, "switch", "--to", "A")
    command.wait_for("t+1s")
    command.signal(signal.SIGKILL)
    command.process.communicate()
    answer = upswitch(watched, "rollback")
    assert answer.exit == 4, answer
    agree(watched, answer, "B")


@pytest.mark.every_nginx
def test_a_rollback_is_not_turned_round_by_a_signal(lab):
    assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
    command = Command(lab, "rollback")
    command.wait_for("swap ")
    command.signal(signal.SIGTERM)
    answer = command.end()
    assert answer.exit == 0, answer
    agree(lab, answer, "A")


def test_a_live_generation_that_no_longer_passes_does_not_stop_the_rollback(lab):
    assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
    path = lab.folder / "upswitch" / "live" / "app.conf"
    path.write_text(path.read_text() + "nonsense on;\n")
    refused = upswitch(lab, "switch", "--to", "A")
    assert refused.exit == 3, refused
    assert "upswitch rollback" in refused.json["hint"]
    answer = upswitch(lab, "rollback")
    assert answer.exit == 0, answer
    agree(lab, answer, "A")


def test_a_stuck_way_back_is_taken_up_again_and_never_settled_on_the_failing_release(watched):
    command = Command(watched, "switch", "--to", "B")
    command.wait_for("t+1s")
    folder = watched.folder / "upswitch"
    (folder / "live").unlink()
    (folder / "live").symlink_to("generations/000099-X")  # somebody's hand: none of this run's, so it is left alone
    for number in (1, 2):
        watched.backend("B", number).kill()
    answer = command.end()
    assert (answer.exit, answer.json["outcome"]) == (5, "STUCK"), answer
    assert running(watched) == "000002-B"
    (folder / "live").unlink()
    (folder / "live").symlink_to("generations/000002-B")
    repaired = upswitch(watched, "repair")
    assert repaired.exit == 0, repaired
    agree(watched, repaired, "A")


def test_a_job_that_nohup_started_is_not_turned_round_by_a_hangup(lab):
    script = "trap '' HUP; exec \"$@\""
    words = [sys.executable, "-m", "upswitch", "switch", "--to", "B", "-c", str(lab.site_file), "--json"]
    process = subprocess.Popen(["sh", "-c", script, "sh", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    until(lambda: on_disk(lab) == "000002-B", deadline=30, what="the swap")
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out


def test_the_marker_of_the_live_generation_can_not_be_changed_in_the_site_file(lab):
    lab.site_file.write_text(lab.site_file.read_text().replace(lab.place.marker, "127.0.84.2:8009"))
    answer = upswitch(lab, "switch", "--to", "B")
    assert answer.exit == 3, answer
    assert lab.place.marker in answer.json["hint"]


def test_a_way_back_that_was_damaged_is_replaced_by_the_former_generation_itself(watched):
    command = Command(watched, "switch", "--to", "B")
    command.wait_for("t+1s")
    (watched.folder / "upswitch" / "generations" / "000003-A" / "app.conf").write_text("nonsense on;")
    for number in (1, 2):
        watched.backend("B", number).kill()
    answer = command.end()
    assert answer.exit == 4, answer
    assert on_disk(watched) == "000001-A"
    agree(watched, answer, "A")


def test_an_nginx_that_was_restarted_during_the_watch_is_taken_back_all_the_same(watched):
    command = Command(watched, "switch", "--to", "B")
    command.wait_for("t+1s")
    watched.stop_nginx()
    watched.start_nginx()
    for number in (1, 2):
        watched.backend("B", number).kill()
    answer = command.end()
    assert answer.exit == 4, answer
    agree(watched, answer, "A")


@pytest.mark.parametrize("instead", ["a folder", "a FIFO"])
def test_an_error_log_that_can_not_be_read_does_not_stop_the_way_back(watched, instead):
    """nginx has the old file open and goes on; the watch goes on, blind in that eye."""
    command = Command(watched, "switch", "--to", "B")
    command.wait_for("t+1s")
    watched.error_log.rename(watched.folder / "error.log.1")
    shipper = -1
    if instead == "a folder":
        watched.error_log.mkdir()
    else:  # read by whoever ships logs: without a reader nginx itself would hang at its next reload
        os.mkfifo(watched.error_log)
        shipper = os.open(watched.error_log, os.O_RDONLY | os.O_NONBLOCK)
    for number in (1, 2):
        watched.backend("B", number).kill()
    answer = command.end()
    if instead == "a folder":  # nginx itself can't open it at a reload, and never left B
        assert answer.exit == 5, answer
        assert answer.json["why"] in {"reload_refused", "not_proved"}, answer
    watched.error_log.rmdir() if instead == "a folder" else watched.error_log.unlink()
    if shipper >= 0:
        assert answer.exit == 4, answer
        os.close(shipper)
    assert upswitch(watched, "repair").exit == 0
    assert {server[0] for server in served_by(watched)} == {"A"}


def test_lines_that_a_client_forged_in_the_error_log_are_no_crash(any_nginx):
    with Lab(any_nginx, Layout(site={"watch": {"duration": "3s"}})) as lab:
        command = Command(lab, "switch", "--to", "B")
        command.wait_for("t+1s")
        line = f"2026/11/20 19:00:00 [alert] {lab.nginx_pid}#0: worker process 1 exited on signal 11\n"
        with lab.error_log.open("a") as log:
            log.write(line * 50)
        answer = command.end()
        assert answer.exit == 0, answer


def test_a_script_that_outlives_a_killed_switch_keeps_the_lock_until_it_has_ended(lab):
    """Else a repair would look, find nothing changed, and the orphan would change it afterwards."""
    slow = lab.folder / "bin"
    slow.mkdir()
    (slow / "mv").write_text(
        '#!/bin/sh\ncase "$*" in *live) touch "$GATE.reached"; while [ ! -e "$GATE" ]; do :; done;; esac\nexec /bin/mv "$@"\n'
    )
    (slow / "mv").chmod(0o755)
    gate = lab.folder / "gate"
    words = [sys.executable, "-m", "upswitch", "switch", "--to", "B", "-c", str(lab.site_file)]
    env = {**os.environ, "PATH": f"{slow}:{os.environ['PATH']}", "GATE": str(gate)}
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until((lab.folder / "gate.reached").exists, deadline=30, what="the swap under way")
    process.kill()
    process.wait()
    assert upswitch(lab, "repair").exit == 6
    gate.touch()
    until(lambda: on_disk(lab) == "000002-B", deadline=10, what="the orphan's swap")
    until(lambda: upswitch(lab, "repair").exit != 6, deadline=10, what="the lock")
    answer = upswitch(lab, "status")
    assert answer.exit == 0, answer
    agree(lab, answer, "A")


def test_names_in_the_journal_that_are_not_ours_are_corruption_and_delete_nothing(lab):
    assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
    canary = lab.folder / "canary"
    canary.mkdir()
    journal = lab.folder / "state" / "journal.jsonl"
    started = journal.read_text().splitlines()[0].replace("000002-B", "../../canary")
    journal.write_text(journal.read_text() + started + "\n")
    answer = upswitch(lab, "repair")
    assert answer.exit == 3, answer
    assert canary.is_dir()
    assert upswitch(lab, "repair", "--forget").exit == 0
    agree(lab, upswitch(lab, "status"), "B")


@pytest.mark.parametrize("redirect", [">/dev/full", "<&- 2>&-", "<&- >&- 2>&-"])
def test_a_result_that_nobody_can_read_does_not_change_the_exit_code(lab, redirect):
    script = f'exec "$@" {redirect}'
    words = [sys.executable, "-m", "upswitch", "switch", "--to", "B", "--no-watch", "-c", str(lab.site_file)]
    ran = subprocess.run(["sh", "-c", script, "sh", *words], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    assert running(lab) == on_disk(lab) == "000002-B"


def test_events_into_a_full_disk_or_a_pipe_without_a_reader_do_not_stop_a_switch(lab):
    assert upswitch(lab, "switch", "--to", "B", "--no-watch", "--events", "/dev/full").exit == 0
    fifo = lab.folder / "fifo"
    os.mkfifo(fifo)
    answer = upswitch(lab, "switch", "--to", "A", "--no-watch", "--events", str(fifo))
    assert answer.exit == 2, answer
    assert running(lab) == "000002-B"


def test_a_site_file_that_others_may_write_is_not_obeyed(lab):
    lab.site_file.chmod(0o666)
    answer = upswitch(lab, "switch", "--to", "B")
    assert answer.exit == 2, answer
    assert "upswitch.toml: every user may write it" in answer.json["said"]


def test_rollback_after_a_switch_that_was_killed_at_its_very_end_goes_back_from_it(lab):
    """Its watch had passed: repair finishes the switch, and that is not yet the rollback that was asked for."""
    script = (
        "import os, signal, sys\n"
        "from upswitch.hosts.local.host import LocalHost\n"
        "from upswitch.cli.main import main\n"
        "from upswitch.cli.open import Wiring\n"
        "class Mortal(LocalHost):\n"
        "    def append(self, path, data, **how):\n"
        "        super().append(path, data, **how)\n"
        '        if b\'"step":"finish"\' in data and b"intent" in data:\n'
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "main(sys.argv[1:], Wiring(host=Mortal))\n"
    )
    path = lab.folder / "mortal.py"
    path.write_text(script)
    words = [sys.executable, str(path), "switch", "--to", "B", "-c", str(lab.site_file)]
    assert subprocess.run(words, capture_output=True, timeout=60, check=False).returncode == -9
    answer = upswitch(lab, "rollback")
    assert answer.exit == 0, answer
    agree(lab, answer, "A")


def test_all_upstreams_of_a_site_flip_together_in_any_number_of_pools_and_kinds_of_address(any_nginx):
    with Lab(any_nginx, Layout(pools=("A", "B", "C"), site={"watch": {"duration": "1s"}})) as lab:
        address = {name: [lab.backend(name, number).address for number in (1, 2)] for name in "ABC"}
        api = "\n".join(
            f'{pool} = ["{address[other][0]} weight=3 max_fails=0", "localhost:{address[other][1].rpartition(":")[2]} backup"]'
            for pool, other in (("A", "B"), ("B", "C"), ("C", "A"))
        )
        check = '[upstreams.api.check]\ntype = "http"\nrise = 1\nhttp_send = "GET /healthz HTTP/1.0\\r\\n\\r\\n"\n'
        lab.site_file.write_text(f'{lab.site_file.read_text()}\n[upstreams.api]\n{api}\ndirectives = ["least_conn"]\n{check}')
        assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
        edit_conf(lab, "location / {", "location /api { proxy_pass http://api; }\n        location / {")
        lab.reload()
        until(lambda: lab.get("/api")[1].startswith("C1"), deadline=10, what="the new location")
        reloads = lab.error_log.read_bytes().count(b"signal 1 ")
        answer = upswitch(lab, "switch", "--to", "C")
        assert answer.exit == 0, answer
        assert {line["upstream"] for line in answer.json["gate"]["new"]} == {"app", "api"}
        assert served_by(lab) == {"C1", "C2"}
        assert lab.get("/api")[1].startswith("A1")
        assert lab.error_log.read_bytes().count(b"signal 1 ") <= reloads + 2  # one reload, written at most twice


def test_a_late_interrupt_does_not_cost_the_result_or_the_exit_code(lab):
    command = Command(lab, "switch", "--to", "B", "--no-watch")
    command.wait_for("finish ")

    def is_over_after_one_more() -> bool:
        command.signal(signal.SIGINT)
        return command.process.poll() is not None

    until(is_over_after_one_more, deadline=20, what="the end")
    answer = command.end()
    assert (answer.exit, answer.json["outcome"]) == (0, "SWITCHED"), answer


def test_a_host_name_that_begins_like_a_unix_socket_is_resolved_like_any_other(lab):
    """Else its addresses are unknown, and what clients get from it is counted for nobody."""
    port = lab.backend("B", 1).address.rpartition(":")[2]
    text = lab.site_file.read_text().replace(f'B = ["127.0.0.1:{port}"', f'B = ["unixbox.invalid:{port}"')
    lab.site_file.write_text(text)
    answer = upswitch(lab, "switch", "--to", "B")
    assert answer.exit == 3, answer
    assert answer.json["why"] == "unresolved"


def test_a_name_is_resolved_at_the_switch_and_may_stop_resolving_while_its_pool_serves(lab):
    """Only the switch to B can resolve the name, in a mount namespace; nginx itself, and all that follows, never can."""
    hosts = lab.folder / "hosts"
    hosts.write_text("127.0.0.1 localhost app-b.upswitch.test\n")
    apart = ["unshare", "-m", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    text = lab.site_file.read_text()
    for server in lab.pool("B"):
        text = text.replace(server.address, server.address.replace("127.0.0.1", "app-b.upswitch.test"))
    lab.site_file.write_text(text)
    words = [sys.executable, "-m", "upswitch", "switch", "--to", "B", "--no-watch", "-c", str(lab.site_file)]
    ran = subprocess.run([*apart, *words], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran
    live = (lab.folder / "upswitch" / "live" / "app.conf").read_text()
    assert "upswitch.test" not in live
    assert all(f"server {server.address}" in live for server in lab.pool("B"))
    lab.stop_nginx()
    lab.start_nginx()
    assert {server[0] for server in served_by(lab)} == {"B"}
    again = upswitch(lab, "switch", "--to", "A", "--no-watch")
    assert again.exit == 0, again
    assert upswitch(lab, "rollback").exit == 0
    assert {server[0] for server in served_by(lab)} == {"B"}


def test_a_reload_command_that_leaves_a_process_behind_holds_neither_the_run_nor_the_lock(lab):
    left = lab.folder / "left"
    script = lab.folder / "reload.sh"
    script.write_text(f'sleep 600 & echo $! >> {left}; exec "$@" -s reload')
    words = json.dumps(["sh", f"{script}", *lab.place.argv])
    lab.site_file.write_text(re.sub(r"(?m)^reload = .*", lambda _: f"reload = {words}", lab.site_file.read_text()))
    try:
        for pool in ("B", "A"):
            answer = upswitch(lab, "switch", "--to", pool, "--no-watch")
            assert answer.exit == 0, answer
            agree(lab, answer, pool)
            assert sum(step["seconds"] for step in answer.json["steps"]) < 30
    finally:
        for pid in left.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def test_a_run_whose_outputs_nobody_reads_goes_on_to_its_end(lab):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    words = [sys.executable, "-m", "upswitch", "switch", "--to", "B", "--no-watch", "--events", f"/dev/fd/{writing}"]
    try:
        ran = subprocess.run(
            [*words, "-c", str(lab.site_file)], stdout=writing, stderr=writing, pass_fds=(writing,), timeout=90, check=False
        )
    finally:
        os.close(writing)
        os.close(reading)
    assert ran.returncode == 0
    assert running(lab) == on_disk(lab) == "000002-B"


def test_signals_that_mean_nothing_do_not_end_a_run_in_the_middle(watched):
    command = Command(watched, "switch", "--to", "B")
    command.wait_for("confirm ")
    for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGTSTP, signal.SIGRTMIN, signal.SIGPIPE):
        command.signal(number)
    command.signal(signal.SIGQUIT)
    answer = command.end()
    assert (answer.exit, answer.json["why"]) == (4, "signal"), answer
    agree(watched, answer, "A")


def test_a_journal_with_a_run_whose_name_is_not_ours_is_no_bug(lab):
    assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
    journal = lab.folder / "state" / "journal.jsonl"
    started = json.loads(journal.read_text().splitlines()[0])
    started["plan"]["run"] = "a\0b"
    with journal.open("a") as file:
        file.write(json.dumps(started) + "\n")
    for words in ("status", "history", "repair", "drain", "switch --to A", "rollback"):
        answer = upswitch(lab, *words.split())
        assert answer.exit == 3, answer
    assert upswitch(lab, "repair", "--forget").exit == 0
    agree(lab, upswitch(lab, "status"), "B")

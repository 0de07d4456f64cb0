"""Hosts behind real sshd, each with a real nginx, under load: what must be seen of a fleet."""

import os
import signal
from contextlib import ExitStack, contextmanager

import pytest

from command import DEADLINE, Answer, Command
from fleetlab import FleetLab
from sshd import needs_sshd
from upswitch_lab.conf import Layout
from upswitch_lab.process import until

pytestmark = needs_sshd

SHORT = Layout(site={"watch": {"duration": "1s"}})
SOME = Layout(site={"watch": {"duration": "4s"}})
LONG = Layout(site={"watch": {"duration": "60s"}})
BY_ITSELF = 40.0  # seconds: the lease of 10, the dead-man's grace of 5, its proof, and a busy machine


@pytest.fixture
def fleet(one_nginx):
    with FleetLab(one_nginx, 5, SHORT) as fleet:
        yield fleet


@pytest.fixture
def watched(one_nginx):
    with FleetLab(one_nginx, 3, LONG) as fleet:
        yield fleet


@pytest.fixture
def three(one_nginx):
    with FleetLab(one_nginx, 3, LONG) as fleet:
        yield fleet


@pytest.fixture
def pair(one_nginx):
    with FleetLab(one_nginx, 2, LONG) as fleet:
        yield fleet


@contextmanager
def loads(fleet: FleetLab):
    """A load on every host; a list that has their summaries afterwards."""
    with ExitStack() as stack:
        yield [stack.enter_context(lab.load("--connections", "4", "--rate", "40")) for lab in fleet.labs.values()]


def every(fleet: FleetLab, word: str) -> dict[str, str]:
    return dict.fromkeys(fleet.names, word)


def outcomes(answer: Answer) -> dict[str, str]:
    return {line["host"]: line["outcome"] for line in answer.json["table"]}


def workers(fleet: FleetLab) -> dict[str, set[int]]:
    """nginx's workers on each host: a reload makes new ones."""
    return {name: lab.workers for name, lab in fleet.labs.items()}


def in_its_watch(fleet: FleetLab) -> Command:
    """A switch whose first host has been watched for a second."""
    command = fleet.command("switch", "--to", "B")
    command.wait_for("lb1 watch        t+1s")
    return command


def test_a_switch_in_waves_loses_no_request_and_a_rollback_takes_every_host_back(fleet):
    with loads(fleet) as found:
        answer = fleet.run("switch", "--to", "B")
        assert answer.exit == 0, answer.err
        assert fleet.served == fleet.markers == every(fleet, "B")
    assert outcomes(answer) == every(fleet, "SWITCHED")
    told = answer.err.index
    assert told("1 of 2: lb1") < told("lb1 swap") < told("2 of 2: lb2") < told("lb2 swap")
    assert [load.summary.failed for load in found] == [0] * 5
    assert min(load.summary.requests for load in found) > 50
    assert fleet.run("status").exit == 0
    back = fleet.run("rollback")
    assert back.exit == 0, back.err
    assert fleet.served == fleet.markers == every(fleet, "A")


def test_a_bad_release_is_stopped_in_the_first_wave_and_the_others_are_untouched(watched):
    before = workers(watched)
    with loads(watched):
        command = in_its_watch(watched)
        for server in watched.labs["lb1"].pool("B"):
            server.mode("error", lying=True)
        answer = command.end()
    assert answer.exit == 4, answer.err
    assert watched.served == watched.markers == every(watched, "A")
    assert outcomes(answer) == every(watched, "REFUSED") | {"lb1": "ROLLED_BACK"}
    assert {name for name, found in workers(watched).items() if found != before[name]} == {"lb1"}
    assert "lb1: watch: t+" in answer.json["hosts"]["lb2"]["said"]
    told = watched.run("report").json["hosts"]
    assert {name: each["run"]["outcome"] for name, each in told.items()} == outcomes(answer)
    assert len({each["run"]["run"] for each in told.values()}) == 1
    assert {name for name, each in told.items() if each["seen"]} == {"lb1"}
    assert {each["pool"] for each in told["lb1"]["seen"]["segments"]} == {"A", "B"}
    page = watched.folder / "page.html"
    assert watched.run("report", "--html", str(page)).exit == 0
    assert page.read_text().count('class="host"') == 3


def test_a_fleet_whose_former_pool_is_dead_stays(one_nginx):
    at_once = Layout(site={"watch": {"duration": "60s"}, "rollout": {"waves": ["100%"]}})
    with FleetLab(one_nginx, 2, at_once) as fleet, loads(fleet):
        command = in_its_watch(fleet)
        command.wait_for("lb2 watch        t+1s")
        for server in fleet.labs["lb1"].pool("A"):
            server.kill()
        for server in fleet.labs["lb1"].pool("B"):
            server.mode("error", lying=True)
        answer = command.end()
        assert answer.exit == 7, answer.err
        assert fleet.markers == every(fleet, "B")
        assert outcomes(answer) == every(fleet, "HELD")
        assert " restore " not in answer.err  # each asks before the others hear of its failure: none has begun to go back


def test_a_host_that_cannot_be_prepared_keeps_all_others_as_they_are(three):
    (three.labs["lb3"].folder / "nginx.conf").write_text("broken {")
    before = workers(three)
    answer = three.run("switch", "--to", "B")
    assert answer.exit == 3, answer.err
    assert three.markers == every(three, "A")
    assert workers(three) == before


def test_a_host_that_fails_in_the_second_wave_takes_the_first_one_back_too(one_nginx):
    with FleetLab(one_nginx, 3, SOME) as fleet:
        command = in_its_watch(fleet)
        os.kill(fleet.labs["lb3"].nginx_pid, signal.SIGSTOP)
        try:
            answer = command.end()
        finally:
            os.kill(fleet.labs["lb3"].nginx_pid, signal.SIGCONT)
        assert answer.exit in {4, 5}, answer.err
        assert outcomes(answer)["lb1"] == "ROLLED_BACK"
        assert outcomes(answer)["lb2"] in {"REFUSED", "ROLLED_BACK"}  # it goes in the same wave as lb3
        assert {name: fleet.markers[name] for name in ("lb1", "lb2")} == {"lb1": "A", "lb2": "A"}


def test_an_orchestrator_that_is_killed_leaves_hosts_that_take_themselves_back(watched):
    with loads(watched):
        command = in_its_watch(watched)
        command.signal(signal.SIGKILL)
        command.process.communicate(timeout=DEADLINE)
        until(lambda: watched.markers == every(watched, "A"), deadline=BY_ITSELF, what="every host back by itself")
    assert "rolled itself back" in watched.run("status").out
    repaired = watched.run("repair")
    assert repaired.exit == 0, repaired.err
    assert watched.served == every(watched, "A")
    assert watched.run("status").exit == 0


def test_a_frozen_orchestrator_is_refused_when_it_goes_on(three):
    command = in_its_watch(three)
    command.signal(signal.SIGSTOP)
    until(lambda: three.markers == every(three, "A"), deadline=BY_ITSELF, what="every host back by itself")
    command.signal(signal.SIGCONT)
    answer = command.end()
    assert answer.exit == 4, answer.err
    assert outcomes(answer)["lb1"] == "ROLLED_BACK"
    assert "rolled itself back" in answer.json["hosts"]["lb1"]["said"]
    assert three.served == three.markers == every(three, "A")


def test_of_two_orchestrators_at_once_one_goes_and_the_other_touches_nothing(fleet):
    first, second = fleet.command("switch", "--to", "B", "--reason", "one"), fleet.command("switch", "--to", "B", "--reason", "two")
    answers = sorted((first.end(), second.end()), key=lambda answer: answer.exit)
    assert [answer.exit for answer in answers] == [0, 6], [answer.err for answer in answers]
    assert fleet.served == fleet.markers == every(fleet, "B")


def test_a_changed_host_key_is_a_refusal_before_anything_is_written(three):
    three.sshds["lb2"].change_host_key()
    answer = three.run("switch", "--to", "B")
    assert answer.exit == 3, answer.err
    assert outcomes(answer)["lb2"] == "UNREACHABLE"
    assert "host key" in answer.json["hosts"]["lb2"]["said"]
    assert three.served == every(three, "A")
    assert not any((lab.folder / "state/journal.jsonl").exists() for lab in three.labs.values())


@pytest.mark.parametrize("phase", ["gate", "stage", "test", "arm", "swap", "confirm", "watch        t+1s"])
def test_a_host_whose_sessions_are_cut_is_reached_again_and_ends_with_the_other(pair, phase):
    """kill -9 of its sshd sessions: new ones are taken, and the lock is still ours to take again."""
    command = pair.command("switch", "--to", "B")
    command.wait_for(f"lb1 {phase}")
    pair.sshds["lb1"].kill_sessions()
    until(
        lambda: "connected again" in command.told() or command.process.poll() is not None, deadline=DEADLINE, what="a new session"
    )
    until(lambda: "t+1s" in command.told() or command.process.poll() is not None, deadline=DEADLINE, what="the watch, or the end")
    command.signal(signal.SIGTERM)
    answer = command.end()
    assert answer.exit in {3, 4, 130}, answer.err
    assert set(outcomes(answer).values()) <= {"REFUSED", "INTERRUPTED", "ROLLED_BACK"}
    assert pair.served == pair.markers == every(pair, "A")
    assert pair.run("repair").exit == 0


@pytest.mark.parametrize(
    ("silent", "phase"),
    [
        ("lb1", "lb1 gate"),
        ("lb1", "lb1 arm"),
        ("lb1", "lb1 swap"),
        ("lb1", "lb1 confirm"),
        ("lb1", "lb1 has passed"),
        ("lb2", "lb2 swap"),
        ("lb1", "lb2 confirm"),  # its silence is found when the last wave has passed
    ],
)
def test_a_host_that_falls_silent_takes_itself_back_and_the_other_is_taken_back_at_once(one_nginx, silent, phase):
    """SIGSTOP of its sshd and sessions: nothing answers, nothing ends."""
    with FleetLab(one_nginx, 2, SHORT) as pair:
        command = pair.command("switch", "--to", "B")
        command.wait_for(phase)
        pair.sshds[silent].stop()
        other = "lb2" if silent == "lb1" else "lb1"
        until(lambda: f"FAILED: {silent}: " in command.told() or "because of" in command.told(), deadline=DEADLINE, what="the word")
        until(lambda: pair.markers[other] == "A", deadline=10, what="the other one on the former pool")
        answer = command.end()
        assert answer.exit in {3, 4, 5}, answer.err
        assert outcomes(answer)[other] in {"REFUSED", "ROLLED_BACK"}
        assert ("help unreachable" in answer.json["hint"]) == (outcomes(answer)[silent] == "STUCK")
        until(lambda: pair.markers == every(pair, "A"), deadline=BY_ITSELF, what="every host on the former pool")
        pair.sshds[silent].cont()
        assert pair.run("repair").exit == 0
        assert pair.served == every(pair, "A")
        assert pair.run("status").exit == 0


@pytest.mark.parametrize(("phase", "is_master_alone"), [("lb1 confirm", False), ("lb1 has passed", True)])
def test_a_host_whose_nginx_is_stopped_in_the_watch_takes_the_other_back_and_splits_nothing(one_nginx, phase, is_master_alone):
    with FleetLab(one_nginx, 2, SHORT) as pair:
        lab, command = pair.labs["lb1"], pair.command("switch", "--to", "B")
        command.wait_for(phase)
        stopped = [lab.nginx_pid, *([] if is_master_alone else lab.workers)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            answer = command.end()
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert answer.exit == 5, answer.err
        assert outcomes(answer)["lb2"] in {"REFUSED", "ROLLED_BACK"}
        assert pair.run("repair").exit == 0
        assert pair.served == pair.markers == every(pair, "A")


def test_a_connection_that_is_cut_in_the_finish_changes_nothing(one_nginx):
    with FleetLab(one_nginx, 2, SHORT) as pair:
        command = pair.command("switch", "--to", "B")
        deadmen = pair.labs["lb1"].folder / "state/deadman"
        until(lambda: any(deadmen.glob("*/disarmed")), deadline=DEADLINE, what="the disarming")
        pair.sshds["lb1"].kill_sessions()
        answer = command.end()
        assert answer.exit == 0, answer.err
        assert pair.served == pair.markers == every(pair, "B")
        assert pair.run("status").exit == 0


def test_unwatched_waves_follow_each_other_at_once_and_a_failure_takes_the_earlier_ones_back(one_nginx):
    with FleetLab(one_nginx, 3, Layout(site={"rollout": {"waves": ["1"]}})) as fleet:
        os.kill(fleet.labs["lb3"].nginx_pid, signal.SIGSTOP)
        try:
            answer = fleet.run("switch", "--to", "B", "--no-watch")
        finally:
            os.kill(fleet.labs["lb3"].nginx_pid, signal.SIGCONT)
        assert answer.exit in {3, 4, 5}, answer.err
        assert {fleet.markers[name] for name in ("lb1", "lb2")} == {"A"}
        assert fleet.run("repair").exit in {0, 5}
        answer = fleet.run("switch", "--to", "B", "--no-watch")
        assert answer.exit == 0, answer.err
        assert fleet.served == every(fleet, "B")


def test_a_rollback_takes_back_the_newest_run_only(one_nginx):
    with FleetLab(one_nginx, 3, SHORT) as fleet:
        assert fleet.run("switch", "--to", "B", "--no-watch").exit == 0
        assert fleet.run("switch", "--to", "A", "--no-watch").exit == 0
        assert fleet.run("switch", "--to", "B", "--no-watch", "--host", "lb1").exit == 0
        assert fleet.run("status").exit == 3
        answer = fleet.run("rollback")
        assert answer.exit == 0, answer.err
        assert outcomes(answer) == {"lb1": "SWITCHED", "lb2": "UNCHANGED", "lb3": "UNCHANGED"}
        assert fleet.served == every(fleet, "A")


def test_a_pool_that_the_site_has_not_is_refused_before_any_host_is_reached(three):
    answer = three.run("switch", "--to", "C")
    assert answer.exit == 2, answer
    assert "the site has A, B" in answer.json["said"]


def test_a_dead_man_that_died_is_told_of_while_somebody_can_still_act(one_nginx):
    with FleetLab(one_nginx, 1, LONG) as fleet:
        command = in_its_watch(fleet)
        (up,) = (fleet.labs["lb1"].folder / "state/deadman").glob("*/up")
        os.kill(int(up.read_text().split()[0]), signal.SIGKILL)
        command.wait_for("the dead-man on the host is gone")
        command.signal(signal.SIGTERM)
        assert command.end().exit == 4
        assert fleet.served == {"lb1": "A"}


def test_a_host_that_was_rebooted_in_the_watch_is_finished_by_the_first_command_that_reaches_it(one_nginx):
    with FleetLab(one_nginx, 1, LONG) as fleet:
        lab, command = fleet.labs["lb1"], in_its_watch(fleet)
        (up,) = (lab.folder / "state/deadman").glob("*/up")
        command.signal(signal.SIGKILL)
        command.process.communicate(timeout=DEADLINE)
        fleet.sshds["lb1"].kill_sessions()
        os.kill(int(up.read_text().split()[0]), signal.SIGKILL)
        os.kill(lab.nginx_pid, signal.SIGKILL)
        (lab.folder / "state/lease").write_text("987654321\n")  # by the clock of the boot before
        lab.start_nginx()
        assert fleet.markers == {"lb1": "B"}  # what was on disk
        status = fleet.run("status")
        assert status.exit == 3, status.out
        assert "`upswitch repair`" in status.out
        assert fleet.run("repair").exit == 0
        assert fleet.served == fleet.markers == {"lb1": "A"}
        assert fleet.run("status").exit == 0

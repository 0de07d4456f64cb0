"""Five hosts behind real sshd, each with a real nginx, under load: what must be seen of a fleet."""

import signal
from contextlib import ExitStack, contextmanager

import pytest

from command import DEADLINE
from fleetlab import FleetLab
from sshd import needs_sshd
from upswitch.demo.conf import Layout
from upswitch.demo.process import until

pytestmark = needs_sshd

COUNT = 5
ALL_A = dict.fromkeys([f"lb{number + 1}" for number in range(COUNT)], "A")
ALL_B = dict.fromkeys(ALL_A, "B")
SHORT = Layout(site={"watch": {"duration": "1s"}})
LONG = Layout(site={"watch": {"duration": "30s"}})


@pytest.fixture
def fleet(one_nginx):
    with FleetLab(one_nginx, COUNT, SHORT) as fleet:
        yield fleet


@pytest.fixture
def watched(one_nginx):
    with FleetLab(one_nginx, COUNT, LONG) as fleet:
        yield fleet


@contextmanager
def loads(fleet: FleetLab):
    """A load on every host; a list that has their summaries afterwards."""
    with ExitStack() as stack:
        found = [stack.enter_context(lab.load("--connections", "4")) for lab in fleet.labs.values()]
        yield found


def outcomes(answer) -> dict[str, str]:
    return {line["host"]: line["outcome"] for line in answer.json["table"]}


def test_a_switch_in_waves_loses_no_request_and_a_rollback_takes_every_host_back(fleet):
    with loads(fleet) as found:
        answer = fleet.run("switch", "--to", "B")
        assert answer.exit == 0, answer
        assert fleet.served == fleet.markers == ALL_B
    assert set(outcomes(answer).values()) == {"SWITCHED"}
    assert answer.err.index("1 of 2: lb1") < answer.err.index("lb1 swap") < answer.err.index("2 of 2: lb2") < answer.err.index("lb2 swap")
    for load in found:
        assert load.summary.failed == 0
        assert load.summary.requests > 50
    assert fleet.run("status").exit == 0
    back = fleet.run("rollback")
    assert back.exit == 0, back
    assert fleet.served == fleet.markers == ALL_A


def test_a_bad_release_is_stopped_in_the_first_wave_and_the_others_are_untouched(watched):
    before = {name: lab.error_log.read_bytes().count(b"signal 1 ") for name, lab in watched.labs.items()}
    with loads(watched):
        command = watched.command("switch", "--to", "B")
        command.wait_for("lb1 confirm")
        for server in watched.labs["lb1"].pool("B"):
            server.say("fail 1")
        answer = command.end()
    assert answer.exit == 4, answer
    assert watched.served == watched.markers == ALL_A
    assert outcomes(answer) == {"lb1": "ROLLED_BACK"} | dict.fromkeys(["lb2", "lb3", "lb4", "lb5"], "REFUSED")
    for name in ["lb2", "lb3", "lb4", "lb5"]:
        assert watched.labs[name].error_log.read_bytes().count(b"signal 1 ") == before[name]


def test_a_host_that_fails_in_the_second_wave_takes_the_first_one_back_too(watched):
    (watched.labs["lb3"].folder / "nginx.conf").write_text("broken {")  # after the tests of the preparation: see below
    answer = watched.run("switch", "--to", "B")
    assert answer.exit == 3, answer
    assert watched.markers == ALL_A


def test_an_orchestrator_that_is_killed_leaves_hosts_that_take_themselves_back(watched):
    command = watched.command("switch", "--to", "B")
    command.wait_for("lb1 watch        t+1s")
    command.signal(signal.SIGKILL)
    command.process.wait(DEADLINE)
    until(lambda: watched.markers == ALL_A, deadline=40.0, what="every host back by itself")
    status = watched.run("status")
    assert "took itself back" in status.out
    again = watched.run("repair")
    assert again.exit == 0, again
    assert watched.served == ALL_A


def test_a_frozen_orchestrator_is_refused_when_it_goes_on(watched):
    command = watched.command("switch", "--to", "B")
    command.wait_for("lb1 watch        t+1s")
    command.signal(signal.SIGSTOP)
    until(lambda: watched.markers == ALL_A, deadline=40.0, what="every host back by itself")
    command.signal(signal.SIGCONT)
    answer = command.end()
    assert answer.exit == 4, answer
    assert outcomes(answer)["lb1"] == "ROLLED_BACK"
    assert watched.served == watched.markers == ALL_A


def test_of_two_orchestrators_at_once_one_goes_and_the_other_touches_nothing(fleet):
    first, second = fleet.command("switch", "--to", "B", "--reason", "one"), fleet.command("switch", "--to", "B", "--reason", "two")
    answers = sorted((first.end(), second.end()), key=lambda answer: answer.exit)
    assert [answer.exit for answer in answers] == [0, 6], answers
    assert fleet.served == fleet.markers == ALL_B


def test_a_changed_host_key_is_a_refusal_before_anything_is_written(fleet):
    fleet.sshds["lb4"].change_host_key()
    answer = fleet.run("switch", "--to", "B")
    assert answer.exit == 3, answer
    assert "lb4" in answer.json["said"] or outcomes(answer)["lb4"] == "UNREACHABLE"
    assert fleet.served == ALL_A
    assert not any((lab.folder / "state/journal.jsonl").exists() for lab in fleet.labs.values())


@pytest.mark.parametrize("line", ["lb2 stage", "lb2 swap", "lb2 confirm", "lb2 watch        t+1s"])
def test_a_host_whose_sessions_are_cut_in_any_phase_ends_with_the_others(watched, line):
    command = watched.command("switch", "--to", "B")
    if line.endswith("stage"):
        command.wait_for(line)
    else:
        skip_first_watch(watched, command)
        command.wait_for(line)
    watched.sshds["lb2"].kill_sessions()
    command.signal(signal.SIGTERM) if "watch" in line else None
    answer = command.end()
    assert answer.exit in {3, 4, 5}, answer
    until(lambda: watched.markers == ALL_A, deadline=40.0, what="all hosts on the former pool")


def skip_first_watch(fleet, command) -> None:
    command.wait_for("lb1 watch        t+1s")

"""A dead pool is never made live over one that answers, whatever the way back; and `drain` and `status` know it."""

import os
import re
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from command import Command, agree, on_disk, running, upswitch
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab

WATCHED = Layout(site={"watch": {"duration": "30s"}}, servers_per_pool=1)


@pytest.fixture
def lab(any_nginx):
    with Lab(any_nginx, WATCHED) as lab:
        yield lab


def switch_in_watch(lab: Lab, *options: str) -> Command:
    command = Command(lab, "switch", "--to", "B", *options)
    command.wait_for("t+1s")
    return command


def stays_on_b(lab: Lab) -> None:
    assert on_disk(lab) == running(lab)
    assert lab.get()[1].startswith("B1")


def test_a_rollback_that_nginxs_own_configuration_stops_says_where_to_fix_it(lab):
    assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
    conf = Path(lab.place.conf)
    conf.write_text(conf.read_text().replace("http {", "http { nonsense on;"))
    refused = upswitch(lab, "rollback").json
    assert f'unknown directive "nonsense" in {conf}' in refused["said"], refused
    assert refused["hint"].startswith("fix the line of nginx's own configuration that is named above, then"), refused


def test_rollback_to_a_pool_that_was_stopped_is_refused_and_force_goes_there(lab):
    assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
    assert upswitch(lab, "drain", "--wait").exit == 0
    lab.backend("A", 1).kill()
    answer = upswitch(lab, "rollback")
    assert (answer.exit, answer.json["why"]) == (3, "no_way_back"), answer
    assert lab.backend("A", 1).address in answer.json["said"]
    assert "rollback --force" in answer.json["hint"]
    stays_on_b(lab)
    status = upswitch(lab, "status")
    assert (status.exit, [pool["is_live"] for pool in status.json["pools"] if pool["failed"]]) == (0, [False]), status
    forced = upswitch(lab, "rollback", "--force")
    assert (forced.exit, forced.json["production"]["pool"]) == (0, "A"), forced
    assert forced.json["production"]["text"].startswith("A is live, but upswitch's health checks FAIL: nginx reports"), forced
    status = upswitch(lab, "status")
    assert status.exit == 3, status
    assert "unhealthy" in status.json["findings"][0]
    assert upswitch(lab, "status", "--no-probe").exit == 0
    assert "is the way back" in upswitch(lab, "drain").json["said"]
    agree(lab, upswitch(lab, "rollback"), "B")
    lab.backend("B", 1).kill()
    both_dead = upswitch(lab, "rollback")
    assert (both_dead.exit, both_dead.json["production"]["pool"]) == (0, "A"), both_dead


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGINT", "repair", "switch", "rollback"])
def test_no_end_of_a_run_leads_back_to_a_pool_that_died(lab, ending):
    command = switch_in_watch(lab)
    lab.backend("A", 1).kill()
    if ending.startswith("SIG"):
        command.signal(getattr(signal, ending))
        answer = command.end()
    else:
        command.signal(signal.SIGKILL)
        command.process.communicate()
        answer = upswitch(lab, ending, *(["--to", "B"] if ending == "switch" else []))
    outcome = (0, "UNCHANGED") if ending == "switch" else (7, "HELD")
    assert (answer.exit, answer.json["outcome"]) == outcome, answer
    if ending != "switch":
        assert answer.json["why"] == "no_way_back"
        assert lab.backend("A", 1).address in answer.details
    stays_on_b(lab)
    assert upswitch(lab, "repair").json["outcome"] != "ROLLED_BACK"
    lab.backend("A", 1).restart()
    back = upswitch(lab, "rollback")
    agree(lab, back, "A")


TWO = msgspec.structs.replace(WATCHED, servers_per_pool=2)
THREE = msgspec.structs.replace(WATCHED, servers_per_pool=3)


def go_sick(lab: Lab, mode: str, *numbers: int, pool: str = "A") -> None:
    for number in numbers:
        server = lab.backend(pool, number)
        server.kill() if mode == "refused" else server.mode(mode)


@pytest.mark.parametrize(
    ("ending", "mode", "sick", "is_taken"),
    [
        ("SIGTERM", "error", (1, 2), False),
        ("SIGTERM", "error", (1,), True),
        ("SIGTERM", "refused", (1, 2), True),
        ("SIGTERM", "close", (1, 2), True),
        ("SIGTERM", "hang", (1, 2), False),
        ("repair", "sick", (1, 2), False),
        ("spike", "broken", (1, 2), False),
    ],
)
def test_no_end_of_a_run_leads_back_to_a_pool_most_of_which_answers_wrongly(one_nginx, ending, mode, sick, is_taken):
    """nginx retries a refused or closed connection on another server, but passes a wrong answer on to the client."""
    with Lab(one_nginx, THREE) as lab:
        command = switch_in_watch(lab)
        go_sick(lab, mode, *sick)
        if ending == "spike":
            go_sick(lab, "error", 1, pool="B")
            with lab.load("--rate", "200"):
                answer = command.end()
        else:
            command.signal(signal.SIGTERM if ending == "SIGTERM" else signal.SIGKILL)
            answer = command.end() if ending == "SIGTERM" else upswitch(lab, "repair")
        assert answer.json["outcome"] == ("ROLLED_BACK" if is_taken else "HELD"), answer
        assert all(lab.backend("A", number).address in answer.details for number in sick), answer
        if not is_taken:
            alive = 2 if ending == "spike" else 3
            assert answer.json["why"] == "no_way_back"
            assert f"app: 1 of 3 servers of A are alive, {alive} of 3 of B" in answer.details, answer


def test_a_rollback_to_a_pool_half_of_which_answers_wrongly_is_refused_unless_the_live_pool_is_no_better(one_nginx):
    with Lab(one_nginx, TWO) as lab:
        assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
        lab.backend("A", 1).mode("broken")
        answer = upswitch(lab, "rollback")
        assert (answer.exit, answer.json["why"]) == (3, "no_way_back"), answer
        assert "app: 1 of 2 servers of A are alive, 2 of 2 of B" in answer.json["said"]
        stays_on_b(lab)
        lab.backend("B", 2).mode("sick")
        back = upswitch(lab, "rollback")
        assert (back.exit, back.json["production"]["pool"]) == (0, "A"), back
        assert lab.backend("A", 1).address in back.details, back
        lab.backend("B", 2).mode("ok")
        lab.backend("A", 1).kill()
        agree(lab, upswitch(lab, "rollback"), "B")
        back = upswitch(lab, "rollback")
        assert (back.exit, back.json["production"]["pool"]) == (0, "A"), back
        assert lab.backend("A", 1).address in back.details, back


@pytest.mark.parametrize("words", [("switch", "--to", "A"), ("rollback",), ("switch", "--to", "B", "--no-watch")])
def test_a_command_that_first_undoes_a_killed_run_says_so_and_what_serves(one_nginx, words):
    with Lab(one_nginx, TWO) as lab:
        command = switch_in_watch(lab)
        command.signal(signal.SIGKILL)
        command.process.communicate()
        run = upswitch(lab, "history").json["runs"][0]["run"]
        answer = upswitch(lab, *words)
        said = f"{answer.json['said']} {answer.details}"
        assert words == ("rollback",) or run in said, answer  # the rollback is that repair
        assert "ROLLED BACK to A" in said, answer
        assert answer.json["production"]["pool"] == ("B" if "B" in words else "A")
        if words[-1] == "A":
            assert answer.json["said"].startswith("UNCHANGED: A is live. "), answer
            assert answer.json["hint"].startswith("`upswitch history")


def test_a_refusal_after_a_repair_says_what_was_repaired_and_a_repair_looks_at_the_live_pool(one_nginx):
    with Lab(one_nginx, TWO) as lab:
        for words in (("switch", "--to", "A"), ("repair",)):
            command = switch_in_watch(lab)
            command.signal(signal.SIGKILL)
            command.process.communicate()
            lab.backend("A", 1).kill()
            answer = upswitch(lab, *words)
            assert (answer.exit, answer.json["production"]["pool"]) == (3, "A"), answer
            said = "\n".join((answer.json["said"], *answer.json["problems"]))
            assert ("repaired the unfinished run" in said) is (words != ("repair",)), answer
            assert lab.backend("A", 1).address in said, answer
            if words == ("repair",):
                assert upswitch(lab, "repair").exit == 3
            lab.backend("A", 1).restart()
        assert upswitch(lab, "repair").exit == 0


def test_a_folder_that_others_may_write_does_not_stop_a_way_back_but_what_a_stranger_put_there_does(one_nginx):
    with Lab(one_nginx, WATCHED) as lab:
        assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
        lab.folder.chmod(0o777)
        refused = upswitch(lab, "switch", "--to", "A", "--no-watch")
        assert (refused.exit, refused.json["outcome"]) == (2, "USAGE"), refused
        answer = upswitch(lab, "rollback")
        agree(lab, answer, "A")
        warning = f"WARNING: can't trust {lab.folder}: "
        assert answer.json["problems"][0].startswith(warning), answer
        assert answer.err.count(warning) == 2, answer  # of the site file, and of what is beside it
        for strange in (
            "state/deadman",
            "upswitch/generations/000002-B/app.conf",
            "upswitch/generations/000002-B",
            "upswitch.toml",
        ):
            os.chown(lab.folder / strange, 12345, -1)
            for words in (("rollback",), ("repair",)):
                answer = upswitch(lab, *words)
                assert (answer.exit, answer.json["outcome"]) == (2, "USAGE"), answer
            os.chown(lab.folder / strange, os.geteuid(), -1)
        (lab.folder / "upswitch/live").rename(lab.folder / "upswitch/mine")
        (lab.folder / "upswitch/live").symlink_to((lab.folder / "upswitch/mine").readlink())
        os.lchown(lab.folder / "upswitch/live", 12345, -1)
        assert upswitch(lab, "repair").exit == 2
        os.lchown(lab.folder / "upswitch/live", os.geteuid(), -1)
        (lab.folder / "upswitch/mine").unlink()
        answer = upswitch(lab, "repair")
        assert (answer.exit, answer.json["problems"][0][: len(warning)]) == (0, warning), answer


def test_a_one_way_switch_that_is_stopped_stays_and_has_no_dead_man(lab):
    lab.backend("A", 1).kill()
    command = switch_in_watch(lab, "--one-way")
    armed = lab.folder / "state" / "deadman"
    assert not armed.exists() or not [*armed.glob("*/armed")]
    command.signal(signal.SIGTERM)
    answer = command.end()
    assert (answer.exit, answer.json["outcome"]) == (7, "HELD"), answer
    stays_on_b(lab)


def test_a_rollback_undoes_a_rollback_but_a_release_that_was_rolled_back_needs_force(lab):
    assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
    agree(lab, upswitch(lab, "rollback"), "A")
    agree(lab, upswitch(lab, "rollback"), "B")
    agree(lab, upswitch(lab, "rollback"), "A")
    command = switch_in_watch(lab)
    command.signal(signal.SIGTERM)
    assert command.end().exit == 4
    answer = upswitch(lab, "rollback")
    assert (answer.exit, answer.json["why"]) == (3, "taken_back"), answer
    agree(lab, upswitch(lab, "rollback", "--force"), "B")


def test_drain_is_not_safe_while_a_run_may_still_go_back(lab):
    command = switch_in_watch(lab)
    during = upswitch(lab, "drain")
    assert during.exit == 3, during
    assert "has not ended" in during.json["said"]
    command.signal(signal.SIGKILL)
    command.process.communicate()
    assert upswitch(lab, "drain").exit == 3
    assert upswitch(lab, "repair").json["outcome"] == "ROLLED_BACK"


def test_a_live_file_that_is_edited_during_the_run_is_found_before_the_swap_or_taken_back(lab):
    live = lab.folder / "upswitch" / "live" / "app.conf"
    live.write_text(live.read_text() + "# by hand\n")
    assert upswitch(lab, "switch", "--to", "B", "--no-watch").json["why"] == "edited"
    assert upswitch(lab, "switch", "--to", "B", "--no-watch", "--adopt").exit == 0
    back = upswitch(lab, "rollback")
    agree(lab, back, "A")
    assert "# by hand" in live.read_text()


def test_a_rollback_to_a_pool_that_fails_for_clients_while_its_health_checks_pass_is_held(lab):
    assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
    for server in lab.pool("A"):
        server.mode("error", lying=True)
    with lab.load("--rate", "200"):
        answer = upswitch(lab, "rollback")
    assert (answer.exit, answer.json["outcome"], answer.json["why"]) == (7, "HELD", "spike"), answer
    assert on_disk(lab) == running(lab) == answer.json["generation"]
    assert "its requests FAIL" in answer.json["said"]
    assert answer.json["production"]["text"].startswith("A is live, but requests FAIL")


def test_a_live_link_that_leads_nowhere_is_set_back_by_the_command_that_status_prints(lab):
    served = running(lab)
    link = lab.folder / "upswitch" / "live"
    link.unlink()
    link.symlink_to("generations/000009-X")
    command = re.search(r"`(ln [^`]+)`", upswitch(lab, "status").out)
    assert upswitch(lab, "switch", "--to", "B").exit == 3
    assert upswitch(lab, "rollback").json["why"] == "no_generation"
    subprocess.run(command[1], shell=True, check=True)
    assert on_disk(lab) == served
    assert upswitch(lab, "status").exit == 0

"""No blackout: what nginx's own check holds down is proved before it serves. On real builds of both modules."""

import json
import os
import re
import shutil
import signal
import socket
from pathlib import Path

import pytest

from command import Answer, Command, agree, on_disk, running, served_by, upswitch
from killing import killed_after, killed_at, settle
from upswitch.site.model import parse_name
from upswitch_lab.conf import Layout
from upswitch_lab.find import read_build
from upswitch_lab.lab import Lab
from upswitch_lab.process import until

CHECK = {"interval": 1000, "rise": 3, "fall": 2, "default_down": True}
QUICK = {"interval": 200, "rise": 1, "fall": 1}


def layout(check, **site):
    return Layout(site={"watch": {"duration": "0s"}, "upstreams": {"app": {"check": check}}, **site})


SEEN_OTHERWISE = layout(
    {**QUICK, "http_send": "GET /__none HTTP/1.0\r\nX: sick\r\n\r\n"}, gate={"http_send": "GET /healthz HTTP/1.0\r\n\r\n"}
)
"""nginx and the gate ask for different paths."""
HOLDS_APP_DOWN = "nginx's own health check holds every server of app down"


@pytest.fixture
def lab(check_nginx):
    with Lab(check_nginx, layout(CHECK)) as lab:
        yield lab


@pytest.fixture
def quick(check_nginx):
    with Lab(check_nginx, layout(QUICK)) as lab:
        yield lab


def numbers(lab: Lab) -> set[int]:
    return {parse_name(path.name).number for path in (lab.folder / "upswitch" / "generations").iterdir()}


def swap_by_hand(lab: Lab) -> None:
    """What people do: other servers in the live file, with the check as they wrote it, and a reload."""
    path = lab.folder / "upswitch" / "live" / "app.conf"
    text = path.read_text().replace("default_down=false", "default_down=true")
    for number in (1, 2):
        text = text.replace(lab.backend("A", number).address, lab.backend("B", number).address)
    path.write_text(text)
    lab.reload()


def taken_port(lab: Lab) -> socket.socket:
    """A listen line that nginx -t passes and a reload does not, as long as the socket is there."""
    taken = socket.create_server(("127.0.0.1", 0))
    path = lab.folder / "nginx.conf"
    line = f"server {{ listen 127.0.0.1:{taken.getsockname()[1]}; }}"
    path.write_text(path.read_text().replace("    server {", f"    {line}\n    server {{", 1))
    return taken


def rotate_logs(lab: Lab) -> None:
    """As logrotate does: another name, and USR1."""
    lab.error_log.rename(lab.folder / "error.log.1")
    os.kill(lab.nginx_pid, signal.SIGUSR1)
    until(lab.error_log.exists, what="a new error log")


def rejected(lab: Lab) -> bool:
    return b"still could not bind()" in lab.error_log.read_bytes()


def test_a_plain_reload_to_other_servers_answers_502_for_seconds(lab):
    with lab.load("--rate", "200") as load:
        swap_by_hand(lab)
        until(lambda: any(server.startswith("B") for server in served_by(lab)), deadline=20.0, what="a server of B")
    assert load.summary.reasons["502"] > 50, load.summary


def test_no_switch_loses_a_request_neither_the_first_nor_a_later_one(lab):
    with lab.load("--rate", "200") as load:
        answers = [upswitch(lab, "switch", "--to", pool) for pool in "BAB"]
        flow_on(load)
    for answer, pool in zip(answers, "BAB", strict=True):
        assert (answer.exit, answer.json["pool"]) == (0, pool), answer
    agree(lab, answers[-1], "B")
    assert load.summary.failed == 0, load.summary
    assert load.summary.requests > 500


def test_the_first_switch_makes_one_reload_more_and_a_later_one_does_not(quick):
    assert upswitch(quick, "plan", "--to", "B").json["warm"]["generation"] == "000002-A"
    assert upswitch(quick, "switch", "--to", "B").exit == 0
    assert numbers(quick) == {1, 2, 3, 4}  # the first; A with a standby; B; the way back
    plan = upswitch(quick, "plan", "--to", "A").json
    assert (plan["warm"]["generation"], plan["warm"]["down"], plan["plain_blackout_s"]["worst"]) == ("", [], 0)
    assert upswitch(quick, "switch", "--to", "A").exit == 0
    assert numbers(quick) == {1, 2, 3, 4, 5, 6}


def test_a_plan_says_the_seconds_of_a_plain_reload_and_how_long_it_would_wait_instead(lab):
    answer = upswitch(lab, "plan", "--to", "B")
    assert answer.exit == 0, answer
    assert answer.json["blackout_s"] == 0
    assert 2 < answer.json["plain_blackout_s"]["likely"] < answer.json["plain_blackout_s"]["worst"] == 4
    assert answer.json["warm"]["longest_s"] == 7
    assert "nginx does not check" in answer.json["warm"]["why"]


def test_a_server_that_nginx_does_not_call_up_refuses_the_switch_though_our_gate_passes(check_nginx):
    with Lab(check_nginx, SEEN_OTHERWISE) as lab:
        lab.backend("B", 1).mode("error", lying=True)  # /healthz, which only the gate asks, goes on saying ok
        answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["outcome"]) == (3, "REFUSED"), answer
        assert answer.json["why"] == "check_down"
        assert f"app {lab.backend('B', 1).address} down" in answer.details
        agree(lab, answer, "A")
        assert [each["why"] for each in upswitch(lab, "plan", "--to", "B").json["refusals"]] == ["check_down"]
        lab.backend("B", 1).mode("ok")
        answer = upswitch(lab, "switch", "--to", "B")
        assert answer.exit == 0, answer
        assert len(numbers(lab)) == 4, "the standby was live already: no further reload for it"
        agree(lab, answer, "B")


def test_a_tcp_check_whose_rise_yaoweibins_module_never_reaches_holds_no_switch_up(check_nginx):
    """Two workers, and servers that keep the connection open."""
    tcp = {"type": "tcp", "interval": 200, "rise": 3, "fall": 2, "timeout": 200, "http_send": None, "http_expect_alive": None}
    with Lab(check_nginx, layout(tcp)) as lab:
        notes = upswitch(lab, "plan", "--to", "B").json["notes"]
        is_stuck = read_build(check_nginx).name != "Tengine"
        assert any("upswitch writes rise=1 for nginx instead of rise=3" in note for note in notes) == is_stuck
        with lab.load("--rate", "200") as load:
            answer = upswitch(lab, "switch", "--to", "B")
        assert answer.exit == 0, answer
        agree(lab, answer, "B")
        assert load.summary.failed == 0, load.summary


def test_a_standby_that_nginx_fails_by_a_former_check_is_proved_by_the_one_of_the_site_file(check_nginx):
    with Lab(check_nginx, SEEN_OTHERWISE) as lab:
        for server in lab.pool("B"):
            server.mode("error", lying=True)
        assert upswitch(lab, "switch", "--to", "B").json["why"] == "check_down"
        lab.site_file.write_text(lab.site_file.read_text().replace("GET /__none", "GET /healthz"))
        answer = upswitch(lab, "switch", "--to", "B", "--no-watch")
        assert answer.exit == 0, answer
        assert answer.json["production"]["pool"] == "B"


def test_a_signal_while_nginx_proves_the_standby_leaves_the_former_pool(lab):
    command = Command(lab, "switch", "--to", "B")
    command.wait_for("own health check: 0 of 2")
    command.signal(signal.SIGINT)
    answer = command.end()
    assert (answer.exit, answer.json["outcome"]) == (130, "INTERRUPTED"), answer
    agree(lab, answer, "A")


@pytest.mark.parametrize("writes", range(4, 7), ids=["warm begun", "warm done", "recheck done"])
def test_killed_around_the_warm_step_repair_ends_where_nginx_really_is(quick, writes):
    assert killed_after(quick, writes, "switch", "--to", "B") == -9
    assert settle(quick, 1 + writes % 6) == "A"
    answer = upswitch(quick, "switch", "--to", "B")
    assert answer.exit == 0, answer
    agree(quick, answer, "B")


def test_killed_between_the_link_and_the_reload_of_the_standby_repair_makes_disk_and_nginx_agree(quick):
    assert killed_at(quick, "swap", "switch", "--to", "B") == -9
    assert (on_disk(quick), running(quick)) == ("000002-A", "000001-A")
    assert settle(quick, 3) == "A"


def test_killed_while_nginx_proves_the_standby_repair_finds_the_former_pool_and_the_next_switch_need_not_reload_for_it(lab):
    command = Command(lab, "switch", "--to", "B")
    command.wait_for("own health check: 0 of 2")
    command.signal(signal.SIGKILL)
    command.process.communicate(timeout=10)
    answer = upswitch(lab, "repair")
    assert (answer.exit, answer.json["outcome"]) == (0, "INTERRUPTED"), answer
    agree(lab, answer, "A")
    assert upswitch(lab, "plan", "--to", "B").json["warm"]["generation"] == ""


def test_a_rejected_reload_is_followed_by_a_good_one_that_loses_nothing(quick):
    assert upswitch(quick, "switch", "--to", "B").exit == 0
    taken = taken_port(quick)
    with quick.load("--rate", "200") as load:
        command = Command(quick, "switch", "--to", "A")
        until(lambda: rejected(quick), deadline=20.0, what="the master to give up")
        taken.close()
        answer = command.end()
        flow_on(load)
    assert (answer.exit, answer.json["outcome"]) == (4, "ROLLED_BACK"), answer
    agree(quick, answer, "B")
    assert load.summary.failed == 0, load.summary
    kill_a_worker(quick)
    assert b"exited on signal 11" not in quick.error_log.read_bytes()


def test_without_a_good_reload_after_it_a_worker_that_dies_crashes_in_a_loop(quick):
    """The fault that the one above is there for."""
    with taken_port(quick):
        quick.reload()
        until(lambda: rejected(quick), deadline=20.0, what="the master to give up")
    kill_workers(quick)
    until(lambda: quick.error_log.read_bytes().count(b"exited on signal 11") > 3, deadline=20.0, what="a loop of crashes")


def test_a_switch_after_somebody_elses_rejected_reload_loses_nothing_though_nginx_forgets_what_is_up(lab):
    assert upswitch(lab, "switch", "--to", "B").exit == 0
    taken = taken_port(lab)
    lab.reload()
    until(lambda: rejected(lab), deadline=20.0, what="the master to give up")
    status = upswitch(lab, "status")
    assert status.exit == 3
    assert "it rejected a reload" in status.json["findings"][0]
    taken.close()
    rotate_logs(lab)  # nothing tells of it any more
    with lab.load("--rate", "200") as load:
        answer = upswitch(lab, "switch", "--to", "A")
        flow_on(load)
        back = upswitch(lab, "rollback")
        flow_on(load)
    assert (answer.exit, back.exit) == (0, 0), (answer, back)
    agree(lab, back, "B")
    assert load.summary.failed == 0, load.summary
    assert upswitch(lab, "status").exit == 0


def test_a_reload_that_is_rejected_while_nginx_proves_the_standby_costs_nothing_either(lab):
    with lab.load("--rate", "200") as load:
        command = Command(lab, "switch", "--to", "B")
        command.wait_for("own health check: 0 of 2")
        with taken_port(lab):
            lab.reload()
            until(lambda: rejected(lab), deadline=20.0, what="the master to give up")
        answer = command.end()
        flow_on(load)
    assert answer.exit == 0, answer
    agree(lab, answer, "B")
    assert load.summary.failed == 0, load.summary


def test_a_switch_that_adopts_other_servers_in_the_live_file_proves_the_pools_own_ones(quick):
    """The manifest says A, and the file that a person edited says B."""
    swap_by_hand(quick)
    until(lambda: served_by(quick) == {"B1", "B2"}, deadline=20.0, what="both servers of B to be up")
    with quick.load("--rate", "200") as load:
        answer = upswitch(quick, "switch", "--to", "A", "--adopt")
        flow_on(load)
    assert answer.exit == 0, answer
    agree(quick, answer, "A")
    assert load.summary.failed == 0, load.summary


def test_a_good_reload_by_somebody_else_after_a_rejected_one_costs_nothing_once_upswitch_has_switched(lab):
    assert upswitch(lab, "switch", "--to", "B").exit == 0
    with taken_port(lab):
        lab.reload()
        until(lambda: rejected(lab), deadline=20.0, what="the master to give up")
    with lab.load("--rate", "200") as load:
        lab.renew()
        flow_on(load)
    assert served_by(lab) == {"B1", "B2"}
    assert load.summary.failed == 0, load.summary


def test_a_rollback_needs_no_wait_even_to_servers_that_nginx_does_not_check_yet(lab):
    assert upswitch(lab, "switch", "--to", "B").exit == 0
    (lab.folder / "upswitch" / "live" / "standby.conf").unlink()
    lab.reload()
    until(lambda: not upswitch(lab, "status").json["draining"], deadline=20.0, what="the end of the old workers")
    with lab.load("--rate", "200") as load:
        answer = upswitch(lab, "rollback")
    assert answer.exit == 0, answer
    agree(lab, answer, "A")
    assert load.summary.failed == 0, load.summary


def test_a_rollback_to_servers_that_nginx_holds_down_is_refused_though_they_answer_us(check_nginx):
    with Lab(check_nginx, SEEN_OTHERWISE) as lab:
        assert upswitch(lab, "switch", "--to", "B").exit == 0
        for number in (1, 2):
            lab.backend("A", number).mode("error", lying=True)
        until(lambda: not any(line["nginx_up"] for line in seen(lab, "A")), deadline=20.0, what="nginx to find A down")
        answer = upswitch(lab, "rollback")
        assert answer.exit == 3, answer
        assert answer.json["why"] == "check_down"
        agree(lab, answer, "B")


def test_nobody_says_that_a_pool_serves_while_nginx_itself_holds_it_down(check_nginx):
    """Each server answers our health checks."""
    with Lab(check_nginx, SEEN_OTHERWISE) as lab:
        assert upswitch(lab, "switch", "--to", "B").exit == 0
        for number in (1, 2):
            lab.backend("B", number).mode("error", lying=True)
        until(lambda: not any(line["nginx_up"] for line in seen(lab, "B")), deadline=20.0, what="nginx to find B down")
        live = {"pool": "B", "running": "000003-B", "disk": "000003-B", "proved": True, "held_down": ["app"]}
        commands = [["status"], ["plan", "--to", "A"], ["plan", "--to", "B"], ["switch", "--to", "B"], ["repair"]]
        answers = [upswitch(lab, *words) for words in commands]
        assert [answer.exit for answer in answers] == [3, 0, 3, 3, 3], answers
        for answer in answers:
            production = answer.json["production"]
            assert production == {**live, "text": production["text"]}, answer
            assert HOLDS_APP_DOWN in production["text"], answer
            assert "serves" not in answer.json.get("said", ""), answer
        assert answers[2].json["unchanged"]
        assert answers[3].json["why"] == answers[2].json["refusals"][0]["why"] == "check_down"
        drain = upswitch(lab, "drain").json
        assert (drain["safe"], "so A is the way back" in drain["said"]) == (False, True), drain
        back = upswitch(lab, "rollback")
        assert (back.exit, back.json["production"]["held_down"]) == (0, []), back
        assert back.json["production"]["text"].startswith("A serves: ")


def test_default_down_false_needs_no_reload_more_and_the_plan_says_what_it_means(check_nginx):
    with Lab(check_nginx, layout({**QUICK, "default_down": False})) as lab:
        plan = upswitch(lab, "plan", "--to", "B").json
        assert any("default_down=false: nginx counts the servers of app as up at once" in note for note in plan["notes"])
        with lab.load("--rate", "200") as load:
            assert upswitch(lab, "switch", "--to", "B").exit == 0
        assert len(numbers(lab)) == 3
        assert load.summary.failed == 0, load.summary


def test_status_shows_nginxs_view_beside_ours_server_by_server(quick):
    assert upswitch(quick, "switch", "--to", "B").exit == 0
    lines = {line["server"]: line for line in upswitch(quick, "status").json["servers"]}
    assert {address: line["pool"] for address, line in lines.items()} == {
        quick.backend(pool, number).address: pool for pool in "AB" for number in (1, 2)
    }
    assert all(line["nginx_up"] and line["ours_up"] for line in lines.values())
    quick.backend("B", 1).mode("sick")
    quick.backend("A", 2).kill()
    until(lambda: sum(not line["nginx_up"] for line in seen(quick)) == 2, deadline=20.0, what="nginx to find two down")
    status = upswitch(quick, "status")
    assert status.exit == 3
    (finding,) = status.json["findings"]
    assert f"app {quick.backend('B', 1).address} of the live pool B: nginx's own health check says down" in finding
    assert "503" in finding


def test_a_pool_with_new_servers_of_its_own_is_warmed_too(quick):
    """A to A, with one server changed: the pool that serves keeps serving until the new one is proved."""
    path = Path(quick.site_file)
    text = path.read_text()
    a1, b1 = quick.backend("A", 1).address, quick.backend("B", 1).address
    path.write_text(text.replace(b1, "127.0.0.1:1").replace(a1, b1))
    with quick.load("--rate", "200") as load:
        answer = upswitch(quick, "switch", "--to", "A")
    assert answer.exit == 0, answer
    assert served_by(quick) == {"B1", "A2"}
    assert load.summary.failed == 0, load.summary


def test_a_server_that_left_the_live_pool_is_no_finding_when_it_is_stopped(quick):
    path = Path(quick.site_file)
    text = path.read_text()
    path.write_text(text.replace(f'"{quick.backend("A", 1).address}", ', ""))
    assert upswitch(quick, "switch", "--to", "A").exit == 0
    quick.backend("A", 1).kill()
    address = quick.backend("A", 1).address
    until(lambda: [each["nginx_up"] for each in seen(quick) if each["server"] == address] == [False], what="nginx to find it down")
    assert upswitch(quick, "status").exit == 0


def test_a_switch_to_what_a_rollback_made_live_is_unchanged(quick):
    assert upswitch(quick, "switch", "--to", "B").exit == 0
    assert upswitch(quick, "rollback").exit == 0
    answer = upswitch(quick, "switch", "--to", "A")
    assert (answer.exit, answer.json["outcome"]) == (0, "UNCHANGED"), answer


def test_many_servers_get_a_zone_that_holds_them(check_nginx):
    idle = [f"127.7.{number // 250}.{1 + number % 250}:9" for number in range(300)]
    with Lab(check_nginx, layout(QUICK)) as lab:
        path = Path(lab.site_file)
        path.write_text(re.sub(r"^(B = .*)$", rf"\1\nC = {json.dumps(idle)}", path.read_text(), flags=re.MULTILINE))
        answer = upswitch(lab, "switch", "--to", "B")
        assert answer.exit == 0, answer
        agree(lab, answer, "B")
        assert len(seen(lab, "C")) == 300


def test_an_nginx_that_has_rejected_a_reload_is_taken_over_with_nothing_down(check_nginx):
    with Lab(check_nginx, layout(CHECK)) as lab:
        owners_file(lab)
        until(lambda: {"A1", "A2"} == served_by(lab), deadline=30.0, what="both servers of A to be up")
        with taken_port(lab):
            lab.reload()
            until(lambda: rejected(lab), deadline=20.0, what="the master to give up")
        with lab.load("--rate", "200") as load:
            answer = adopt(lab)
            flow_on(load)
        assert answer.exit == 0, answer
        assert "check" in (lab.folder / "upswitch" / "live" / "own.conf").read_text(), "the owner's check stays"
        assert load.summary.failed == 0, load.summary


def test_an_nginx_that_holds_the_servers_down_is_taken_over_and_nobody_says_that_they_serve(check_nginx):
    with Lab(check_nginx, layout(CHECK)) as lab:
        owners_file(lab, interval=60000)
        assert lab.get()[0] == 502
        answers = [adopt(lab), upswitch(lab, "status")]
        held = f"nginx's own health check holds down: app {lab.backend('A', 1).address} down"
        assert held in answers[0].json["unserved"][1]
        assert answers[0].json["unserved"][1].endswith("; a healthy server is up after 243 s at the latest")
        for answer in answers:
            assert answer.exit == 3, answer
            assert answer.json["production"]["text"].startswith("A is live, but ")
            assert f"{HOLDS_APP_DOWN}: nginx reports" in answer.json["production"]["text"]
        found = upswitch(lab, "diagnose").json
        assert [each["code"] for each in found["findings"]] == ["health_check_not_yet_up"]
        down = f"nginx's own health check says app {lab.backend('A', 1).address} down"
        assert any(problem.startswith(down) for problem in found["problems"]), found["problems"]


def test_a_line_of_the_log_from_the_future_is_not_believed(quick):
    with quick.error_log.open("ab") as log:
        log.write(b"9999/12/31 23:59:59 [emerg] %d#%d: call 555-1234\n" % (quick.nginx_pid, quick.nginx_pid))
    assert upswitch(quick, "status").exit == 0


def test_a_plan_beside_a_run_under_way_does_not_call_it_killed(lab):
    command = Command(lab, "switch", "--to", "B")
    command.wait_for("own health check: 0 of 2")
    answer = upswitch(lab, "plan", "--to", "B")
    assert answer.exit == 3
    assert "a run is under way" in answer.json["said"]
    assert upswitch(lab, "status").json["findings"] == []
    assert command.end().exit == 0


def owners_file(lab: Lab, interval: int = 1000) -> None:
    """The laboratory as it was before upswitch: the upstream in a file of the owner's, included by its name, and loaded."""
    own = lab.folder / "own.conf"
    text = (lab.folder / "upswitch" / "live" / "app.conf").read_text().replace("default_down=false", "default_down=true")
    own.write_text(text.replace("interval=1000", f"interval={interval}"))
    shutil.rmtree(lab.folder / "upswitch")
    conf = lab.folder / "nginx.conf"
    conf.write_text(
        conf.read_text().replace("include " + lab.site.nginx.include, f"include {own}").replace("$upswitch_generation", "-")
    )
    conf.write_text(conf.read_text().replace("$upswitch_pool", "-"))
    lab.start_nginx()


def adopt(lab: Lab) -> Answer:
    """`init --apply` of that file; the laboratory's site file gives way to the new one."""
    nginx = lab.site.nginx
    lab.site_file.unlink()
    places = (f"--{key}={getattr(nginx, key)}" for key in ("binary", "prefix", "dir", "state", "marker"))
    words = (f"--from={lab.folder}/own.conf", "--pool=A", f"--nginx-conf={nginx.conf}", *places)
    return upswitch(lab, "init", *words, "--apply", "--no-log")


def flow_on(load) -> None:
    """For five more seconds: Tengine's old workers keep their clients a while, so what is down shows late."""
    seconds = len(load.progress)
    until(lambda: len(load.progress) > seconds + 5, deadline=30.0, what="five more seconds of load")


def seen(lab: Lab, pool: str = "") -> list[dict]:
    return [line for line in upswitch(lab, "status").json["servers"] if not pool or line["pool"] == pool]


def kill_workers(lab: Lab) -> None:
    """nginx's own workers, children of the master that this laboratory started."""
    for pid in lab.workers:
        os.kill(pid, signal.SIGKILL)


def kill_a_worker(lab: Lab) -> None:
    """Returns when another one answers in its place."""
    before = lab.workers
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(lab.workers - before) == 1 and lab.get()[0] == 200, deadline=20.0, what="a worker in its place")

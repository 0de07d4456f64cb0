"""Spikes that really happened, under load, and what became of the switch; and noise that is none."""

import threading

import pytest

from command import Command, agree
from crowd import client, repeated
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab, Load
from upswitch_lab.process import free_port, until

LAYOUT = Layout(servers_per_pool=4, site={"watch": {"duration": "20s"}})


@pytest.fixture
def watched(any_nginx):
    with Lab(any_nginx, LAYOUT) as lab:
        yield lab


def bursts(lab: Lab, pool: str):
    """One server of a pool answers 502 by itself for a moment, every two seconds; its health stays ok."""

    def burst(over: threading.Event):
        lab.backend(pool, 1).mode("error", lying=True)
        over.wait(0.4)
        lab.backend(pool, 1).mode("ok")

    return repeated(burst, every=1.6)


def await_served(load: Load, server: str, *, seconds: int):
    until(lambda: sum(server in each.bodies for each in load.progress) >= seconds, deadline=30.0, what=f"{seconds} s of {server}")


@pytest.mark.every_nginx
def test_a_pool_whose_servers_crash_is_taken_back(watched):
    command = Command(watched, "switch", "--to", "B")
    with watched.load("--connections", "8", "--rate", "200") as load:
        await_served(load, "B1", seconds=4)
        for server in watched.pool("B"):
            server.kill()
        answer = command.end()
        at_end = len(load.progress)
        until(lambda: len(load.progress) > at_end + 2, what="what clients get after it")
        assert load.progress[-1].failed == 0
    assert (answer.exit, answer.json["outcome"]) == (4, "ROLLED_BACK"), answer
    assert "connect_refused" in [finding["code"] for finding in answer.json["watch"]["findings"]]
    assert "cause: " in answer.json["details"][-1]
    agree(watched, answer, "A")


def test_one_of_four_servers_dead_behind_retries_is_taken_back_though_no_client_saw_an_error(watched):
    command = Command(watched, "switch", "--to", "B")
    with watched.load("--connections", "8", "--rate", "200") as load:
        await_served(load, "B1", seconds=2)
        watched.backend("B", 2).kill()
        answer = command.end()
    assert answer.exit == 4, answer
    assert answer.json["watch"]["peers_down"] == [watched.backend("B", 2).address]
    assert load.summary.failed == 0
    agree(watched, answer, "A")


def test_a_pool_that_hangs_is_taken_back_though_there_is_no_502_at_all(watched):
    for server in watched.pool("B"):
        server.restart("--fail-after", "1", "--fail-mode", "hang")
    with watched.load("--connections", "60", "--rate", "40", "--timeout", "1.3") as load:
        answer = Command(watched, "switch", "--to", "B").end()
    assert (answer.exit, answer.json["watch"]["verdict"]) == (4, "rollback"), answer
    assert "hung (the client left after 1 s or more without an answer: 499)" in answer.json["said"]
    assert set(load.summary.status) == {"200"}
    assert set(load.summary.reasons) == {"timeout"}
    agree(watched, answer, "A")


def test_a_bursty_but_healthy_service_is_kept(one_nginx):
    with Lab(one_nginx, Layout(servers_per_pool=4, site={"watch": {"duration": "8s"}})) as lab:
        with lab.load("--connections", "8", "--rate", "200") as load:
            with bursts(lab, "A"):
                until(lambda: sum(each.failed > 0 for each in load.progress) >= 4, deadline=30.0, what="bursts before the switch")
            with bursts(lab, "B"):
                answer = Command(lab, "switch", "--to", "B").end()
        assert (answer.exit, answer.json["outcome"]) == (0, "SWITCHED"), answer
        assert answer.json["watch"]["verdict"] in {"keep", "keep_elevated"}
        assert answer.json["watch"]["failed"] >= 10
        agree(lab, answer, "B")


def test_why_a_release_was_taken_back_is_told_of_its_own_servers_whatever_else_fails(any_nginx):
    """Another upstream, dead all the time, is asked as often."""
    dead = free_port("127.0.0.1")
    http = (
        f"server {{ listen 127.0.0.1:{(port := free_port('127.0.0.1'))}; location / {{ proxy_pass http://127.0.0.1:{dead}; }} }}",
    )
    with Lab(any_nginx, Layout(http=http, site={"watch": {"duration": "20s"}})) as lab:
        for server in lab.pool("B"):
            server.restart("--fail-after", "1", "--fail-mode", "close")
        with lab.load("--connections", "4", "--rate", "100"), client(f"127.0.0.1:{port}", rate=100):
            answer = Command(lab, "switch", "--to", "B").end()
    assert answer.exit == 4, answer
    codes = [(finding["code"], finding["consequence_of"]) for finding in answer.json["watch"]["findings"]]
    assert codes[:2] == [("upstream_premature_close", ""), ("no_live_all_down", "upstream_premature_close")]
    assert f":{dead}" not in answer.details

"""What a switch on a real nginx comes to where a comparison with what was before says nothing, or the wrong thing."""

import json
import re
import time

import pytest

from command import agree, upswitch
from upswitch.nginx import conf_logs
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab
from upswitch_lab.process import ask, until


@pytest.mark.parametrize(
    ("mode", "policy", "exit_", "serves"),
    [("raw", "rollback", 4, "A"), ("broken", "hold", 7, "B"), ("broken", "ignore", 0, "B")],
)
def test_an_app_that_fails_by_itself_is_taken_back_held_or_kept_as_the_owner_said(one_nginx, mode, policy, exit_, serves):
    with Lab(one_nginx, Layout(servers_per_pool=1, site={"watch": {"duration": "4s", "app_errors": policy}})) as lab:
        lab.backend("B", 1).mode(mode, lying=True)
        with lab.load("--connections", "4", "--rate", "50", "--timeout", "0.5"):
            answer = upswitch(lab, "switch", "--to", "B")
        assert answer.exit == exit_, answer
        assert (" failed in the app (500 or another 5xx, 009, or cut short)" in answer.json["said"]) is (policy != "ignore")
        assert (answer.json["why"] == "spike") is (policy != "ignore")
        agree(lab, answer, serves)


def test_answers_that_break_off_are_seen_by_our_own_requests_though_nginx_logs_them_as_complete(one_nginx):
    with Lab(one_nginx, Layout(servers_per_pool=1, site={"watch": {"duration": "6s"}})) as lab:
        lab.site_file.write_text(re.sub(r'(probe = ".*)/healthz"', r'\1/"', lab.site_file.read_text()))
        lab.backend("B", 1).mode("cut", lying=True)
        answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["why"]) == (4, "spike"), answer
        assert "requests by upswitch itself to B failed in the app" in answer.json["said"]
        assert '"completion":"OK"' in lab.access_log.read_text().splitlines()[-1]
        agree(lab, answer, "A")


def wrote(lab: Lab, *spans: tuple[int, float]) -> None:
    """What nginx's log says of the time before: of each span its seconds, and the share of its requests that A failed."""
    ask(lab.place.public, "/")
    until(lambda: lab.access_log.stat().st_size, what="a line")
    line = json.loads(lab.access_log.read_text().splitlines()[0])
    failed = line | {"status": "502", "upstream_status": "502"}
    at, lines = int(time.time()) - sum(seconds for seconds, _ in spans), []
    for seconds, share in spans:
        for second in range(at, at + seconds):
            lines += [(failed if number < share * 20 else line) | {"msec": f"{second}.000"} for number in range(20)]
        at += seconds
    lab.access_log.write_text("".join(f"{json.dumps(each)}\n" for each in lines))


@pytest.mark.parametrize(
    ("before", "exit_", "verdict", "serves"),
    [
        (((300, 0.0), (40, 0.6)), 4, "rollback", "A"),  # an incident
        (((120, 0.8),), 7, "held", "B"),  # the former pool always failed
    ],
)
def test_a_pool_that_fails_is_not_kept_because_the_former_one_failed_too(one_nginx, before, exit_, verdict, serves):
    with Lab(one_nginx, Layout(servers_per_pool=1, site={"watch": {"duration": "4s"}})) as lab:
        wrote(lab, *before)
        for pool in "AB" if exit_ == 7 else "B":
            lab.backend(pool, 1).mode("error", lying=True)
        with lab.load("--connections", "4", "--rate", "50"):
            answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (exit_, verdict), answer
        agree(lab, answer, serves)


def test_a_second_bad_release_is_not_compared_with_the_first_one_where_the_log_cannot_tell_them_apart(one_nginx):
    with Lab(one_nginx, Layout(site={"watch": {"duration": "10s"}})) as lab:
        conf = lab.folder / "nginx.conf"
        conf.write_text(conf.read_text().replace(f"access.log {conf_logs.LOG_FORMAT_NAME};", "access.log combined;"))
        lab.reload()
        for number in (1, 2):
            lab.backend("B", number).mode("error", lying=True)
        with lab.load("--connections", "4", "--rate", "60"):
            first = upswitch(lab, "switch", "--to", "B")
            lab.backend("B", 2).mode("ok")
            second = upswitch(lab, "switch", "--to", "B")
        assert (first.exit, second.exit) == (4, 4), second
        assert second.json["watch"]["mode"] == "limited"
        assert any(re.fullmatch(r"\d+ s of the history are left out, because .*", each) for each in second.json["watch"]["notes"])

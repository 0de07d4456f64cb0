"""What no access log shows: requests where it is off, answers cut short, and failures in a log that several sites share."""

from datetime import UTC, datetime

import pytest

from command import Command, agree, upswitch
from crowd import crowd
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab
from upswitch_lab.process import free_port, until

QUIET = Layout(site={"watch": {"duration": "8s", "probe": None}})


def turn_off(lab: Lab) -> str:
    """The access log of the location that passes; returns where that stands."""
    conf = lab.folder / "nginx.conf"
    conf.write_text(conf.read_text().replace("location / {", "location / {\naccess_log off;", 1))
    lab.renew()
    line = conf.read_text().splitlines().index("access_log off;") + 1
    return f"{conf}:{line}"


@pytest.mark.parametrize("mode", ["close", "reset"])
def test_a_pool_that_drops_every_request_is_taken_back_though_no_access_log_shows_them(any_nginx, mode):
    with Lab(any_nginx, QUIET) as lab:
        turn_off(lab)
        for number in (1, 2):
            lab.backend("B", number).mode(mode, lying=True)
        with crowd(lab.place.public, rate=3):
            answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (4, "rollback"), answer
        assert "attempts at servers of B in the last" in answer.json["said"]
        agree(lab, answer, "A")


def test_where_nothing_shows_the_requests_the_result_says_so_and_why(any_nginx):
    with Lab(any_nginx, QUIET) as lab:
        place = turn_off(lab)
        for number in (1, 2):
            lab.backend("B", number).mode("broken", lying=True)
        with crowd(lab.place.public, rate=3):
            answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (0, "blind"), answer
        headline = answer.json["said"]
        assert headline.startswith("SWITCHED, NOT PROVEN BY TRAFFIC: ")
        assert f"access log at {place}: it is off" in headline
        assert "the watch sees no requests to B" in answer.err
        assert "0 of 0" not in answer.err + answer.out
        agree(lab, answer, "B")


@pytest.mark.parametrize(("words", "told"), [("buffer=64k", "buffer=64k without flush"), ("if=$arg_none", "has if=$arg_none")])
def test_a_log_that_hides_requests_is_named_where_it_says_that_there_were_none(any_nginx, words, told):
    with Lab(any_nginx, Layout(site={"watch": {"duration": "1s", "probe": None}})) as lab:
        conf = lab.folder / "nginx.conf"
        conf.write_text(conf.read_text().replace(f"{lab.access_log} upswitch;", f"{lab.access_log} upswitch {words};"))
        lab.renew()
        for number in (1, 2):
            lab.backend("B", number).mode("broken", lying=True)
        with crowd(lab.place.public, rate=3):
            answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (0, "unproven"), answer
        assert answer.json["said"].startswith("SWITCHED, NOT PROVEN BY TRAFFIC: no requests in 1 s: ")
        assert told in answer.json["said"].partition("; switched to B")[0]


def test_a_pool_that_cuts_its_answers_short_is_taken_back_though_the_log_calls_them_complete(any_nginx):
    with Lab(any_nginx, QUIET) as lab:
        for number in (1, 2):
            lab.backend("B", number).mode("cut", lying=True)
        with crowd(lab.place.public, rate=3):
            answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (4, "rollback"), answer
        assert "failed in the app" in answer.json["said"]
        assert [each["code"] for each in answer.json["watch"]["findings"]] == ["upstream_premature_close_body"]
        assert '"completion":"OK"' in lab.access_log.read_text()
        agree(lab, answer, "A")


def share_a_plain_log(lab: Lab, text: str) -> None:
    conf = lab.folder / "nginx.conf"
    log = f"access_log {lab.access_log}"
    conf.write_text(conf.read_text().replace(f"{log} upswitch;", f"{log} combined;"))
    conf.write_text(conf.read_text().replace("    server {", f"{text}\n    server {{", 1))
    lab.renew()


OTHER = "upstream other { server SERVER; } server { listen LISTEN; location / { proxy_pass http://other; } }"


def test_in_a_log_that_two_sites_share_failures_of_the_other_site_take_nothing_back(any_nginx):
    """LIMITED MODE: all failures of both sites are in the log, and it does not say whose they are."""
    listen = f"127.0.0.1:{free_port('127.0.0.1')}"
    with Lab(any_nginx, Layout(pools=("A", "B", "C"), site={"watch": {"duration": "15s", "probe": None}})) as lab:
        others = lab.backend("C", 1)
        share_a_plain_log(lab, OTHER.replace("SERVER", others.address).replace("LISTEN", listen))
        with crowd(lab.place.public, rate=3), crowd(listen, rate=3):
            command = Command(lab, "switch", "--to", "B")
            command.wait_for("t+1s")
            others.mode("error", lying=True)
            answer = command.end()
        assert (answer.exit, answer.json["outcome"]) == (7, "HELD"), answer
        assert "to any pool (LIMITED MODE)" in answer.json["said"]
        assert f"LIMITED MODE: {lab.access_log} has requests to other too" in answer.details
        assert "cause" not in answer.details
        assert "LIMITED MODE" in str(answer.json["watch"]["notes"])
        agree(lab, answer, "B")


def test_in_a_shared_log_a_pool_whose_failures_the_error_log_names_is_taken_back(any_nginx):
    with Lab(any_nginx, Layout(site={"watch": {"duration": "12s", "probe": None}})) as lab:
        share_a_plain_log(lab, OTHER.replace("SERVER", "127.0.0.1:1").replace("LISTEN", f"unix:{lab.folder}/other"))
        for number in (1, 2):
            lab.backend("B", number).mode("close", lying=True)
        with crowd(lab.place.public, rate=3):
            answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (4, "rollback"), answer
        assert "LIMITED MODE" in answer.json["said"]
        agree(lab, answer, "A")


def test_the_seconds_of_a_release_that_was_taken_back_are_no_history_of_a_watch_and_its_replay(any_nginx):
    """A plain log can't tell them from what is usual; the journal can."""
    left_out = "s of the history are left out, because a release served then that was taken back."
    with Lab(any_nginx, Layout(site={"watch": {"duration": "8s", "probe": None}})) as lab:
        share_a_plain_log(lab, "")
        for number in (1, 2):
            lab.backend("B", number).mode("error", lying=True)
        with crowd(lab.place.public, rate=3):
            assert upswitch(lab, "switch", "--to", "B").exit == 4
            live = upswitch(lab, "watch", "--duration", "2s")
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        with crowd(lab.place.public, rate=3):
            until(lambda: lab.access_log.stat().st_mtime > datetime.fromisoformat(ended).timestamp() + 1, what="later requests")
        past = upswitch(lab, "watch", "--replay", str(lab.access_log), "--at", ended)
    assert left_out in str(live.json["notes"]), live
    assert left_out in str(past.json["notes"]), past
    assert (past.json["before"]["failed"], live.json["before"]["failed"]) == (0, 0)

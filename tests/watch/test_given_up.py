"""Clients that leave in the middle of an answer: nginx logs it as good, and only many more than before say something."""

import pytest

from command import agree, upswitch
from minutes import every, given_minutes
from upswitch.basics.result import Failure
from upswitch.logs.line import compile_format
from upswitch.watch import clients, ending, rule
from upswitch.watch.attribution import Attribution
from upswitch.watch.ending import Final
from upswitch.watch.history import History, Second
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab

LAYOUT = Layout(servers_per_pool=1, site={"watch": {"duration": "6s"}})
IMPATIENT = ("--connections", "30", "--rate", "20", "--timeout", "1.3")


@pytest.mark.parametrize("mode", ["stall", "long", "drip"])
def test_answers_that_begin_and_do_not_end_are_held(any_nginx, mode):
    """The release had been kept with exit 0, and no client had got an answer."""
    with Lab(any_nginx, LAYOUT) as lab:
        lab.backend("B", 1).mode(mode, lying=True)
        with lab.load(*IMPATIENT):
            given_minutes(lab, ("127.0.0.1", every(1 / 20, of=60), 200))
            answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["why"], answer.json["watch"]["verdict"]) == (7, "given_up", "held"), answer
        assert "requests to B were given up in the middle of the answer (the client left after 1 s or more)" in answer.json["said"]
        assert "`curl -m 10 -o /dev/null URL` shows whether an answer ends." in answer.details
        assert '"completion":""' in lab.access_log.read_text()
        lab.backend("B", 1).mode("ok")
        agree(lab, answer, "B")


def test_downloads_that_people_stop_as_they_always_did_hold_nothing_and_more_of_them_can_be_accepted(any_nginx):
    with Lab(any_nginx, LAYOUT) as lab:
        for pool in "AB":
            lab.backend(pool, 1).mode("drip", lying=True)
        with lab.load(*IMPATIENT):
            given_minutes(lab, ("127.0.0.1", every(1 / 20, of=60), 200), completion="", request_time="1.300")
            usual = upswitch(lab, "switch", "--to", "B")
            (lab.folder / "access.log.1").unlink()
            lab.access_log.write_text("")
            given_minutes(lab, ("127.0.0.1", every(1 / 20, of=60), 200), completion="OK", request_time="0.001")
            accepted = upswitch(lab, "switch", "--to", "A", "--accept-elevated")
        assert (usual.exit, usual.json["watch"]["verdict"]) == (0, "keep"), usual
        assert '"completion":""' in lab.access_log.read_text()
        assert (accepted.exit, accepted.json["watch"]["verdict"]) == (0, "keep_elevated"), accepted


FORMAT = "$status $upstream_status $upstream_header_time $request_time [$request_completion]"


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("200 200 0.004 3.000 []", Failure.GIVEN_UP),
        ("499 200 0.004 3.000 []", Failure.GIVEN_UP),  # nginx had sent nothing of it yet
        ("404 404 0.004 3.000 []", Failure.GIVEN_UP),
        ("200 200 0.004 0.900 []", Failure.NONE),  # a browser that goes elsewhere
        ("200 200 0.004 3.000 [OK]", Failure.NONE),  # a slow client that waited
        ("101 101 0.004 90.000 []", Failure.NONE),  # a WebSocket has no end
        ("499 - - 3.000 []", Failure.HUNG),
        ("502 502 0.004 3.000 []", Failure.GATEWAY),
        ("500 500 0.004 3.000 []", Failure.APP),
    ],
)
def test_which_requests_count_as_given_up(line, failure):
    entry = compile_format(FORMAT).read(line.encode())
    assert Attribution().classify(entry).failure is failure


def test_without_the_completion_nothing_counts_as_given_up():
    entry = compile_format(FORMAT.partition(" [")[0]).read(b"200 200 0.004 3.000")
    assert Attribution().classify(entry).failure is Failure.NONE


GOOD, STALLED = Second(total=20), Second(total=20, given_up=10)


def ended(history: tuple[Second, ...], since: tuple[Second, ...], *, accepts_elevated: bool = False) -> Final:
    before = History(seconds=history)
    return ending.finish(
        rule.judge(before, since),
        ending.last(before, since, since),
        has_log=True,
        new=sum(each.total for each in since),
        former=0,
        probes=0,
        is_given_up=rule.given_up(before, since).is_spike,
        accepts_elevated=accepts_elevated,
    )


def test_given_up_answers_never_take_a_release_back_and_are_held_only_against_the_history():
    assert not rule.judge(History(seconds=(GOOD,) * 600), (STALLED,) * 60).is_spike
    assert ended((GOOD,) * 600, (STALLED,) * 60) is Final.HELD
    assert ended((GOOD,) * 600, (STALLED,) * 60, accepts_elevated=True) is Final.KEEP_ELEVATED
    assert ended((STALLED,) * 600, (STALLED,) * 60) is Final.KEEP
    assert ended((GOOD,) * 600, (*(GOOD,) * 59, STALLED)) is Final.KEEP, "all in one second"


def test_one_client_that_gives_up_answer_after_answer_holds_nothing():
    since, one = (STALLED,) * 10, {"attacker": Second(total=10, given_up=10)}
    others = {f"c{number}": Second(total=1) for number in range(10)}
    known = {name: Second(total=60) for name in others}
    history = History(seconds=(GOOD,) * 600)
    assert rule.given_up(history, since).is_spike
    assert not clients.given_up(history, since, ({**one, **others},) * 10, known).is_spike
    everybody = {name: Second(total=2, given_up=1) for name in others}
    assert clients.given_up(history, since, (everybody,) * 10, known).is_spike

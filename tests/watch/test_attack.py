"""One client against a real nginx: it forces no good release back, and hides no bad one."""

from command import agree, upswitch
from crowd import CROWD, client, crowd
from minutes import every, given_minutes
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab

ATTACKER = "127.0.6.6"


def test_one_client_does_not_force_a_good_release_back(any_nginx):
    """5 requests a second to an endpoint that answers 502 by itself, on a site of 48 a second."""
    with Lab(any_nginx, Layout(site={"watch": {"duration": "8s"}})) as lab, crowd(lab.place.public, rate=6):
        given_minutes(lab, *((address, every(1 / 6, of=120), 200) for address in CROWD))
        with client(lab.place.public, "/fail", rate=5, address=ATTACKER):
            answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (0, "keep"), answer
        assert f"failures of {ATTACKER} alone are left out, as others are fine" in answer.err
        assert answer.json["watch"]["failed"] > 20
        agree(lab, answer, "B")


def test_one_clients_failures_before_a_switch_do_not_hide_a_bad_release(any_nginx):
    """300 failures in 5 s by one client were taken for what the site always had, and a release that fails all was kept."""
    with Lab(any_nginx, Layout(site={"watch": {"duration": "15s"}})) as lab, crowd(lab.place.public, rate=0.5):
        given_minutes(
            lab,
            *((address, every(2, of=120), 200) for address in CROWD),
            (ATTACKER, every(1 / 60, of=30, until=25), 502),
        )
        for number in (1, 2):
            lab.backend("B", number).mode("error", lying=True)
        answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (4, "rollback"), answer
        agree(lab, answer, "A")

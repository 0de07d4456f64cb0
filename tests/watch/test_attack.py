"""One client against a real nginx: it forces no good release back, and hides no bad one."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from command import agree, upswitch
from minutes import every, given_minutes
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab

SITE = tuple(f"127.0.1.{number}" for number in range(1, 9))
ATTACKER = "127.0.6.6"


@contextmanager
def client(lab: Lab, address: str, path: str, *, rate: float) -> Iterator[None]:
    """A client at this address, which asks for a path so many times a second."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(1 / rate):
            connection = http.client.HTTPConnection(lab.place.public, timeout=10, source_address=(address, 0))
            with suppress(OSError, http.client.HTTPException):
                connection.request("GET", path)
                connection.getresponse().read()
            connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def crowd(lab: Lab, *, rate: float) -> Iterator[None]:
    with ExitStack() as stack:
        for address in SITE:
            stack.enter_context(client(lab, address, "/", rate=rate))
        yield


def test_one_client_does_not_force_a_good_release_back(any_nginx):
    """5 requests a second to an endpoint that answers 502 by itself, on a site of 48 a second."""
    with Lab(any_nginx, Layout(site={"watch": {"duration": "8s"}})) as lab, crowd(lab, rate=6):
        given_minutes(lab, *((address, every(1 / 6, of=120), 200) for address in SITE))
        with client(lab, ATTACKER, "/fail", rate=5):
            answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (0, "keep"), answer
        assert f"failures of {ATTACKER} alone are left out, as others are fine" in answer.err
        assert answer.json["watch"]["failed"] > 20
        agree(lab, answer, "B")


def test_one_clients_failures_before_a_switch_do_not_hide_a_bad_release(any_nginx):
    """300 failures in 5 s by one client were taken for what the site always had, and a release that fails all was kept."""
    with Lab(any_nginx, Layout(site={"watch": {"duration": "15s"}})) as lab, crowd(lab, rate=0.5):
        given_minutes(
            lab,
            *((address, every(2, of=120), 200) for address in SITE),
            (ATTACKER, every(1 / 60, of=30, until=25), 502),
        )
        for number in (1, 2):
            lab.backend("B", number).mode("error", lying=True)
        answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (4, "rollback"), answer
        agree(lab, answer, "A")

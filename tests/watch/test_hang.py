"""A pool that hangs behind patient clients writes no line: what stops at the swap while connections wait is evidence."""

import os
import re
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from command import agree, upswitch
from minutes import every, given_minutes
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.watch.attribution import Attribution
from upswitch.watch.hang import HangGuard, Open, stopped, usual_s
from upswitch.watch.probation import Probation
from upswitch.watch.recent import Recent, with_waiting
from upswitch.watch.rule import History, Second
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab
from upswitch_lab.process import until

BUSY = (12,) * 600


def test_a_total_hang_of_a_busy_site_whose_clients_wait_is_taken_back(any_nginx):
    """12 requests a second, /healthz answers, all else hangs for ever: it had been kept as unproven, 0 of 0."""
    with Lab(any_nginx, Layout(site={"watch": {"duration": "40s", "probe": None}})) as lab:
        for number in (1, 2):
            lab.backend("B", number).mode("hang", lying=True)
        with lab.load("--connections", "12", "--rate", "12", "--timeout", "25"):
            given_minutes(lab, ("127.0.0.1", every(1 / 12, of=60), 200))
            answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["why"], answer.json["watch"]["verdict"]) == (4, "hang", "rollback"), answer
        assert re.search(r"\d+ requests to B wait for an answer: 0 ended in the last 10 s", answer.json["said"]), answer
        agree(lab, answer, "A")


def test_requests_that_stop_are_told_from_few_requests_and_from_quiet_minutes_before():
    assert stopped(BUSY, (0,) * 9, shortest_s=10) is None, "too soon"
    assert stopped(BUSY, (12, *(0,) * 10), shortest_s=10).expected == 120
    assert stopped(BUSY, (3,) * 10, shortest_s=10) is None, "a quarter still ends"
    assert stopped((*BUSY[:300], *(0,) * 10, *BUSY[:290]), (0,) * 10, shortest_s=10) is None, "such a pause is usual"
    assert stopped((1,) * 600, (0,) * 12, shortest_s=10) is None, "chance"
    assert stopped((1,) * 600, (0,) * 20, shortest_s=10).stretch_s == 20
    assert stopped((1,) * 8, (0,) * 20, shortest_s=10) is None, "hardly any history"
    assert usual_s((2,) * 60, 60) == 30.0, "sixty long polls of which two end each second"


def test_open_connections_are_counted_by_server_and_those_that_ended_requests_explain_are_no_hang():
    with ExitStack() as stack:
        servers = [
            *(stack.enter_context(socket.create_server((host, 0), family=family)) for host, family in HOSTS),
            stack.enter_context(socket.socket(socket.AF_UNIX)),
        ]
        path = f"/tmp/upswitch-test-{os.getpid()}"
        servers[2].bind(path)
        stack.callback(os.unlink, path)
        servers[2].listen()
        port4, port6 = (each.getsockname()[1] for each in servers[:2])
        addresses = frozenset({f"127.0.0.1:{port4}", f"[::1]:{port6}", f"unix:{path}"})
        guard = HangGuard(LocalHost(SystemClock()), Attribution(addresses=addresses), os.getpid())
        for server in servers:
            for _ in range(2):
                client = stack.enter_context(socket.socket(server.family))
                client.connect(server.getsockname())
                stack.enter_context(server.accept()[0])
        wait = "6 requests to B wait for an answer: 0 ended in the last 10 s"
        until(lambda: said(guard, ended=0) == wait, deadline=30, what="a count, which a busy host may not give in time")
        assert said(guard, ended=2, former=3) is None, "two of them may be idle after a request that ended"
        assert said(guard, ended=0, former=120) is None, "before, a request took ten seconds"
        assert recent_said(60, addresses).endswith("s, and its servers have 6 open connections: requests may hang")
        assert recent_said(60, ()).endswith("s")
        assert "No request has ended" not in recent_said(0, addresses)


def recent_said(ago_s: int, addresses: Iterable[str]) -> str:
    """What `status` says of 33 requests of which the newest ended so many seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=ago_s)
    seen = Recent(pool="B", total=33, at=f"{at:%Y-%m-%d %H:%M:%S} UTC")
    return with_waiting(LocalHost(SystemClock()), seen, os.getpid(), addresses).text


HOSTS = (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6))


def said(guard: HangGuard, *, ended: int, former: int = 0) -> str | None:
    guard.before = Open(new=0, former=former)
    seconds = (Second(total=ended), *(Second(),) * 9)
    probation = Probation(
        pool="B",
        history=History(seconds=tuple(Second(total=each) for each in BUSY)),
        servers=(),
        log_mode="generation",
        silent_after=10.0,
        seconds=seconds,
    )
    looks = [guard.look(probation) for _ in range(2)]
    assert looks[0] is None, "one look is no proof"
    return looks[1].what if looks[1] else None

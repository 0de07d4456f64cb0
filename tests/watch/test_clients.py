"""No client decides alone while others are fine: neither that a release goes back, nor that it stays."""

import pytest

from upswitch.basics.result import Failure
from upswitch.logs.entries import MOST_CLIENTS, SAMPLED
from upswitch.logs.line import compile_format
from upswitch.watch import clients
from upswitch.watch.attribution import Attribution, counter_for, counts_of
from upswitch.watch.history import History, Second
from upswitch.watch.probation import Probation

READER = compile_format('$remote_addr $status "$upstream_status" $request_time $upswitch_generation $msec')
OURS = Attribution(generation="000002-B")
SITE = {f"10.0.0.{number}": Second(total=3) for number in range(20)}
"""Twenty clients, three requests each a second."""

ATTACKER = "6.6.6.6"


def line(client: str, status: int = 200, *, answer: str = "", took: float = 0.01) -> bytes:
    return f'{client} {status} "{answer or status}" {took:.3f} 000002-B 1795262400.000\n'.encode()


def counted(*lines: bytes):
    return counts_of(counter_for(OURS, READER).count(b"".join(lines)), OURS)


def judged(before: list[dict[str, Second]], since: list[dict[str, Second]]) -> Probation:
    """A watch in which each second had these requests, by client."""
    past = [sum(each.values(), Second()) for each in before]
    known = clients.merged(before)
    probation = Probation(
        pool="B",
        history=clients.usual(History(seconds=tuple(past)), before),
        servers=(),
        log_mode="generation",
        silent_after=10.0,
        known=known,
    )
    for each in since:
        probation = probation.after(new=sum(each.values(), Second()), clients=each)
    return probation


def failing(share: float, *, kind: str = "gateway") -> dict[str, Second]:
    """Of all clients' requests."""
    return {name: Second(total=20, **{kind: round(20 * share)}) for name in SITE}


@pytest.mark.parametrize("kind", ["gateway", "hung", "app"])
def test_one_client_forces_no_rollback_and_this_is_said(kind):
    bad = Second(total=5, **{kind: 5})
    probation = judged([SITE] * 600, [{**SITE, ATTACKER: bad}] * 10)
    look = probation.look()
    assert not look.is_spike
    assert probation.failure(look) is None
    assert "50 of 650 requests to B failed" in probation.progress(look)
    assert probation.progress(look).endswith("; 50 failures of 6.6.6.6 alone are left out, as others are fine")


@pytest.mark.parametrize("number", [2, 3])
def test_nor_do_a_few_of_them(number):
    bad = {f"6.6.6.{each}": Second(total=3, gateway=3) for each in range(number)}
    assert not judged([SITE] * 600, [SITE | bad] * 10).look().is_spike


def test_a_release_that_fails_for_all_is_taken_back_though_one_client_fails_most():
    busy = {**failing(0.1), ATTACKER: Second(total=100, gateway=60)}
    assert judged([SITE] * 600, [busy] * 10).look().is_spike


def test_a_proxy_before_nginx_is_no_client():
    """All requests come from its address."""
    assert judged([{"10.0.0.1": Second(total=60)}] * 600, [{"10.0.0.1": Second(total=60, gateway=6)}] * 10).look().is_spike
    monitored = {"10.0.0.1": Second(total=60, gateway=6), "10.0.0.2": Second(total=5)}
    assert judged([{"10.0.0.1": Second(total=60), "10.0.0.2": Second(total=5)}] * 600, [monitored] * 10).look().is_spike


def test_one_clients_failures_before_the_switch_hide_nothing():
    """104 x 502 in five seconds, before a release that fails 30 %."""
    poisoned = [SITE] * 500 + [{**SITE, ATTACKER: Second(total=21, gateway=21)}] * 5 + [SITE] * 95
    since = [{name: Second(total=3, gateway=int(number < 6) * 3) for number, name in enumerate(SITE)}] * 10
    assert judged(poisoned, since).look().is_spike


def test_good_requests_of_one_client_hide_nothing():
    """The release fails 20 % of 3 requests a second, and one client sends 90 good ones a second."""
    before = [{f"10.0.0.{at % 20}": Second(total=3)} for at in range(600)]
    since = [{f"10.0.0.{at % 20}": Second(total=3, gateway=int(at % 2)), ATTACKER: Second(total=90)} for at in range(60)]
    assert sum(each.failures for second in since for each in second.values()) * 100 < sum(
        each.total for second in since for each in second.values()
    ), "under 1 % of all"
    assert judged(before, since).look().is_spike


def test_a_client_that_leaves_at_once_is_no_good_request():
    found = counted(line("10.0.0.1"), *[line(ATTACKER, 499, answer="-")] * 90, line(ATTACKER, 499, answer="-", took=1.2))
    assert (found.new, found.left) == (Second(total=2, hung=1), 90)
    assert counted(line(ATTACKER, 499, answer="200")).new == Second(total=1), "the pool had answered"


def test_all_failures_and_a_sample_of_the_rest_have_their_client():
    lines = [line(f"10.0.0.{number % 7}") for number in range(1000)] + [line(ATTACKER, 502)] * 40 + [line("2001:db8::1", 502)]
    found = counted(*lines, line("2001:db8::ffff:1", 502), line("2001:db8:0:1::1", 502))
    assert found.new == Second(total=1043, gateway=43)
    bad = {name: each.gateway for name, each in found.clients.items() if each.gateway}
    assert bad == {ATTACKER: 40, "2001:db8::/64": 2, "2001:db8:0:1::/64": 1}, "of IPv6 a client has all of a /64"
    assert sum(each.failed(Failure.NONE) for each in found.clients.values()) == SAMPLED


def test_many_failing_clients_are_all_counted_and_only_so_many_named():
    found = counted(*(line(f"10.{number >> 8}.{number & 255}.1", 502) for number in range(2000)))
    assert found.new.gateway == 2000
    assert MOST_CLIENTS <= len(found.clients) <= MOST_CLIENTS + 1

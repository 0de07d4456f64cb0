"""Pools that a real name server knows: read by nginx's own `resolver`, and servers that nginx follows by itself."""

import json
from contextlib import ExitStack

import pytest

import registries
from command import agree, on_disk, upswitch
from upswitch_lab.conf import Layout
from upswitch_lab.find import find_nginx, read_build
from upswitch_lab.lab import Lab
from upswitch_lab.process import free_port

SITE = {"watch": {"duration": "0s"}, "upstreams": {"app": {"directives": ["zone app 64k"]}}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A lab of the newest nginx, which asks a name server that knows pool B."""
    found, why = find_nginx(), registries.missing(registries.DNSMASQ)
    if why or not found:
        pytest.skip(why or "no nginx here")
    with ExitStack() as stack:
        port = free_port("127.0.0.1")
        lab = stack.enter_context(Lab(found[-1][1], Layout(http=(f"resolver 127.0.0.1:{port} ipv6=off valid=1s;",), site=SITE)))
        ports = [each.address.rpartition(":")[2] for each in lab.pool("B")]
        services = (f"srv-host=_http._tcp.app.test,one.test,{each},0,{weight}" for each, weight in zip(ports, (1, 3), strict=True))
        records = ("host-record=one.test,127.0.0.1", "host-record=down.test,127.0.0.99", *services)
        stack.enter_context(registries.dnsmasq(tmp_path_factory.mktemp("dns"), *records, port=port))
        yield lab


@pytest.fixture
def to(lab):
    """Writes what pool B is."""
    text = lab.site_file.read_text()
    (before,) = [line for line in text.splitlines() if line.startswith("B =")]
    yield lambda pool: lab.site_file.write_text(text.replace(before, f"B = {pool}"))
    lab.site_file.write_text(text)


def servers(lab):
    manifest = json.loads((lab.folder / "upswitch" / "live" / "manifest.json").read_text())
    return manifest["sources"], manifest["servers"]["app"]


def test_a_service_is_switched_to_with_its_ports_and_frozen(lab, to):
    to('{ srv = "_http._tcp.app.test" }')
    answer = upswitch(lab, "switch", "B")
    assert answer.exit == 0, answer
    agree(lab, answer, "B")
    assert servers(lab) == ({"app": "srv _http._tcp.app.test"}, sorted(each.address for each in lab.pool("B")))
    assert f"server {lab.backend('B', 2).address} weight=3;" in (lab.folder / "upswitch/live/app.conf").read_text()
    assert upswitch(lab, "switch", "A").exit == 0


def test_the_gate_probes_each_address_and_port_of_what_nginx_follows(lab, to):
    if not read_build(lab.place.binary).version >= (1, 27, 3):
        pytest.skip("this nginx follows no names")
    to('["app.test service=http resolve"]')
    planned = upswitch(lab, "plan", "B")
    assert planned.exit == 0, planned
    texts = [each["text"] for each in planned.json["gate"]["new"]]
    assert [each.address in text for each, text in zip(lab.pool("B"), texts, strict=True)] == [True, True], texts
    assert "server app.test service=http resolve;" in planned.json["diff"]
    answer = upswitch(lab, "switch", "B")
    assert answer.exit == 0, answer
    agree(lab, answer, "B")
    assert upswitch(lab, "switch", "A").exit == 0


@pytest.mark.parametrize(
    ("pool", "why", "said"),
    [
        ('{ dns = "nobody.test", port = 80 }', "source", "app.B can't be read from dns nobody.test: the name server"),
        ('{ srv = "_no._tcp.app.test" }', "source", "knows no such name"),
        ('{ dns = "one.test", port = 80, resolver = "127.0.0.1:1" }', "source", "no name server answers for one.test: 127.0.0.1:1"),
        ('["nobody.test:80 resolve"]', "unresolved", "can't resolve nobody.test:80 resolve: the name server"),
    ],
)
def test_a_name_that_fails_is_one_refusal_and_changes_nothing(lab, to, pool, why, said):
    live = on_disk(lab)
    to(pool)
    answer = upswitch(lab, "switch", "B")
    assert (answer.exit, answer.json["why"], on_disk(lab)) == (3, why, live), answer
    assert said in answer.json["said"]

"""Names and services asked of a real name server, over TCP and from a host, as nginx's `resolver` line says."""

import socket
import struct

import pytest

import registries
from servers import serving
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.nginx.dump import NginxConf, parse_dump
from upswitch.site.model import Upstream
from upswitch.sources import resolver
from upswitch.sources.listed import SourceError
from upswitch.sources.resolver import Resolver, addresses, lines, of_nginx, services

CLOCK = SystemClock()
HOST = LocalHost(CLOCK)
RECORDS = (
    "host-record=app.test,127.0.0.2",
    "host-record=app.test,127.0.0.3,::1",
    "cname=www.test,app.test",
    "host-record=one.test,127.0.0.4",
    "srv-host=_http._tcp.app.test,one.test,8081,0,5",
    "srv-host=_http._tcp.app.test,app.test,8082,10,1",
    "srv-host=_lost._tcp.app.test,nobody.test,8081,0,5",
    "txt-record=text.test,hello",
    *(f"host-record=many.test,127.1.{number // 250}.{number % 250 + 1}" for number in range(600)),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    why = registries.missing(registries.DNSMASQ)
    if why:
        pytest.skip(why)
    with registries.dnsmasq(tmp_path_factory.mktemp("dns"), *RECORDS) as address:
        yield address


def conf(*lines):
    text = "events {}\nhttp {\n" + "".join(f"    {line}\n" for line in lines) + "}\n"
    return parse_dump(f"# configuration file /etc/nginx/nginx.conf:\n{text}\n")


def upstream(*directives):
    return Upstream(name="app", pools=(), directives=directives)


def asked(name, *servers, **kinds):
    return addresses(HOST, CLOCK, Resolver(servers=servers, **kinds), name)


def test_a_name_has_its_addresses_of_both_kinds_also_through_another_name(server):
    assert sorted(asked("app.test", server)) == sorted(asked("www.test", server)) == ["127.0.0.2", "127.0.0.3", "[::1]"]
    assert asked("one.test", server) == ("127.0.0.4",)
    assert sorted(asked("app.test", server, kinds=("A",))) == ["127.0.0.2", "127.0.0.3"]


def test_an_answer_of_many_kilobytes_is_read_whole(server):
    assert len(asked("many.test", server)) == 600


def test_a_service_gives_ports_weights_and_backups_as_nginx_makes_them(server):
    found = services(HOST, CLOCK, Resolver(servers=(server,), kinds=("A",)), "_http._tcp.app.test")
    assert sorted(lines(found)) == ["127.0.0.2:8082 backup", "127.0.0.3:8082 backup", "127.0.0.4:8081 weight=5"]


@pytest.mark.parametrize(("name", "said"), [("nobody.test", "knows no such name"), ("text.test", "text.test has no address")])
def test_a_name_without_an_address_is_named(server, name, said):
    with pytest.raises(SourceError, match=said):
        asked(name, server)


def test_a_service_whose_target_has_no_address_is_no_shorter_list(server):
    with pytest.raises(SourceError, match="knows no such name"):
        services(HOST, CLOCK, Resolver(servers=(server,)), "_lost._tcp.app.test")


def answered(*data):
    def say(stream):
        stream.recv(512)
        for each in data:
            stream.sendall(each)

    return say


def framed(data):
    return struct.pack(">H", len(data)) + data


def test_the_next_name_server_is_asked_where_one_is_dead_or_talks_nonsense(server):
    with socket.create_server(("127.0.0.1", 0)) as dead:
        gone = f"127.0.0.1:{dead.getsockname()[1]}"
    for nonsense in (b"", b"\0", framed(b"\0" * 12), framed(b"HTTP/1.1 400 Bad Request\r\n\r\n"), framed(b"\xff" * 60)):
        with serving(answered(nonsense)) as liar:
            assert asked("one.test", gone, liar.address, server) == ("127.0.0.4",)


def test_where_none_answers_each_is_named_with_its_reason(server):
    with socket.create_server(("127.0.0.1", 0)) as dead:
        gone = f"127.0.0.1:{dead.getsockname()[1]}"
    with pytest.raises(SourceError, match=f"no name server answers for one.test: {gone}: .*refused"):
        asked("one.test", gone)
    with pytest.raises(SourceError, match=f"{server}: REFUSED"):
        asked("example.org", server)


@pytest.mark.parametrize(
    ("http", "directives", "expected"),
    [
        (["resolver 10.0.0.2 [::1]:54 valid=10s ipv6=off;"], (), Resolver(servers=("10.0.0.2:53", "[::1]:54"), kinds=("A",))),
        (["resolver [fd00::1] ns.test:5353;", "resolver_timeout 3s;"], (), Resolver(servers=("[fd00::1]:53", "ns.test:5353"))),
        (["resolver 10.0.0.2;"], ("zone app 64k", "resolver 10.0.0.3:54"), Resolver(servers=("10.0.0.3:54",))),
    ],
)
def test_the_name_servers_are_those_of_nginx(http, directives, expected):
    assert of_nginx(conf(*http), upstream(*directives)) == expected


def test_an_nginx_without_a_name_server_is_refused_with_what_to_do():
    with pytest.raises(SourceError, match="no `resolver` in http: add one"):
        of_nginx(NginxConf(files=(), tree=()), upstream("zone app 64k"))


def test_no_question_is_longer_than_a_name_may_be():
    with pytest.raises(SourceError):
        asked(".".join(["a" * 63] * 5), "127.0.0.1:1")
    assert resolver._ANSWER_S <= 5

"""A pool's source in the site file: each kind, and each wrong key with what it must be."""

import pytest

from upswitch.site.read import SiteInvalid, parse_site
from upswitch.site.source import Access, CommandSource, ConsulSource, ContainersSource, DnsSource, EtcdSource, FileSource, SrvSource


def site(pool):
    return parse_site(f'[upstreams.app]\nA = ["127.0.0.1:8001"]\nB = {pool}\n')


@pytest.mark.parametrize(
    ("pool", "source", "text"),
    [
        ('{ file = "/srv/b.txt" }', FileSource(path="/srv/b.txt"), "file /srv/b.txt"),
        ('{ command = ["ls", "a b"], deadline = "2s" }', CommandSource(argv=("ls", "a b"), deadline=2.0), "command ls"),
        ('{ dns = "b.test", port = 80 }', DnsSource(name="b.test", port=80), "dns b.test"),
        (
            '{ srv = "_http._tcp.b.test", resolver = "10.0.0.2" }',
            SrvSource(name="_http._tcp.b.test", resolver="10.0.0.2:53"),
            "srv _http._tcp.b.test",
        ),
        ('{ srv = "b.test", resolver = "[::1]:80" }', SrvSource(name="b.test", resolver="[::1]:80"), "srv b.test"),
        ('{ srv = "b.test", resolver = "[::1]" }', SrvSource(name="b.test", resolver="[::1]:53"), "srv b.test"),
        (
            '{ etcd = "https://e.test:2379/", prefix = "/b/", ca = "/ca.pem" }',
            EtcdSource(url="https://e.test:2379", prefix="/b/", access=Access(ca="/ca.pem")),
            "etcd https://e.test:2379 /b/",
        ),
        (
            '{ consul = "app", tag = "blue" }',
            ConsulSource(service="app", tag="blue", url="http://127.0.0.1:8500"),
            "consul http://127.0.0.1:8500 app blue",
        ),
        (
            '{ containers = "label=app.pool=blue", port = 80, network = "web" }',
            ContainersSource(filter="label=app.pool=blue", port=80, network="web"),
            "containers label=app.pool=blue",
        ),
    ],
)
def test_each_kind_is_read(pool, source, text):
    found = site(pool).upstreams[0].pool("B")
    assert (found.servers, found.source, found.source.text) == ((), source, text)


@pytest.mark.parametrize(
    ("pool", "key", "allowed"),
    [
        ("{}", "B", "a table with file or command or dns"),
        ("{ hosts = [] }", "B", "a table with file or command or dns"),
        ('{ file = "/b", dns = "b.test", port = 80 }', "B.dns", "a pool has one source"),
        ('{ file = "b.txt" }', "B.file", "must be an absolute path"),
        ('{ file = "/b.txt", filter = "x" }', "B.filter", "there is no such key"),
        ("{ command = [] }", "B.command", "must be a list of at least one"),
        ('{ command = "ls" }', "B.command", "must be a list of at least one"),
        ('{ command = ["l\\u0000s"] }', "B.command", "without control characters"),
        ('{ command = ["ls"], deadline = "0s" }', "B.deadline", "more than 0"),
        ('{ dns = "b.test" }', "B.port", "must be the servers' port"),
        ('{ dns = "10.0.0.1", port = 80 }', "B.dns", "must be a name in the DNS"),
        ('{ dns = "b.test:80", port = 80 }', "B.dns", "must be a name in the DNS"),
        ('{ dns = "b.test weight=2", port = 80 }', "B.dns", "must be a name in the DNS"),
        ('{ dns = "b; } x", port = 80 }', "B.dns", "must "),
        ('{ srv = "b.test", resolver = "ns.test" }', "B.resolver", "must be the IP address of a name server"),
        ('{ etcd = "http://e.test:2379" }', "B.prefix", "must be what the keys"),
        ('{ etcd = "http://me:secret@e.test", prefix = "/b" }', "B.etcd", "without user, password"),
        ('{ consul = "app", cert = "/c.pem" }', "B.key", "must stand beside"),
        ('{ containers = "label=a b", port = 80 }', "B.containers", "must be a filter"),
        ('{ containers = "label=a" }', "B.port", "must be the servers' port"),
        ('{ consul = "a/b" }', "B.consul", "must be a name"),
    ],
)
def test_a_wrong_source_is_one_problem_with_its_key(pool, key, allowed):
    with pytest.raises(SiteInvalid) as caught:
        site(pool)
    (problem,) = caught.value.problems
    assert (problem.key, allowed in problem.allowed) == (f"upstreams.app.{key}", True), problem
    assert "secret" not in problem.text

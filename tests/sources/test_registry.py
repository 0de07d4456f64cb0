"""Pools in registries: a real etcd, and an HTTP stand-in for Consul (no package registry has it), with its documented answers."""

import http.server
import json
import threading
from base64 import b64encode
from contextlib import ExitStack, contextmanager

import httpx
import pytest

import registries
from servers import certificate
from upswitch.basics.errors import RefusedError
from upswitch.site.model import Gate, Nginx, Pool, Site, Upstream, Watch
from upswitch.site.source import Access, ConsulSource, EtcdSource
from upswitch.sources import here
from upswitch.sources.listed import SourceError
from upswitch.sources.registry import of_consul, of_etcd
from upswitch_lab.process import free_port, until

PREFIX = "/services/app/blue/"


def coded(text):
    return b64encode(text.encode()).decode()


class Etcd:
    def __init__(self, url):
        self.url = url
        self.keys = 0

    def ask(self, path, **body):
        answer = httpx.post(f"{self.url}/v3/{path}", json=body, timeout=20.0, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def put(self, key, value, lease="0"):
        self.ask("kv/put", key=coded(key), value=coded(value), lease=lease)

    def clear(self):
        self.ask("kv/deleterange", key=coded("/"), range_end=coded("0"))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    why = registries.missing(registries.ETCD)
    if why:
        pytest.skip(why)
    with registries.etcd(tmp_path_factory.mktemp("etcd")) as url:
        found = Etcd(url)
        until(lambda: can_read(found), what="etcd to have a leader")
        yield found


def can_read(etcd):
    try:
        etcd.ask("kv/range", key=coded("a"))
    except httpx.HTTPError:
        return False
    return True


@pytest.fixture
def etcd(running):
    running.clear()
    return running


def read(etcd, prefix=PREFIX, **access):
    return [each.text for each in of_etcd(EtcdSource(url=etcd.url, prefix=prefix, access=Access(**access)))]


def test_the_keys_under_the_prefix_are_the_servers_and_no_others(etcd):
    for key, value in (
        ("blue/2", "10.0.0.2:80 weight=2"),
        ("blue/1", "10.0.0.1:80"),
        ("green/1", "10.0.0.3:80"),
        ("blue", "10.0.0.4:80"),
    ):
        etcd.put(f"/services/app/{key}", value)
    assert read(etcd) == ["10.0.0.1:80", "10.0.0.2:80 weight=2"]


def test_a_registration_whose_lease_ended_is_gone(etcd):
    etcd.put(f"{PREFIX}1", "10.0.0.1:80")
    lease = etcd.ask("lease/grant", TTL=60)["ID"]
    etcd.put(f"{PREFIX}2", "10.0.0.2:80", lease=lease)
    assert len(read(etcd)) == 2
    etcd.ask("lease/revoke", ID=lease)
    assert read(etcd) == ["10.0.0.1:80"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((), "it has no server"),
        (("10.0.0.1:80; } server { listen 81; } upstream x { server 1.1.1.1",), f"{PREFIX}0: "),
        (("10.0.0.1:80", "10.0.0.1:80"), f"{PREFIX}1: .*only once"),
        (("10.0.0.1:80\n10.0.0.2:80",), "must be printable ASCII on one line"),
        (("\u202e10.0.0.1:80",), f"{PREFIX}0: "),
        (("x" * 600_000, "y" * 600_000), "more than 1,000,000 bytes"),
    ],
)
def test_a_wrong_value_names_its_key(etcd, values, said):
    for number, value in enumerate(values):
        etcd.put(f"{PREFIX}{number}", value)
    with pytest.raises(SourceError, match=said):
        read(etcd)


def test_etcd_with_users_wants_the_token_of_the_file_which_only_its_owner_may_read(tmp_path):
    why = registries.missing(registries.ETCD)
    if why:
        pytest.skip(why)
    with registries.etcd(tmp_path) as url:
        etcd = Etcd(url)
        until(lambda: can_read(etcd), what="etcd to have a leader")
        etcd.put(f"{PREFIX}1", "10.0.0.1:80")
        etcd.ask("auth/user/add", name="root", password="p")
        etcd.ask("auth/role/add", name="root")
        etcd.ask("auth/user/grant", user="root", role="root")
        etcd.ask("auth/enable")
        file = tmp_path / "token"
        file.write_text(etcd.ask("auth/authenticate", name="root", password="p")["token"] + "\n")
        file.chmod(0o600)
        assert read(etcd, token_file=f"{file}") == ["10.0.0.1:80"]
        with pytest.raises(SourceError, match=r"it answers 400: .*user name is empty"):
            read(etcd)
        file.write_text("wrong")
        with pytest.raises(SourceError, match=r"it answers 401: .*invalid auth token") as caught:
            read(etcd, token_file=f"{file}")
        assert "wrong" not in str(caught.value)
        file.chmod(0o644)
        with pytest.raises(SourceError, match="other users may read this secret; `chmod 600"):
            read(etcd, token_file=f"{file}")


def test_etcd_over_tls_is_believed_by_its_ca_alone(tmp_path):
    why = registries.missing(registries.ETCD)
    if why:
        pytest.skip(why)
    pem = certificate(tmp_path)
    pem.chmod(0o600)
    with registries.etcd(tmp_path, f"--cert-file={pem}", f"--key-file={pem}", scheme="https") as url:
        etcd = Etcd(url)
        with pytest.raises(SourceError, match="certificate verify failed"):
            read(etcd)
        with pytest.raises(SourceError, match="it has no server"):
            read(etcd, ca=f"{pem}")
        with pytest.raises(SourceError, match="ca, cert or key can't be used"):
            read(etcd, ca=f"{tmp_path}/none")


def test_a_pool_in_etcd_is_read_into_the_site_or_refused_with_its_place(etcd):
    source = EtcdSource(url=etcd.url, prefix=PREFIX)
    app = Upstream(name="app", pools=(Pool(name="blue", servers=(), source=source),))
    site = Site(nginx=Nginx(), upstreams=(app,), gate=Gate(), watch=Watch())
    with pytest.raises(RefusedError, match=f"servers of app.blue can't be read from etcd {etcd.url} {PREFIX}: it has no"):
        here.read(site, "blue", {})
    etcd.put(f"{PREFIX}1", "10.0.0.1:80")
    assert [each.text for each in here.read(site, "blue", {}).upstreams[0].servers("blue")] == ["10.0.0.1:80"]


def test_a_registry_that_is_not_there_is_asked_for_some_seconds_and_named():
    with pytest.raises(SourceError, match="refused"):
        of_etcd(EtcdSource(url=f"http://127.0.0.1:{free_port('127.0.0.1')}", prefix=PREFIX))


# ---- Consul's stand-in ----


def instance(address, port, *states, node="10.9.9.9", weight=1):
    service = {
        "ID": "x",
        "Service": "app",
        "Tags": ["blue"],
        "Address": address,
        "Port": port,
        "Weights": {"Passing": weight, "Warning": 1},
    }
    return {
        "Node": {"Node": "n1", "Address": node},
        "Service": service,
        "Checks": [{"CheckID": "c", "Status": each} for each in states],
    }


@contextmanager
def stand_in(*answers):
    """Answers one request after the other, the last one again and again: (status, body)."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers[min(len(asked), len(answers) - 1)]
            asked.append((self.path, self.headers.get("X-Consul-Token")))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ExitStack() as stack:
        server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        yield f"http://127.0.0.1:{server.server_address[1]}", asked


def consul(*answers, **access):
    with stand_in(*answers) as (url, asked):
        found = of_consul(ConsulSource(service="app", tag="blue", url=url, access=Access(**access)))
    return [each.text for each in found], asked


def test_consul_gives_the_instances_whose_checks_all_pass(tmp_path):
    token = tmp_path / "token"
    token.write_text("b1gs33cr3t\n")
    token.chmod(0o600)
    found = [
        instance("10.0.0.1", 80, "passing", "passing"),
        instance("", 81, "passing", weight=3),
        instance("10.0.0.2", 80, "passing", "critical"),
        instance("fd00::1", 80),
    ]
    servers, asked = consul((200, json.dumps(found).encode()), token_file=f"{token}")
    assert servers == ["10.0.0.1:80", "10.9.9.9:81 weight=3", "[fd00::1]:80"]
    assert asked == [("/v1/health/service/app?passing=1&tag=blue", "b1gs33cr3t")]


def test_a_registry_that_fails_once_is_asked_again():
    servers, asked = consul((500, b"No cluster leader"), (200, json.dumps([instance("10.0.0.1", 80)]).encode()))
    assert (servers, len(asked)) == (["10.0.0.1:80"], 2)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"[]", "it has no server"),
        (200, b"<html>hello</html>", "it did not answer as such a registry"),
        (200, b'{"Node": 1}', "it did not answer as such a registry"),
        (200, b"[" * 100_000, "it did not answer as such a registry"),
        (200, b" " * 1_000_001, "more than 1,000,000 bytes"),
        (200, json.dumps([instance("10.0.0.1", 0)]).encode(), "instance 1: .*port from 1"),
        (200, json.dumps([instance("a; } server {", 80)]).encode(), "instance 1: "),
        (200, json.dumps([instance("10.0.0.2", 80, "critical")]).encode(), "it has no server"),
        (403, b"Permission denied\x1b[31m", r"it answers 403: Permission denied\\x1b\[31m"),
        (302, b"", "it answers 302"),
    ],
)
def test_an_answer_that_is_no_list_is_refused_at_once(status, body, said):
    with stand_in((status, body)) as (url, asked):
        with pytest.raises(SourceError, match=said):
            of_consul(ConsulSource(service="app", tag="blue", url=url))
        assert len(asked) == 1

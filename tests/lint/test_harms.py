"""The lint rules about upstreams and passes: what becomes of requests on a real nginx with each, and with the printed line."""

import http.client
import re
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from failing import EACH_NGINX
from frontend import frontend
from servers import certificate
from upswitch.lint.lint import lint_file
from upswitch_lab.find import read_build
from upswitch_lab.process import free_port

TWO = "upstream NAME { server A; server B; }"
SURE = "upstream NAME { server A max_fails=3; server B max_fails=3; }"
PASS = "proxy_pass http://NAME;"
KEPT = 'proxy_http_version 1.1; proxy_set_header Connection "";'


class App(ThreadingHTTPServer):
    """Answers each request by its path, and keeps what came. `is_sick`: it closes every connection without an answer."""

    daemon_threads = True

    def __init__(self, *, is_sick=False):
        super().__init__(("127.0.0.1", 0), Answer)
        self.is_sick = is_sick
        self.came, self.connections = [], 0
        threading.Thread(target=self.serve_forever, args=(0.01,)).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_port}"

    def forget(self):
        self.came.clear()
        self.connections = 0

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_GET(self):
        self.server.came.append((self.command, self.path, self.request_version, self.headers["Host"]))
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/crash" or self.server.is_sick:
            self.close_connection = True
            return
        if self.path == "/slow":
            threading.Event().wait(1.5)  # longer than the read timeout of its case
        self.send_response(503 if self.path == "/503" else 200)
        self.send_header("Content-Length", "0")
        if self.path == "/big":
            self.send_header("X-Big", "x" * 12_000)
        self.end_headers()

    do_POST = do_PUT = do_GET  # noqa: N815  (names that http.server looks for)

    def log_message(self, *_):
        pass


class Names:
    """A TLS server that wants to be told its name."""

    def __init__(self, folder):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(folder))
        context.sni_callback = lambda _, name, __: None if name else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        self.app = App()
        self.app.socket = context.wrap_socket(self.app.socket, server_side=True)


class Lab:
    def __init__(self, port, apps):
        self.port, self.apps, self.host = port, apps, ""

    def ask(self, *paths, method="GET", body=None):
        """The statuses."""
        found = []
        for path in paths:
            stream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            stream.request(method, path, body=body, headers={"Host": self.host})
            found.append(stream.getresponse().status)
            stream.close()
        return found

    @property
    def came(self):
        return [each for app in self.apps for each in app.came]

    @property
    def connections(self):
        return sum(app.connections for app in self.apps)


@dataclass(frozen=True)
class Harm:
    """`bad` and `good` are http blocks, without their `server` where there is only `location /`. `ask` gives `hurt` or `well`."""

    code: str
    bad: str
    good: str
    ask: Callable[[Lab], object]
    hurt: object
    well: object
    is_old: bool = False  # only before 1.29.7

    def text(self, side, names):
        text = self.bad if side == "bad" else self.good
        if "server {" not in text.replace("server { listen", "server {"):
            upstreams, _, inner = text.partition("@")
            text = f"{upstreams} server {{ listen PORT; server_name HOST; location / {{ {inner} }} }}"
        text = text.replace("NAME", f"{self.code}_{side}").replace("HOST", self.host(side))
        for name, value in names.items():
            text = re.sub(rf"\b{name}\b", value, text)
        return text

    def host(self, side):
        return f"{self.code.replace('_', '-')}.{side}"


def server(inner):
    return f"server {{ listen PORT; server_name HOST; {inner} }}"


HARMS = [
    Harm(
        "all_down",
        f"upstream NAME {{ server A down; server B down; }} @ {PASS}",
        f"upstream NAME {{ server A; server B down; }} @ {PASS}",
        lambda lab: lab.ask("/"),
        [502],
        [200],
    ),
    Harm(
        "single_server",
        f"upstream NAME {{ server DEAD; }} @ {PASS}",
        f"upstream NAME {{ server DEAD; server A; }} @ {PASS}",
        lambda lab: lab.ask("/", "/"),
        [502, 502],
        [200, 200],
    ),
    Harm(
        "max_fails_one",
        f"{TWO} @ {PASS}",
        f"{SURE} @ {PASS}",
        lambda lab: lab.ask("/crash", "/", "/"),
        [502, 502, 502],
        [502, 200, 200],
    ),
    Harm(
        "keepalive_before_balancer",
        f"upstream NAME {{ server A; server B backup; keepalive 8; least_conn; }} @ {KEPT} {PASS}",
        f"upstream NAME {{ server A; server B backup; least_conn; keepalive 8; }} @ {KEPT} {PASS}",
        lambda lab: (lab.ask("/", "/", "/"), lab.connections)[1],
        3,
        1,
        is_old=True,
    ),
    Harm(
        "backup_shared",
        "upstream NAME { server DEAD; server C backup; } upstream NAME2 { server DEAD; server C backup; }"
        + server("location / { proxy_pass http://NAME; } location /2 { proxy_pass http://NAME2; }"),
        "upstream NAME { server DEAD; server C backup; } upstream NAME2 { server DEAD; server B backup; }"
        + server("location / { proxy_pass http://NAME; } location /2 { proxy_pass http://NAME2; }"),
        lambda lab: (lab.ask("/", "/2"), [len(app.came) for app in lab.apps[1:3]])[1],
        [0, 2],
        [1, 1],
    ),
    Harm(
        "post_sent_twice",
        f"{SURE} @ proxy_next_upstream error timeout non_idempotent; {PASS}",
        f"{SURE} @ proxy_next_upstream error timeout; {PASS}",
        lambda lab: (lab.ask("/crash", method="POST", body="x"), len(lab.came))[1],
        2,
        1,
    ),
    Harm(
        "next_upstream_off",
        f"upstream NAME {{ server DEAD max_fails=0; server A; }} @ proxy_next_upstream off; {PASS}",
        f"upstream NAME {{ server DEAD max_fails=0; server A; }} @ proxy_next_upstream error timeout; {PASS}",
        lambda lab: sorted(lab.ask("/", "/", "/", "/")),
        [200, 200, 502, 502],
        [200, 200, 200, 200],
    ),
    Harm(
        "retries_unbounded",
        f"upstream NAME {{ server A; server B; server C; }} @ {PASS}",
        f"upstream NAME {{ server A; server B; server C; }} @ proxy_next_upstream_tries 2; {PASS}",
        lambda lab: (lab.ask("/crash"), len(lab.came))[1],
        3,
        2,
    ),
    Harm(
        "answers_take_servers_out",
        f"{TWO} @ proxy_next_upstream error timeout http_503; {PASS}",
        f"{TWO} @ proxy_next_upstream error timeout; {PASS}",
        lambda lab: lab.ask("/503", "/503", "/"),
        [503, 502, 502],
        [503, 503, 200],
    ),
    Harm(
        "read_timeout_short",
        f"{TWO} @ proxy_read_timeout 1s; {PASS}",
        f"{TWO} @ proxy_read_timeout 60s; {PASS}",
        lambda lab: (lab.ask("/slow", "/"), len(lab.came)),
        ([504, 502], 2),
        ([200, 200], 2),
    ),
    Harm(
        "request_unbuffered",
        f"upstream NAME {{ server SICK max_fails=0; server A; }} @ proxy_request_buffering off; {PASS}",
        f"upstream NAME {{ server SICK max_fails=0; server A; }} @ proxy_request_buffering on; {PASS}",
        lambda lab: sorted(lab.ask("/", "/", method="PUT", body="x" * 100_000)),
        [200, 502],
        [200, 200],
    ),
    Harm(
        "keepalive_unused",
        f"upstream NAME {{ server A; keepalive 8; }} @ {PASS}",
        f"upstream NAME {{ server A; keepalive 8; }} @ {KEPT} {PASS}",
        lambda lab: (lab.ask("/", "/", "/"), lab.connections)[1],
        3,
        1,
        is_old=True,
    ),
    Harm(
        "keepalive_closed_by_map",
        "map $http_upgrade $NAME { default upgrade; '' close; } upstream NAME { server A; keepalive 8; } "
        f"@ proxy_http_version 1.1; proxy_set_header Connection $NAME; {PASS}",
        "map $http_upgrade $NAME { default upgrade; '' ''; } upstream NAME { server A; keepalive 8; } "
        f"@ proxy_http_version 1.1; proxy_set_header Connection $NAME; {PASS}",
        lambda lab: (lab.ask("/", "/", "/"), lab.connections)[1],
        3,
        1,
    ),
    Harm(
        "set_header_lost",
        TWO + server(f"proxy_set_header Host $host; location / {{ proxy_set_header X-A b; {PASS} }}"),
        TWO + server(f"proxy_set_header Host $host; location / {{ proxy_set_header X-A b; proxy_set_header Host $host; {PASS} }}"),
        lambda lab: (lab.ask("/"), lab.came[0][3].replace("_", "-"))[1],
        "set-header-lost-bad",
        "set-header-lost.good",
    ),
    Harm(
        "upgrade_without_http_1_1",
        f'{TWO} @ proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; {PASS}',
        f'{TWO} @ proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; {PASS}',
        lambda lab: (lab.ask("/"), lab.came[0][2])[1],
        "HTTP/1.0",
        "HTTP/1.1",
        is_old=True,
    ),
    Harm(
        "header_buffer_small",
        f"{TWO} @ proxy_buffers 8 32k; {PASS}",
        f"{TWO} @ proxy_buffers 8 32k; proxy_buffer_size 32k; {PASS}",
        lambda lab: lab.ask("/big"),
        [502],
        [200],
    ),
    Harm(
        "no_sni",
        "@ proxy_pass https://localhost:TLS;",
        "@ proxy_ssl_server_name on; proxy_pass https://localhost:TLS;",
        lambda lab: lab.ask("/"),
        [502],
        [200],
    ),
    Harm(
        "error_page_hides",
        "upstream NAME { server DEAD; }"
        + server(f'error_page 502 =200 /sorry; location / {{ {PASS} }} location = /sorry {{ return 200 "sorry"; }}'),
        "upstream NAME { server DEAD; }"
        + server(f'error_page 502 /sorry; location / {{ {PASS} }} location = /sorry {{ return 200 "sorry"; }}'),
        lambda lab: lab.ask("/"),
        [200],
        [502],
    ),
    Harm(
        "no_resolver",
        f"{TWO} @ set $pool mistyped_name; proxy_pass http://$pool;",
        f"{TWO} @ set $pool NAME; proxy_pass http://$pool;",
        lambda lab: lab.ask("/"),
        [502],
        [200],
    ),
    Harm(
        "variable_hides_name",
        f"{TWO} @ resolver DEAD; resolver_timeout 1s; set $pool mistyped_name; proxy_pass http://$pool;",
        f"{TWO} @ resolver DEAD; resolver_timeout 1s; set $pool NAME; proxy_pass http://$pool;",
        lambda lab: lab.ask("/"),
        [502],
        [200],
    ),
    Harm(
        "variable_drops_uri",
        TWO + server("location /api/ { set $pool NAME; proxy_pass http://$pool/v1/; }"),
        TWO + server("location /api/ { set $pool NAME; rewrite ^/api/(.*)$ /v1/$1 break; proxy_pass http://$pool; }"),
        lambda lab: (lab.ask("/api/x?y=1"), lab.came[0][1])[1],
        "/v1/",
        "/v1/x?y=1",
    ),
]
CASES = pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.code)
ADDRESSES = {
    "A": "127.0.0.1:8001",
    "B": "127.0.0.1:8002",
    "C": "127.0.0.1:8003",
    "DEAD": "127.0.0.1:8004",
    "SICK": "127.0.0.1:8005",
    "TLS": "8443",
}


@pytest.fixture(scope="module", params=EACH_NGINX)
def lab(request, tmp_path_factory):
    """Every case, bad and good, in one nginx."""
    folder = tmp_path_factory.mktemp("harms")
    with ExitStack() as stack:
        apps = [stack.enter_context(App()) for _ in range(3)]
        sick = stack.enter_context(App(is_sick=True))
        named = stack.enter_context(Names(folder).app)
        names = dict(zip("ABC", (app.address for app in apps), strict=True))
        names |= {"DEAD": f"127.0.0.1:{free_port('127.0.0.1')}", "SICK": sick.address, "TLS": str(named.server_port)}
        text = " ".join(harm.text(side, names) for harm in HARMS for side in ("bad", "good"))
        nginx = stack.enter_context(frontend(request.param, folder, f"access_log off; server_names_hash_bucket_size 128; {text}"))
        found = Lab(nginx.port, apps)
        found.build = read_build(request.param)
        yield found


@CASES
def test_requests_are_hurt_with_the_finding_and_not_with_the_line_that_is_printed(lab, harm):
    if harm.is_old and lab.build.keeps_upstream_connections:
        pytest.skip("nginx 1.29.7 and later keeps connections by itself")
    seen = {}
    for side in ("bad", "good"):
        for app in lab.apps:
            app.forget()
        lab.host = harm.host(side)
        seen[side] = harm.ask(lab)
    assert seen == {"bad": harm.hurt, "good": harm.well}


@CASES
def test_a_rule_finds_its_harm_and_prints_the_line_without_which_it_is_there(tmp_path, harm):
    files = {}
    for side in ("bad", "good"):
        files[side] = tmp_path / f"{side}.conf"
        files[side].write_text(f"events {{}} http {{ {harm.text(side, ADDRESSES)} }}")
    found = [each for each in lint_file(str(files["bad"])) if each.code == harm.code]
    assert len(found) == 1
    assert found[0].what.startswith(f"{found[0].file}:{found[0].line}: ")
    good = files["good"].read_text()
    assert [line for line in re.findall("`([^`]*;)`", found[0].hint) if line not in good] == []
    assert harm.code not in [each.code for each in lint_file(str(files["good"]))]

"""The site file: read into values once, and refused with every problem at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.site.model import Check, CheckType, Gate, Nginx, SpikePolicy, Watch, effective_check
from upswitch.site.read import SiteInvalid, in_waves, parse_site
from upswitch.site.values import parse_duration

POOLS = '[upstreams.app]\nA = ["127.0.0.1:8001"]\nB = ["127.0.0.1:8002"]\n'

# shared design, section 3.
DESIGN = r"""
[nginx]
binary = "nginx"
conf   = "/etc/nginx/nginx.conf"
prefix = ""
dir    = "/etc/nginx/upswitch"
state  = "/var/lib/upswitch"
reload = ["nginx", "-s", "reload"]
marker = "127.0.84.1:8008"
user   = "root"
drain  = "1s"
access_log = "auto"
error_log  = "auto"

[upstreams.tornado_servers]
A = ["127.0.0.1:29100 weight=100", "127.0.0.1:29101 weight=100"]
B = ["127.0.0.1:29110 weight=100", "127.0.0.1:29111 weight=100"]
directives = ["least_conn", "keepalive 32"]
template = "upstream.conf.j2"

[upstreams.tornado_servers.check]
type = "http"
interval = 30000
rise = 2
fall = 5
timeout = 1000
default_down = true
port = 0
http_send = "GET /healthz HTTP/1.0\r\n\r\n"
http_expect_alive = ["http_2xx", "http_3xx"]

[gate]
interval = "1s"
timeout  = "2s"
deadline = "120s"
vantage = "host"
expect_body = ""

[watch]
duration = "60s"
on_spike = "rollback"
on_silence = "keep"
probe = "http://127.0.0.1/healthz"

[hosts]
lb1 = "deploy@10.0.0.1"
lb2 = { ssh = "deploy@10.0.0.2:2222", nginx = { conf = "/opt/nginx/nginx.conf" }, probe = "http://127.0.0.1:81/" }

[rollout]
waves = ["1", "25%", "100%"]
unreachable = "refuse"

[deadman]
enabled = true
"""


def problems(text):
    with pytest.raises(SiteInvalid) as caught:
        parse_site(text)
    return {problem.key: problem for problem in caught.value.problems}


def test_the_example_of_the_design_parses():
    site = parse_site(DESIGN)
    upstream = site.upstreams[0]
    assert site.pools == ("A", "B")
    assert upstream.name == "tornado_servers"
    assert [server.text for server in upstream.servers("B")] == ["127.0.0.1:29110 weight=100", "127.0.0.1:29111 weight=100"]
    assert upstream.directives == ("least_conn", "keepalive 32")
    assert upstream.check == Check(type=CheckType.HTTP, http_send="GET /healthz HTTP/1.0\r\n\r\n")
    assert site.nginx == Nginx(reload=("nginx", "-s", "reload"))
    assert site.gate == Gate()
    assert site.watch == Watch(on_spike=SpikePolicy.ROLLBACK, probe="http://127.0.0.1/healthz")


def test_every_key_but_the_pools_has_a_default():
    site = parse_site(POOLS)
    assert (site.nginx, site.gate, site.watch) == (Nginx(), Gate(), Watch())
    assert site.upstreams[0].check is None


def test_all_problems_are_reported_at_once_with_key_value_and_what_it_must_be():
    found = problems('[nginx]\nconf = "etc"\nuser = 3\n[upstreams.app]\nA = ["1.2.3.4 weight=0"]\n[gate]\ninterval = "0s"\n')
    assert set(found) == {"nginx.conf", "nginx.user", "upstreams.app.A", "gate.interval"}
    said = 'line 5: upstreams.app.A = "1.2.3.4 weight=0": must have a whole number from 1 for weight'
    assert found["upstreams.app.A"].text == f'{said}\n    5 | A = ["1.2.3.4 weight=0"]'


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "upstreams"),
        ("[upstreams.app]\n", "upstreams.app"),
        ("[upstreams.app]\nA = []\n", "upstreams.app.A"),
        ('[upstreams.app]\nA = "127.0.0.1"\n', "upstreams.app.A"),
        ("[upstreams.app]\nA = [1]\n", "upstreams.app.A"),
        ('[upstreams.app]\nA = ["127.0.0.1 down"]\n', "upstreams.app.A"),
        ('[upstreams.app]\nA = ["127.0.0.1", "127.0.0.1:80 weight=2"]\n', "upstreams.app.A"),
        ('[upstreams.app]\nA = ["127.0.0.1"]\nB = ["127.0.0.1:80"]\n', "upstreams.app.B"),
        ('[upstreams.app]\n"a b" = ["127.0.0.1"]\n', 'upstreams.app."a b"'),
        ('[upstreams.app]\n"-a" = ["127.0.0.1"]\n', "upstreams.app.-a"),
        ('[upstreams."a;b"]\nA = ["127.0.0.1"]\n', 'upstreams."a;b"'),
        ('[upstreams."\\u001b[0m"]\nA = ["127.0.0.1"]\n', 'upstreams."\\u001b[0m"'),
        ('[upstreams.marker]\nA = ["127.0.0.1"]\n', "upstreams.marker"),
        ('[upstreams.app.v2]\nA = ["127.0.0.1"]\n', "upstreams.app.v2"),
        (POOLS + '[upstreams.App]\nA = ["127.0.0.1"]\nB = ["127.0.0.2"]\n', "upstreams.App"),
        (POOLS + '[upstreams.other]\nA = ["127.0.0.1"]\n', "upstreams.other"),
        (POOLS + 'directives = ["include /etc/passwd"]\n', "upstreams.app.directives"),
        (POOLS + 'directives = ["server 6.6.6.6"]\n', "upstreams.app.directives"),
        (POOLS + 'directives = ["check interval=3000"]\n', "upstreams.app.directives"),
        (POOLS + 'directives = ["least_conn; server 6.6.6.6"]\n', "upstreams.app.directives"),
        (POOLS + 'directives = ["zone a\\nserver 6.6.6.6"]\n', "upstreams.app.directives"),
        (POOLS + 'directives = ["keepalive -1"]\n', "upstreams.app.directives"),
        (POOLS + 'template = "../x.j2"\n', "upstreams.app.template"),
        (POOLS + 'check = {interval = "3s"}\n', "upstreams.app.check.interval"),
        (POOLS + "check = {port = 96707}\n", "upstreams.app.check.port"),
        (POOLS + "check = {rise = true}\n", "upstreams.app.check.rise"),
        (POOLS + 'check = {type = "https"}\n', "upstreams.app.check.type"),
        (POOLS + 'check = {http_send = "GET / HTTP/1.0\\r\\n\\r\\n"}\n', "upstreams.app.check.http_send"),
        (POOLS + 'check = {type = "http", http_send = "GET / HTTP/1.0"}\n', "upstreams.app.check.http_send"),
        (POOLS + 'check = {type = "http", http_send = "GET /\\u0000\\r\\n\\r\\n"}\n', "upstreams.app.check.http_send"),
        (POOLS + 'check = {type = "http", http_expect_alive = ["2xx"]}\n', "upstreams.app.check.http_expect_alive"),
        (POOLS + 'check = {type = "mysql", http_expect_alive = ["http_2xx"]}\n', "upstreams.app.check.http_expect_alive"),
        (POOLS + 'check = {type = "http", fastcgi_param = {SCRIPT_NAME = "/ping"}}\n', "upstreams.app.check.fastcgi_param"),
        (POOLS + 'check = {type = "fastcgi", fastcgi_param = {"a b" = "/ping"}}\n', 'upstreams.app.check.fastcgi_param."a b"'),
        (
            POOLS + 'check = {type = "fastcgi", fastcgi_param = {SCRIPT_NAME = "a\\nb"}}\n',
            "upstreams.app.check.fastcgi_param.SCRIPT_NAME",
        ),
        ('[upstreams.app]\nb = ["127.0.0.1:8001"]\nB = ["127.0.0.1:8002"]\n', "upstreams.app.B"),
        (POOLS + "check = {keepalive_requests = 0}\n", "upstreams.app.check.keepalive_requests"),
        (POOLS + '[nginx]\ncheck_shm_size = "10 m"\n', "nginx.check_shm_size"),
        (POOLS + '[gate]\nexpect_body = "ok"\n', "gate.expect_body"),
        (POOLS + '[gate]\ntype = "http"\nexpect_body = "("\n', "gate.expect_body"),
        (POOLS + "[gate]\nrise = 0\n", "gate.rise"),
        (POOLS + "[gate]\nrise = 500\n", "gate.deadline"),
        (POOLS + '[gate]\ntimeout = "2"\n', "gate.timeout"),
        (POOLS + '[watch]\nprobe = "file:///etc/passwd"\n', "watch.probe"),
        (POOLS + '[watch]\nprobe = "http://127.0.0.1:65536/"\n', "watch.probe"),
        (POOLS + '[watch]\nprobe = "http://[::1::]/"\n', "watch.probe"),
        (POOLS + "[watch]\nprobe = 80\n", "watch.probe"),
        (POOLS + '[hosts]\nlb1 = {ssh = "h", probe = "http://h:99999/"}\n', "hosts.lb1.probe"),
        (POOLS + '[watch]\non_spike = "keep"\n', "watch.on_spike"),
        (POOLS + '[nginx]\nmarker = "10.0.0.1:80"\n', "nginx.marker"),
        (POOLS + '[nginx]\nmarker = "127.0.0.1"\n', "nginx.marker"),
        (POOLS + '[nginx]\nmarker = "127.0.0.1:70000"\n', "nginx.marker"),
        (POOLS + '[nginx]\nmarker = "127.0.0.300:80"\n', "nginx.marker"),
        (POOLS + '[nginx]\ndir = "/etc/../x"\n', "nginx.dir"),
        (POOLS + '[nginx]\ndir = "/"\n', "nginx.dir"),
        (POOLS + '[nginx]\ndir = "/a;b"\n', "nginx.dir"),
        (POOLS + '[nginx]\nbinary = "-c"\n', "nginx.binary"),
        (POOLS + "[nginx]\nreload = []\n", "nginx.reload"),
        (POOLS + '[nginx]\nreload = ["-s"]\n', "nginx.reload"),
        (POOLS + '[nginx]\nreload = ["sh", "-c", "nginx; id"]\n', "nginx.reload"),
        (POOLS + '[nginx]\nuser = "-root"\n', "nginx.user"),
        (POOLS + '[nginx]\naccess_log = "off"\n', "nginx.access_log"),
        (POOLS + '[hosts]\nlb1 = "-oProxyCommand=id"\n', "hosts.lb1"),
        (POOLS + '[hosts]\nlb1 = "deploy@10.0.0.1:70000"\n', "hosts.lb1"),
        (POOLS + '[hosts]\nlb1 = "deploy@10.0.0.1;id"\n', "hosts.lb1"),
        (POOLS + '[hosts]\n"a b" = "deploy@10.0.0.1"\n', 'hosts."a b"'),
        (POOLS + "[hosts]\nlb1 = {}\n", "hosts.lb1.ssh"),
        (POOLS + '[hosts]\nlb1 = {ssh = "h", sssh = "g"}\n', "hosts.lb1.sssh"),
        (POOLS + '[hosts]\nlb1 = {ssh = "h", nginx = {dir = "/"}}\n', "hosts.lb1.nginx.dir"),
        (POOLS + '[hosts]\nlb1 = "h"\nlb2 = "h"\n', "hosts.lb2"),
        (POOLS + '[rollout]\nwaves = ["0"]\n', "rollout.waves"),
        (POOLS + '[rollout]\nwaves = ["101%"]\n', "rollout.waves"),
        (POOLS + '[rollout]\nunreachable = "ignore"\n', "rollout.unreachable"),
        (POOLS + '[gate]\nvantage = "there"\n', "gate.vantage"),
        (POOLS + "[deadman]\nenabled = 1\n", "deadman.enabled"),
        ("gate = 3\n" + POOLS, "gate"),
    ],
)
def test_a_wrong_value_is_the_one_problem(text, key):
    assert list(problems(text)) == [key]


def test_a_marker_on_a_unix_socket_is_refused_with_the_reason():
    assert "kill -9" in problems(POOLS + '[nginx]\nmarker = "unix:/run/x"\n')["nginx.marker"].allowed


def test_an_unknown_key_is_named_with_the_nearest_known_one():
    found = problems("[ngnix]\n" + POOLS + "[gate]\nraise = 2\n")
    assert found["ngnix"].allowed.endswith("did you mean nginx?")
    assert found["gate.raise"].allowed.endswith("did you mean rise?")


def test_broken_toml_is_one_problem_with_its_line():
    assert list(problems("[nginx]\nuser = \n")) == ["line 2"]
    assert list(problems("a = [")) == ["line 1"]


def test_a_secret_is_not_shown():
    send = r'"GET / HTTP/1.0\r\nAuthorization: marker-secret"'
    text = f'{POOLS}check = {{type = "http", http_send = {send}}}\n[gate]\nhtp_send = {send}\n[watch]\nprobe = "http://u:marker-secret@h/"\n'
    with pytest.raises(SiteInvalid) as caught:
        parse_site(text)
    assert len(caught.value.problems) == 3
    assert "marker-secret" not in str(caught.value)


def test_a_slash_at_the_end_of_a_folder_makes_no_difference():
    assert parse_site(POOLS + '[nginx]\ndir = "/srv/up/"\n').nginx.include == "/srv/up/live/*.conf"


def test_the_keys_of_the_gate_come_before_the_check_and_the_check_before_the_defaults():
    plain = parse_site(POOLS)
    assert effective_check(plain.upstreams[0], plain.gate).type is CheckType.TCP
    text = POOLS + 'check = {type = "mysql", rise = 3, port = 9000}\n[gate]\ntype = "http"\nfall = 1\nexpect_body = "ok"\n'
    site = parse_site(text)
    rule = effective_check(site.upstreams[0], site.gate)
    assert (rule.type, rule.rise, rule.fall, rule.port, rule.expect_body) == (CheckType.HTTP, 3, 1, 9000, "ok")
    assert rule.http_send == Check().http_send


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("1s", 1.0), ("1.5s", 1.5), ("2m", 120.0), ("24h", 86400.0), ("0s", 0.0)]
    + [(text, None) for text in ("", "1", "s", "-1s", "1 s", "25h", "nan", "1e9s", "1s\n", "1d", "\u0661s")],
)
def test_a_duration_is_one_number_and_one_unit(text, seconds):
    assert parse_duration(text) == seconds


CHARS = st.characters(exclude_categories=["Cs"])
LEAVES = st.one_of(
    st.text(CHARS, max_size=5), st.integers(), st.booleans(), st.floats(), st.sampled_from(["1s", "127.0.0.1:80", "http"])
)
KEYS = st.sampled_from(
    ["nginx", "upstreams", "gate", "watch", "check", "A", "type", "interval", "directives", "marker", "x y", "\x1b[0m"]
)
TABLES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


def escaped(text):
    return "".join(f"\\U{ord(char):08x}" for char in text)


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{escaped(key)}" = {toml(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value).lower() if isinstance(value, (bool, int, float)) else f'"{escaped(value)}"'


def found_in(text):
    try:
        parse_site(text)
    except SiteInvalid as exc:
        return exc.problems
    return ()


@given(st.dictionaries(KEYS, TABLES, max_size=4))
def test_any_toml_is_a_site_or_is_refused_in_plain_ascii(tables):
    found = found_in("\n".join(f'"{escaped(key)}" = {toml(value)}' for key, value in tables.items()))
    lines = [line for problem in found for line in problem.text.split("\n")]
    assert all(line.isascii() and line.isprintable() for line in lines)


@given(st.text())
def test_any_text_is_a_site_or_refused(text):
    with pytest.raises(SiteInvalid):
        parse_site(text)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5000, "a = 0x" + "f" * 9000, "a = " + "9" * 9000, "\ufeff" + POOLS, "gate = 1979-05-27\n" + POOLS]
)
def test_hostile_toml_is_refused(text):
    with pytest.raises(SiteInvalid):
        parse_site(text)


def test_a_host_has_the_settings_of_the_site_except_its_own():
    site = parse_site(DESIGN)
    first, second = site.hosts
    assert (first.name, first.ssh, first.nginx, first.probe) == ("lb1", "deploy@10.0.0.1", site.nginx, site.watch.probe)
    assert (second.nginx.conf, second.nginx.dir, second.probe) == ("/opt/nginx/nginx.conf", site.nginx.dir, "http://127.0.0.1:81/")
    assert site.on(second).nginx.conf == "/opt/nginx/nginx.conf"
    assert site.on(second).watch.probe == "http://127.0.0.1:81/"


@pytest.mark.parametrize(
    ("count", "waves", "sizes"),
    [
        (1, ("1", "25%", "100%"), [1]),
        (2, ("1", "25%", "100%"), [1, 1]),
        (10, ("1", "25%", "100%"), [1, 2, 7]),
        (500, ("1", "25%", "100%"), [1, 125, 374]),
        (7, ("2",), [2, 2, 2, 1]),
        (5, ("100%",), [5]),
    ],
)
def test_waves_have_every_host_once_and_the_last_size_is_repeated(count, waves, sizes):
    names = [f"lb{number}" for number in range(count)]
    found = in_waves(names, waves)
    assert [len(wave) for wave in found] == sizes
    assert [name for wave in found for name in wave] == names

"""The texts of the laboratory: its nginx.conf and its site file, made from what the laboratory is."""

import grp
import json
import os
import pwd
from collections.abc import Iterator, Mapping

import msgspec

from upswitch.basics.value import Value
from upswitch.nginx import conf_logs, drain_compare
from upswitch.nginx.build import Build
from upswitch.nginx.drain_lines import with_lines
from upswitch.nginx.dump import parse_dump

UPSTREAM = "app"
Tables = Mapping[str, object]


class Layout(Value):
    """What a laboratory is made of.

    `cure`: with what keeps a reload from losing requests (the drain lines before nginx 1.27.4, keepalive_min_timeout
    since). `http` are further lines for that block of nginx.conf. `site` is merged over the site file, table by table;
    None takes a key out.
    """

    pools: tuple[str, ...] = ("A", "B")
    servers_per_pool: int = 2
    workers: int = 2
    cure: bool = True
    http: tuple[str, ...] = ()
    site: Tables = msgspec.field(default_factory=dict)


class Place(Value):
    """Where a laboratory is: its folder and addresses, and the nginx it runs. Addresses are HOST:PORT."""

    folder: str
    binary: str
    build: Build
    public: str
    marker: str

    @property
    def conf(self) -> str:
        return f"{self.folder}/nginx.conf"

    @property
    def dir(self) -> str:
        return f"{self.folder}/upswitch"

    @property
    def error_log(self) -> str:
        return f"{self.folder}/error.log"

    @property
    def drain_flag(self) -> str:
        return f"{self.folder}/run/drain"

    @property
    def argv(self) -> tuple[str, ...]:
        """nginx with its folder, configuration and error log: without -e the compiled-in log is opened first."""
        return (self.binary, "-p", self.folder, "-c", self.conf, "-e", self.error_log)


def nginx_conf(layout: Layout, place: Place) -> str:
    """The whole nginx.conf: one public server in front of the upstream that the live include defines."""
    location = block("location /", f"proxy_pass http://{UPSTREAM};")
    server = block("server", f"listen {place.public} backlog=1024;", location)
    folder = place.folder
    temps = [f"{kind}_temp_path {folder}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    logs = (conf_logs.log_format_line(), f"access_log {folder}/access.log {conf_logs.LOG_FORMAT_NAME};")
    http = block("http", f"include {place.dir}/live/*.conf;", *logs, *temps, *layout.http, server)
    main = (f"pid {folder}/nginx.pid;", f"error_log {place.error_log};", f"worker_processes {layout.workers};")
    events = block("events", "worker_connections 1024;")
    text = "\n".join((*_user_lines(), "daemon off;", *main, events, http)) + "\n"
    return _with_drain_lines(text, place) if layout.cure else text


def _with_drain_lines(text: str, place: Place) -> str:
    """As `upswitch init --apply --drain-lines` writes them."""
    conf = parse_dump(f"# configuration file {place.conf}:\n{text}\n")
    return with_lines(text, drain_compare.advice(conf, place.build, [UPSTREAM], flag=place.drain_flag))


def block(head: str, *lines: str) -> str:
    """`head { lines }`, indented."""
    inner = "\n".join(lines).replace("\n", "\n    ")
    return f"{head} {{\n    {inner}\n}}"


def _user_lines() -> tuple[str, ...]:
    """Named in full: the compiled-in group of another distribution's nginx need not exist here."""
    if os.geteuid() != 0:
        return ()
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    return (f"user nobody {group};",)


def site_toml(layout: Layout, place: Place, servers: Mapping[str, tuple[str, ...]]) -> str:
    """The site file for `servers`, the addresses by pool; quick enough for a test to wait for it."""
    site: Tables = {
        "nginx": {
            "binary": place.binary,
            "conf": place.conf,
            "prefix": place.folder,
            "dir": place.dir,
            "state": f"{place.folder}/state",
            "reload": [*place.argv, "-s", "reload"],
            "marker": place.marker,
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "drain": "500ms",
            "drain_flag": place.drain_flag,
        },
        "upstreams": {UPSTREAM: {**servers, "check": _CHECK}},
        "gate": {"interval": "100ms", "timeout": "1s", "deadline": "5s"},
        "watch": {"duration": "3s", "probe": f"http://{place.public}/healthz"},
    }
    return "\n".join(_toml(_merged(site, layout.site)))


_CHECK = {
    "type": "http",
    "interval": 1000,
    "rise": 1,
    "fall": 2,
    "timeout": 1000,
    "http_send": "GET /healthz HTTP/1.0\r\n\r\n",
    "http_expect_alive": ["http_2xx"],
}


def _merged(base: Tables, over: Tables) -> dict[str, object]:
    both = {**base, **over}
    for key in base.keys() & over.keys():
        below, above = base[key], over[key]
        if isinstance(below, Mapping) and isinstance(above, Mapping):
            both[key] = _merged(below, above)
    return {key: value for key, value in both.items() if value is not None}


def _toml(table: Tables, name: str = "") -> Iterator[str]:
    """JSON's texts, numbers, booleans and lists are TOML's too."""
    if name:
        yield f"\n[{name}]"
    for key, value in table.items():
        if not isinstance(value, Mapping):
            yield f"{key} = {json.dumps(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _toml(value, f"{name}.{key}" if name else key)

"""The site: what one `upswitch.toml` describes, and the words allowed there. Times are seconds unless the name ends with `_ms`."""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

from msgspec.structs import replace

from upswitch.basics.result import Failure
from upswitch.basics.value import Value
from upswitch.site.source import Source
from upswitch.site.telling import Hooks, Notice


class Verdict(StrEnum):
    """What the gate concludes; RUNNING until it does."""

    RUNNING = "running"
    PASS = "pass"  # noqa: S105  (a verdict, not a password)
    FAIL = "fail"


class CheckType(StrEnum):
    """The types of health check of nginx_upstream_check_module."""

    TCP = "tcp"
    HTTP = "http"
    SSL_HELLO = "ssl_hello"
    MYSQL = "mysql"
    AJP = "ajp"
    FASTCGI = "fastcgi"


class Dialect(StrEnum):
    """The check module of an nginx. It is found out on the host (nginx/running.py), never believed from a file."""

    NONE = "none"
    YAOWEIBIN = "yaoweibin"
    TENGINE = "tengine"


class SpikePolicy(StrEnum):
    """`watch.on_spike`: what follows when the new pool fails."""

    ROLLBACK = "rollback"
    HOLD = "hold"


class AppPolicy(StrEnum):
    """`watch.app_errors`: what follows when the app itself fails (500 and other 5xx, or no HTTP)."""

    ROLLBACK = "rollback"
    HOLD = "hold"
    IGNORE = "ignore"


class SilencePolicy(StrEnum):
    """`watch.on_silence`: what follows when the watch saw too little to judge."""

    KEEP = "keep"
    ROLLBACK = "rollback"
    HOLD = "hold"


class Vantage(StrEnum):
    """`gate.vantage`: where our health checks start: on the nginx host, or on this machine."""

    HOST = "host"
    HERE = "here"


class Unreachable(StrEnum):
    """`rollout.unreachable`: what follows when a host can't be reached before anything was done."""

    REFUSE = "refuse"
    SKIP = "skip"


_NAME = re.compile(r"([0-9]{6,9})-([A-Za-z0-9_-]{1,64})\Z")


class Generation(Value):
    """One rendered configuration. `number` only goes up. `name` is its folder, and what nginx's marker reports."""

    number: int
    pool: str

    @property
    def name(self) -> str:
        return f"{self.number:06d}-{self.pool}"


def parse_name(text: str) -> Generation | None:
    """`000042-B` as a Generation. None for any other text."""
    match = _NAME.match(text)
    found = Generation(number=int(match[1]), pool=match[2]) if match else None
    return found if found and found.name == text else None  # `0000042-B` would be another folder than the one it names


def parse_names(names: Iterable[str]) -> tuple[Generation, ...]:
    """The generations among the names in a folder, lowest number first. Other names are not ours."""
    found = [generation for generation in map(parse_name, names) if generation is not None]
    return tuple(sorted(found, key=lambda generation: generation.number))


BETWEEN = "__standby_"
"""Between the upstream and the pool in the name of a standby upstream."""

T = TypeVar("T")
HTTP_CLASSES = ("http_2xx", "http_3xx", "http_4xx", "http_5xx")

ONLY_FOR = {
    "http_send": (CheckType.HTTP,),
    "http_expect_alive": (CheckType.HTTP, CheckType.FASTCGI),
    "fastcgi_param": (CheckType.FASTCGI,),
}
"""The types of check that use these keys."""


class Server(Value):
    """One `server` line, in nginx's own syntax. Each parameter is one word."""

    address: str
    params: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return " ".join((self.address, *self.params))

    @property
    def is_down(self) -> bool:
        """Marked `down` by the owner: nginx never uses it, and the gate does not check it."""
        return "down" in self.params


class Check(Value):
    """`check` of nginx_upstream_check_module: its names, units and defaults (docs/nginx-facts.md, section 6).

    `port` 0 is each server's own. `http_expect_alive` () is any answer (the default for fastcgi). `fastcgi_param` () is the
    module's own request, GET / of index.php.
    """

    type: CheckType = CheckType.TCP
    interval_ms: int = 30000
    rise: int = 2
    fall: int = 5
    timeout_ms: int = 1000
    default_down: bool = True
    port: int = 0
    http_send: str = "GET / HTTP/1.0\r\n\r\n"
    http_expect_alive: tuple[str, ...] = ("http_2xx", "http_3xx")
    keepalive_requests: int = 1
    fastcgi_param: tuple[tuple[str, str], ...] = ()


class Pool(Value):
    """The servers of one upstream in one pool. Where they have a `source`, they are () until it is read."""

    name: str
    servers: tuple[Server, ...]
    source: Source | None = None


class Upstream(Value):
    """One nginx upstream with its servers in each pool. `check` is None without a check table."""

    name: str
    pools: tuple[Pool, ...]
    directives: tuple[str, ...] = ()
    template: str = "upstream.conf.j2"
    check: Check | None = None

    def servers(self, pool: str) -> tuple[Server, ...]:
        """The servers in `pool`. KeyError where the upstream has no such pool."""
        return self.pool(pool).servers

    def pool(self, name: str) -> Pool:
        return {each.name: each for each in self.pools}[name]


class Gate(Value):
    """What our own health checks do otherwise than the upstream's check. None is as in the check."""

    interval: float = 1.0
    timeout: float = 2.0
    deadline: float = 120.0
    rise: int | None = None
    fall: int | None = None
    default_down: bool | None = None
    type: CheckType | None = None
    http_send: str | None = None
    http_expect_alive: tuple[str, ...] | None = None
    expect_body: str = ""
    vantage: Vantage = Vantage.HOST


class Watch(Value):
    """`accepts_elevated` has no key: it is accepted for one switch, by `--accept-elevated`."""

    duration: float = 60.0
    on_spike: SpikePolicy = SpikePolicy.ROLLBACK
    on_silence: SilencePolicy = SilencePolicy.KEEP
    probe: str = ""
    app_errors: AppPolicy = AppPolicy.ROLLBACK
    accepts_elevated: bool = False

    @property
    def ignores_app(self) -> bool:
        return self.app_errors is AppPolicy.IGNORE

    def holds(self, failure: Failure) -> bool:
        """Whether a spike of such failures is for a person to decide, who keeps the new pool or goes back."""
        return self.on_spike is SpikePolicy.HOLD or (failure is Failure.APP and self.app_errors is AppPolicy.HOLD)


def without_query(url: str) -> str:
    """A URL as it may be shown: its query may hold a secret."""
    path, has_query, _ = url.partition("?")
    return f"{path}?(not shown)" if has_query else path


class Nginx(Value):
    """How to reach nginx on a host. Paths are absolute, but for `binary`; in a `container`, they and addresses are its own."""

    binary: str = "nginx"
    conf: str = "/etc/nginx/nginx.conf"
    prefix: str = ""
    dir: str = "/etc/nginx/upswitch"
    state: str = "/var/lib/upswitch"
    reload: tuple[str, ...] = ()
    marker: str = "127.0.84.1:8008"
    user: str = "root"
    drain: float = 1.0
    drain_flag: str = "/run/upswitch/drain"
    access_log: str = "auto"
    error_log: str = "auto"
    check_shm_size: str = ""
    container: str = ""

    @property
    def live(self) -> str:
        """The one thing that a switch changes: a symlink to a generation."""
        return f"{self.dir}/live"

    @property
    def include(self) -> str:
        """The argument of the one `include` line in nginx's configuration that belongs to upswitch."""
        return f"{self.dir}/live/*.conf"


class HostEntry(Value):
    """One nginx host behind SSH. `ssh` is [USER@]HOST[:PORT] or a name of ssh_config. `nginx` and `probe` are this host's."""

    name: str
    ssh: str
    nginx: Nginx
    probe: str = ""


class RolloutTable(Value):
    """`waves` are how many hosts switch at once, as numbers or shares of all hosts. The last wave's size goes on to the end."""

    waves: tuple[str, ...] = ("1", "25%", "100%")
    unreachable: Unreachable = Unreachable.REFUSE


class DeadmanTable(Value):
    """Whether a host rolls itself back when it gets no heartbeat from upswitch."""

    enabled: bool = True


class Site(Value):
    """`hosts` () means nginx on this machine. `name` tells it from its other sites. `lint_ignore`: codes that only `lint` knows."""

    nginx: Nginx
    upstreams: tuple[Upstream, ...]
    gate: Gate
    watch: Watch
    name: str = ""
    hosts: tuple[HostEntry, ...] = ()
    rollout: RolloutTable = RolloutTable()
    deadman: DeadmanTable = DeadmanTable()
    lint_ignore: tuple[str, ...] = ()
    notify: tuple[Notice, ...] = ()
    hooks: Hooks = Hooks()

    def on(self, host: HostEntry) -> "Site":
        """The site as it is on one of its hosts."""
        return replace(self, nginx=host.nginx, watch=replace(self.watch, probe=host.probe), hosts=())

    @property
    def pools(self) -> tuple[str, ...]:
        """Names of the pools, in the order of the site file. Every upstream has every one of them."""
        return tuple(pool.name for pool in self.upstreams[0].pools)


class Problem(Value):
    """One thing wrong in a site file: the key, the value as written ("" for none), and what it must be.

    `line`: where it stands, 0 where that is not known. `source`: the line itself, "" where it may hold a secret.
    """

    key: str
    value: str
    allowed: str
    line: int = 0
    source: str = ""

    @property
    def text(self) -> str:
        said = f"{self.key} = {self.value}: {self.allowed}" if self.value else f"{self.key}: {self.allowed}"
        numbered = f"line {self.line}: {said}" if self.line and self.value else said
        return f"{numbered}\n    {self.line} | {self.source}" if self.source else numbered


# ---- health checks: what is asked of a server, and its answer ----


class GateRule(Value):
    """How the servers of one upstream are checked. Times are seconds. `port` 0 is each server's own. `expect_body` "" is any body.

    `dialect` is the check module that our check must agree with, where the modules differ (TLS hello, FastCGI).
    """

    type: CheckType
    rise: int
    fall: int
    default_down: bool
    timeout: float
    interval: float
    deadline: float
    port: int
    http_send: str
    http_expect_alive: tuple[str, ...]
    expect_body: str
    fastcgi_param: tuple[tuple[str, str], ...] = ()
    dialect: Dialect = Dialect.NONE

    @property
    def path(self) -> str:
        """What an http check requests; "" of another check."""
        words = self.http_send.split() if self.type is CheckType.HTTP else []
        return words[1] if words[1:] and words[1].startswith("/") else ""


def effective_check(upstream: Upstream, gate: Gate, dialect: Dialect = Dialect.NONE) -> GateRule:
    """The gate's keys come before the check's, and the check's before the module's defaults."""
    check = upstream.check or Check()
    kind = _first(gate.type, check.type)
    return GateRule(
        type=kind,
        rise=_first(gate.rise, check.rise),
        fall=_first(gate.fall, check.fall),
        default_down=_first(gate.default_down, check.default_down),
        timeout=gate.timeout,
        interval=gate.interval,
        deadline=gate.deadline,
        port=check.port,
        http_send=_first(gate.http_send, check.http_send),
        http_expect_alive=_alive(kind, _first(gate.http_expect_alive, check.http_expect_alive)),
        expect_body=gate.expect_body if kind is CheckType.HTTP else "",
        fastcgi_param=check.fastcgi_param,
        dialect=dialect,
    )


def _alive(kind: CheckType, given: tuple[str, ...]) -> tuple[str, ...]:
    """The module has a default for http. For fastcgi it has none, and any answer counts."""
    return given or (Check().http_expect_alive if kind is CheckType.HTTP else ())


def _first(override: T | None, default: T) -> T:
    return default if override is None else override


class Target(Value):
    """One server to check: `server` as the site file writes it, `address` as it is connected to."""

    upstream: str
    server: str
    address: str
    rule: GateRule


class Probe(Value):
    """The result of one health check. `error` says what was wrong. `head` holds the first bytes of a wrong body.

    `is_unknown`: the server was not asked, because upswitch reached a limit of its own (open files, ports, memory).
    `is_wrong`: it answered wrongly, or not in time. nginx passes that on to clients; where a server refuses or closes the
    connection, nginx tries another one (`proxy_next_upstream`).
    """

    ok: bool
    is_unknown: bool = False
    is_wrong: bool = False
    error: str = ""
    head: str = ""
    seconds: float = 0.0

"""The site: what one `upswitch.toml` describes, as frozen values. Times are seconds unless the name says `_ms`."""

from msgspec.structs import replace

from upswitch.basics.value import Value
from upswitch.site.words import CheckType, SilencePolicy, SpikePolicy, Unreachable, Vantage

HTTP_CLASSES = ("http_2xx", "http_3xx", "http_4xx", "http_5xx")


class Server(Value):
    """One `server` line: nginx's own address and parameter syntax, each parameter one token."""

    address: str
    params: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return " ".join((self.address, *self.params))

    @property
    def is_down(self) -> bool:
        """Marked `down` by the owner: nginx never asks it, so neither does the gate."""
        return "down" in self.params


class Check(Value):
    """`check` of nginx_upstream_check_module: its names, units and defaults (docs/nginx-facts.md, section 6).

    `port` 0 is each server's own. `http_expect_alive` () is any answer, as for fastcgi where nothing is said;
    `fastcgi_param` () is the module's own request, GET / of index.php.
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
    """The servers of one upstream in one pool."""

    name: str
    servers: tuple[Server, ...]


class Upstream(Value):
    """One nginx upstream and what it is in each pool. `check` is None where the owner wrote no check table."""

    name: str
    pools: tuple[Pool, ...]
    directives: tuple[str, ...] = ()
    template: str = "upstream.conf.j2"
    check: Check | None = None

    def servers(self, pool: str) -> tuple[Server, ...]:
        """The servers in `pool`; KeyError where the upstream has no such pool."""
        for candidate in self.pools:
            if candidate.name == pool:
                return candidate.servers
        raise KeyError(pool)


class Gate(Value):
    """Overrides of the check for our own probes; None means "as the upstream's check says"."""

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
    duration: float = 60.0
    on_spike: SpikePolicy = SpikePolicy.ROLLBACK
    on_silence: SilencePolicy = SilencePolicy.KEEP
    probe: str = ""


class Nginx(Value):
    """How to reach nginx on a host. Paths are absolute except `binary`; `reload` is an argv; `marker` is HOST:PORT."""

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

    @property
    def live(self) -> str:
        """The one name that a switch changes: a symlink to a generation."""
        return f"{self.dir}/live"

    @property
    def include(self) -> str:
        """The argument of the one `include` line that nginx.conf holds for us."""
        return f"{self.dir}/live/*.conf"


class HostEntry(Value):
    """One nginx host behind SSH. `ssh` is [USER@]HOST[:PORT] or a name of ssh_config; `nginx` and `probe` are as on this host."""

    name: str
    ssh: str
    nginx: Nginx
    probe: str = ""


class RolloutTable(Value):
    """`waves`: how many hosts go at once, wave by wave, as numbers or shares of all; the last one goes on to the end."""

    waves: tuple[str, ...] = ("1", "25%", "100%")
    unreachable: Unreachable = Unreachable.REFUSE


class DeadmanTable(Value):
    """Whether a host takes itself back when we vanish."""

    enabled: bool = True


class Site(Value):
    """`hosts` () is this machine."""

    nginx: Nginx
    upstreams: tuple[Upstream, ...]
    gate: Gate
    watch: Watch
    hosts: tuple[HostEntry, ...] = ()
    rollout: RolloutTable = RolloutTable()
    deadman: DeadmanTable = DeadmanTable()

    def on(self, host: HostEntry) -> "Site":
        """The site as it is on one of its hosts."""
        return replace(self, nginx=host.nginx, watch=replace(self.watch, probe=host.probe), hosts=())

    @property
    def pools(self) -> tuple[str, ...]:
        """Names of the pools, in the order of the site file. Every upstream has every one of them."""
        return tuple(pool.name for pool in self.upstreams[0].pools)


class Problem(Value):
    """One thing wrong in a site file: the key, the value as written, and what is allowed."""

    key: str
    value: str
    allowed: str

    @property
    def text(self) -> str:
        return f"{self.key} = {self.value}: {self.allowed}"

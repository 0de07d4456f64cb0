"""The site file: TOML text in, a `Site` or every problem at once out (docs/design.md)."""

import re
import tomllib

from upswitch.site import allowed
from upswitch.site.model import DeadmanTable, Gate, HostEntry, Nginx, Problem, Site, Watch
from upswitch.site.probe import GateRule, effective_check
from upswitch.site.read_hosts import Entry, hosts, rollout
from upswitch.site.read_upstreams import http_class, http_send, upstreams
from upswitch.site.server_line import parse_server
from upswitch.site.table_reader import Reader
from upswitch.site.words import CheckType, SilencePolicy, SpikePolicy, Vantage

_BINARY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
_MARKER = re.compile(r"(?:127\.[0-9.]+|\[::1\]):[0-9]+")
_MARKER_SAYS = "a loopback address and a port, such as 127.0.84.1:8008 or [::1]:8008"
_UNIX_SAYS = (
    f"{_MARKER_SAYS}; never a unix socket: its file outlives a kill -9 of nginx, which then refuses to start (bind() failed, 98)"
)
_PROBE = re.compile(
    r"https?://(?:[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::[1-9][0-9]{0,4})?"
    r"(?:[/?][A-Za-z0-9_.~!$&()*+,=:@%/?-]{0,2000})?",
)
_SIZE = allowed.matching(r"[1-9][0-9]{0,8}[kKmM]?", "a size as nginx writes it: bytes, or a number and k or m, such as 10m")
_USER = allowed.matching(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", "the name of a user")
_SAFE_WORD = allowed.matching(r"[A-Za-z0-9_./@:+,=%-]{1,400}", "words of letters, digits and _ . / @ : + , = % -")


class SiteInvalid(Exception):  # noqa: N818  (an ending that is expected, named as people say it)
    """A site file that cannot be used. `problems` has all of them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(problem.text for problem in problems))
        self.problems = problems


def parse_site(text: str) -> Site:
    """The site that `text` describes; SiteInvalid with every problem in it."""
    problems: list[Problem] = []
    root = Reader(_toml(text), problems)
    gate = root.inner("gate")
    nginx, watch = _nginx(root.inner("nginx"), Nginx()), _watch(root.inner("watch"))
    site = Site(
        nginx=nginx,
        upstreams=upstreams(root.inner("upstreams")),
        gate=_gate(gate),
        watch=watch,
        hosts=tuple(_host(reader, nginx, watch) for reader in hosts(root.inner("hosts"))),
        rollout=rollout(root.inner("rollout")),
        deadman=_deadman(root.inner("deadman")),
    )
    root.close()
    _refuse_gate(gate, site)
    if problems:
        raise SiteInvalid(tuple(problems))
    return site


def _toml(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        # The line itself is not shown: it may hold a secret (reliability.md I11).
        found = re.search(r"\(at line ([0-9]+), column ([0-9]+)\)$", str(exc))
        line = found[1] if found else str(text.count("\n") + 1)
        problem = Problem(key=f"line {line}", value="(not TOML)", allowed=str(exc))
        raise SiteInvalid((problem,)) from exc


def _nginx(reader: Reader, default: Nginx) -> Nginx:
    nginx = Nginx(
        binary=reader.take("binary", default.binary, _binary),
        conf=reader.take("conf", default.conf, allowed.path),
        prefix=reader.take("prefix", default.prefix, allowed.path_or("")),
        dir=reader.take("dir", default.dir, allowed.path),
        state=reader.take("state", default.state, allowed.path),
        reload=reader.each("reload", default.reload, _SAFE_WORD),
        marker=reader.take("marker", default.marker, _marker),
        user=reader.take("user", default.user, _USER),
        drain=reader.take("drain", default.drain, allowed.seconds),
        drain_flag=reader.take("drain_flag", default.drain_flag, allowed.path),
        access_log=reader.take("access_log", default.access_log, allowed.path_or("auto")),
        error_log=reader.take("error_log", default.error_log, allowed.path_or("auto")),
        check_shm_size=reader.take("check_shm_size", default.check_shm_size, _SIZE),
    )
    if nginx.reload and nginx.reload[0].startswith("-"):
        reader.refuse("reload", nginx.reload[0], "a command first, then its words")
    reader.close()
    return nginx


def _gate(reader: Reader) -> Gate:
    default = Gate()
    gate = Gate(
        interval=reader.take("interval", default.interval, allowed.some_seconds),
        timeout=reader.take("timeout", default.timeout, allowed.some_seconds),
        deadline=reader.take("deadline", default.deadline, allowed.some_seconds),
        rise=reader.take("rise", None, allowed.whole(1)),
        fall=reader.take("fall", None, allowed.whole(1)),
        default_down=reader.take("default_down", None, allowed.truth),
        type=reader.take("type", None, allowed.word(CheckType)),
        http_send=reader.take("http_send", None, http_send, is_secret=True),
        http_expect_alive=reader.each("http_expect_alive", None, http_class),
        expect_body=reader.take("expect_body", default.expect_body, allowed.regex),
        vantage=reader.take("vantage", default.vantage, allowed.word(Vantage)),
    )
    reader.close()
    return gate


def _watch(reader: Reader) -> Watch:
    default = Watch()
    watch = Watch(
        duration=reader.take("duration", default.duration, allowed.seconds),
        on_spike=reader.take("on_spike", default.on_spike, allowed.word(SpikePolicy)),
        on_silence=reader.take("on_silence", default.on_silence, allowed.word(SilencePolicy)),
        probe=reader.take("probe", default.probe, _probe, is_secret=True),
    )
    reader.close()
    return watch


def _host(entry: Entry, nginx: Nginx, watch: Watch) -> HostEntry:
    """A host may have its own paths; what it does not say is the site's."""
    reader = entry.reader
    own = HostEntry(
        name=entry.name,
        ssh=entry.ssh,
        nginx=_nginx(reader.inner("nginx"), nginx),
        probe=reader.take("probe", watch.probe, _probe, is_secret=True),
    )
    reader.close()
    return own


def _deadman(reader: Reader) -> DeadmanTable:
    deadman = DeadmanTable(enabled=reader.take("enabled", DeadmanTable().enabled, allowed.truth))
    reader.close()
    return deadman


def _refuse_gate(reader: Reader, site: Site) -> None:
    """What only shows once gate and checks are put together."""
    rules = {upstream.name: effective_check(upstream, site.gate) for upstream in site.upstreams}
    if not any(rule.type is CheckType.HTTP for rule in rules.values()):
        for key in ("http_send", "http_expect_alive", "expect_body"):
            if getattr(site.gate, key):
                reader.refuse(key, "(given)", 'only where an upstream is probed with type = "http"')
    for name, rule in rules.items():
        if _shortest(rule) >= rule.deadline:
            reader.refuse(
                "deadline", f"{rule.deadline:g}s", f"more than {_shortest(rule):g}s, which {name} needs to come up at best"
            )


def _shortest(rule: GateRule) -> float:
    """The seconds in which a server can be found up at best."""
    return (rule.rise - 1) * rule.interval if rule.default_down else 0.0


def _binary(value: object) -> str:
    if isinstance(value, str) and _BINARY.fullmatch(value):
        return value
    try:
        return allowed.path(value)
    except ValueError as exc:
        raise ValueError("the name of a program, or an absolute path") from exc


def _marker(value: object) -> str:
    address = allowed.text(value)
    if address.startswith("unix:"):
        raise ValueError(_UNIX_SAYS)
    if not _MARKER.fullmatch(address):
        raise ValueError(_MARKER_SAYS)
    try:
        return parse_server(address).address
    except ValueError as exc:
        raise ValueError(_MARKER_SAYS) from exc


def _probe(value: object) -> str:
    url = allowed.text(value)
    if url and not _PROBE.fullmatch(url):
        raise ValueError("an http:// or https:// URL without user, password, spaces or quotes")
    return url

"""Reading the site file: TOML text in, a `Site` or every problem at once out (docs/design.md)."""

import re
import tomllib
from collections.abc import Sequence
from ipaddress import IPv6Address

from upswitch.site import names, values
from upswitch.site.model import (
    AppPolicy,
    CheckType,
    DeadmanTable,
    Gate,
    HostEntry,
    Nginx,
    Problem,
    RolloutTable,
    SilencePolicy,
    Site,
    SpikePolicy,
    Unreachable,
    Vantage,
    Watch,
    effective_check,
)
from upswitch.site.read_telling import hooks, notices
from upswitch.site.read_upstreams import http_class, http_send, upstreams
from upswitch.site.server_line import LAST_PORT, parse_server
from upswitch.site.values import Reader, shown

_BINARY = values.path_or(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}", "must be the name of a program, or an absolute path")
_MARKER = re.compile(r"(?:127\.[0-9.]+|\[::1\]):[0-9]+")
_MARKER_SAYS = "must be a loopback address and a port, such as 127.0.84.1:8008 or [::1]:8008"
_UNIX_SAYS = (
    f"{_MARKER_SAYS}, not a unix socket: its file stays after a kill -9 of nginx, and then nginx can't start (bind() failed, 98)"
)
_PROBE = re.compile(
    r"(?:https?://(?:[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[(?P<ip6>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?:[/?][A-Za-z0-9_.~!$&()*+,=:@%/?-]{0,2000})?)?"
)
_PROBE_SAYS = "must be an http:// or https:// URL without user, password, spaces or quotes, with a port from 1 to 65535"
_CONTAINER = values.matching(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", "must be a container's name, as `docker ps` or `podman ps` shows it")
_SIZE = values.matching(r"[1-9][0-9]{0,8}[kKmM]?", "must be a size in nginx's syntax: bytes, or a number and k or m, such as 10m")
_USER = values.matching(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", "must be the name of a user")
_SAFE_WORD = values.matching(r"[A-Za-z0-9_./@:+,=%-]{1,400}", "must be a list of words of letters, digits and _ . / @ : + , = % -")

_CODE = values.matching(r"[a-z][a-z0-9_]{0,63}", "must be a code that `upswitch lint` prints, such as max_fails_one")

MOST_HOSTS = 500

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_NAME_SAYS = "must be a name of up to 64 letters, digits and _ . -, not beginning with . or -"
# ssh would read a name that begins with a dash as an option (reliability.md, S3).
_SSH = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9]{1,15})?\])"
    r"(?::[1-9][0-9]{0,4})?"
)
_SSH_SAYS = 'must be "USER@HOST:PORT" (user and port may be left out) or a name of ssh_config, with an IPv6 address in [ ]'
_WAVE = re.compile(r"[1-9][0-9]{0,3}|(?:[1-9][0-9]?|100)%")


class SiteInvalid(Exception):  # noqa: N818  (an ending that is expected, named as people say it)
    """A site file that cannot be used. `problems` has all of them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(problem.text for problem in problems))
        self.problems = problems


def parse_site(text: str) -> Site:
    """The site that `text` describes. SiteInvalid has every problem in it."""
    problems: list[Problem] = []
    root = Reader(_toml(text), problems)
    gate = root.inner("gate")
    given = root.take("name", "", _name)
    nginx, watch = _nginx(root.inner("nginx"), names.own(given, Nginx())), _watch(root.inner("watch"))
    found = upstreams(root.inner("upstreams"))
    site = Site(
        name=given or (names.default_name(found[0].name) if found else ""),
        nginx=nginx,
        upstreams=found,
        gate=_gate(gate),
        watch=watch,
        hosts=_hosts(root.inner("hosts"), nginx, watch),
        rollout=_rollout(root.inner("rollout")),
        deadman=DeadmanTable(enabled=root.inner("deadman").take("enabled", DeadmanTable().enabled, values.truth)),
        lint_ignore=root.inner("lint").each("ignore", (), _CODE, listed=values.any_number),
        notify=notices(root),
        hooks=hooks(root.inner("hooks")),
    )
    root.close()
    _refuse_gate(gate, site)
    if problems:
        from upswitch.site import lines  # noqa: PLC0415  (only a problem needs it)

        raise SiteInvalid(lines.located(problems, text))
    return site


def _toml(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        from upswitch.site import lines  # noqa: PLC0415  (only a problem needs it)

        raise SiteInvalid((lines.broken(str(exc), text),)) from exc


def _name(value: object) -> str:
    if not isinstance(value, str) or not names.is_name(value):
        raise ValueError(names.SAYS)
    return value


def _nginx(reader: Reader, default: Nginx) -> Nginx:
    nginx = Nginx(
        binary=reader.take("binary", default.binary, _BINARY),
        conf=reader.take("conf", default.conf, values.path),
        prefix=reader.take("prefix", default.prefix, values.path_or("")),
        dir=reader.take("dir", default.dir, values.path),
        state=reader.take("state", default.state, values.path),
        reload=reader.each("reload", default.reload, _SAFE_WORD),
        marker=reader.take("marker", default.marker, _marker),
        user=reader.take("user", default.user, _USER),
        drain=reader.take("drain", default.drain, values.seconds),
        drain_flag=reader.take("drain_flag", default.drain_flag, values.path),
        access_log=reader.take("access_log", default.access_log, values.path_or("auto")),
        error_log=reader.take("error_log", default.error_log, values.path_or("auto")),
        check_shm_size=reader.take("check_shm_size", default.check_shm_size, _SIZE),
        container=reader.take("container", default.container, _CONTAINER),
    )
    if nginx.reload and nginx.reload[0].startswith("-"):
        reader.refuse("reload", nginx.reload[0], "must begin with a command")
    return nginx


def _gate(reader: Reader) -> Gate:
    default = Gate()
    return Gate(
        interval=reader.take("interval", default.interval, values.some_seconds),
        timeout=reader.take("timeout", default.timeout, values.some_seconds),
        deadline=reader.take("deadline", default.deadline, values.some_seconds),
        rise=reader.take("rise", None, values.whole(1)),
        fall=reader.take("fall", None, values.whole(1)),
        default_down=reader.take("default_down", None, values.truth),
        type=reader.take("type", None, values.word(CheckType)),
        http_send=reader.take("http_send", None, http_send, is_secret=True),
        http_expect_alive=reader.each("http_expect_alive", None, http_class),
        expect_body=reader.take("expect_body", default.expect_body, values.pattern),
        vantage=reader.take("vantage", default.vantage, values.word(Vantage)),
    )


def _watch(reader: Reader) -> Watch:
    default = Watch()
    return Watch(
        duration=reader.take("duration", default.duration, values.seconds),
        on_spike=reader.take("on_spike", default.on_spike, values.word(SpikePolicy)),
        on_silence=reader.take("on_silence", default.on_silence, values.word(SilencePolicy)),
        probe=reader.take("probe", default.probe, _probe, is_secret=True),
        app_errors=reader.take("app_errors", default.app_errors, values.word(AppPolicy)),
    )


def _refuse_gate(reader: Reader, site: Site) -> None:
    """The problems that only gate and checks together have."""
    rules = {upstream.name: effective_check(upstream, site.gate) for upstream in site.upstreams}
    if not any(rule.type is CheckType.HTTP for rule in rules.values()):
        for key in ("http_send", "http_expect_alive", "expect_body"):
            if getattr(site.gate, key):
                reader.refuse(key, "(given)", 'is only for upstreams that are checked with type = "http", and there is none')
    for name, rule in rules.items():
        shortest = (rule.rise - 1) * rule.interval if rule.default_down else 0.0
        if shortest >= rule.deadline:
            allowed = f"must be more than {shortest:g}s, the least that {name} needs to be healthy"
            reader.refuse("deadline", f"{rule.deadline:g}s", allowed)


def _probe(value: object) -> str:
    found = _PROBE.fullmatch(values.text(value))
    if found is None or int(found["port"] or 1) > LAST_PORT or not _is_ip6(found["ip6"]):
        raise ValueError(_PROBE_SAYS)
    return found[0]


def _is_ip6(text: str | None) -> bool:
    """True also where there is none."""
    try:
        return text is None or bool(IPv6Address(text))
    except ValueError:
        return False


def _marker(value: object) -> str:
    address = values.text(value)
    if address.startswith("unix:"):
        raise ValueError(_UNIX_SAYS)
    if not _MARKER.fullmatch(address):
        raise ValueError(_MARKER_SAYS)
    try:
        return parse_server(address).address
    except ValueError as exc:
        raise ValueError(_MARKER_SAYS) from exc


# ---- hosts ----


def _hosts(reader: Reader, nginx: Nginx, watch: Watch) -> tuple[HostEntry, ...]:
    """Every host that can be read, sorted by name. What a host does not say is as in the site's own tables."""
    found, seen = list[HostEntry](), dict[str, str]()
    for name in reader.rest:
        is_good = _NAME.fullmatch(name) is not None
        if not is_good:
            reader.refuse(name, shown(name), _NAME_SAYS)
        ssh, own = _entry(reader, name)
        probe = own.take("probe", watch.probe, _probe, is_secret=True)
        entry = HostEntry(name=name, ssh=ssh, nginx=_nginx(own.inner("nginx"), nginx), probe=probe)
        if is_good and ssh:
            found.append(entry)
            former = seen.setdefault(ssh, name)
            if former != name and "nginx" not in own:  # one host under two names would be switched twice at once
                reader.refuse(name, shown(ssh), f"must be another host than {former}, or have a table nginx of its own")
    if len(found) > MOST_HOSTS:
        reader.refuse("", f"{len(found)} hosts", f"must be at most {MOST_HOSTS}")
    return tuple(sorted(found, key=lambda each: each.name))


def _entry(reader: Reader, name: str) -> tuple[str, Reader]:
    """A host is written as its address, or as a table with `ssh`."""
    value = reader.take(name, None, lambda value: value)
    if isinstance(value, dict):
        inner = reader.inner(name)
        ssh = inner.take("ssh", "", _ssh)
        if not ssh and not inner.is_refused("ssh"):
            inner.refuse("ssh", "(none)", _SSH_SAYS)
        return ssh, inner
    return reader.take(name, "", _ssh), Reader({}, [], name=name)


def _ssh(value: object) -> str:
    if not isinstance(value, str) or not _SSH.fullmatch(value):
        raise ValueError(_SSH_SAYS)
    port = value.rpartition(":")[2] if not value.endswith("]") else ""
    if port.isdigit() and ":" in value and int(port) > LAST_PORT:
        raise ValueError(_SSH_SAYS)
    return value


def _rollout(reader: Reader) -> RolloutTable:
    default = RolloutTable()
    return RolloutTable(
        waves=reader.each("waves", default.waves, _wave),
        unreachable=reader.take("unreachable", default.unreachable, values.word(Unreachable)),
    )


def _wave(value: object) -> str:
    written = str(value) if type(value) is int else value
    if not isinstance(written, str) or not _WAVE.fullmatch(written):
        raise ValueError('must be a number of hosts, such as "1", or a share of all hosts, such as "25%"')
    return written


def in_waves(names: Sequence[str], waves: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The hosts wave by wave. A share of all hosts is rounded down, to at least one. The last wave's size goes on to the end."""
    found: list[tuple[str, ...]] = []
    left = list(names)
    while left:
        wave = waves[min(len(found), len(waves) - 1)]
        size = max(1, len(names) * int(wave[:-1]) // 100) if wave.endswith("%") else int(wave)
        found.append(tuple(left[:size]))
        del left[:size]
    return tuple(found)

"""What a live host says to `diagnose` besides its logs: how nginx is configured, what it runs, whose an address is."""

from collections.abc import Iterator, Mapping

from upswitch.basics.errors import NginxBrokenError
from upswitch.basics.value import Value
from upswitch.diagnose import directives, questions
from upswitch.diagnose.count_errors import FAIL_TIMEOUT_S
from upswitch.diagnose.from_conf import Known, known_of
from upswitch.diagnose.questions import Names
from upswitch.diagnose.unknown_servers import Places
from upswitch.generations import store, survey
from upswitch.generations.store import Disk
from upswitch.health.gate import rounds
from upswitch.hosts.host import Host
from upswitch.nginx import conf_logs, configuration, running
from upswitch.nginx.build import Build
from upswitch.nginx.conf_logs import LogFormat
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.running import Running
from upswitch.site.allowed import parse_duration
from upswitch.site.model import Nginx, Site
from upswitch.site.server_line import is_address
from upswitch.site.words import Dialect

_NO_CONF = NginxConf(files=(), tree=())


class HostSight(Value):
    """`build` is None and `conf` empty where nginx can't say them; `problems` tells why, and what else is wrong, as sentences.

    `addresses` are those of upstreams by name, as nginx logs them; one with host names is only there where our manifest knows them.
    """

    build: Build | None
    conf: NginxConf
    dialect: Dialect
    disk: Disk
    running: Running
    names: Names
    addresses: Mapping[str, frozenset[str]]
    problems: tuple[str, ...] = ()

    @property
    def master(self) -> int:
        """The verified master's pid, 0 without one."""
        return 0 if self.running.problem else self.running.pid

    @property
    def log_formats(self) -> tuple[LogFormat, ...]:
        return tuple(conf_logs.log_formats(self.conf).values()) if self.build else ()

    @property
    def known(self) -> Known:
        return known_of(self.conf, self.build)

    @property
    def fail_timeout_s(self) -> int:
        """The longest of all servers."""
        blocks = configuration.upstream_blocks(self.conf)
        words = (word.partition("=") for block in blocks for server in block.children("server") for word in server.args)
        texts = (value if value[-1:].isalpha() else f"{value}s" for name, _, value in words if name == "fail_timeout")
        return max((int(seconds) for seconds in map(parse_duration, texts) if seconds is not None), default=FAIL_TIMEOUT_S)

    @property
    def spared(self) -> frozenset[str]:
        """Servers that get nothing by right."""
        blocks = configuration.upstream_blocks(self.conf)
        servers = (server for block in blocks for server in block.children("server"))
        return frozenset(directives.full_address(each.args[0]) for each in servers if {"down", "backup"} & {*each.args[1:]})

    def places(self, site: Site) -> Places:
        """Whose addresses are. Those of the live generation by its manifest."""
        staged = self.disk.manifest.servers if self.disk.manifest else {}
        pools = [rounds.servers(site, pool, self.names.resolved) for pool in site.pools]
        idle = {name: tuple(each for pool in pools for each in pool[name]) for name in pools[0]}
        return Places(live=staged, idle=idle, others=frozenset(self._others), is_open=self._is_open)

    @property
    def _others(self) -> Iterator[str]:
        for block in configuration.upstream_blocks(self.conf):
            yield block.args[0]
            yield from directives.addresses_of(block)
        yield from map(directives.target_of, directives.passings_of(self.conf))

    @property
    def _is_open(self) -> bool:
        """A name may lead anywhere, and so may a variable."""
        named = {each.upstream for each in configuration.named_servers(self.conf)} - set(self.addresses)
        blocks = {each.args[0] for each in configuration.upstream_blocks(self.conf)}
        targets = [directives.target_of(each) for each in directives.passings_of(self.conf)]
        passed = {configuration.passed_upstream(each.directive) for each in directives.passings_of(self.conf)} - blocks
        return bool(named) or "" in passed or any(not is_address(each) for each in targets if each.rpartition(":")[0] in passed)


def look(host: Host, site: Site) -> HostSight:
    """HostError where the host can't be asked at all."""
    disk, running = survey.glance(host, site.nginx)
    build, conf, problem = _conf(host, site.nginx)
    names = questions.resolve(host, site)
    return HostSight(
        build=build,
        conf=conf,
        dialect=_dialect(host, site.nginx, build, conf),
        disk=disk,
        running=running,
        names=names,
        addresses=_addresses(conf, disk),
        problems=(*filter(None, (running.problem, problem)), *questions.moved(site, disk, names)),
    )


def ever(host: Host, site: Site, live: HostSight) -> dict[str, frozenset[str]]:
    """The addresses of upstreams, also in other pools and in the generations that are still there: logs are of the past."""
    staged = [manifest.servers for manifest in store.read_manifests(host, site.nginx).values()]
    past = [live.places(site).idle, *staged]
    return {name: now | {each for servers in past for each in servers.get(name, ())} for name, now in live.addresses.items()}


def _conf(host: Host, nginx: Nginx) -> tuple[Build | None, NginxConf, str]:
    """And why they can't be had, "" where they were."""
    try:
        build = running.read_build(host, nginx)
        return build, running.read_conf(host, nginx, build), ""
    except NginxBrokenError as exc:
        return None, _NO_CONF, f"nginx's configuration can't be read, so the next reload would fail: {exc.said}"


def _dialect(host: Host, nginx: Nginx, build: Build | None, conf: NginxConf) -> Dialect:
    try:
        return running.read_dialect(host, nginx, conf) if build else Dialect.NONE
    except NginxBrokenError:
        return Dialect.NONE


def _addresses(conf: NginxConf, disk: Disk) -> dict[str, frozenset[str]]:
    staged = disk.manifest.servers if disk.manifest else {}
    written = {each.args[0]: directives.addresses_of(each) for each in configuration.upstream_blocks(conf)}
    found = {name: frozenset(staged.get(name, ())) | {*filter(is_address, servers)} for name, servers in written.items()}
    return {name: servers for name, servers in found.items() if name in staged or all(map(is_address, written[name]))}

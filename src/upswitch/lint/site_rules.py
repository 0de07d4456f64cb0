"""What is wrong or dangerous in a site and in the nginx around it. Each rule is a function; RULES is all of them.

An error makes a switch fail or lie, or is 502 for ever; a warning costs requests or blinds the watch, and says how much where
that was measured. Rules that need a host or the template engine are in lint/lint.py, those of the check modules in checktraps.py.
"""

import re
from collections.abc import Callable, Iterator
from typing import Literal

from upswitch.basics.value import Value
from upswitch.logs import coverage
from upswitch.nginx import advice, configuration
from upswitch.nginx.build import Build
from upswitch.nginx.conf_logs import AccessLog
from upswitch.nginx.dump import Directive, NginxConf
from upswitch.site.model import Site
from upswitch.site.probe import effective_check
from upswitch.site.words import CheckType, Dialect, SilencePolicy

_LOST = "8 to 22 requests lost per reload with 32 busy keep-alive connections"
_ADDRESS = re.compile(r"unix:|\[|[0-9.]+(?::|$)")


class Finding(Value):
    """One thing: `code` for programs, `what` with where and how much, `hint` for what to do."""

    code: str
    level: Literal["error", "warning"]
    what: str
    hint: str


class Looked(Value):
    """The site, and nginx as it was read. `logs` are those that requests to the site's upstreams end in.

    `dialect` is whose check module it has.
    """

    site: Site
    build: Build
    conf: NginxConf
    logs: tuple[AccessLog, ...] = ()
    dialect: Dialect = Dialect.NONE

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(upstream.name for upstream in self.site.upstreams)

    @property
    def includes_live(self) -> bool:
        return configuration.includes_live(self.conf, self.site.nginx.include) is not None


Rule = Callable[[Looked], Iterator[Finding]]


def error(code: str, what: str, hint: str) -> Finding:
    return Finding(code=code, level="error", what=what, hint=hint)


def warning(code: str, what: str, hint: str) -> Finding:
    return Finding(code=code, level="warning", what=what, hint=hint)


def of_site(site: Site) -> tuple[Finding, ...]:
    """What the site file alone shows."""
    return tuple(finding for rule in _SITE_RULES for finding in rule(site))


def of_nginx(looked: Looked) -> tuple[Finding, ...]:
    """What shows once nginx's own configuration is laid beside it."""
    return tuple(finding for rule in RULES for finding in rule(looked))


# ---- the site alone ----


def _pools(site: Site) -> Iterator[Finding]:
    if len(site.pools) == 1:
        yield error("one_pool", f"the site has one pool only, {site.pools[0]}", "add another pool to every upstream")


def _checks(site: Site) -> Iterator[Finding]:
    for upstream in site.upstreams:
        if upstream.check is None and site.gate.type is None:
            what = f"upstream {upstream.name} has no check table: the gate only connects, and an application that hangs passes"
            hint = f'add [upstreams.{upstream.name}.check] with type = "http" and the http_send of a health URL'
            yield warning("no_check", what, hint)


def _host_names(site: Site) -> Iterator[Finding]:
    """nginx resolves them once, when it starts; one that fails is fatal to it (nginx-facts.md, section 1.2)."""
    for upstream in site.upstreams:
        servers = [server.address for pool in upstream.pools for server in pool.servers]
        named = [address for address in servers if not _ADDRESS.match(address)]
        if named:
            what = (
                f"upstream {upstream.name} has host names ({', '.join(named)}): one that stops resolving keeps nginx from starting"
            )
            yield warning("host_name", what, "write addresses")


def _silence(site: Site) -> Iterator[Finding]:
    if site.watch.duration > 0 and not site.watch.probe and site.watch.on_silence is SilencePolicy.KEEP:
        what = "no watch.probe, and watch.on_silence is keep: on a quiet site a dead pool is kept, unproven"
        yield warning("quiet_site", what, 'set watch.probe to a URL of the site through nginx, or on_silence = "rollback"')


_SITE_RULES: tuple[Callable[[Site], Iterator[Finding]], ...] = (_pools, _checks, _host_names, _silence)


# ---- with nginx's configuration ----


def _include(looked: Looked) -> Iterator[Finding]:
    if not looked.includes_live:
        what = f"{looked.conf.path} has no `include {looked.site.nginx.include};` in its http block: a switch would change nothing"
        yield error("include_missing", what, "`upswitch init` shows the one line to change")


def _elsewhere(looked: Looked) -> Iterator[Finding]:
    """nginx -t refuses a duplicate; before the include is there, the owner's own block is as it should be."""
    for block in configuration.upstream_blocks(looked.conf) if looked.includes_live else ():
        if block.args[0] in looked.names and not block.file.startswith(f"{looked.site.nginx.live}/"):
            what = f"upstream {block.args[0]} is defined at {block.place} too: nginx refuses a second one"
            yield error("upstream_twice", what, f"take the block at {block.place} away, or the upstream out of the site file")


def _unused(looked: Looked) -> Iterator[Finding]:
    used = {location.upstream for location in configuration.proxied_locations(looked.conf, looked.names)}
    for name in looked.names:
        if name not in used:
            what = f"no location passes requests to upstream {name}"
            yield warning("upstream_unused", what, "check the name; one that proxy_pass takes from a variable can't be seen here")


def _cure(looked: Looked) -> Iterator[Finding]:
    """Requests on idle keep-alive connections (nginx-facts.md, section 4)."""
    nginx = looked.site.nginx
    if nginx.drain <= 0:
        yield warning("drain_off", f"nginx.drain is 0: {_LOST}", 'set nginx.drain = "1s"')
        return
    for place in advice.undrained(looked.conf, looked.build, looked.names, flag=nginx.drain_flag):
        at = f"{place.file}:{place.line} (location {place.name}) passes to {place.upstream}"
        if place.has_drain_lines:
            what = f"{at} and tests {place.drain_flag}, not {nginx.drain_flag}: {_LOST}"
            yield warning("drain_flag_differs", what, "make nginx.drain_flag and the location name the same file")
        else:
            hint = "the lines to paste are in README.md, 'When requests must not be lost'; nginx 1.27.4 and later need none"
            yield warning("no_drain_lines", f"{at} without drain lines: {_LOST}", hint)


def _open_file_cache(looked: Looked) -> Iterator[Finding]:
    """A cached "no such file" hides the flag for open_file_cache_valid, 60 s by default (nginx-facts.md, section 4)."""
    for each in configuration.http_children(looked.conf, "open_file_cache") if looked.build.needs_drain_flag else ():
        if each.args[:1] != ("off",):
            what = f"{each.place}: open_file_cache: the drain flag is seen up to 60 s late (open_file_cache_valid)"
            yield warning("open_file_cache", what, "set open_file_cache in the locations that serve files")


def _truncation(looked: Looked) -> Iterator[Finding]:
    if looked.build.truncates_on_reload:
        version = ".".join(map(str, looked.build.version))
        what = f"nginx {version} may cut an answer in flight short at a reload (3 of 24 in bursts that fill the buffers)"
        yield warning("truncates_on_reload", what, "fixed in nginx 1.23.1")


def _logs(looked: Looked) -> Iterator[Finding]:
    for log in coverage.distinct(looked.logs):
        for gap in coverage.gaps(log):
            yield warning(gap.code, gap.what, gap.hint)


def _tcp_for_http(looked: Looked) -> Iterator[Finding]:
    """The gate's type, and that of the check which we render where nginx has a check module."""
    for upstream in looked.site.upstreams:
        is_told = upstream.check is not None or looked.site.gate.type is not None
        kinds = [effective_check(upstream, looked.site.gate).type] if is_told else []
        if upstream.check is not None and looked.dialect is not Dialect.NONE:
            kinds.append(upstream.check.type)
        if CheckType.TCP in kinds and speaks_http(looked.conf, upstream.name):
            yield tcp_for_http(f"upstream {upstream.name}", 'type = "http"')


def tcp_for_http(said: str, wanted: str) -> Finding:
    """The kernel accepts for an application that hangs (nginx-facts.md, section 6)."""
    what = f"{said} is proxied as HTTP and probed with type = tcp: an application that hangs passes"
    return warning("tcp_for_http", what, f"{wanted} with the http_send of a health URL")


def speaks_http(conf: NginxConf, name: str) -> bool:
    """Whether a `proxy_pass` names this upstream."""
    return any(_passes(server, name) for server in configuration.http_children(conf, "server"))


def _passes(scope: Directive, name: str) -> bool:
    passed = (configuration.passed_upstream(each) for each in scope.children("proxy_pass"))
    return name in passed or any(_passes(inner, name) for inner in scope.children(*configuration.SCOPES))


RULES: tuple[Rule, ...] = (
    _include,
    _elsewhere,
    _unused,
    _cure,
    _open_file_cache,
    _truncation,
    _logs,
    _tcp_for_http,
)

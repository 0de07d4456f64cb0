"""What a lint rule is, and the rules about the site file and the nginx around it.

A rule is a function named after its code. It looks at a Subject and yields `error(...)` or `warning(...)`, or a `spot(...)` whose
words are in rules.toml. An error makes a switch fail or report something false, or nginx answers 502 for ever. A warning costs
requests or hides failures from the watch, and says how many where that was measured. A note changes no exit code.
RULES in lint.py has every rule, and rules.toml why each is one.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Protocol

from msgspec.structs import replace

from upswitch.basics.value import Value
from upswitch.diagnose.directives import Passing, passings_of
from upswitch.generations.generation import served_as
from upswitch.health.nginx_check import CheckedUpstream, checked_of_conf, checked_of_site
from upswitch.logs import coverage
from upswitch.nginx import commands, configuration, drain_lines
from upswitch.nginx.build import Build
from upswitch.nginx.conf_logs import AccessLog
from upswitch.nginx.dump import Directive, NginxConf
from upswitch.nginx.processes import OldWorkers
from upswitch.site.model import CheckType, Dialect, Gate, Nginx, SilencePolicy, Site, Watch, effective_check
from upswitch.site.names import generation_variable, prefix_of
from upswitch.site.server_line import is_name


class Level(StrEnum):
    """How bad a finding is. A note changes no exit code."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class LintFinding(Value):
    """One thing that is wrong: `code` for programs, `what` with place and figures, `hint` with what to do.

    `file` is "" where no line of nginx's configuration is wrong, and `line` 0 where a whole file is.
    """

    code: str
    level: Level
    what: str
    hint: str
    file: str = ""
    line: int = 0


class Spot(Value):
    """A line where a rule of rules.toml holds, and what stands in the words of its entry."""

    at: Directive
    values: Mapping[str, object]


class Ground(StrEnum):
    """What a rule is about. It runs only where that could be read."""

    SITE = "site"
    NGINX = "nginx"
    CONF = "conf"
    DRAIN = "drain"
    CHECKS = "checks"


class OnMarker(StrEnum):
    """Who answers on the marker address: our own server in nginx, another program, or nobody."""

    OURS = "ours"
    OTHER = "other"
    NOBODY = "nobody"


_NO_NAMES = ("mime.types", "_params")
_CHECKS = {
    "proxy": 'type = "http" and the http_send of a health URL',
    "fastcgi": 'type = "fastcgi" and the fastcgi_param of a ping page',
}
NO_SITE = Site(nginx=Nginx(dir="/", check_shm_size="1m"), upstreams=(), gate=Gate(), watch=Watch())
"""For a configuration that is read without a site file: no folder of ours, and nginx's own default."""


class IncludedFile(Value):
    """A file as it lies on this disk. `why_unread` is "" where it could be read; `by` is the line that includes it."""

    path: str
    by: Directive
    why_unread: str = ""
    is_writable_by_others: bool = False
    is_elsewhere: bool = False


class Subject(Value):
    """Everything that a rule may look at.

    `broken` is why nginx's configuration can't be read, or "". `is_part`: it has no `http` of its own. `files` are those of this
    disk. `logs` are those that log requests to the site's upstreams. `template_errors` are by pool. `modules` are the check modules
    that this nginx may have, and `checked` the upstreams that they check: in nginx's configuration, and in the site file. `old` are
    nginx's workers of former reloads.
    """

    site: Site = NO_SITE
    broken: str = ""
    build: Build = Build(name="nginx", version=(0, 0, 0))
    conf: NginxConf = NginxConf(files=(), tree=())
    logs: tuple[AccessLog, ...] = ()
    error_gap: str = ""
    template_errors: tuple[tuple[str, str], ...] = ()
    marker: OnMarker = OnMarker.OURS
    modules: tuple[Dialect, ...] = ()
    checked: tuple[CheckedUpstream, ...] = ()
    old: OldWorkers = OldWorkers()
    is_part: bool = False
    files: tuple[IncludedFile, ...] = ()

    @property
    def passings(self) -> tuple[Passing, ...]:
        """Every place that passes requests on."""
        return passings_of(self.conf)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(upstream.name for upstream in self.site.upstreams)

    @property
    def includes_live(self) -> bool:
        return configuration.includes_live(self.conf, self.site.nginx.include) is not None

    @property
    def workers(self) -> int:
        """How many worker processes; 0 where nobody knows (`auto`, or a part of a configuration)."""
        text = configuration.worker_processes(self.conf)
        return int(text) if text.isascii() and text.isdigit() else 0

    @property
    def is_incomplete(self) -> bool:
        """Whether another file may define a name that these do not."""
        return self.is_part or any(each.why_unread and not each.path.endswith(_NO_NAMES) for each in self.files)

    def kinds_to(self, name: str) -> set[str]:
        """`proxy`, `fastcgi` and so on: how requests are passed to this upstream."""
        found = (each for each in self.passings if name in configuration.passed_upstreams(self.conf, each.directive))
        return {each.kind for each in found}

    def speaks_http(self, name: str) -> bool:
        """Whether a `proxy_pass` names this upstream."""
        return "proxy" in self.kinds_to(name)


class Rule(Protocol):
    """A function named after its code."""

    __name__: str

    def __call__(self, subject: Subject, /) -> Iterator[LintFinding | Spot]: ...


def error(what: str, hint: str, at: Directive | None = None) -> LintFinding:
    """The rule's name becomes the code. `at` is the line that is wrong, if it is one of nginx's configuration."""
    return _finding(Level.ERROR, what, hint, at)


def warning(what: str, hint: str, at: Directive | None = None, *, code: str = "") -> LintFinding:
    """The same. `code`: of a rule that stands for several codes."""
    return replace(_finding(Level.WARNING, what, hint, at), code=code)


def note(what: str, hint: str, at: Directive | None = None) -> LintFinding:
    return _finding(Level.NOTE, what, hint, at)


def spot(at: Directive, **values: object) -> Spot:
    """A finding whose words are the entry of rules.toml that has the rule's name."""
    return Spot(at=at, values=values)


def _finding(level: Level, what: str, hint: str, at: Directive | None) -> LintFinding:
    return LintFinding(code="", level=level, what=what, hint=hint, file=at.file if at else "", line=at.line if at else 0)


def all_checked(site: Site, conf: NginxConf) -> tuple[CheckedUpstream, ...]:
    """The upstreams of nginx's configuration and of the site file that have a check. What we render from the latter counts once."""
    tables = checked_of_site(site)
    names = {each.name for each in tables}
    live = f"{site.nginx.live}/"
    others = (each for each in checked_of_conf(conf) if not (each.place.startswith(live) and served_as(each.name, "")[0] in names))
    return (*others, *tables)


# ---- the site file ----


def nginx_broken(subject: Subject) -> Iterator[LintFinding]:
    if subject.broken:
        what = f"nginx's configuration can't be read: {subject.broken}"
        yield error(what, f"fix it until `{commands.test_line(subject.site.nginx)}` passes; the rules about nginx did not run")


def one_pool(subject: Subject) -> Iterator[LintFinding]:
    if len(subject.site.pools) == 1:
        yield error(f"the site has only one pool, {subject.site.pools[0]}", "add another pool to every upstream")


def no_check(subject: Subject) -> Iterator[LintFinding]:
    """Where requests go by memcached_pass and the like, no check can do more than connect."""
    for upstream in subject.site.upstreams:
        kinds = subject.kinds_to(upstream.name) or {"proxy"}
        wanted = next((fix for kind, fix in _CHECKS.items() if kind in kinds), "")
        if upstream.check is None and subject.site.gate.type is None and wanted:
            what = f"upstream {upstream.name} has no check table: the gate only connects, so an application that hangs passes"
            yield warning(what, f"add [upstreams.{upstream.name}.check] with {wanted}")


def host_name(subject: Subject) -> Iterator[LintFinding]:
    """A switch writes the addresses that a name has then: nginx would not start where it does not resolve (docs/design.md)."""
    for upstream in subject.site.upstreams:
        servers = [server for pool in upstream.pools for server in pool.servers if "resolve" not in server.params]
        named = [server.address for server in servers if is_name(server.address)]
        if named:
            what = (
                f"upstream {upstream.name} has host names ({', '.join(named)}): "
                "a switch writes their addresses of that moment, and a later change in the DNS has no effect"
            )
            hint = "after such a change run `switch --to POOL`; or add `resolve` to the server (nginx 1.27.3 and later follows it)"
            yield warning(what, hint)


def quiet_site(subject: Subject) -> Iterator[LintFinding]:
    watch = subject.site.watch
    if watch.duration > 0 and not watch.probe and watch.on_silence is SilencePolicy.KEEP:
        what = "watch.probe is not set: without traffic only health paths are requested, so a pool that fails elsewhere stays live"
        yield warning(what, 'set watch.probe to a URL that goes through nginx, or set on_silence = "rollback"')


# ---- nginx around it ----


def old_workers_pile_up(subject: Subject) -> Iterator[LintFinding]:
    """An old worker lives as long as its last request or websocket (nginx-facts.md, section 3)."""
    if subject.old.are_piling_up:
        limit = next((each.args[0] for each in subject.conf.tree if each.name == "worker_shutdown_timeout" and each.args), "")
        what = f"worker_shutdown_timeout is {limit}" if limit else "worker_shutdown_timeout is not set, so nothing ends them"
        hint = "set worker_shutdown_timeout at the top of nginx.conf to the longest time that a client may need, such as 1h"
        yield warning(f"{subject.old.text}; {what}", hint)


def include_missing(subject: Subject) -> Iterator[LintFinding]:
    if not subject.includes_live:
        include = f"include {subject.site.nginx.include};"
        what = f"{subject.conf.path} has no `{include}` in its http block, so a switch would change nothing"
        yield error(what, "`upswitch init` shows the one line to change")


def upstream_twice(subject: Subject) -> Iterator[LintFinding]:
    """nginx refuses a duplicate. Before the include is there, the owner's own block is as it should be."""
    for block in configuration.upstream_blocks(subject.conf) if subject.includes_live else ():
        if block.args[0] in subject.names and not block.file.startswith(f"{subject.site.nginx.live}/"):
            what = f"upstream {block.args[0]} is also defined at {block.place}, and nginx refuses a second definition"
            yield error(what, f"remove the block at {block.place}, or the upstream from the site file", block)


def upstream_unused(subject: Subject) -> Iterator[LintFinding]:
    used = {name for each in drain_lines.all_passing(subject.conf) for name in each.upstreams}
    for name in subject.names:
        if name not in used:
            hint = "check the name; lint follows a variable through map and set, but not through other directives"
            yield warning(f"no location passes requests to upstream {name}", hint)


def truncates_on_reload(subject: Subject) -> Iterator[LintFinding]:
    if subject.build.truncates_on_reload:
        version = ".".join(map(str, subject.build.version))
        what = f"nginx {version} may cut an answer short at a reload (3 of 24 answers in bursts that fill the buffers)"
        yield note(what, "nginx 1.23.1 fixed this")


def access_log(subject: Subject) -> Iterator[LintFinding]:
    """What a log does not show; each gap has a code of its own (logs/coverage.py)."""
    for log in coverage.distinct(subject.logs):
        for gap in coverage.gaps(log):
            yield replace(warning(gap.what, gap.hint, code=gap.code), file=log.file, line=log.line)


def error_log_unwatched(subject: Subject) -> Iterator[LintFinding]:
    if subject.error_gap:
        yield warning(subject.error_gap, "write the error_log of nginx.conf to a plain file", code="error_log_unwatched")


def tcp_for_http(subject: Subject) -> Iterator[LintFinding]:
    """The kernel accepts connections for an application that hangs (nginx-facts.md, section 6)."""
    gate = subject.site.gate
    for upstream in subject.site.upstreams:
        is_told = upstream.check is not None or gate.type is not None
        types = [effective_check(upstream, gate).type] if is_told else []
        types += [upstream.check.type] if upstream.check is not None and subject.modules else []
        if CheckType.TCP in types and subject.speaks_http(upstream.name):
            yield tcp_only(f"upstream {upstream.name}", 'type = "http"')


def tcp_only(said: str, wanted: str, at: Directive | None = None) -> LintFinding:
    what = f"{said} is proxied as HTTP but checked with type=tcp, so an application that hangs passes"
    return warning(what, f"use {wanted} with the http_send of a health URL", at, code="tcp_for_http")


def template(subject: Subject) -> Iterator[LintFinding]:
    for pool, why in subject.template_errors:
        yield error(f"pool {pool} can't be rendered: {why}", "fix the template")


def marker_taken(subject: Subject) -> Iterator[LintFinding]:
    if subject.marker is OnMarker.OTHER:
        what = f"another program listens on the marker address {subject.site.nginx.marker}"
        yield error(what, "set nginx.marker to a loopback address and port that no other program uses")


def marker_silent(subject: Subject) -> Iterator[LintFinding]:
    if subject.marker is OnMarker.NOBODY and subject.includes_live:
        what = f"nginx does not answer on the marker address {subject.site.nginx.marker}: "
        yield error(what + "it does not run, or it has not loaded the live generation", "start or reload nginx")


def variable_taken(subject: Subject) -> Iterator[LintFinding]:
    """Of several `map` blocks with one variable the last counts, so a log then has the generation of another site."""
    live, conf = subject.site.nginx.live, subject.conf
    prefix = configuration.variable_prefix(conf, live=live, otherwise=prefix_of(subject.site.name))
    variable = generation_variable(prefix)
    for each in configuration.defines(conf, variable):
        if not each.file.startswith(f"{live}/"):
            what = f"{each.place} sets ${variable} too, so the watch does not go by this variable"
            yield warning(what, "remove it there; until then the watch tells pools apart by $upstream_addr", each)

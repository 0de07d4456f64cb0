"""`upswitch lint`: every rule in one table, and what the rules look at: a host, or a configuration as it lies on this machine."""

import glob
import os
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from upswitch.basics.errors import NginxBrokenError
from upswitch.generations import generation, survey
from upswitch.hosts.host import Host, Ports
from upswitch.hosts.local import opened
from upswitch.lint import check_rules, drain_rules, rules
from upswitch.lint.rules import Ground, LintFinding, OnMarker, Rule, Subject
from upswitch.nginx import conf_logs, configuration, dump, running
from upswitch.nginx.dump import Directive, DumpError, NginxConf
from upswitch.nginx.running import ask_marker
from upswitch.site.model import Dialect, Generation, Nginx, Site
from upswitch.site.names import prefix_of

RULES: Mapping[Ground, tuple[Rule, ...]] = {
    Ground.SITE: (
        rules.nginx_broken,
        rules.one_pool,
        rules.no_check,
        rules.host_name,
        rules.quiet_site,
    ),
    Ground.NGINX: (
        rules.include_missing,
        rules.old_workers_pile_up,
        rules.upstream_twice,
        rules.upstream_unused,
        rules.truncates_on_reload,
        rules.access_log,
        rules.tcp_for_http,
        rules.template,
        rules.marker_taken,
        rules.marker_silent,
        rules.variable_taken,
    ),
    Ground.DRAIN: (
        drain_rules.drain_off,
        drain_rules.no_drain_lines,
        drain_rules.drain_flag_differs,
        drain_rules.open_file_cache,
        drain_rules.drain_location_differs,
        drain_rules.drain_lines_old,
    ),
    Ground.CHECKS: (
        check_rules.check_blackout,
        check_rules.check_timeout_long,
        check_rules.tcp_for_http,
        check_rules.check_tcp_stuck,
        check_rules.check_tcp_blind,
        check_rules.check_keepalive_frozen,
        check_rules.check_unheeded,
        check_rules.check_ssl_hello,
        check_rules.check_mysql,
        check_rules.check_mysql_flaps,
        check_rules.check_fastcgi_crash,
        check_rules.check_port_unix,
        check_rules.check_send_unended,
        check_rules.check_send_no_host,
        check_rules.check_send_keeps,
        check_rules.check_refused,
        check_rules.check_port_truncated,
        check_rules.check_replaced,
        check_rules.check_send_order,
        check_rules.check_send_type,
        check_rules.check_alive_lines,
        check_rules.check_shared_address,
        check_rules.check_shm_small,
    ),
}
"""A new rule needs its row here. Findings come in this order, errors first."""

_END = "upswitch_end"
_PRINTED = "# configuration file "
_LARGEST = 1 << 22  # characters of one file
_MOST_FILES = 10_000


def lint(ports: Ports, site: Site, templates: Mapping[str, str]) -> tuple[LintFinding, ...]:
    """Every finding about a site and its nginx. It only reads. HostError where the host can't be asked."""
    try:
        subject = _read_host(ports.host, site, templates)
    except NginxBrokenError as exc:
        return findings(Subject(site=site, broken=str(exc)), Ground.SITE)
    grounds = (Ground.SITE, Ground.NGINX, Ground.DRAIN, *([Ground.CHECKS] if subject.modules else []))
    return findings(subject, *grounds)


def lint_file(path: str) -> tuple[LintFinding, ...]:
    """Every finding about the health checks and the drain lines in an nginx configuration, or in a part of one, on this disk.

    OSError where it or a file that it includes can't be read. DumpError where it is not nginx's syntax.
    """
    return findings(subject_of(_read_files(os.path.abspath(path))), Ground.DRAIN, Ground.CHECKS)


def findings(subject: Subject, *grounds: Ground) -> tuple[LintFinding, ...]:
    """What the rules on these grounds find. A rule's name is the code of its findings, where they have no other."""
    found = (
        replace(finding, code=finding.code or rule.__name__)
        for ground in grounds
        for rule in RULES[ground]
        for finding in rule(subject)
    )
    return tuple(sorted(found, key=lambda finding: finding.level))


# ---- a host ----


def _read_host(host: Host, site: Site, templates: Mapping[str, str]) -> Subject:
    build = running.read_build(host, site.nginx)
    conf = running.read_conf(host, site.nginx, build)
    dialect = running.read_dialect(host, site.nginx, conf)
    names = tuple(upstream.name for upstream in site.upstreams)
    subject = Subject(
        site=site,
        build=build,
        conf=conf,
        logs=conf_logs.own_logs(
            conf, build, names, path=site.nginx.access_log, live=site.nginx.live, otherwise=prefix_of(site.name)
        ),
        modules=() if dialect is Dialect.NONE else (dialect,),
        checked=rules.all_checked(site, conf),
        marker=_on_marker(host, site.nginx),
        old=survey.glance(host, site.nginx)[1].old,
    )
    return replace(subject, template_errors=tuple(_template_errors(subject, templates, dialect)))


def _template_errors(subject: Subject, templates: Mapping[str, str], dialect: Dialect) -> Iterator[tuple[str, str]]:
    from upswitch.generations import limited  # noqa: PLC0415  (jinja2 takes 60 ms; `status` shares this process)
    from upswitch.generations.render import RenderError, render  # noqa: PLC0415  (as above)

    for pool in subject.site.pools:
        name = Generation(number=1, pool=pool)
        rendering = generation.rendering(subject.site, subject.build, subject.conf, name, dialect=dialect)
        try:
            render(subject.site, rendering, templates, run=limited.rendered)
        except RenderError as exc:
            yield pool, str(exc)


def _on_marker(host: Host, nginx: Nginx) -> OnMarker:
    if ask_marker(host, nginx) is not None:
        return OnMarker.OURS
    try:
        host.connect(nginx.marker, timeout=running.MARKER_S).close()
    except OSError:
        return OnMarker.NOBODY
    return OnMarker.OTHER


# ---- files on this machine ----


def subject_of(conf: NginxConf) -> Subject:
    """For the health checks and the drain lines alone. A part of a configuration counts as one that stands inside `http`."""
    if configuration.http(conf) is None:
        workers = Directive(name="worker_processes", args=("auto",), file=conf.path, line=0)
        http = Directive(name="http", args=(), file=conf.path, line=0, block=conf.tree)
        conf = NginxConf(files=conf.files, tree=(workers, http))
    return Subject(conf=conf, modules=(Dialect.YAOWEIBIN, Dialect.TENGINE), checked=rules.all_checked(rules.NO_SITE, conf))


def _read_files(path: str) -> NginxConf:
    """What `nginx -T -c PATH` would print, as a tree. PATH may also hold such output. Includes start from PATH's folder."""
    main = _text(path, is_included=False)
    if main.startswith(_PRINTED):
        return dump.parse_dump(main)
    files, found = dict[str, str](), [path]
    while found:
        name = found.pop()
        if name not in files:
            text = main if name == path else _text(name, is_included=True)  # a pipe can be read only once
            files[name] = f"{_PRINTED}{name}:\n{text.replace(_PRINTED, '# ')}\n"  # such a comment would end the file for us
            found += _included(path, _alone(files[name]))
        if len(files) > _MOST_FILES:
            raise DumpError(f"{path} includes more than {_MOST_FILES} files")
    return dump.parse_dump("".join(files.values()))


def _text(path: str, *, is_included: bool) -> str:
    """OSError where it is no plain file: a device never ends, and nobody writes into a pipe that is only included."""
    descriptor = opened.regular(path) if is_included else opened.named(path)
    with open(descriptor, encoding="utf-8", errors="backslashreplace", newline="") as file:
        text = file.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise DumpError(f"{path} is larger than {_LARGEST >> 20} MiB")
    if text.startswith("\ufeff"):
        raise DumpError(f"{path} begins with a byte order mark, which nginx refuses")
    return text


def _alone(printed: str) -> tuple[Directive, ...]:
    """One file. crossplane accepts a last statement without `;`, and nginx does not."""
    conf = dump.parse_dump(f"{printed}{_END};\n")
    if (conf.tree[-1].name, conf.tree[-1].args) != (_END, ()):
        raise DumpError(f'{conf.path} ends where a ";" is missing')
    return conf.tree[:-1]


def _included(main: str, block: tuple[Directive, ...]) -> Iterator[str]:
    for each in configuration.includes(block):
        pattern = dump.include_pattern(main, each.args[0])
        yield from filter(os.path.isfile, glob.glob(pattern)) if dump.is_glob(pattern) else (pattern,)

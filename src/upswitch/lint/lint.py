"""`upswitch lint`: every rule in one table, and what the rules look at: a host, or a configuration as it lies on this machine."""

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches

from msgspec.structs import replace

from upswitch.basics.errors import NginxBrokenError
from upswitch.generations import generation, survey
from upswitch.hosts.host import Host, Ports
from upswitch.lint import catalogue, check_rules, drain_rules, file_rules, files, pass_rules, rules, upstream_rules
from upswitch.lint.rules import Ground, IncludedFile, Level, LintFinding, OnMarker, Rule, Spot, Subject
from upswitch.nginx import conf_logs, configuration, log_target, running
from upswitch.nginx.dump import Directive, NginxConf
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
        rules.error_log_unwatched,
        rules.tcp_for_http,
        rules.template,
        rules.marker_taken,
        rules.marker_silent,
        rules.variable_taken,
    ),
    Ground.CONF: (
        upstream_rules.all_down,
        upstream_rules.single_server,
        upstream_rules.max_fails_one,
        upstream_rules.localhost_twice,
        upstream_rules.name_resolved_once,
        upstream_rules.keepalive_before_balancer,
        upstream_rules.max_conns_per_worker,
        upstream_rules.backup_shared,
        pass_rules.post_sent_twice,
        pass_rules.next_upstream_off,
        pass_rules.retries_unbounded,
        pass_rules.answers_take_servers_out,
        pass_rules.read_timeout_short,
        pass_rules.connect_timeout_long,
        pass_rules.request_unbuffered,
        pass_rules.keepalive_unused,
        pass_rules.keepalive_closed_by_map,
        pass_rules.set_header_lost,
        pass_rules.upgrade_without_http_1_1,
        pass_rules.header_buffer_small,
        pass_rules.no_sni,
        pass_rules.error_page_hides,
        pass_rules.no_resolver,
        pass_rules.variable_hides_name,
        pass_rules.variable_drops_uri,
        pass_rules.docker_resolver_ttl,
        pass_rules.resolver_ipv6,
        file_rules.shutdown_cuts,
        file_rules.shutdown_unbounded,
        file_rules.nofile_below_connections,
        file_rules.left_behind_file,
        file_rules.include_unread,
        file_rules.include_writable,
        file_rules.include_elsewhere,
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
"""A new rule needs its row here and its entry in rules.toml. Findings come in this order, errors first and notes last."""

_WORST = list(Level)
_MOST_LOOKED_AT = 200  # files in one command


def lint(ports: Ports, site: Site, templates: Mapping[str, str]) -> tuple[LintFinding, ...]:
    """Every finding about a site and its nginx. It only reads. HostError where the host can't be asked."""
    try:
        subject = _read_host(ports.host, site, templates)
    except NginxBrokenError as exc:
        return findings(Subject(site=site, broken=str(exc)), Ground.SITE)
    grounds = (Ground.SITE, Ground.NGINX, Ground.CONF, Ground.DRAIN, *([Ground.CHECKS] if subject.modules else []))
    return findings(subject, *grounds)


def lint_file(path: str) -> tuple[LintFinding, ...]:
    """Every finding about an nginx configuration on this machine, or about a part of one; `-` is stdin.

    OSError where it can't be read. DumpError where it is not nginx's syntax.
    """
    conf, seen = files.read(path)
    return findings(replace(subject_of(conf), files=seen), Ground.CONF, Ground.DRAIN, Ground.CHECKS)


def subject_of(conf: NginxConf) -> Subject:
    """For what needs no site and no nginx."""
    return Subject(
        conf=files.whole(conf),
        is_part=configuration.http(conf) is None,
        modules=(Dialect.YAOWEIBIN, Dialect.TENGINE),
        checked=rules.all_checked(rules.NO_SITE, files.whole(conf)),
    )


def findings(subject: Subject, *grounds: Ground) -> tuple[LintFinding, ...]:
    """What the rules on these grounds find, each finding once. A rule's name is the code where a finding has no other."""
    found = dict.fromkeys(
        _told(rule.__name__, each, subject) for ground in grounds for rule in RULES[ground] for each in rule(subject)
    )
    return tuple(sorted(found, key=lambda finding: _WORST.index(finding.level)))


def _told(name: str, each: LintFinding | Spot, subject: Subject) -> LintFinding:
    """With its code, and the words of a Spot."""
    if not isinstance(each, Spot):
        return replace(each, code=each.code or name)
    found = catalogue.finding(name, each, subject)
    is_rendered = found.file.startswith(f"{subject.site.nginx.live}/")
    hint = f"upswitch renders this file from the site file, so change it there: {found.hint}"
    return replace(found, hint=hint) if is_rendered else found


def without(found: Iterable[LintFinding], ignored: Collection[str], *, errors_only: bool) -> tuple[LintFinding, ...]:
    """The findings that a person wants to see."""
    return tuple(each for each in found if each.code not in ignored and (each.level is Level.ERROR or not errors_only))


def unknown(codes: Iterable[str]) -> str:
    """What is wrong with a code that no rule has; "" where each is known."""
    known = catalogue.catalogue()
    for code in codes:
        if code not in known:
            near = get_close_matches(code, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "`upswitch help` explains a CODE that lint prints"
            return f"{code} must be a code of lint, and no rule has it; {hint}"
    return ""


# ---- a host ----


def _read_host(host: Host, site: Site, templates: Mapping[str, str]) -> Subject:
    build = running.read_build(host, site.nginx)
    conf = running.read_conf(host, site.nginx, build)
    dialect = running.read_dialect(host, site.nginx, conf)
    names = tuple(upstream.name for upstream in site.upstreams)
    runs = survey.glance(host, site.nginx)[1]
    logs = log_target.found(
        host,
        conf_logs.own_logs(conf, build, names, path=site.nginx.access_log, live=site.nginx.live, otherwise=prefix_of(site.name)),
        running.error_log_paths(site.nginx, build, conf),
        master=runs.pid if runs.master else 0,
    )
    subject = Subject(
        site=site,
        build=build,
        conf=conf,
        logs=logs.access,
        error_gap=logs.error_gap,
        modules=() if dialect is Dialect.NONE else (dialect,),
        checked=rules.all_checked(site, conf),
        marker=_on_marker(host, site.nginx),
        old=runs.old,
        files=_files_on(host, conf),
    )
    return replace(subject, template_errors=tuple(_template_errors(subject, templates, dialect)))


def _files_on(host: Host, conf: NginxConf) -> tuple[IncludedFile, ...]:
    """The rights and the file systems of what nginx reads; () where the host has no such `stat`."""
    paths = [file.path for file in conf.files][:_MOST_LOOKED_AT]
    folders = [posixpath.dirname(path) for path in paths]
    ran = host.run(("stat", "-L", "-c", "%a %d", "--", *paths, *folders), deadline=10.0)
    seen = [line.split() for line in ran.out.decode("ascii", "replace").splitlines()]
    if ran.exit != 0 or len(seen) != 2 * len(paths):
        return ()
    modes = [int(mode, 8) for mode, _ in seen]
    return tuple(
        IncludedFile(
            path=path,
            by=Directive(name="include", args=(path,), file=path, line=1),
            is_writable_by_others=files.is_open_to_all(modes[index], modes[index + len(paths)]),
            is_elsewhere=seen[index][1] != seen[0][1],
        )
        for index, path in enumerate(paths)
    )


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

"""`upswitch lint`: the rules of core/lint.py on a host, and those that need the host or the template engine."""

from collections.abc import Iterator, Mapping

from upswitch import survey
from upswitch.core import advice, generation, planning
from upswitch.core import lint as rules
from upswitch.core.build import Build, BuildError
from upswitch.core.dump import DumpError, NginxConf
from upswitch.core.errors import NginxBrokenError
from upswitch.core.generation import Generation
from upswitch.core.lint import Finding, Looked
from upswitch.core.site import Nginx, Site
from upswitch.marker import ask_marker
from upswitch.ports import Host, Ports

__all__ = ["Finding", "lint"]


def lint(ports: Ports, site: Site, templates: Mapping[str, str]) -> tuple[Finding, ...]:
    """Every finding, errors first. Only reads. HostError where the host can't be asked."""
    found = [*rules.of_site(site), *_on_host(ports.host, site, templates)]
    return tuple(sorted(found, key=lambda finding: finding.level))


def _on_host(host: Host, site: Site, templates: Mapping[str, str]) -> Iterator[Finding]:
    try:
        build = survey.read_build(host, site.nginx)
        conf = survey.read_conf(host, site.nginx, build)
    except (NginxBrokenError, BuildError, DumpError) as exc:
        what = f"nginx's configuration can't be read: {exc}"
        yield rules.error("nginx_broken", what, "mend it until `nginx -t` passes; the rules about it were left out")
        return
    names = tuple(upstream.name for upstream in site.upstreams)
    logs = advice.own_logs(conf, build, names)
    if site.nginx.access_log != "auto":
        logs = tuple(log for log in logs if log.path == site.nginx.access_log)
    looked = Looked(site=site, build=build, conf=conf, logs=logs)
    yield from rules.of_nginx(looked)
    yield from _rendered(site, build, conf, templates)
    yield from _marker(host, site.nginx, is_adopted=looked.includes_live)


def _rendered(site: Site, build: Build, conf: NginxConf, templates: Mapping[str, str]) -> Iterator[Finding]:
    from upswitch.core.render import RenderError, render  # noqa: PLC0415  (jinja2 takes 60 ms; `status` shares this process)

    for pool in site.pools:
        rendering = planning.rendering(site.nginx, build, conf, Generation(number=1, pool=pool))
        try:
            render(site, rendering, templates)
        except RenderError as exc:
            yield rules.error("template", f"pool {pool} can't be rendered: {exc}", "mend the template")


def _marker(host: Host, nginx: Nginx, *, is_adopted: bool) -> Iterator[Finding]:
    """Before the first use nobody may listen there; after it our own marker must."""
    answer = ask_marker(host, nginx)
    if answer is not None and generation.parse_name(answer.generation):
        return
    if _is_listening(host, nginx.marker):
        what = f"somebody else listens on nginx.marker, {nginx.marker}"
        yield rules.error("marker_taken", what, "set nginx.marker to a loopback address and port that nobody uses")
    elif is_adopted:
        what = f"nginx does not answer on nginx.marker, {nginx.marker}: it does not run, or has not loaded the live generation"
        yield rules.error("marker_silent", what, "start or reload nginx")


def _is_listening(host: Host, address: str) -> bool:
    try:
        host.connect(address, timeout=1.0).close()
    except OSError:
        return False
    return True

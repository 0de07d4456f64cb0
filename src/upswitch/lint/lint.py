"""`upswitch lint`: the rules of core/ on a host, those that need the host or the template engine, and the rules on a file alone."""

import errno
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping

from upswitch.basics.errors import NginxBrokenError
from upswitch.generations import generation
from upswitch.hosts.host import Host, Ports
from upswitch.lint import check_rules
from upswitch.lint import site_rules as rules
from upswitch.lint.site_rules import Finding, Looked
from upswitch.nginx import advice, check_module, dump, running
from upswitch.nginx.build import BuildError
from upswitch.nginx.dump import Directive, DumpError, NginxConf
from upswitch.nginx.running import ask_marker
from upswitch.site import words
from upswitch.site.model import Nginx, Site
from upswitch.site.words import Generation

__all__ = ["Finding", "lint", "lint_file"]

_END = "upswitch_end"
_PRINTED = "# configuration file "
_LARGEST = 1 << 22  # characters of one file
_MOST_FILES = 10_000


def lint(ports: Ports, site: Site, templates: Mapping[str, str]) -> tuple[Finding, ...]:
    """Every finding, errors first. Only reads. HostError where the host can't be asked."""
    found = [*rules.of_site(site), *_on_host(ports.host, site, templates)]
    return _errors_first(found)


def lint_file(path: str) -> tuple[Finding, ...]:
    """Every finding about an nginx configuration, or a part of one, as it lies on this machine's disk: no site file, no nginx.

    OSError where it or a file that it includes can't be read; DumpError where it is not nginx's syntax.
    """
    return _errors_first(check_rules.of_conf(_read(os.path.abspath(path))))


def _errors_first(found: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(found, key=lambda finding: finding.level))


def _read(path: str) -> NginxConf:
    """What `nginx -T -c PATH` would print, as a tree; PATH may also hold what one printed. Includes start from PATH's folder."""
    main = _text(path, is_included=False)
    if main.startswith(_PRINTED):
        return dump.parse_dump(main)
    files, found = dict[str, str](), [path]
    while found:
        name = found.pop()
        if name not in files:
            text = main if name == path else _text(name, is_included=True)  # a pipe can be read once
            files[name] = f"{_PRINTED}{name}:\n{text.replace(_PRINTED, '# ')}\n"  # a comment must not end the file for us
            found += _included(path, _alone(files[name]))
        if len(files) > _MOST_FILES:
            raise DumpError(f"{path} includes more than {_MOST_FILES} files")
    return dump.parse_dump("".join(files.values()))


def _text(path: str, *, is_included: bool) -> str:
    """OSError where it is no plain file: a device never ends, and nobody writes into a pipe that is only included."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and (is_included or not stat.S_ISFIFO(mode)):
        raise OSError(errno.EINVAL, "not a regular file", path)
    with open(path, encoding="utf-8", errors="backslashreplace", newline="") as file:
        text = file.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise DumpError(f"{path}: larger than {_LARGEST >> 20} MiB")
    if text.startswith("\ufeff"):
        raise DumpError(f"{path}: begins with a byte order mark, which nginx refuses")
    return text


def _alone(printed: str) -> tuple[Directive, ...]:
    """One file. crossplane lets the last statement go without its `;`; nginx does not."""
    conf = dump.parse_dump(f"{printed}{_END};\n")
    if (conf.tree[-1].name, conf.tree[-1].args) != (_END, ()):
        raise DumpError(f'{conf.path}: it ends where a ";" is missing')
    return conf.tree[:-1]


def _included(main: str, block: tuple[Directive, ...]) -> Iterator[str]:
    for each in block:
        yield from _included(main, each.block or ())
        if each.name == "include" and each.args:
            pattern = dump.include_pattern(main, each.args[0])
            yield from filter(os.path.isfile, glob.glob(pattern)) if dump.is_glob(pattern) else (pattern,)


def _on_host(host: Host, site: Site, templates: Mapping[str, str]) -> Iterator[Finding]:
    try:
        build = running.read_build(host, site.nginx)
        conf = running.read_conf(host, site.nginx, build)
        dialect = check_module.read_dialect(host, site.nginx, conf)
    except (NginxBrokenError, BuildError, DumpError) as exc:
        what = f"nginx's configuration can't be read: {exc}"
        yield rules.error("nginx_broken", what, "mend it until `nginx -t` passes; the rules about it were left out")
        return
    names = tuple(upstream.name for upstream in site.upstreams)
    logs = advice.own_logs(conf, build, names)
    if site.nginx.access_log != "auto":
        logs = tuple(log for log in logs if log.path == site.nginx.access_log)
    looked = Looked(site=site, build=build, conf=conf, logs=logs, dialect=dialect)
    yield from rules.of_nginx(looked)
    yield from check_rules.of_looked(looked)
    yield from _rendered(looked, templates)
    yield from _marker(host, site.nginx, is_adopted=looked.includes_live)


def _rendered(looked: Looked, templates: Mapping[str, str]) -> Iterator[Finding]:
    from upswitch.generations.render import RenderError, render  # noqa: PLC0415  (jinja2 takes 60 ms; `status` shares this process)

    nginx = looked.site.nginx
    for pool in looked.site.pools:
        name = Generation(number=1, pool=pool)
        rendering = generation.rendering(nginx, looked.build, looked.conf, name, dialect=looked.dialect)
        try:
            render(looked.site, rendering, templates)
        except RenderError as exc:
            yield rules.error("template", f"pool {pool} can't be rendered: {exc}", "mend the template")


def _marker(host: Host, nginx: Nginx, *, is_adopted: bool) -> Iterator[Finding]:
    """Before the first use nobody may listen there; after it our own marker must."""
    answer = ask_marker(host, nginx)
    if answer is not None and words.parse_name(answer.generation):
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

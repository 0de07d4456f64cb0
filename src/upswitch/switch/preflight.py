"""Everything about a host that makes a change impossible or unsafe, found before anything is done."""

from collections.abc import Iterator

from msgspec.structs import replace

from upswitch.basics.errors import NginxBrokenError, Refusal, RefusedError
from upswitch.basics.result import Why
from upswitch.generations import survey
from upswitch.generations.survey import Facts
from upswitch.health.nginx_check import checked_address
from upswitch.hosts.host import Host
from upswitch.nginx import commands, configuration
from upswitch.nginx.dump import Directive
from upswitch.nginx.running import Running
from upswitch.site.model import Nginx, Site
from upswitch.site.server_line import is_address


def surveyed(host: Host, site: Site, *, adopt: bool) -> Facts:
    """The host as it is, fit for a switch; RefusedError where it is not."""
    facts = _survey(host, site)
    refuse_if(refusals(site.nginx, facts, adopt=adopt))
    return _as_edited(facts)


def _as_edited(facts: Facts) -> Facts:
    """With the servers that live files name now: a person may have edited them, and the manifest does not say so."""
    disk, manifest = facts.disk, facts.disk.manifest
    if manifest is None or not disk.drift:
        return facts
    found = {block.args[0]: _addresses(block) for block in configuration.upstream_blocks(facts.conf)}
    edited = {name: found[name] for name in manifest.servers if found.get(name) and all(map(is_address, found[name]))}
    servers = {**manifest.servers, **edited}
    return replace(facts, disk=replace(disk, manifest=replace(manifest, servers=servers)))


def _addresses(block: Directive) -> tuple[str, ...]:
    return tuple(checked_address(server.args[0]) for server in block.children("server") if server.args)


def way_back_facts(host: Host, site: Site) -> Facts:
    """The host as it is. A way back must not need a configuration that passes now: the live generation may be its fault."""
    try:
        return _survey(host, site)
    except RefusedError:
        return survey.survey_without_conf(host, site.nginx)


def _survey(host: Host, site: Site) -> Facts:
    try:
        return survey.survey(host, site.nginx, tuple(upstream.name for upstream in site.upstreams))
    except NginxBrokenError as exc:
        is_ours = any(file.startswith(f"{site.nginx.dir}/") for file in exc.files)
        fix = (
            "the live generation fails: run `upswitch rollback`"
            if is_ours
            else f"fix the file until `{commands.test_line(site.nginx)}` passes"
        )
        raise RefusedError(
            Refusal(what=f"nginx -T fails: {exc.said}", hint=f"{fix}; nothing was changed", why=Why.BAD_CONFIG)
        ) from exc


def refuse_if(refusals: tuple[Refusal, ...]) -> None:
    if refusals:
        raise RefusedError(*refusals)


def refusals(nginx: Nginx, facts: Facts, *, adopt: bool) -> tuple[Refusal, ...]:
    """Why a switch may not even begin. `adopt` accepts live files that were edited by hand."""
    return blockers(nginx, facts) or tuple(_doubts(nginx, facts, adopt=adopt))[:1]


def blockers(nginx: Nginx, facts: Facts) -> tuple[Refusal, ...]:
    """What stops even a rollback."""
    return tuple(_blockers(nginx, facts))


def _blockers(nginx: Nginx, facts: Facts) -> Iterator[Refusal]:
    if facts.disk.manifest is None:
        whole = f"let {nginx.live} point to a whole generation, then try again"
        hint = whole if facts.disk.generations else "`upswitch init` makes the first one"
        what = facts.running.problem or f"{nginx.live} points to no generation"
        yield Refusal(what=what, hint=hint, why=Why.NO_GENERATION)
    elif facts.running.problem:
        yield Refusal(what=facts.running.problem, hint=_to_a_master(nginx, facts.running), why=Why.NO_MASTER)
    if facts.is_conf_read and configuration.includes_live(facts.conf, nginx.include) is None:
        what = f"{nginx.conf} does not include the live generation: a switch would change nothing"
        hint = f"add `include {nginx.include};` to its http block, reload nginx, then try again"
        yield Refusal(what=what, hint=hint, why=Why.NOT_INCLUDED)


def _to_a_master(nginx: Nginx, running: Running) -> str:
    """A start beside an nginx that still has the sockets fails, so it is not advised to whoever has one."""
    if running.is_stopped:
        return f"`kill -CONT {running.pid}` lets the master process go on; then try again"
    if running.upgrade:
        return "finish the binary upgrade or undo it; then try again"
    if running.marker is None:
        return f"start nginx with {nginx.conf}; then try again"
    pid_file = running.pid_file or "the pid file"
    return (
        f"nginx still answers at {nginx.marker}: if its master process lives, put its id into {pid_file}; "
        f"if the master was killed, end its workers, then start nginx with {nginx.conf}"
    )


def _doubts(nginx: Nginx, facts: Facts, *, adopt: bool) -> Iterator[Refusal]:
    """The first of these is the cause of those after it."""
    disk, marker = facts.disk, facts.running.marker
    if disk.drift and not adopt:
        files = ", ".join(f"{nginx.live}/{name}" for name in disk.drift)
        hint = "put the edit into the site file, or accept the files as they are with --adopt: a rollback then leads to them"
        yield Refusal(what=f"live files were edited after upswitch wrote them: {files}", hint=hint, why=Why.EDITED)
    if disk.manifest is not None and disk.manifest.marker not in {"", nginx.marker}:
        what = f"nginx.marker is {nginx.marker}, but {disk.live} answers at {disk.manifest.marker}"
        hint = f'set nginx.marker back to "{disk.manifest.marker}"; only `upswitch init` can choose this address'
        yield Refusal(what=what, hint=hint, why=Why.MARKER)
    if marker is None or marker.generation != disk.live:
        reported = marker.generation if marker else "no generation"
        what = f"nginx reports {reported} at {nginx.marker}, but {nginx.live} points to {disk.live}"
        hint = "somebody moved the link or loaded another configuration; `upswitch rollback --to N` makes generation N live"
        yield Refusal(what=what, hint=hint, why=Why.DISAGREE)

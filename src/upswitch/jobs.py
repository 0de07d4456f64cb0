"""Building a run's material: its plan, and every byte that it will write, before it writes any."""

import difflib
from collections.abc import Mapping

from upswitch import gating, preflight, staging, survey
from upswitch.core import generation, nginxconf, planning
from upswitch.core.errors import HostError, Refusal, RefusedError
from upswitch.core.generation import Manifest
from upswitch.core.planning import ROLLBACK_SKIPS, Ask, Names
from upswitch.core.run import Run
from upswitch.core.site import Site
from upswitch.core.words import Value
from upswitch.ports import Host, Ports
from upswitch.steps import Job
from upswitch.survey import Facts


class Found(Value):
    """What was read before: the host, every run of its journal, and the templates' texts by name."""

    facts: Facts
    runs: tuple[Run, ...]
    templates: Mapping[str, str] = {}


def for_switch(ports: Ports, site: Site, ask: Ask, found: Found) -> Job:
    """A switch to `ask.pool`: rendered now, for this nginx. RefusedError where a template or a name fails."""
    facts = found.facts
    names = _names(facts, ask.pool, found.runs)
    try:
        resolved = preflight.resolve_names(ports.host, site, ask.pool)
    except HostError as exc:
        raise RefusedError(Refusal(what=str(exc), hint="nginx would not resolve it either")) from exc
    files = _rendered(site, names.to, found)
    manifest = Manifest(
        name=names.to,
        pool=ask.pool,
        sha256={},
        replaces=names.former,
        made_by=ask.run,
        made_at=ports.clock.now(),
        servers=gating.servers(site, ask.pool, resolved),
        marker=site.nginx.marker,
        pid_file=facts.pid_file,
        error_log=facts.error_log,
    )
    return Job(
        site=site,
        plan=planning.plan(ask, names, can_drain=can_drain(site, facts)),
        facts=facts,
        files=planning.with_manifest(files, manifest),
        back_files=_way_back(ports, site, ask, found=found, names=names),
        new=gating.targets(site, ask.pool, resolved),
        old=gating.staged_targets(site, facts.disk.manifest) if facts.disk.manifest else (),
        addresses=manifest.addresses,
    )


def for_rollback(ports: Ports, site: Site, ask: Ask, found: Found, *, number: int | None) -> Job:
    """Generation `number`, or what was live before, as a copy under a new number. RefusedError where there is none."""
    facts = found.facts
    manifests = survey.read_manifests(ports.host, site.nginx)
    origin = _target(facts, manifests, number)
    names = _names(facts, manifests[origin].pool, found.runs)
    files = staging.get(ports.host, site.nginx, origin)
    _refuse_damaged(origin, files, manifests[origin])
    manifest = _copy_manifest(ports, ask, names, of=manifests[origin], name=names.to)
    ask = Ask(run=ask.run, command=ask.command, pool=manifest.pool, reason=ask.reason, user=ask.user, skips=ROLLBACK_SKIPS)
    return Job(
        site=site,
        plan=planning.plan(ask, names, copy_of=origin, can_drain=can_drain(site, facts)),
        facts=facts,
        files=planning.with_manifest(planning.copied(files, of=origin, name=names.to), manifest),
        back_files=_way_back(ports, site, ask, found=found, names=names),
        new=(),
        old=(),
        addresses=manifest.addresses,
    )


def can_drain(site: Site, facts: Facts) -> bool:
    """Draining has an effect where nginx needs the flag and a location that serves our upstreams tests it."""
    if site.nginx.drain <= 0 or not facts.build.needs_drain_flag:
        return False
    locations = nginxconf.proxied_locations(facts.conf, [upstream.name for upstream in site.upstreams])
    return any(location.drain_flag == site.nginx.drain_flag for location in locations)


def is_unchanged(host: Host, job: Job) -> bool:
    """Whether the switch would change nothing: the same pool, the same tokens, and both on disk and running."""
    plan, facts = job.plan, job.facts
    if plan.pool != plan.former_pool or facts.disk.drift:
        return False
    live = staging.get(host, job.site.nginx, plan.former)
    new = {name: data for name, data in job.files.items() if name.endswith(".conf")}
    return planning.is_same(new, live, names=(plan.to, plan.former))


def diff(host: Host, job: Job) -> str:
    """What would change in the files that nginx reads, as a unified diff."""
    plan = job.plan
    live = staging.get(host, job.site.nginx, plan.former)
    names = sorted(name for name in live.keys() | job.files.keys() if name.endswith(".conf"))
    lines: list[str] = []
    for name in names:
        old, new = (files.get(name, b"").decode("utf-8", "replace").splitlines(keepends=True) for files in (live, job.files))
        lines += difflib.unified_diff(old, new, f"{plan.former}/{name}", f"{plan.to}/{name}")
    return "".join(lines)


def _names(facts: Facts, pool: str, runs: tuple[Run, ...]) -> Names:
    live = generation.parse_name(facts.disk.live)
    if live is None:
        raise ValueError(f"no live generation: {facts.disk.live}")  # preflight refuses it before
    return planning.names(live, pool, present=facts.disk.generations, runs=runs)


def _rendered(site: Site, to: str, found: Found) -> dict[str, bytes]:
    from upswitch.core.render import RenderError, render  # noqa: PLC0415  (jinja2 takes 60 ms; only a switch needs it)

    name = generation.parse_name(to)
    if name is None:
        highest = found.facts.disk.generations[-1].name
        raise RefusedError(Refusal(what=f"no number is left above generation {highest}", hint="remove that folder: it is not ours"))
    rendering = planning.rendering(site.nginx, found.facts.build, found.facts.conf, name)
    try:
        return planning.encoded(render(site, rendering, found.templates))
    except RenderError as exc:
        raise RefusedError(Refusal(what=f"template {exc}", hint="mend the template")) from exc


def _way_back(ports: Ports, site: Site, ask: Ask, *, found: Found, names: Names) -> dict[str, bytes]:
    """The live files under the way back's name, byte for byte, however they came to be what they are."""
    live = staging.get(ports.host, site.nginx, names.former)
    of = found.facts.disk.manifest or Manifest(name=names.former, pool=names.former_pool, sha256={})
    manifest = _copy_manifest(ports, ask, names, of=of, name=names.back)
    return planning.with_manifest(planning.copied(live, of=names.former, name=names.back), manifest)


def _copy_manifest(ports: Ports, ask: Ask, names: Names, *, of: Manifest, name: str) -> Manifest:
    return Manifest(
        name=name,
        pool=of.pool,
        sha256={},
        replaces=names.to if name == names.back else names.former,
        copy_of=of.name,
        made_by=ask.run,
        made_at=ports.clock.now(),
        servers=of.servers,
        marker=of.marker,
        pid_file=of.pid_file,
        error_log=of.error_log,
    )


def _target(facts: Facts, manifests: Mapping[str, Manifest], number: int | None) -> str:
    have = ", ".join(sorted(manifests))
    if number is None:
        found = generation.way_back(facts.disk.live, manifests)
        if found is None:
            live = manifests.get(facts.disk.live)
            hint = f"name a generation with --to N, or `switch --to POOL`; here are {have}"
            why = (
                f"{facts.disk.live} is a way back itself, to what {live.copy_of} was"
                if live and live.copy_of
                else "it is the first"
            )
            raise RefusedError(Refusal(what=f"nothing safe was live before {facts.disk.live}: {why}", hint=hint))
        return found
    for name in manifests:
        generation_ = generation.parse_name(name)
        if generation_ is not None and generation_.number == number:
            return name
    raise RefusedError(Refusal(what=f"--to {number}: no such generation", hint=f"here are {have}"))


def _refuse_damaged(name: str, files: Mapping[str, bytes], manifest: Manifest) -> None:
    damaged = [file for file, digest in manifest.sha256.items() if generation.digest(files.get(file, b"")) != digest]
    if damaged:
        what = f"generation {name} is not as it was staged: {', '.join(damaged)}"
        raise RefusedError(Refusal(what=what, hint="choose another one with --to N"))

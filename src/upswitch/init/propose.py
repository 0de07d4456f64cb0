"""`upswitch init`: proposing a first use. It only reads; init/apply.py does what was proposed."""

import msgspec

from upswitch.basics.errors import NginxBrokenError, Refusal, RefusedError
from upswitch.basics.value import Value
from upswitch.generations import generation, survey
from upswitch.generations.check_lines import trusting
from upswitch.generations.generation import File, Manifest
from upswitch.generations.survey import Facts
from upswitch.health.gate import rounds
from upswitch.hosts.host import Host, Ports
from upswitch.init import adopt, obstacles
from upswitch.init.adopt import Adoption, AdoptRefused, Candidate, Edit
from upswitch.init.proposal import InitRequest, Proposal
from upswitch.nginx import advice, conf_logs, running
from upswitch.nginx.build import BuildError
from upswitch.nginx.dump import DumpError, NginxConf
from upswitch.site.model import Nginx, Site
from upswitch.site.read import SiteInvalid, parse_site
from upswitch.site.words import Generation
from upswitch.switch import planning
from upswitch.switch.journal import journal_of

MADE_BY = "init"
_LOOK = 5.0  # seconds for a script that only looks


def propose(ports: Ports, request: InitRequest, templates: dict[str, str]) -> Proposal:
    """Read nginx and work the first use out. RefusedError says everything that stands against it."""
    facts = read_facts(ports.host, request.nginx)
    adoption = _adoption(ports.host, request, facts)
    site = _site(adoption.site_text)
    edit, notes = _resolved(ports.host, adoption.edit)
    name = _first_generation(ports.host, site, request.pool, facts)
    proposal = Proposal(
        request=request,
        site=site,
        site_text=adoption.site_text,
        generation=name.name,
        files=_files(ports, site, facts, _Material(name=name, adopted=adoption.files, templates=templates)),
        edit=edit,
        diff=adopt.diff(edit.old, edit.new, edit.path),
        backup=_backup(facts.conf, edit.path),
        leftover=_leftover(facts),
        notes=notes,
    )
    refuse_if(obstacles.found(ports.host, proposal, facts))
    return _advised(proposal, facts, templates)


def read_facts(host: Host, nginx: Nginx) -> Facts:
    """The host as it is; RefusedError where nginx's own configuration can't be read."""
    try:
        return survey.survey(host, nginx, ())
    except (NginxBrokenError, BuildError, DumpError) as exc:
        hint = f"nothing was changed; mend it until `{nginx.binary} -t` passes, or name another --nginx-conf"
        raise RefusedError(Refusal(what=f"nginx -T can't be read: {exc}", hint=hint)) from exc


def refuse_if(refusals: tuple[Refusal, ...]) -> None:
    if refusals:
        raise RefusedError(*refusals)


# ---- reading ----


def _adoption(host: Host, request: InitRequest, facts: Facts) -> Adoption:
    try:
        return adopt.adopt(facts.conf, _candidates(host, request), nginx=request.nginx)
    except AdoptRefused as exc:
        hint = (
            "nothing was changed; where it is adopted already: `nginx -s reload` if it has not been since, then `upswitch status`"
        )
        raise RefusedError(Refusal(what=str(exc), hint=hint)) from exc


def _candidates(host: Host, request: InitRequest) -> tuple[Candidate, ...]:
    """The `--from` file and its siblings. One in another encoding than UTF-8 would not come out as it went in."""
    path = request.from_path
    source = _text(host, path)
    if source is None:
        hint = "give --from the file that holds the upstream block and that nginx includes"
        raise RefusedError(Refusal(what=f"{path} does not exist or is not UTF-8", hint=hint))
    folder = path.rpartition("/")[0] or "/"
    listing = host.run(("ls", "-1", folder), deadline=_LOOK).out.decode("utf-8", "replace").splitlines()
    siblings = adopt.sibling_names(path, request.pool, listing)
    found = ((pool, sibling, _text(host, sibling)) for pool, sibling in siblings.items())
    others = (Candidate(pool=pool, path=sibling, text=text) for pool, sibling, text in found if text is not None)
    return (Candidate(pool=request.pool, path=path, text=source), *others)


def _text(host: Host, path: str) -> str | None:
    chunk = host.read(path)
    try:
        return chunk.data.decode() if chunk else None
    except UnicodeDecodeError:
        return None


def _site(text: str) -> Site:
    """The proposed site file has to be one that every other command can read."""
    try:
        return parse_site(text)
    except SiteInvalid as exc:
        hint = "the site file can't hold this; change the upstream file or the option, and run init again"
        raise RefusedError(*(Refusal(what=problem.text, hint=hint) for problem in exc.problems)) from exc


def _resolved(host: Host, edit: Edit) -> tuple[Edit, tuple[str, ...]]:
    """The edit of the file itself: a symlink stays one."""
    (found,) = obstacles.kinds(host, edit.path)
    if found.real == edit.path:
        return edit, ()
    return msgspec.structs.replace(edit, path=found.real), (f"{edit.path} leads to {found.real}: that file is edited",)


def _leftover(facts: Facts) -> str:
    """The first generation of an init that was killed before nginx knew of it (adopt refuses where it does)."""
    manifest = facts.disk.manifest
    return facts.disk.live if manifest is not None and manifest.made_by == MADE_BY else ""


# ---- making ----


class _Material(Value):
    """What a first generation is made of."""

    name: Generation
    adopted: tuple[File, ...]
    templates: dict[str, str]


def _first_generation(host: Host, site: Site, pool: str, facts: Facts) -> Generation:
    """000001-POOL, or above every number that was ever used here."""
    runs = journal_of(host, site.nginx).read()
    return Generation(number=planning.next_number(facts.disk.generations, runs), pool=pool)


def _files(ports: Ports, site: Site, facts: Facts, material: _Material) -> dict[str, bytes]:
    """The owner's own text, our marker, and the manifest. What serves is trusted (checklines.py)."""
    from upswitch.generations.render import RenderError, render_ours  # noqa: PLC0415  (jinja2 takes 60 ms; only init needs it here)

    name = material.name
    rendering = generation.rendering(site.nginx, facts.build, facts.conf, name, dialect=facts.dialect)
    try:
        ours = render_ours(site, rendering, material.templates)
    except RenderError as exc:
        raise RefusedError(
            Refusal(what=f"template {exc}", hint="the packaged templates are damaged: install upswitch again")
        ) from exc
    served = _only(site, name.pool)
    adopted = [File(name=each.name, text=trusting(each.text)) for each in material.adopted]
    manifest = Manifest(
        name=name.name,
        pool=name.pool,
        sha256={},
        made_by=MADE_BY,
        made_at=ports.clock.now(),
        servers=rounds.servers(served, name.pool, running.resolve_names(ports.host, served, name.pool)),
        marker=site.nginx.marker,
        pid_file=facts.pid_file,
        error_log=facts.error_log,
    )
    return generation.with_manifest(generation.encoded((*adopted, *ours)), manifest)


def _only(site: Site, pool: str) -> Site:
    """The site with one pool: a name of another pool that does not resolve says nothing about this one."""
    replace = msgspec.structs.replace
    upstreams = (replace(each, pools=tuple(one for one in each.pools if one.name == pool)) for each in site.upstreams)
    return replace(site, upstreams=tuple(upstreams))


def _backup(conf: NginxConf, path: str) -> str:
    """Beside the file, under a name that no include of nginx reads: a pattern such as `sites-enabled/*` would."""
    folder, _, name = path.rpartition("/")
    visible = f"{folder}/{name}.upswitch-backup"
    return visible if obstacles.reader(conf, visible) is None else f"{folder}/.{name}.upswitch-backup"


def _advised(proposal: Proposal, facts: Facts, templates: dict[str, str]) -> Proposal:
    from upswitch.generations.render import render_drain_snippets  # noqa: PLC0415  (as above)

    site = proposal.site
    names = [upstream.name for upstream in site.upstreams]
    undrained = advice.undrained(facts.conf, facts.build, names, flag=site.nginx.drain_flag)
    needed = {place.upstream for place in undrained}
    logs = tuple(log.path for log in advice.own_logs(facts.conf, facts.build, names) if advice.lacks_generation(log))
    has_format = advice.LOG_FORMAT_NAME in conf_logs.log_formats(facts.conf)
    wanted = msgspec.structs.replace(site, upstreams=tuple(each for each in site.upstreams if each.name in needed))
    return msgspec.structs.replace(
        proposal,
        snippets=render_drain_snippets(wanted, templates) if needed else (),
        undrained=undrained,
        log_format=advice.log_format_line() if logs and not has_format else "",
        logs=logs,
    )

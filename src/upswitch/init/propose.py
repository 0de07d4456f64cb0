"""`upswitch init` without --apply: reads the host, proposes a first use, and refuses where something stands against it."""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from upswitch.basics.errors import HostError, NginxBrokenError, Refusal, RefusedError
from upswitch.basics.text import printable
from upswitch.generations import generation, survey
from upswitch.generations.check_lines import trusting
from upswitch.generations.generation import File, Manifest
from upswitch.generations.survey import Facts
from upswitch.health import rounds
from upswitch.hosts.host import Host, Ports
from upswitch.hosts.sh import QUICK_S, SH, script
from upswitch.init import adopt, bound, edits, places, pools
from upswitch.init.adopt import Chosen, InitRequest, Proposal
from upswitch.init.edits import Edit
from upswitch.init.places import AdoptRefused
from upswitch.init.pools import Candidate, other_pool, sibling_names
from upswitch.logs import coverage
from upswitch.nginx import commands, conf_logs, configuration, drain_compare, running
from upswitch.nginx.build import Build
from upswitch.nginx.drain_lines import DrainLines
from upswitch.nginx.dump import NginxConf, matches_include
from upswitch.site.model import Generation, Nginx, Site
from upswitch.site.names import prefix_of
from upswitch.site.read import SiteInvalid, parse_site
from upswitch.switch.job import next_number
from upswitch.switch.journal import journal_of
from upswitch.switch.session import RunPorts

MADE_BY = "init"
BACKUP = ".upswitch-backup"
_ANEW = ". The next release brings that file anew: make the same change where it comes from"
_FIELDS = 3
_SLASHES = re.compile("unix:/{2,}")
_NAMED = re.compile(r"[\w.-]+=")


def program(function: str, *words: str) -> tuple[str, ...]:
    """A function of apply.sh."""
    return (*SH, script("upswitch.init", "apply.sh"), function, *words)


def propose(ports: RunPorts, request: InitRequest, templates: dict[str, str]) -> Proposal:
    """Work a first use out. It writes nothing. RefusedError has everything that stands against it."""
    facts = read_facts(ports.host, request.nginx)
    try:
        chosen, source = _chosen(ports.host, request, facts.conf)
        adoption = adopt.adopt(facts.conf, request, chosen, _candidates(ports.host, request, facts.conf, chosen, source=source))
    except AdoptRefused as exc:
        hint = "nothing was changed; if this nginx was adopted before, reload it and run `upswitch status`"
        raise RefusedError(Refusal(what=str(exc), hint=hint)) from exc
    site = _site(adoption.site_text)
    after = edits.edited(facts.conf, adoption.edits, {f"{site.nginx.live}/{each.name}": each.text for each in adoption.files})
    all_edits, drain_lines = _edits(request, adoption.edits, after, site=site, build=facts.build)
    after = edits.edited(after, all_edits, {})
    logged = bound.proposed(ports.host, request.log, all_edits, after, site=site, facts=facts)
    all_edits, notes = resolved(ports.host, facts.conf, logged.edits)
    runs = journal_of(ports.host, site.nginx).read()
    name = Generation(number=next_number(facts.disk.generations, runs), pool=request.pool)
    proposal = Proposal(
        request=request,
        site=site,
        site_text=adoption.site_text,
        generation=name.name,
        files=_files(ports, site, facts, name=name, adopted=adoption.files, templates=templates),
        edits=all_edits,
        diff="".join(edits.diff(edit.old, edit.new, edit.path) for edit in all_edits),
        drain_lines=drain_lines,
        leftover=_leftover(facts),
        own_log=logged,
        notes=(*chosen.notes, *notes, *_generated(facts.conf, adoption.edits), *logged.notes),
        after=edits.edited(after, logged.edits, {}),
    )
    refuse_obstacles(ports, proposal, facts)
    return _advised(proposal, facts)


# ---- reading ----


def read_facts(host: Host, nginx: Nginx) -> Facts:
    """The host as it is. RefusedError where nginx's own configuration can't be read."""
    try:
        return survey.survey(host, nginx, ())
    except NginxBrokenError as exc:
        raise unreadable(nginx, exc) from exc


def unreadable(nginx: Nginx, error: NginxBrokenError) -> RefusedError:
    """nginx's own configuration can't be read."""
    hint = f"nothing was changed; fix it until `{commands.test_line(nginx)}` passes, or name another file with --nginx-conf"
    return RefusedError(Refusal(what=f"nginx's configuration can't be read by `nginx -T`: {error}", hint=hint))


def _chosen(host: Host, request: InitRequest, conf: NginxConf) -> tuple[Chosen, str]:
    """What the request is about, and where its file really lies: `active.conf` may be a link to the file of a pool."""
    if not request.from_path:
        return adopt.choose(conf, request, None), ""
    text = text_of(host, request.from_path)
    if text is None:
        hint = "give --from the file that holds the upstream block and that nginx includes"
        raise RefusedError(Refusal(what=f"{request.from_path} does not exist or is not UTF-8", hint=hint))
    real = real_paths(host, [request.from_path, *(each.path for each in conf.files)])
    return adopt.choose(conf, request, adopt.read_by_nginx(conf, request, text, real)), real[request.from_path]


def _candidates(host: Host, request: InitRequest, conf: NginxConf, chosen: Chosen, *, source: str) -> tuple[Candidate, ...]:
    """What may hold the other pools: files named like this one's but for the pool, or what `--other` names."""
    if request.others:
        return tuple(_other(host, request, conf, [part.name for part in chosen.parts], given=each) for each in request.others)
    return tuple(each for path, name in chosen.beside for each in _siblings(host, request, source or path, upstream=name))


def _siblings(host: Host, request: InitRequest, path: str, *, upstream: str) -> Iterator[Candidate]:
    """A symlink is no pool of its own, and a file that is not UTF-8 is none: it would not be written back as it was."""
    real = real_paths(host, [path])[path]
    folder = posixpath.dirname(real)
    listing = host.run(("ls", "-1", folder), deadline=QUICK_S).out.decode("utf-8", "replace").splitlines()
    siblings = sibling_names(real, request.pool, listing)
    seen = real_paths(host, siblings.values())
    for pool, sibling in siblings.items():
        text = text_of(host, sibling) if posixpath.basename(seen[sibling]) == posixpath.basename(sibling) else None
        if text is not None:
            yield Candidate(pool=pool, path=sibling, text=text, upstream=upstream)


def _other(host: Host, request: InitRequest, conf: NginxConf, names: list[str], *, given: str) -> Candidate:
    """What `--other` names: [NAME=]WHAT, and WHAT is servers, an upstream of nginx's, or a file of upstream blocks or of servers.

    NAME is one of the site's upstreams, or else a name for the other pool.
    """
    first, _, rest = given.partition("=")
    first, value = (first, rest) if first in names or _NAMED.match(given) else ("", given)
    name = first if first in names else names[0] if len(names) == 1 else ""
    pool = other_pool(request.pool) if first in ("", *names) else first
    if pool == request.pool:
        raise AdoptRefused(f"--other {given}: {pool} is the live pool; give the other one another name, such as {other_pool(pool)}")
    block = next((each for each in configuration.upstream_blocks(conf) if each.args[0].lower() == value.lower()), None)
    if block is not None and name:
        text = places.part_of(conf, block, "", {}).text
        return Candidate(pool=pool, path=f"upstream {value}", text=text[text.index("{") + 1 : text.rindex("}")], upstream=name)
    if value.startswith("/"):
        return _other_file(host, pool, value, name)
    if not name:
        raise AdoptRefused(f"--other {given}: say which upstream the servers are for, as in {names[0]}={value}")
    servers = "".join(f"server {each.strip()};" for each in value.split(","))
    if re.search(r"[{}\n\"']", value):
        raise AdoptRefused(f"--other {given}: must be servers, separated by commas, such as 127.0.0.1:8002,127.0.0.1:8003")
    return Candidate(pool=pool, path="--other", text=servers, upstream=name)


def _other_file(host: Host, pool: str, path: str, name: str) -> Candidate:
    text = text_of(host, path)
    if text is None:
        raise AdoptRefused(f"--other {path}: the file does not exist or is not UTF-8")
    inside = pools.inside_of_only(text) if name else ""  # its upstream may have the other pool's name: app_green
    return Candidate(pool=pool, path=path, text=inside or text, upstream=name if inside or not adopt.first_upstream(text) else "")


def real_paths(host: Host, paths: Iterable[str]) -> Mapping[str, str]:
    """Where each path really lies, with its symlinks followed."""
    wanted = list(dict.fromkeys(paths))
    return {path: real for path, (_, _, real) in zip(wanted, kinds(host, wanted), strict=True)}


def text_of(host: Host, path: str) -> str | None:
    """The text of a file; None where there is none, or where it is not UTF-8."""
    chunk = host.read(path)
    try:
        return chunk.data.decode() if chunk else None
    except UnicodeDecodeError:
        return None


def _kind(host: Host, path: str) -> tuple[str, int, str]:
    """What a path is: none, link, file or other; how many names the file has; where it really lies."""
    return kinds(host, [path])[0]


def kinds(host: Host, paths: list[str]) -> list[tuple[str, int, str]]:
    """The same of several paths."""
    if not paths:
        return []
    ran = host.run(program("kinds", *paths), deadline=QUICK_S)
    lines = [line.split(" ", _FIELDS - 1) for line in ran.out.decode("utf-8", "surrogateescape").splitlines()]
    if ran.exit != 0 or len(lines) != len(paths) or any(len(line) != _FIELDS for line in lines):
        raise HostError(f"look at {', '.join(paths[:3])}", printable(ran.err))
    return [(kind, int(names), real) for kind, names, real in lines]


# ---- proposing ----


def _site(text: str) -> Site:
    """Every other command must be able to read the proposed site file."""
    try:
        return parse_site(text)
    except SiteInvalid as exc:
        hint = "the site file can't hold this; change the upstream file or the option, then run init again"
        raise RefusedError(*(Refusal(what=problem.text, hint=hint) for problem in exc.problems)) from exc


def _edits(
    request: InitRequest, wanted: tuple[Edit, ...], after: NginxConf, *, site: Site, build: Build
) -> tuple[tuple[Edit, ...], tuple[DrainLines, ...]]:
    """The edits, and the drain lines that are left for the owner."""
    names, flag = [upstream.name for upstream in site.upstreams], site.nginx.drain_flag
    if not request.drain_lines:
        return wanted, drain_compare.advice(after, build, names, flag=flag)
    try:
        return edits.with_drain_lines(wanted, after, build, names, flag=flag)
    except AdoptRefused as exc:
        raise RefusedError(Refusal(what=str(exc), hint="nothing was changed; run init without --drain-lines")) from exc


def resolved(host: Host, conf: NginxConf, wanted: tuple[Edit, ...]) -> tuple[tuple[Edit, ...], tuple[str, ...]]:
    """The edits of the files themselves, so that a symlink stays one, and where their backups go."""
    found, notes = dict[str, Edit](), list[str]()
    for edit, (kind, _, real) in zip(wanted, kinds(host, [edit.path for edit in wanted]), strict=True):
        replaces_link = kind == "link" and edit.replaces_link
        path = edit.path if replaces_link else real
        if replaces_link:
            notes.append(f"{edit.path} is a symlink to {real}; it becomes a file, and {real} stays as it is")
        elif real != edit.path:
            anew = _ANEW if "/releases/" in real else ""
            notes.append(f"{edit.path} is a symlink; the edit goes into {real}{anew}")
        if real in found:
            what = f"nginx reads {real} by two names, so it can't be edited once for each"
            raise RefusedError(Refusal(what=what, hint="nothing was changed; run init without --drain-lines and with --no-log"))
        found[real] = msgspec.structs.replace(edit, path=path, backup=backup_of(conf, path), replaces_link=replaces_link)
    return tuple(found.values()), tuple(notes)


def _generated(conf: NginxConf, wanted: tuple[Edit, ...]) -> Iterator[str]:
    """The files that a program will write again, without our include."""
    written = configuration.generated(conf)
    for path in (edit.path for edit in wanted if edit.path in written):
        yield f'a program writes {path} ("{written[path]}"): change its template in the same way, or it takes the include out again'


def _leftover(facts: Facts) -> str:
    """The first generation of an init that was killed before nginx loaded it."""
    manifest = facts.disk.manifest
    return facts.disk.live if manifest is not None and manifest.made_by == MADE_BY else ""


def _files(
    ports: Ports, site: Site, facts: Facts, *, name: Generation, adopted: tuple[File, ...], templates: dict[str, str]
) -> dict[str, bytes]:
    """The owner's own text, our marker, and the manifest. These servers serve now, so a check begins with them as up.

    A socket gets the name that the site file has for it, since nginx's log has what is written here.
    """
    from upswitch.generations.render import RenderError, render_ours  # noqa: PLC0415  (jinja2 takes 60 ms; only init needs it here)

    rendering = generation.rendering(site, facts.build, facts.conf, name, dialect=facts.dialect)
    try:
        ours = render_ours(site, rendering, templates)
    except RenderError as exc:
        hint = "the packaged templates are damaged: install upswitch again"
        raise RefusedError(Refusal(what=f"template {exc}", hint=hint)) from exc
    served = _only(site, name.pool)
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
        prefix=rendering.prefix,
    )
    theirs = (File(name=each.name, text=_SLASHES.sub("unix:/", trusting(each.text))) for each in adopted)
    return generation.with_manifest(generation.encoded((*theirs, *ours)), manifest)


def _only(site: Site, pool: str) -> Site:
    """The site with one pool: a name of another pool that does not resolve says nothing about this one."""
    replace = msgspec.structs.replace
    upstreams = (replace(each, pools=tuple(one for one in each.pools if one.name == pool)) for each in site.upstreams)
    return replace(site, upstreams=tuple(upstreams))


def backup_of(conf: NginxConf, path: str) -> str:
    """Beside the file, under a name that no include of nginx matches (`sites-enabled/*` would)."""
    folder, _, name = path.rpartition("/")
    visible = f"{folder}/{name}{BACKUP}"
    return visible if _reader(conf, visible) is None else f"{folder}/.{name}{BACKUP}"


def _advised(proposal: Proposal, facts: Facts) -> Proposal:
    """With what the owner should add by hand."""
    site = proposal.site
    names = [upstream.name for upstream in site.upstreams]
    prefix = prefix_of(site.name)
    own = conf_logs.own_logs(proposal.after, facts.build, names, live=site.nginx.live, otherwise=prefix)
    logs = tuple(log for log in coverage.distinct(own) if conf_logs.lacks_generation(log))
    others = dict.fromkeys(other for log in logs for other in log.others)
    return msgspec.structs.replace(
        proposal,
        log_format=conf_logs.log_format_line(prefix, others) if logs and prefix not in conf_logs.log_formats(facts.conf) else "",
        logs=tuple(log.path for log in logs),
    )


# ---- what stands against it: nothing that init leaves on the host may keep nginx from starting ----


def refuse_obstacles(ports: RunPorts, proposal: Proposal, facts: Facts) -> None:
    """RefusedError has everything that stands against the proposal on this host now. apply.py asks again under the lock."""
    host = ports.host
    obstacles = (
        *_marker_obstacle(host, proposal.site.nginx),
        *_live_obstacle(host, proposal, facts),
        *_out_obstacle(ports.home, proposal),
        *(obstacle for edit in proposal.edits for obstacle in edit_obstacle(host, edit)),
        *_include_obstacles(facts.conf, proposal),
    )
    if obstacles:
        raise RefusedError(*obstacles)


def _marker_obstacle(host: Host, nginx: Nginx) -> Iterator[Refusal]:
    """Another listener on the marker would keep nginx from starting. Only a refused connection proves that there is none."""
    hint = "choose another loopback address and port with --marker"
    try:
        host.connect(nginx.marker, timeout=running.MARKER_S).close()
    except ConnectionRefusedError:
        return
    except OSError as exc:
        yield Refusal(what=f"the marker address {nginx.marker} can't be used: {exc.strerror or exc}", hint=hint)
    else:
        yield Refusal(what=f"another program listens on the marker address {nginx.marker}", hint=hint)


def _live_obstacle(host: Host, proposal: Proposal, facts: Facts) -> Iterator[Refusal]:
    live = proposal.site.nginx.live
    kind, _, _ = _kind(host, live)
    if kind != "none" and (not proposal.leftover or facts.disk.live != proposal.leftover):
        yield Refusal(what=f"{live} exists, and init did not make it", hint="choose another folder with --dir")
    elif any(each.name == proposal.generation for each in facts.disk.generations):
        yield Refusal(what=f"generation {proposal.generation} was made meanwhile", hint="run init again")


def _out_obstacle(home: Host, proposal: Proposal) -> Iterator[Refusal]:
    """A file with the very same bytes is no obstacle: a killed init left it."""
    out = proposal.request.out
    chunk = home.read(out)
    if chunk is not None and chunk.data != proposal.site_text.encode():
        hint = "choose another file with --out, or another name with --name"
        yield Refusal(what=f"{out} exists, and init overwrites no site file", hint=hint)


def edit_obstacle(host: Host, edit: Edit) -> Iterator[Refusal]:
    """Why a file can't be edited."""
    _, names, _ = _kind(host, edit.path)
    chunk = host.read(edit.path)
    if names > 1:
        what = f"{edit.path} is a file with {names} names (hard links): the edit would not reach the others"
        yield Refusal(what=what, hint="make it a file of its own, then run init again")
    elif chunk is None or chunk.data != edit.old.encode():
        what = f"{edit.path} is not on disk as nginx -T showed it: it has changed since, or it is not UTF-8"
        yield Refusal(what=what, hint="run init again; if the file is not UTF-8, edit it by hand as the diff shows")


def _include_obstacles(conf: NginxConf, proposal: Proposal) -> Iterator[Refusal]:
    """No include of the owner's may match a file of ours: nginx would fail on it at its next start."""
    nginx = proposal.site.nginx
    ours = {
        proposal.request.out: "--out",
        nginx.dir: "--dir",
        nginx.live: "--dir",
        f"{nginx.live}/{generation.MARKER}": "--dir",
        nginx.state: "--state",
    }
    for path, option in ours.items():
        place = _reader(conf, path)
        if place:
            yield Refusal(what=f"the include at {place} would make nginx read {path}", hint=f"choose another place with {option}")


def _reader(conf: NginxConf, path: str) -> str | None:
    """Where the include stands that would read `path`."""
    return next((each.place for each in configuration.includes(conf.tree) if matches_include(conf.includes(each), path)), None)

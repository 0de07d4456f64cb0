"""What a first use of upswitch changes: the proposal as values, and how it is worked out. Nothing here acts.

The upstreams of the new site are cut out of nginx's own files (places.py), the include of the live generation comes in their place,
and the first generation holds them as they were. Every other byte stays, and nginx serves the same servers before and after. Two
upstreams that differ by their pool alone (app_blue, app_green) become one: what named the live one names the new one then. What
can't be changed so is refused, with what to do about it.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from upswitch.basics.value import Value
from upswitch.generations.generation import File
from upswitch.init import places
from upswitch.init.edits import Edit, edited
from upswitch.init.own_log import OwnLog, WantsLog
from upswitch.init.places import AdoptRefused, Part, Splice
from upswitch.init.pools import Candidate, pools_of, sibling_upstreams
from upswitch.init.site_text import site_text
from upswitch.nginx.configuration import includes_live, lives, upstream_blocks
from upswitch.nginx.drain_lines import DrainLines
from upswitch.nginx.dump import ConfFile, Directive, NginxConf
from upswitch.nginx.statements import StatementError
from upswitch.nginx.upstream_file import UpstreamBlock, read_upstreams
from upswitch.site.model import Nginx, Site
from upswitch.site.server_line import identity, parse_server

_FIRST = re.compile(r"""(?<![^\s;{}])upstream\s+["']?([^\s;{}"']+)["']?\s*\{""")


class InitRequest(Value):
    """What the owner asks for. Paths are absolute. `pool` is the one that serves now, from `from_path` or in `upstreams`.

    `upstreams` are names, or addresses that a pass names itself; none: all of `from_path`. `others`: what holds the other pool.
    `name` is the site's, "" for a site without one. `drain_lines`: write those too.
    """

    from_path: str
    pool: str
    nginx: Nginx
    out: str
    name: str = ""
    drain_lines: bool = False
    log: WantsLog = WantsLog.NO
    upstreams: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class Chosen(Value):
    """The upstreams of the new site as they stand in nginx now, and what changes there.

    `files` are of the first generation. `pairs` are other pools that nginx has as upstreams of their own. `beside` are the files
    whose siblings may hold other pools, each with the upstream that it holds the servers of, "" where it holds whole blocks.
    """

    source: str
    parts: tuple[Part, ...]
    changes: tuple[Splice, ...]
    files: tuple[File, ...]
    pairs: tuple[Candidate, ...] = ()
    beside: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


class Adoption(Value):
    """The site file's text, the first generation's files (without the marker), and the edits."""

    site_text: str
    files: tuple[File, ...]
    edits: tuple[Edit, ...]


class Proposal(Value):
    """Everything that `init --apply` would write, and what the owner should add by hand.

    `edits` has the one of the adoption first; a path is the file itself, not a symlink to it. `files` is the whole first
    generation. `leftover` is the generation that a killed init left live, or "". `drain_lines` are those that the owner must add.
    `log_format` is a line to add, "" where the log has the generation already; `logs` are the access logs that should use it.
    `own_log` is the log that is added. `notes` are sentences for the owner.
    `after` is nginx's configuration with the edits and the first generation.
    """

    request: InitRequest
    site: Site
    site_text: str
    generation: str
    files: dict[str, bytes]
    edits: tuple[Edit, ...]
    diff: str
    leftover: str = ""
    drain_lines: tuple[DrainLines, ...] = ()
    log_format: str = ""
    logs: tuple[str, ...] = ()
    own_log: OwnLog = OwnLog(path="", edits=())
    notes: tuple[str, ...] = ()
    after: NginxConf = NginxConf(files=(), tree=())

    @property
    def backup(self) -> str:
        """Where the file of the adoption is kept as it was."""
        return self.edits[0].backup


def read_by_nginx(conf: NginxConf, request: InitRequest, text: str, real: Mapping[str, str]) -> ConfFile:
    """The `--from` file as nginx reads it, maybe through a symlink: `real` has where paths really lie. AdoptRefused."""
    _refuse_adopted(conf, request.nginx)
    path = request.from_path
    file = next((each for each in conf.files if real.get(each.path, each.path) == real.get(path, path)), None)
    if file is None:
        twin = next((each.path for each in conf.files if each.text == text), None)
        hint = f"nginx reads the same text as {twin}: give that path" if twin else f"include it in the http block of {conf.path}"
        raise AdoptRefused(f"nginx does not read {path}; {hint}")
    if file.text != text:
        raise AdoptRefused(f"{path} has changed since nginx -T read it; run init again")
    return file


def choose(conf: NginxConf, request: InitRequest, source: ConfFile | None) -> Chosen:
    """What the request is about. `source` is its file as nginx reads it. AdoptRefused where it can't be adopted."""
    _refuse_adopted(conf, request.nginx)
    if source is not None and (live := _live_of(conf, source.path)) is not None:
        raise AdoptRefused(f"{source.path} belongs to a site that upswitch manages already: {live} is its live generation")
    try:
        if addresses := [each for each in request.upstreams if places.is_address(conf, each)]:
            return _made(conf, request, addresses)
        return _chosen(conf, request, source)
    except StatementError as exc:
        raise AdoptRefused(f"{source.path if source else conf.path} can't be read: {exc}") from exc


def adopt(conf: NginxConf, request: InitRequest, chosen: Chosen, candidates: Iterable[Candidate]) -> Adoption:
    """The adoption of what was chosen. `candidates` hold the other pools."""
    own = tuple(msgspec.structs.replace(part.upstream, name=part.name) for part in chosen.parts)
    pools, remarks = pools_of(chosen.source, request.pool, own, (*chosen.pairs, *candidates))
    _refuse_shared(pools, {part.name: part.place for part in chosen.parts})
    return Adoption(
        site_text=site_text(chosen.source, pools, request.nginx, name=request.name, remarks=remarks),
        files=chosen.files,
        edits=tuple(_edits(conf, chosen.changes)),
    )


def _refuse_shared(pools: Mapping[str, tuple[UpstreamBlock, ...]], places_of: Mapping[str, str]) -> None:
    """Each pool as the other's backup, say: neither nginx's log nor a health check could tell whose answer came (site/read.py)."""
    (live, own), *others = pools.items()
    mine = [(block.name, line) for block in own for line in block.servers]
    for pool, other in ((pool, line) for pool, blocks in others for block in blocks for line in block.servers):
        for name, line in mine:
            if _is_shared(line, other):
                place = places_of[name]
                is_off = {"backup", "down"} & {*line.split()}
                extra, where = (line, f"pool {live} at {place}") if is_off else (other, f"pool {pool}")
                both = f"upstream {name} would have {other.split()[0]} in both pools ({live} and {pool})"
                removal = f"Remove `server {extra};` from the block of {where}, reload nginx, then run init again"
                raise AdoptRefused(f"{place}: {both}. {removal}")


def _is_shared(one: str, other: str) -> bool:
    """Whether two `server` lines name one server. The pools may share a server that is the backup of each."""
    try:
        servers = parse_server(one), parse_server(other)
    except ValueError:
        return False  # refused with the site file, by its key
    return identity(servers[0]) == identity(servers[1]) and not all("backup" in each.params for each in servers)


def first_upstream(text: str) -> str:
    """The name of the first upstream in a file that holds one, "" for none. The file may be unreadable in other places."""
    found = _FIRST.search(re.sub(r"#.*", "", text))
    return found[1] if found else ""


def _refuse_adopted(conf: NginxConf, nginx: Nginx) -> None:
    already = includes_live(conf, nginx.include)
    if already is not None:
        raise AdoptRefused(f"this nginx was adopted before: {already.place} includes {nginx.include}")


def _live_of(conf: NginxConf, path: str) -> str | None:
    """The live link of the site that a file belongs to; None where it belongs to none."""
    return next((live for live in lives(conf) if posixpath.normpath(path).startswith(f"{posixpath.dirname(live)}/")), None)


def _include(nginx: Nginx) -> str:
    return f"include {nginx.include};"


def _chosen(conf: NginxConf, request: InitRequest, source: ConfFile | None) -> Chosen:
    blocks = places.blocks_in(conf, source) if source else places.blocks_of(conf, request.upstreams)
    if source and request.upstreams:
        wanted = {each.args[0] for each in places.blocks_of(conf, request.upstreams)}
        blocks = [each for each in blocks if each.args[0] in wanted]
    every = [each.args[0] for each in upstream_blocks(conf)]
    paired = {each.args[0]: sibling_upstreams(each.args[0], request.pool, every) for each in blocks}
    others = {name for siblings in paired.values() for name in siblings.values()}
    blocks = [each for each in blocks if each.args[0] not in others]
    parts = tuple(places.part_of(conf, each, request.pool, paired[each.args[0]]) for each in blocks)
    for each in blocks:
        if _live_of(conf, each.file):
            raise AdoptRefused(f"upstream {each.args[0]} belongs to a site that upswitch manages already: see {each.place}")
    for each in blocks:
        _refuse_standby(conf, each.args[0], paired[each.args[0]])
    changes, files = _cut(conf, request, blocks, parts)
    file = source.path if source else blocks[0].file
    return Chosen(
        source=file,
        parts=parts,
        changes=changes,
        files=files,
        pairs=tuple(_pairs(conf, parts, paired)),
        beside=tuple(dict.fromkeys((each.servers_file or file, each.name if each.servers_file else "") for each in parts)),
        notes=tuple(_notes(conf, parts, paired)),
    )


def _refuse_standby(conf: NginxConf, name: str, siblings: Mapping[str, str]) -> None:
    """A pool that no request reaches is not the live one where requests reach the other."""
    reached = {pool: places.reaching(conf, other) for pool, other in siblings.items()}
    if places.reaching(conf, name) is None and any(reached.values()):
        pool, by = next((pool, by) for pool, by in reached.items() if by)
        other = f"upstream {siblings[pool]}, by `{by.text}` at {by.place}"
        raise AdoptRefused(
            f"requests do not reach upstream {name}, but {other}. "
            f"Give the pool that is live now: --upstream {siblings[pool]} --pool {pool}"
        )


def _cut(
    conf: NginxConf, request: InitRequest, blocks: list[Directive], parts: tuple[Part, ...]
) -> tuple[tuple[Splice, ...], tuple[File, ...]]:
    """The changes, the include first, and the files of the first generation."""
    include, file = _include(request.nginx), next(each for each in conf.files if each.path == blocks[0].file)
    renamed = [part for part in parts if part.is_renamed]
    if not renamed and all(each.file == file.path for each in blocks) and places.is_whole(conf, file, blocks):
        return (places.instead_of_include(conf, file, include),), (File(name=_generation_name(file.path), text=file.text),)
    changes = [*places.instead_of_blocks(conf, blocks, include)]
    renamings = [each for part in renamed for each in places.renamings(conf, part.upstream.name, part.name)]
    places.refuse_composed(edited(conf, tuple(_edits(conf, tuple(renamings))), {}), [part.upstream.name for part in renamed])
    files = [File(name=_generation_name(f"{part.name}.conf"), text=_block(part)) for part in parts]
    if any(each.path != file.path for each in renamings):  # nginx must start after each single edit
        files += [File(name=_generation_name(f"{part.upstream.name}.conf"), text=f"{part.text}\n") for part in renamed]
    return (*changes, *renamings), tuple(files)


def _block(part: Part) -> str:
    """The part as a block of its own name."""
    old = re.escape(part.upstream.name)
    return re.sub(rf"^(upstream\s+[\"']?){old}(?=[\"'\s{{])", rf"\g<1>{part.name}", part.text, count=1) + "\n"


def _pairs(conf: NginxConf, parts: tuple[Part, ...], paired: Mapping[str, Mapping[str, str]]) -> Iterator[Candidate]:
    for part in parts:
        for pool, name in paired[part.upstream.name].items():
            other = places.part_of(conf, places.blocks_of(conf, [name])[0], "", {})
            inside = other.text[other.text.index("{") :]
            yield Candidate(pool=pool, path=other.place, text=f"upstream {part.name} {inside}")


def _notes(conf: NginxConf, parts: tuple[Part, ...], paired: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for part in parts:
        if places.reaching(conf, part.upstream.name) is None:
            yield f"nothing passes requests to upstream {part.upstream.name} now, so a switch would change nothing for clients"
        if part.servers_file:
            said = f"upstream {part.upstream.name} at {part.place} includes {part.servers_file}"
            yield f"{said}; the generation holds its servers instead"
        if part.is_renamed:
            yield f"the site's upstream is {part.name}: what named {part.upstream.name} names {part.name} then"
            yield from places.name_notes(conf, part.upstream.name, part.name)
            yield from places.unknown_notes(conf, part.upstream.name, part.name)
        for name in paired.get(part.upstream.name, {}).values():
            block, still = places.blocks_of(conf, [name])[0], places.named(conf, name)
            unused = "and nothing sends requests to it then: remove it, or `upswitch drain` counts it as a use of its servers"
            also = f"and {still[0].place} still sends requests to it" if still else unused
            yield f"upstream {name} stays at {block.place}, {also}"


def _made(conf: NginxConf, request: InitRequest, addresses: list[str]) -> Chosen:
    """An upstream for each address that a pass names itself."""
    if len(addresses) != len(request.upstreams):
        raise AdoptRefused(
            "--upstream names upstream blocks and plain addresses; run init once for the blocks and once for the addresses"
        )
    include = _include(request.nginx)
    parts = tuple(_part(conf, each, _made_name(conf, request, each)) for each in addresses)
    first = places.before_server(conf, addresses[0], include)
    changes = [each for address, part in zip(addresses, parts, strict=True) for each in places.renamings(conf, address, part.name)]
    places.refuse_composed(edited(conf, tuple(_edits(conf, tuple(changes))), {}), addresses)
    return Chosen(
        source=first.path,
        parts=parts,
        changes=(first, *changes),
        files=tuple(File(name=_generation_name(f"{part.name}.conf"), text=f"{part.text}\n") for part in parts),
        notes=tuple(
            note for address, part in zip(addresses, parts, strict=True) for note in places.name_notes(conf, address, part.name)
        ),
    )


def _part(conf: NginxConf, address: str, name: str) -> Part:
    place = next((each.place for each in places.named(conf, address)), conf.path)
    text = f"upstream {name} {{\n    server {address};\n}}"
    return Part(name=name, text=text, upstream=read_upstreams(text).upstreams[0], place=place)


def _made_name(conf: NginxConf, request: InitRequest, address: str) -> str:
    """The site's name where it has one upstream, else one by the port."""
    taken = {each.args[0].lower() for each in upstream_blocks(conf)}
    name = request.name if request.name and len(request.upstreams) == 1 else made_name(address)
    return name if name.lower() not in taken else f"{name}-live"


def made_name(text: str) -> str:
    """A name for the upstream of an address, by its port or its socket. The name of an upstream stays."""
    if not text.startswith("unix:") and ":" not in text:
        return text
    last = text.removesuffix(".sock").rpartition("/" if text.startswith("unix:") else ":")[2]
    return f"app-{re.sub(r'[^A-Za-z0-9]+', '-', last).strip('-')}"


def _edits(conf: NginxConf, changes: tuple[Splice, ...]) -> Iterator[Edit]:
    """The edit of each file, that with the include first."""
    texts = {each.path: each.text for each in conf.files}
    for path in dict.fromkeys(each.path for each in changes):
        new = places.spliced(texts[path], [each for each in changes if each.path == path])
        yield Edit(path=path, old=texts[path], new=new, replaces_link=not places.holds_others(conf.tree, path))


def _generation_name(path: str) -> str:
    """Its own base name where `*.conf` matches that and it is not the marker's, else one like it."""
    name = posixpath.basename(path).lstrip(".")
    name = name if name.endswith(".conf") else f"{name}.conf"
    return f"upstream-{name}" if name == "marker.conf" else name

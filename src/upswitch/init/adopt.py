"""What a first use of upswitch changes: the proposal as values, and how its edits are worked out. Nothing here acts.

Two shapes of configuration can be adopted. Either a file holds nothing but upstreams (upstreamA.conf) and is included by its own
name. Then that include becomes the include of the live generation, and the first generation is the file as it is. Or a file holds
one upstream block among other things (nginx.conf, say). Then the block becomes the include. In both, one statement changes, every
other byte stays, and nginx serves the same servers before and after. Any other shape is refused, with what to do about it.
"""

import difflib
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator

import msgspec

from upswitch.basics.value import Value
from upswitch.generations.generation import File
from upswitch.init.site_text import site_text
from upswitch.nginx import drain_compare, drain_lines
from upswitch.nginx.build import Build
from upswitch.nginx.configuration import includes, includes_live, lives, upstream_blocks
from upswitch.nginx.drain_lines import DrainLines
from upswitch.nginx.dump import ConfFile, Directive, NginxConf, is_glob, matches_include, parse_dump, unescaped
from upswitch.nginx.statements import StatementError, line_span
from upswitch.nginx.upstream_file import UpstreamBlock, read_upstream_at, read_upstreams
from upswitch.site.model import Nginx, Site

_INCLUDE = re.compile(r"""(?<![^\s;{}])include[ \t\r\n]+("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s;"']\S*?)[ \t\r\n]*;""")
_UPSTREAM = re.compile(r"(?<![^\s;{}])upstream[ \t\r\n]")
_FIRST = re.compile(r"""(?<![^\s;{}])upstream\s+["']?([^\s;{}"']+)["']?\s*\{""")
_CLASSES = (r"[A-Z]+", r"[a-z]+", r"[0-9]+", r"[A-Za-z0-9_-]+")


class AdoptRefused(Exception):  # noqa: N818  (an ending that is expected, named as people say it)
    """This configuration can't be adopted as it is. The message says why and what to do."""


class InitRequest(Value):
    """What the owner asks for. Paths are absolute. `pool` is the one that `from_path` holds and that serves now.

    `name` is the site's, "" for a site without one. `drain_lines`: write those too.
    """

    from_path: str
    pool: str
    nginx: Nginx
    out: str
    name: str = ""
    drain_lines: bool = False


class Candidate(Value):
    """A file that may hold a pool, with its whole text."""

    pool: str
    path: str
    text: str


class Edit(Value):
    """A change to a file of nginx's own configuration: its whole text before and after, and where its backup goes."""

    path: str
    old: str
    new: str
    backup: str = ""


class Adoption(Value):
    """The site file's text, the first generation's files (without the marker), and the edit."""

    site_text: str
    files: tuple[File, ...]
    edit: Edit


class Proposal(Value):
    """Everything that `init --apply` would write, and what the owner should add by hand.

    `edits` has the one of the adoption first; a path is the file itself, not a symlink to it. `files` is the whole first
    generation. `leftover` is the generation that a killed init left live, or "". `drain_lines` are those that the owner must add.
    `log_format` is a line to add, "" where the log has the generation already; `logs` are the access logs that should use it.
    `notes` are sentences for the owner.
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
    notes: tuple[str, ...] = ()

    @property
    def backup(self) -> str:
        """Where the file of the adoption is kept as it was."""
        return self.edits[0].backup


class _Place(Value):
    """The bytes that become the include, and what goes into the generation instead."""

    file: ConfFile
    start: int
    end: int
    content: File
    upstreams: tuple[UpstreamBlock, ...]


def adopt(conf: NginxConf, candidates: tuple[Candidate, ...], *, nginx: Nginx, name: str = "") -> Adoption:
    """Work out the adoption. The first of `candidates` is the `--from` file, the others are its siblings, one for each other pool.

    `name` is the site's. AdoptRefused where this can't be one change of one statement.
    """
    source, *siblings = candidates
    already = includes_live(conf, nginx.include)
    if already is not None:
        raise AdoptRefused(f"this nginx was adopted before: {already.place} includes {nginx.include}")
    if (live := _live_of(conf, source.path)) is not None:
        raise AdoptRefused(f"{source.path} belongs to a site that upswitch manages already: {live} is its live generation")
    place = _place(conf, source)
    for each in place.upstreams:
        _refuse_unfit(each, place.file.path)
    pools, remarks = _pools(source, place.upstreams, siblings)
    return Adoption(
        site_text=site_text(source.path, pools, nginx, name=name, remarks=remarks),
        files=(place.content,),
        edit=_edit(place, nginx),
    )


def first_upstream(text: str) -> str:
    """The name of the first upstream in a file that holds one, "" for none. The file may be unreadable in other places."""
    found = _FIRST.search(re.sub(r"#.*", "", text))
    return found[1] if found else ""


def sibling_names(path: str, pool: str, listing: Iterable[str]) -> dict[str, str]:
    """The files named like `path` but for the pool's name (upstreamA.conf, upstreamB.conf), by pool.

    `listing` are the names in the folder. The other pool's name must be of the same kind (capitals, small letters, digits).
    """
    folder, name = posixpath.split(path)
    before, found, after = name.rpartition(pool)
    if not found:
        return {}
    kind = next((each for each in _CLASSES if re.fullmatch(each, pool)), re.escape(pool))
    pattern = re.compile(f"{re.escape(before)}({kind}){re.escape(after)}")
    matches = (pattern.fullmatch(each) for each in sorted(listing))
    return {match[1]: posixpath.join(folder, match[0]) for match in matches if match and match[1] != pool}


def diff(old: str, new: str, path: str) -> str:
    """The unified diff of one file; "" where nothing differs."""
    lines = difflib.unified_diff(_lines(old), _lines(new), fromfile=path, tofile=path)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _place(conf: NginxConf, source: Candidate) -> _Place:
    file = _read_by_nginx(conf, source)
    blocks = [each for each in upstream_blocks(conf) if each.file == file.path]
    if not blocks:
        raise AdoptRefused(f"{source.path} has no upstream block that nginx reads inside http, and upswitch switches only those")
    try:
        return _inline(file, blocks) if _holds_others(conf.tree, file.path) else _whole(conf, file)
    except StatementError as exc:
        raise AdoptRefused(f"{source.path} can't be read: {exc}") from exc


def _read_by_nginx(conf: NginxConf, source: Candidate) -> ConfFile:
    path = posixpath.normpath(source.path)
    file = next((each for each in conf.files if posixpath.normpath(each.path) == path), None)
    if file is None:
        twin = next((each.path for each in conf.files if each.text == source.text), None)
        hint = f"nginx reads the same text as {twin}: give that path" if twin else f"include it in the http block of {conf.path}"
        raise AdoptRefused(f"nginx does not read {source.path}; {hint}")
    if file.text != source.text:
        raise AdoptRefused(f"{source.path} has changed since nginx -T read it; run init again")
    return file


def _live_of(conf: NginxConf, path: str) -> str | None:
    """The live link of the site that a file belongs to; None where it belongs to none."""
    return next((live for live in lives(conf) if posixpath.normpath(path).startswith(f"{posixpath.dirname(live)}/")), None)


def _holds_others(block: Iterable[Directive], path: str) -> bool:
    """Whether the file has a statement outside of upstream blocks."""
    others = (each for each in block if each.name != "upstream")
    return any(each.file == path or _holds_others(each.block or (), path) for each in others)


def _whole(conf: NginxConf, file: ConfFile) -> _Place:
    include = _only_include(conf, file)
    including = next(each for each in conf.files if each.path == include.file)
    start, end = _span(including.text, include)
    content = File(name=_generation_name(file.path), text=file.text)
    upstreams = read_upstreams(file.text).upstreams
    return _Place(file=including, start=start, end=end, content=content, upstreams=upstreams)


def _only_include(conf: NginxConf, file: ConfFile) -> Directive:
    reading = [each for each in includes(conf.tree) if matches_include(conf.includes(each), file.path)]
    if len(reading) != 1:
        places = ", ".join(each.place for each in reading)
        raise AdoptRefused(f"{file.path} is included {len(reading)} times ({places}); keep one include of it, in the http block")
    if is_glob(conf.includes(reading[0])):
        raise AdoptRefused(
            f"{reading[0].place}: `{reading[0].text}` reads {file.path} by a pattern, so there is no single line to replace; "
            "move the file and its siblings to a folder that the pattern does not match, include the file by its own name in the "
            "http block, reload nginx, and run init again"
        )
    return reading[0]


def _span(text: str, include: Directive) -> tuple[int, int]:
    """Where the include begins and ends in the text. crossplane gives only its line, which may hold other statements too."""
    start, end = line_span(text, include.line)
    for found in _INCLUDE.finditer(text, start):
        quoted = found[1]
        if found.start() < end and unescaped(quoted[1:-1] if quoted[0] in "\"'" else quoted) == include.args[0]:
            return found.span()
    raise AdoptRefused(f"{include.place}: the include can't be found in the text; write it on a line of its own")


def _inline(file: ConfFile, blocks: list[Directive]) -> _Place:
    if len(blocks) > 1:
        names = ", ".join(each.args[0] for each in blocks)
        raise AdoptRefused(
            f"{file.path} holds {len(blocks)} upstreams ({names}) beside other things; move them into a file of their own, "
            "include that file by its name in the http block, reload nginx, and run init again"
        )
    start, end = line_span(file.text, blocks[0].line)
    found = next((each for each in _UPSTREAM.finditer(file.text, start) if each.start() < end), None)
    if found is None:
        raise AdoptRefused(f"{blocks[0].place}: the upstream block can't be found in the text; begin it on a line of its own")
    block = read_upstream_at(file.text, found.start())
    content = File(name=_generation_name(f"{block.name}.conf"), text=file.text[block.start : block.end] + "\n")
    return _Place(file=file, start=block.start, end=block.end, content=content, upstreams=(block,))


def _generation_name(path: str) -> str:
    """Its own base name where `*.conf` matches that and it is not the marker's, else one like it."""
    name = posixpath.basename(path).lstrip(".")
    name = name if name.endswith(".conf") else f"{name}.conf"
    return f"upstream-{name}" if name == "marker.conf" else name


def _refuse_unfit(block: UpstreamBlock, path: str) -> None:
    if any(each.split()[0] == "include" for each in block.directives):
        raise AdoptRefused(
            f"{path}: upstream {block.name} includes another file; write its servers into the block, then run init again"
        )
    if not block.servers:
        raise AdoptRefused(f"{path}: upstream {block.name} has no server; add one, then run init again")


def _pools(
    source: Candidate, own: tuple[UpstreamBlock, ...], siblings: list[Candidate]
) -> tuple[dict[str, tuple[UpstreamBlock, ...]], tuple[str, ...]]:
    """The blocks of every pool, and remarks about the siblings. A sibling with other upstreams is left out."""
    pools, remarks = {source.pool: own}, []
    for each in siblings:
        found = _readable(each)
        if {block.name for block in found if block.servers} != {block.name for block in own}:
            remarks.append(f"{each.path} was left out: it does not hold the same upstreams as {source.path}")
            continue
        pools[each.pool] = found
        own, taken = _with_checks(own, found)
        remarks += [
            f"the check of upstream {name} comes from {each.path}, for every pool: {source.path} has none" for name in taken
        ]
        remarks += [f"{what} in {each.path}; both pools get those of {source.path}" for what in _differences(own, found)]
    return {**pools, source.pool: own}, tuple(remarks)


def _with_checks(
    own: tuple[UpstreamBlock, ...], other: tuple[UpstreamBlock, ...]
) -> tuple[tuple[UpstreamBlock, ...], tuple[str, ...]]:
    """The blocks with the other file's checks where they have none, and which took one.

    On an nginx without the check module the live file can't have a check, but a file beside it may.
    """
    theirs = {each.name: each.check for each in other}
    taken = tuple(each.name for each in own if each.check is None and theirs[each.name] is not None)
    filled = (msgspec.structs.replace(each, check=theirs[each.name]) if each.name in taken else each for each in own)
    return tuple(filled), taken


def _readable(candidate: Candidate) -> tuple[UpstreamBlock, ...]:
    try:
        return read_upstreams(candidate.text).upstreams
    except StatementError:
        return ()


def _differences(own: tuple[UpstreamBlock, ...], other: tuple[UpstreamBlock, ...]) -> Iterator[str]:
    theirs = {each.name: each for each in other}
    for each in own:
        if theirs[each.name].directives != each.directives:
            yield f"the directives of upstream {each.name} differ"
        if theirs[each.name].check != each.check:
            yield f"the check of upstream {each.name} differs"


def _edit(place: _Place, nginx: Nginx) -> Edit:
    text = place.file.text
    new = f"{text[: place.start]}include {nginx.include};{text[place.end :]}"
    return Edit(path=place.file.path, old=text, new=new)


def _lines(text: str) -> list[str]:
    """The lines as nginx counts them: `splitlines` would also cut at form feeds."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


# ---- `--drain-lines` ----


def with_drain_lines(
    edit: Edit, conf: NginxConf, build: Build, upstreams: Collection[str], *, flag: str
) -> tuple[tuple[Edit, ...], tuple[DrainLines, ...]]:
    """The edits with all drain lines that can be written, `edit` first, and what is left for the owner.

    Files with a server come before those with locations alone: after each single edit nginx still starts.
    """
    needed = drain_compare.advice(conf, build, upstreams, flag=flag)
    edits = {edit.path: edit}
    files = {each.path: each.text for each in conf.files}
    for path in dict.fromkeys(each.file for each in needed if each.lines and not each.remove):
        base = edits.get(path) or Edit(path=path, old=files[path], new=files[path])
        try:
            new = drain_lines.with_lines(base.new, [_moved(each, base) for each in needed if each.file == path])
        except StatementError as exc:
            raise AdoptRefused(f"the drain lines can't be written into {path}: {exc}") from exc
        edits[path] = msgspec.structs.replace(base, new=new)
    left = _left({**files, **{path: each.new for path, each in edits.items()}}, build, upstreams, flag=flag)
    return tuple(edits.values()), left


def _moved(each: DrainLines, edit: Edit) -> DrainLines:
    """The lines at their place after the edit, which replaces one statement that may have several lines."""
    first = posixpath.commonprefix([edit.old, edit.new]).count("\n") + 1
    more = edit.new.count("\n") - edit.old.count("\n")
    return msgspec.structs.replace(each, line=each.line + more) if each.line > first else each


def _left(files: dict[str, str], build: Build, upstreams: Collection[str], *, flag: str) -> tuple[DrainLines, ...]:
    """What the new texts still lack. AdoptRefused where anything else is missing or is not as it should be."""
    conf = parse_dump("".join(f"# configuration file {path}:\n{text}\n" for path, text in files.items()))
    left = drain_compare.advice(conf, build, upstreams, flag=flag)
    wrong = [each.text for each in left if each.lines and not each.remove]
    own = [jump for jump in drain_compare.jumps(conf, flag=flag) if jump.is_ours]
    wrong += [each.text for each in drain_compare.differences(conf, own)]
    if wrong:
        raise AdoptRefused(f"the drain lines can't be written, add them by hand (`upswitch drain-lines`): {wrong[0]}")
    return left

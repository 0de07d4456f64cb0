"""Where the upstreams of a new site stand in nginx's configuration now, and which bytes change. Nothing here acts.

An upstream block is cut out of its file, whatever else the file holds. Where the file holds nothing but such blocks and is included
once by its own name, the include is what changes. A pass to a plain address gets an upstream of its own, and then names it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from upswitch.basics.value import Value
from upswitch.init.pools import without_pool
from upswitch.nginx.configuration import (
    PASSES,
    SCHEME,
    defines,
    http_children,
    includes,
    may_name,
    passed_upstream,
    passed_upstreams,
    upstream_blocks,
)
from upswitch.nginx.dump import ConfFile, Directive, NginxConf, include_pattern, is_glob, matches_include, unescaped, walk
from upswitch.nginx.statements import line_span, statement_at, statements, values_at, written_at
from upswitch.nginx.upstream_file import UpstreamBlock, read_upstreams
from upswitch.site.server_line import is_name

_INCLUDE = re.compile(r"""(?<![^\s;{}])include[ \t\r\n]+("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s;"']\S*?)[ \t\r\n]*;""")
_VARIABLE = re.compile(r"\$\{?(\w+)", re.ASCII)
_BESIDE = r"(?<![\w.-]){}(?![\w.-])"


class AdoptRefused(Exception):  # noqa: N818  (an ending that is expected, named as people say it)
    """This configuration can't be adopted as it is. The message says why and what to do."""


class Splice(Value):
    """A change of some bytes of one file: `text` instead of those from `start` to `end`."""

    path: str
    start: int
    end: int
    text: str


class Part(Value):
    """One upstream of the new site. `name` is its name there, and `text` its block, with the servers of the files it includes.

    `written` is the block as nginx has it now, "" where there is none. `servers_file` holds its servers, "" where the block does.
    """

    name: str
    text: str
    upstream: UpstreamBlock
    place: str
    written: str = ""
    servers_file: str = ""

    @property
    def is_renamed(self) -> bool:
        return self.name != self.upstream.name


# ---- which blocks ----


def blocks_of(conf: NginxConf, names: Iterable[str]) -> list[Directive]:
    """The upstream blocks with these names, in the order of the names. AdoptRefused for one that is none."""
    every = {each.args[0].lower(): each for each in upstream_blocks(conf)}
    unknown = [name for name in names if name.lower() not in every]
    if unknown:
        have = ", ".join(each.args[0] for each in every.values()) or "none"
        raise AdoptRefused(f"nginx has no upstream {unknown[0]}; it has {have}. `upswitch init` lists them with their places")
    return [every[name.lower()] for name in dict.fromkeys(names)]


def blocks_in(conf: NginxConf, file: ConfFile) -> list[Directive]:
    """The upstream blocks in this file, or those that include it for their servers. AdoptRefused where there are none."""
    every = upstream_blocks(conf)
    found = [each for each in every if each.file == file.path]
    found = found or [each for each in every if any(inner.file == file.path for inner in each.block or ())]
    if not found:
        raise AdoptRefused(_no_block(conf, file))
    return found


def _no_block(conf: NginxConf, file: ConfFile) -> str:
    plain = [each for each in passes(conf) if each.file == file.path and is_plain_address(conf, passed_upstream(each))]
    if not plain:
        return f"{file.path} has no upstream block that nginx reads inside http, and upswitch switches only those"
    address = passed_upstream(plain[0])
    return (
        f"{file.path} has no upstream block: {plain[0].place} passes straight to an address, `{plain[0].text}`. "
        f"`upswitch init --upstream {address} --pool NAME` makes an upstream block for it, and lets {plain[0].name} name that"
    )


def is_plain_address(conf: NginxConf, text: str) -> bool:
    """Whether a pass names a server itself, not an upstream."""
    names = {each.args[0].lower() for each in upstream_blocks(conf)}
    return text != "" and text.lower() not in names


def is_address(conf: NginxConf, text: str) -> bool:
    """Whether a request for an upstream is one for an address: it has a port or is a socket, and no block has this name."""
    return is_plain_address(conf, text) and (text.startswith("unix:") or re.search(r":\d+$", text) is not None)


def written_block(file: ConfFile, block: Directive) -> tuple[int, int]:
    """Where an upstream block begins and ends in its file. The text around it may be unreadable (Lua, say)."""
    found = written_at(file.text, block.line, (block.name, *block.args))
    if not found:
        raise AdoptRefused(f"{block.place}: the upstream block can't be found in the text; begin it on a line of its own")
    statement = statement_at(file.text, found[0][0].start)
    if statement is None:
        raise AdoptRefused(f"{block.place}: the upstream block can't be read")
    return statement.start, statement.end


def part_of(conf: NginxConf, block: Directive, pool: str, others: Mapping[str, str]) -> Part:
    """A block as an upstream of the new site. `others` are the upstreams of the other pools: then its name is without its pool."""
    file = _file(conf, block.file)
    start, end = written_block(file, block)
    written = file.text[start:end]
    text = _with_servers(conf, written)
    upstream = read_upstreams(text).upstreams[0]
    files = dict.fromkeys(each.file for each in block.block or () if each.name == "server" and each.file != block.file)
    if not upstream.servers:
        raise AdoptRefused(f"{block.place}: upstream {upstream.name} has no server; add one, then run init again")
    return Part(
        name=_name_of_both(conf, block.args[0], pool) if others else upstream.name,
        text=text,
        upstream=upstream,
        place=block.place,
        written=written,
        servers_file=next(iter(files), ""),
    )


def _with_servers(conf: NginxConf, text: str) -> str:
    """The text of a block with the files that it includes written into it: the generation must hold its servers itself."""
    outer = statements(text)
    for each in reversed([inner for one in outer for inner in (one.block or (one,)) if inner.words[:1] == ("include",)]):
        pattern = include_pattern(conf.path, each.words[1])
        texts = [file.text for file in conf.files if matches_include(pattern, file.path)]
        inside = "".join(f"\n{_with_servers(conf, one).rstrip()}" for one in texts)
        text = f"{text[: each.start]}{inside.lstrip()}\n{text[each.end :]}"
    return text


def _name_of_both(conf: NginxConf, name: str, pool: str) -> str:
    """The name of an upstream without its pool: app of app_blue. Of `blue` alone it is the variable that picks it, or app."""
    bare = without_pool(name, pool)
    picked = (var for each in named(conf, name) if each.name != "server" for var in _variables_of(conf, each))
    chosen = bare or next(picked, "app")
    taken = {each.args[0].lower() for each in upstream_blocks(conf)}
    return chosen if chosen.lower() not in taken else f"{chosen}-live"


def _variables_of(conf: NginxConf, value: Directive) -> Iterator[str]:
    for block in http_children(conf, "map", "geo", "split_clients"):
        if value in (block.block or ()):
            yield block.args[-1].lstrip("$")
    if value.name == "set":
        yield value.args[0].lstrip("$")


# ---- who names an upstream ----


def passes(conf: NginxConf) -> list[Directive]:
    """Every `proxy_pass` or the like."""
    return [each for each in walk(http_children(conf, "server")) if each.name in PASSES and each.args]


def reaching(conf: NginxConf, name: str) -> Directive | None:
    """A pass that sends requests to this upstream, or that may name anything; None where there is none."""
    block = blocks_of(conf, [name])[0].args[0]
    return next((each for each in passes(conf) if {block, ""} & {*passed_upstreams(conf, each)}), None)


def named(conf: NginxConf, name: str) -> list[Directive]:
    """Every statement that sends requests to this upstream or address by its whole name: a pass, a `set`, a line of a `map`."""
    direct = passes(conf)
    variables = _followed(conf, [each.args[0] for each in direct])
    values = [line for variable in variables for place in defines(conf, variable) for line in (place.block or (place,))]
    return [each for each in dict.fromkeys((*direct, *values)) if each.args and _names(each.args[-1], name)]


def _followed(conf: NginxConf, texts: Iterable[str]) -> list[str]:
    """The variables in these texts, and those in their values."""
    found: dict[str, None] = {}
    left = [variable for text in texts for variable in _VARIABLE.findall(text)]
    while left:
        variable = left.pop()
        if variable not in found:
            found[variable] = None
            lines = [line for place in defines(conf, variable) for line in (place.block or (place,))]
            left += [each for line in lines if line.args for each in _VARIABLE.findall(line.args[-1])]
    return list(found)


def _names(text: str, name: str) -> bool:
    """`http://NAME`, `NAME`, `http://NAME/uri`, `http://NAME$uri`."""
    target = SCHEME.sub("", text)
    rest = target[len(name) :]
    return target[: len(name)].lower() == name.lower() and (
        not rest or rest[0] in "/$" or (name.startswith("unix:") and rest[0] == ":")
    )


def renamings(conf: NginxConf, name: str, new: str) -> Iterator[Splice]:
    """The changes by which all that names an upstream or an address names `new` instead."""
    for each in named(conf, name):
        text = _file(conf, each.file).text
        found = values_at(text, each.line, each.args[-1])
        if not found:
            raise AdoptRefused(f"{each.place}: `{each.text}` can't be found in the text; write it on one line")
        for token in found:
            pattern = _BESIDE.format(re.escape(name)) + (r":?" if name.startswith("unix:") else "")
            written = re.sub(pattern, lambda _: new, token.text, count=1, flags=re.IGNORECASE)
            yield Splice(path=each.file, start=token.start, end=token.end, text=written)


# ---- where the include goes ----


def is_whole(conf: NginxConf, file: ConfFile, blocks: list[Directive]) -> bool:
    """Whether the file holds nothing but these blocks, and one include by its own name reads it."""
    has_all = len(blocks) == len([each for each in upstream_blocks(conf) if each.file == file.path])
    if (
        not has_all
        or holds_others(conf.tree, file.path)
        or any(part.name == "include" for each in blocks for part in each.block or ())
    ):
        return False
    reading = _reading(conf, file)
    if len(reading) > 1:
        places = ", ".join(each.place for each in reading)
        raise AdoptRefused(f"{file.path} is included {len(reading)} times ({places}); keep one include of it, in the http block")
    return bool(reading) and not is_glob(conf.includes(reading[0]))


def instead_of_include(conf: NginxConf, file: ConfFile, include: str) -> Splice:
    """`include` in the place of the one that reads this file."""
    reading = _reading(conf, file)[0]
    return instead_of(_file(conf, reading.file).text, reading, include)


def instead_of(text: str, include: Directive, new: str) -> Splice:
    """Other text in the place of an include. `text` is that of its file."""
    start, end = _span(text, include)
    return Splice(path=include.file, start=start, end=end, text=new)


def instead_of_blocks(conf: NginxConf, blocks: list[Directive], include: str) -> Iterator[Splice]:
    """`include` in the place of the first block, and nothing in the place of the others. They must be in one file.

    With two files nginx could not start between the two edits.
    """
    files = list(dict.fromkeys(each.file for each in blocks))
    if len(files) > 1:
        places = ", ".join(f"{each.args[0]} at {each.place}" for each in blocks)
        raise AdoptRefused(
            f"the upstreams are in {len(files)} files ({places}); run init once for each, so that each is a site of its own, "
            "or move the blocks into one of these files, reload nginx, and run init again"
        )
    file = _file(conf, files[0])
    for each in blocks:
        start, end = written_block(file, each)
        if each is not blocks[0]:
            start, end = _whole_lines(file.text, start, end)
        yield Splice(path=file.path, start=start, end=end, text=include if each is blocks[0] else "")


def before_server(conf: NginxConf, address: str, include: str) -> Splice:
    """`include` on a line of its own, before the first server that passes to this address."""
    servers, naming = http_children(conf, "server"), named(conf, address)
    direct = (each for each in servers if any(inside in naming for inside in walk([each])))
    server = next(direct, servers[0] if servers and naming else None)
    if server is None:
        refuse_composed(conf, [address])
        raise AdoptRefused(f"no server block passes requests to {address}. `upswitch init` lists what nginx passes requests to")
    text = _file(conf, server.file).text
    found = written_at(text, server.line, ("server",))
    if not found:
        raise AdoptRefused(f"{server.place}: the server block can't be found in the text; begin it on a line of its own")
    at = found[0][0].start
    margin = re.search(r"[ \t]*\Z", text[:at])
    return Splice(path=server.file, start=at, end=at, text=f"{include}\n{margin[0] if margin else ''}")


def refuse_composed(conf: NginxConf, names: Iterable[str]) -> None:
    """A name that is put together (`http://app_$colour`) stands nowhere as a whole, so that another name could replace it."""
    for each in passes(conf):
        if name := next((name for name in names if may_name(conf, each, name)), ""):
            raise AdoptRefused(
                f"{each.place}: `{each.text}` puts {name} together from parts. Write the whole of it into one variable "
                f"(`set $backend {name};`) and pass to it (`http://$backend`), reload nginx, then run init again"
            )


def unknown_notes(conf: NginxConf, old: str, name: str) -> Iterator[str]:
    """The passes that may name anything, such as `http://$http_x_pool`."""
    for each in passes(conf):
        if "" in passed_upstreams(conf, each):
            yield f"{each.place}: init can't follow the variable in `{each.text}`; where it is {old} now, it must be {name} then"


def name_notes(conf: NginxConf, old: str, name: str) -> Iterator[str]:
    """What else changes where a pass names `name`: nginx sends it as Host and looks for it in certificates."""
    for server in http_children(conf, "server"):
        for around in chains((server,)):
            for each in around[-1].children("proxy_pass"):
                if each.args and old in passed_upstreams(conf, each):
                    yield from _name_notes(around, each, old, name)
    lines = [each for each in named(conf, old) if each.name not in PASSES]
    if lines and is_address(conf, old) and is_name(old):
        said = f"{lines[0].place}: nginx resolved {old} for each request; now it is resolved at each start and reload of nginx"
        yield f"{said}, and at each switch. Run `switch` again after its address has changed"


def _name_notes(around: tuple[Directive, ...], passing: Directive, old: str, name: str) -> Iterator[str]:
    headers = next((found for scope in reversed(around) if (found := scope.children("proxy_set_header"))), ())
    if not any(each.args[:1] and each.args[0].lower() == "host" for each in headers):
        said = f"{passing.place}: the application gets `Host: {name}` instead of `Host: {old}`"
        yield f"{said}, as no proxy_set_header sets it"
    given = {key: next((found[0].args for scope in reversed(around) if (found := scope.children(key))), ()) for key in _TLS_NAMES}
    if passing.args[0].startswith("https:") and not given.pop("proxy_ssl_name") and ("on",) in given.values():
        said = f"{passing.place}: nginx asks its servers for a certificate of {name} instead of {old}"
        yield f"{said}; `proxy_ssl_name {old.rpartition(':')[0] or old};` keeps the name"


_TLS_NAMES = ("proxy_ssl_name", "proxy_ssl_server_name", "proxy_ssl_verify")


def chains(around: tuple[Directive, ...]) -> Iterator[tuple[Directive, ...]]:
    """Every scope of a server, each with those around it."""
    yield around
    for inner in around[-1].children("location", "if", "limit_except"):
        yield from chains((*around, inner))


def spliced(text: str, changes: Iterable[Splice]) -> str:
    """The text of a file with its changes. The same change twice counts once."""
    for each in sorted(dict.fromkeys(changes), key=lambda each: (each.start, each.end), reverse=True):
        text = f"{text[: each.start]}{each.text}{text[each.end :]}"
    return text


def _whole_lines(text: str, start: int, end: int) -> tuple[int, int]:
    """With the margin before it and the newline behind it, where nothing else is on these lines."""
    begin, stop = text.rfind("\n", 0, start) + 1, text.find("\n", end)
    stop = len(text) if stop < 0 else stop + 1
    return (begin, stop) if not text[begin:start].strip() and not text[end:stop].strip() else (start, end)


def _reading(conf: NginxConf, file: ConfFile) -> list[Directive]:
    return [each for each in includes(conf.tree) if matches_include(conf.includes(each), file.path)]


def holds_others(block: Iterable[Directive], path: str) -> bool:
    """Whether the file has a statement outside of upstream blocks."""
    others = (each for each in block if each.name != "upstream")
    return any(each.file == path or holds_others(each.block or (), path) for each in others)


def _span(text: str, include: Directive) -> tuple[int, int]:
    """Where the include begins and ends in the text. crossplane gives only its line, which may hold other statements too."""
    start, end = line_span(text, include.line)
    for found in _INCLUDE.finditer(text, start):
        quoted = found[1]
        if found.start() < end and unescaped(quoted[1:-1] if quoted[0] in "\"'" else quoted) == include.args[0]:
            return found.span()
    raise AdoptRefused(f"{include.place}: the include can't be found in the text; write it on a line of its own")


def _file(conf: NginxConf, path: str) -> ConfFile:
    return next(each for each in conf.files if each.path == path)

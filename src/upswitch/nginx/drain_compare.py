"""Whether a location answers the same while the drain flag is up: every drain location, compared with the one it stands in for.

A drain location is one with `keepalive_timeout 0` that `if (-f FLAG)` leads to, in one of three forms:
- our own (drain_lines.py): requests come back to their location, so only the lines themselves are compared with what we render;
- `return 418` and a named location, which upswitch advised before: it skips the access phase of the location, and inherits nothing;
- `rewrite … last` and a nested location, which inherits all but the pass, `limit_except`, `try_files` and the rewrite phase.
In the last two everything that holds in one and not in the other is a difference. A server-level `if` stands in for all locations.
"""

import re
from collections.abc import Collection, Iterable, Iterator

from msgspec.structs import replace

from upswitch.basics.value import Value
from upswitch.nginx import drain_lines
from upswitch.nginx.build import Build
from upswitch.nginx.configuration import PASSES, http, http_children
from upswitch.nginx.drain_lines import REWRITES, DrainLines, Passing, Shape, flag_of, shapes
from upswitch.nginx.dump import Directive, NginxConf, quoted, walk

_NOT_INHERITED = (*PASSES, *REWRITES, "limit_except", "try_files")
_NOT_COMPARED = ("location", "include", "server", "server_name", "listen", "keepalive_timeout", "internal")
_GROUPS = {"deny": "allow", **dict.fromkeys(REWRITES, "rewrite")}
"""Directives of which one replaces what is inherited of the other, or whose order counts."""
_ACCESS = re.compile(r"allow|satisfy|auth_|limit_|secure_link|client_max_body_size|valid_referers")
_ACCESS_REWRITES = ("if", "return")


class Jump(Value):
    """An `if (-f FLAG)` that leads to a drain location. `around` goes from the server to the block that the `if` stands in.

    `target` is None where no location of that name exists. `code` is the status of a `return`, "" for a rewrite.
    """

    flag: str
    around: tuple[Directive, ...]
    test: Directive
    path: str
    target: Directive | None
    code: str = ""

    @property
    def is_ours(self) -> bool:
        return self.path.startswith(drain_lines.THROUGH)


class Difference(Value):
    """One directive in which a location and its drain location differ. `is_access`: who may do what would not be the same.

    `at` is the line that leads to the drain location.
    """

    at: Directive
    place: str
    directive: str
    said: str
    is_access: bool

    @property
    def text(self) -> str:
        return f"{self.place}: {self.said}"


def jumps(conf: NginxConf, *, flag: str = "") -> tuple[Jump, ...]:
    """Every way to a drain location. With `flag` also one to a location that does not exist or does not close connections."""
    return tuple(
        jump
        for server in http_children(conf, "server")
        for around in _chains((server,))
        for test in around[-1].children("if")
        if flag_of(test)
        for jump in _jumps(conf, around, test)
        if _counts(jump, flag)
    )


def passing(conf: NginxConf, upstreams: Collection[str]) -> tuple[tuple[Passing, tuple[Jump, ...]], ...]:
    """The locations that pass to these upstreams, each with its ways to a drain location. Drain locations are left out."""
    found = jumps(conf)
    targets = [jump.target for jump in found]
    return tuple(
        (each, tuple(jump for jump in found if jump.around[-1] is each.location or jump.around[-1] is each.server))
        for each in drain_lines.passing(conf, upstreams)
        if not any(target is each.location for target in targets)
    )


def advice(conf: NginxConf, build: Build, upstreams: Collection[str], *, flag: str) -> tuple[DrainLines, ...]:
    """The drain lines that are still missing on the way to these upstreams. None since nginx 1.27.4."""
    if not build.needs_drain_flag:
        return ()
    places = passing(conf, upstreams)
    old = {(each.location.file, each.location.line): ways for each, ways in places}
    return tuple(
        replace(
            each,
            remove=(*each.remove, *(_removal(jump) for jump in old.get((each.file, each.line), ()) if not jump.is_ours)),
        )
        for each in drain_lines.missing((each for each, _ in places), flag)
    )


def _removal(jump: Jump) -> str:
    leads = f", and {_block(jump.target)} at {jump.target.place}" if jump.target else ""
    return f"`if (-f {jump.flag})` at {jump.test.place}{leads}"


def differences(conf: NginxConf, found: Iterable[Jump]) -> tuple[Difference, ...]:
    """Everything that would be answered differently while the flag is up."""
    return tuple(each for jump in found for each in _differences(conf, jump))


# ---- finding them ----


def _counts(jump: Jump, flag: str) -> bool:
    """Our own marker server answers 200 by the flag; a maintenance page keeps connections open."""
    if jump.target is None:
        return jump.flag == flag and not jump.code.startswith("2")
    return jump.flag == flag or _closes(jump.target)


def _chains(around: tuple[Directive, ...]) -> Iterator[tuple[Directive, ...]]:
    yield around
    for location in around[-1].children("location"):
        yield from _chains((*around, location))


def _jumps(conf: NginxConf, around: tuple[Directive, ...], test: Directive) -> Iterator[Jump]:
    flag = flag_of(test)
    for line in test.children("return"):
        page = next((page for page in _error_pages(conf, around) if line.args[0] in page[:-1]), None)
        path = page[-1] if page else ""
        yield Jump(flag=flag, around=around, test=test, path=path, target=_named(around[0], path), code=line.args[0])
    for line in test.children("rewrite"):
        if line.args[-1] == "last":
            path = line.args[1]
            nested = (each for each in around[-1].children("location") if _closes(each) and len(around) > 1)
            yield Jump(flag=flag, around=around, test=test, path=path, target=next(nested, None) or _named(around[0], path))


def _error_pages(conf: NginxConf, around: tuple[Directive, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(args for _, args, _ in effective(conf, around).get("error_page", ()))


def _named(server: Directive, path: str) -> Directive | None:
    return next(
        (each for each in server.children("location") if each.args[-1:] == (path,) and not each.args[0].startswith("~")), None
    )


def _closes(location: Directive) -> bool:
    return any(each.args[:1] in (("0",), ("0s",)) for each in location.children("keepalive_timeout"))


# ---- comparing ----


def effective(conf: NginxConf, around: tuple[Directive, ...]) -> dict[str, tuple[Shape, ...]]:
    """What holds in the last of these blocks by its name: its own directives, and those that it inherits."""
    held: dict[str, tuple[Shape, ...]] = {}
    main = http(conf)
    for block in (*([main] if main else []), *around):
        own: dict[str, list[Shape]] = {}
        for each in block.block or ():
            if each.name not in _NOT_COMPARED:
                own.setdefault(_GROUPS.get(each.name, each.name), []).extend(shapes([each]))
        inherited = {name: shapes for name, shapes in held.items() if not any(shape[0] in _NOT_INHERITED for shape in shapes)}
        held = inherited | {name: tuple(shapes) for name, shapes in own.items()}
    return held


def _differences(conf: NginxConf, jump: Jump) -> Iterator[Difference]:
    place = f"{jump.test.place} ({_block(jump.around[-1])})"

    def differs(directive: str, said: str, *, is_access: bool = True) -> Difference:
        return Difference(at=jump.test, place=place, directive=directive, said=said, is_access=is_access)

    if jump.target is None:
        path = jump.path or f"an error_page for {jump.code}"
        yield differs("location", f"its drain lines lead to {path}, which does not exist, so clients get an error")
    elif jump.is_ours:
        yield from (differs(name, said) for name, said in _not_ours(conf, jump))
    elif len(jump.around) == 1:
        yield differs("if", f"{_drain(jump.target)} stands in for every location of this server, protected or not")
    else:
        yield from (differs(name, said, is_access=_is_access(name, *both)) for name, said, both in _unlike(conf, jump, jump.target))


def _drain(target: Directive) -> str:
    return f"its drain {_block(target)} ({target.place})"


def _not_ours(conf: NginxConf, jump: Jump) -> Iterator[tuple[str, str]]:
    """What of our own lines is missing, or was changed."""
    each = Passing(around=jump.around, upstreams=(), captured=drain_lines.captured_in_http(conf))
    if not drain_lines.has_server_lines(each.server):
        yield "server", "the drain lines of its server are not complete, or its other rewrite lines come before them"
    if jump.path != drain_lines.through(each) or not drain_lines.has_through_block(each):
        yield "location", f"the location {jump.path} is not as upswitch prints it"
    if not drain_lines.has_location_line(each, jump.flag):
        yield "if", "its drain line is not as upswitch prints it for this location, or another rewrite line comes before it"
    if reason := drain_lines.no_cure(each):
        yield "if", f"no drain lines fit this location, because {reason}"


Both = tuple[tuple[Shape, ...], tuple[Shape, ...]]


def _unlike(conf: NginxConf, jump: Jump, target: Directive) -> Iterator[tuple[str, str, Both]]:
    """The directives that do not hold in both, with what holds in each."""
    is_nested = any(each is target for each in jump.around[-1].children("location"))
    theirs = effective(conf, (*jump.around, target) if is_nested else (jump.around[0], target))
    ours = effective(conf, jump.around)
    _without_the_way(ours, jump)
    if jump.code:
        yield from _pages(conf, jump, theirs)
        theirs.pop("error_page", None)
        ours.pop("error_page", None)
    is_kept = not jump.code and _is_address_kept(jump, target)
    if not jump.code and not is_kept:
        said = f"its drain line rewrites the address to {jump.path}, and {_drain(target)} may ask the server for another one"
        yield "rewrite", said, ((), ())
    for name in dict.fromkeys((*ours, *theirs)):
        one, other = ours.get(name, ()), theirs.get(name, ())
        if one != other and not (is_kept and name in PASSES):
            yield name, _compared(one, other, _drain(target)), (one, other)


def _compared(one: tuple[Shape, ...], other: tuple[Shape, ...], drain: str) -> str:
    if not other:
        return f"{_said(one)} holds here, but not in {drain}"
    if not one:
        return f"{_said(other)} holds in {drain}, but not here"
    return f"{_said(one)} holds here, and {_said(other)} in {drain}"


def _without_the_way(ours: dict[str, tuple[Shape, ...]], jump: Jump) -> None:
    """Take the `if` itself out of what holds."""
    kept = tuple(shape for shape in ours.get("rewrite", ()) if (shape,) != shapes([jump.test]))
    ours.pop("rewrite", None)
    if kept:
        ours["rewrite"] = kept


def _pages(conf: NginxConf, jump: Jump, theirs: dict[str, tuple[Shape, ...]]) -> Iterator[tuple[str, str, Both]]:
    """What the way by `return` costs: nginx follows no second error_page, and one in the location hides those around it."""
    way = {shape for shape in effective(conf, jump.around).get("error_page", ()) if jump.code in shape[1][:-1]}
    wanted = tuple(shape for shape in effective(conf, jump.around).get("error_page", ()) if shape not in way)
    outer = tuple(shape for shape in effective(conf, jump.around[:-1]).get("error_page", ()) if shape not in way)
    is_own = bool(jump.around[-1].children("error_page"))
    is_recursive = theirs.get("recursive_error_pages") == (("recursive_error_pages", ("on",), ()),)
    if is_own and not set(outer) <= set(wanted):
        yield (
            "error_page",
            f"{_said(outer)} holds around it, but no longer here: a location with an error_page inherits none",
            (outer, wanted),
        )
    if wanted and not is_recursive:
        yield (
            "error_page",
            f"{_said(wanted)} holds here, but has no effect after an error_page has led to the drain location",
            (wanted, ()),
        )


def _is_address_kept(jump: Jump, target: Directive) -> bool:
    """Whether a rewrite to another location still asks the server for the same: in the two forms of which that is known.

    With a URI part, nginx replaces the nested prefix as it would replace the location's. Without one, `$request_uri` is what the
    client wrote, which is right as long as nothing else in the server rewrites addresses.
    """
    passes = [[line.args[0] for line in block.children(*PASSES)] for block in (jump.around[-1], target)]
    if [len(each) for each in passes] != [1, 1]:
        return False
    (given,), (used,) = passes
    if "/" in given.partition("://")[2]:
        return used == given and jump.path.endswith("$1")
    return used == f"{given}$request_uri" and not _rewrites(jump)


def _rewrites(jump: Jump) -> bool:
    others = (line for line in walk(jump.around[0].block or ()) if not any(line is own for own in jump.test.block or ()))
    ends = ("break", "redirect", "permanent")
    return any(
        (line.name == "rewrite" and line.args[-1] not in ends)
        or (line.name in ("try_files", "error_page") and not line.args[-1].startswith(("@", "=")))
        for line in others
    )


def _is_access(name: str, one: tuple[Shape, ...], other: tuple[Shape, ...]) -> bool:
    changed = {*one} ^ {*other}
    return _ACCESS.match(name) is not None or any(shape[0] in _ACCESS_REWRITES for shape in changed)


def _said(shapes: tuple[Shape, ...]) -> str:
    return " ".join(f"`{' '.join((name, *map(quoted, args)))}{' {…}' if block else ';'}`" for name, args, block in shapes)


def _block(block: Directive) -> str:
    return " ".join((block.name, *block.args))

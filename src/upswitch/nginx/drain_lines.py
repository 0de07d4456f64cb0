"""The drain lines for nginx before 1.27.4: which locations need them, how they read, and where in a file they go.

A reload closes idle keep-alive connections, and a request that is on its way on one is lost. While the drain flag (a file) exists,
a location with these lines sends each request through a location with `keepalive_timeout 0` and back to itself. nginx only ever
takes keep-alive away from a request (ngx_http_update_location_config), so the answer says `Connection: close`. Everything else is
done by the location itself, as always: access, limits, headers, rewrites, the pass. No line is copied, so nothing can differ.

Three things do not survive the way there and back, and the lines respect each of them:
- nginx forgets how the client wrote the address (`valid_unparsed_uri`). `proxy_pass` without a URI part sends exactly that. So a
  request whose address holds escapes, `//` or raw bytes is not sent around (`$upswitch_escaped`): its connection stays open.
- A named location has no address that leads to it. `try_files` of its own drain location leads back, which sets no status.
- The numeric captures of a regex outside of the location are gone. Such a location gets no lines (`no_cure`). A server whose
  name is a regex with numbered captures gets none at all: the regex in our server lines would clear them for every request.
  Named captures stay.

A client that asks for the location itself gets no answer (444). A 404, as `internal` gives, would be answered by the server's
error_page, and that may lead past the password that every other address needs.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from itertools import takewhile

from msgspec.structs import replace

from upswitch.basics.value import Value
from upswitch.nginx.configuration import PASSES, http, http_children, passed_upstreams
from upswitch.nginx.dump import Directive, NginxConf, parse_dump, quoted, walk
from upswitch.nginx.statements import block_start, line_span

LOST = "8 to 22 requests lost per reload with 32 busy keep-alive connections"
"""What a location without drain lines costs (docs/requests-not-lost.md)."""
THROUGH = "/upswitch_drain"
"""The location that requests are sent through. For a named location its name follows."""
REWRITES = ("set", "if", "rewrite", "return", "break")
"""The directives of nginx's rewrite phase. They run in the order in which they are written."""

_HEAD = "# For nginx before 1.27.4, printed by `upswitch drain-lines`: keep these the first lines of the server."
_DONE, _ESCAPED, _URI = "$upswitch_drained", "$upswitch_escaped", "$upswitch_uri"
_SERVER = (
    f'set {_DONE} "";',
    f'set {_ESCAPED} "";',
    f'set {_URI} "";',
    f"if ($request_uri != $uri$is_args$args) {{ set {_ESCAPED} -escaped; }}",
    f"if ($request_uri ~ [^!-~]) {{ set {_ESCAPED} -escaped; }}",
)
_AS_SENT = ("proxy_pass", "grpc_pass")
_Key = tuple[str, int, tuple[str, ...]]
Shape = tuple[str, tuple[str, ...], tuple["Shape", ...]]
"""A directive without its place: name, arguments, block."""

_CAPTURE = re.compile(r"\$\{?[1-9]")
_NUMBERED = re.compile(r"\((?!\?)")


class Passing(Value):
    """A location that passes requests to upstreams. `around` goes from its server to the location itself.

    `captured` are the lines of http, outside of all servers, that use $1 to $9.
    """

    around: tuple[Directive, ...]
    upstreams: tuple[str, ...]
    captured: tuple[Directive, ...] = ()

    @property
    def location(self) -> Directive:
        return self.around[-1]

    @property
    def server(self) -> Directive:
        return self.around[0]

    @property
    def name(self) -> str:
        return " ".join(self.location.args)

    @property
    def place(self) -> str:
        return f"{self.location.place} (location {self.name})"


class DrainLines(Value):
    """What one block needs. `lines` go behind its opening brace, each a whole statement; where there are none, `no_cure` says why.

    `remove` are older drain lines that must go first, with their places.
    """

    file: str
    line: int
    words: tuple[str, ...]
    lines: tuple[str, ...] = ()
    no_cure: str = ""
    remove: tuple[str, ...] = ()

    @property
    def block(self) -> str:
        return " ".join(self.words)

    @property
    def text(self) -> str:
        """To be read and pasted."""
        place = f"{self.file}:{self.line}: {self.block}"
        if self.no_cure:
            return f"{place}: no drain lines, because {self.no_cure}. This costs requests: {LOST}"
        first = f"{place} {{  # add these lines here, as the first of this block"
        old = (f"    # REMOVE FIRST: {each}" for each in self.remove)
        return "\n".join((first, *old, self.indented("    ")))

    def indented(self, margin: str) -> str:
        """The lines with this margin."""
        return margin + "\n".join(self.lines).replace("\n", f"\n{margin}")


def passing(conf: NginxConf, upstreams: Collection[str]) -> tuple[Passing, ...]:
    """Every location that passes to one of these upstreams, in the order of the configuration."""
    return tuple(each for each in all_passing(conf) if any(name in upstreams for name in each.upstreams))


def all_passing(conf: NginxConf) -> Iterator[Passing]:
    """Every location that passes requests to anything."""
    captured = captured_in_http(conf)
    for server in http_children(conf, "server"):
        yield from _passing(conf, (server,), captured)


def _passing(conf: NginxConf, around: tuple[Directive, ...], captured: tuple[Directive, ...]) -> Iterator[Passing]:
    for location in around[-1].children("location"):
        chain = (*around, location)
        passes = passes_of(location)
        if passes:
            upstreams = dict.fromkeys(name for each in passes for name in passed_upstreams(conf, each))
            yield Passing(around=chain, upstreams=tuple(upstreams), captured=captured)
        yield from _passing(conf, chain, captured)


def passes_of(block: Directive) -> tuple[Directive, ...]:
    """Its pass, and those in an `if` or `limit_except` of it."""
    inner = (each for child in block.children("if", "limit_except") for each in passes_of(child))
    return (*block.children(*PASSES), *inner)


def missing(around: Iterable[Passing], flag: str) -> tuple[DrainLines, ...]:
    """The lines that these locations need, those of their servers first. What stands there as it should is not asked for again."""
    needed: dict[_Key, DrainLines] = {}

    def need(block: Directive, *lines: str, remove: Iterable[Directive] = (), no_cure: str = "") -> None:
        file, line, words = key = _key(block)
        had = needed.get(key, DrainLines(file=file, line=line, words=words))
        old = (f"`{each.text.rstrip(';')}` at {each.place}" for each in remove)
        needed[key] = replace(
            had,
            lines=tuple(dict.fromkeys((*had.lines, *lines))),
            remove=tuple(dict.fromkeys((*had.remove, *old))),
            no_cure=had.no_cure or no_cure,
        )

    places = tuple(around)
    # A file that several servers include may have no cure in one of them: then no server gets the line.
    reasons = {_key(each.location): reason for each in places if (reason := no_cure(each))}
    for each in places:
        if reason := reasons.get(_key(each.location), ""):
            old = "".join(f"; remove the line at {test.place}" for test in _tests(each.location, flag))
            need(each.location, no_cure=reason + old)
            continue
        if not has_server_lines(each.server):
            need(each.server, _HEAD, *_SERVER, remove=(line for line in each.server.children("set", "if") if _ours(line)))
        if not has_through_block(each):
            need(each.server, through_block(each), remove=_at(each.server, through(each)))
        if not has_location_line(each, flag):
            need(each.location, location_line(each, flag), remove=_tests(each.location, flag))
    return tuple(sorted(needed.values(), key=lambda each: each.words[0] != "server"))


def _key(block: Directive) -> _Key:
    return block.file, block.line, (block.name, *block.args)


def has_server_lines(server: Directive) -> bool:
    """Whether the server begins with them: no other line of the rewrite phase comes before."""
    return shapes(server.children(*REWRITES))[: len(_SERVER)] == parsed(*_SERVER)


def has_through_block(each: Passing) -> bool:
    return shapes(_at(each.server, through(each))) == parsed(through_block(each))


def has_location_line(each: Passing, flag: str) -> bool:
    """Whether it is there, and no line of the rewrite phase comes before, but for the same line with another flag."""
    tests = _tests(each.location, flag)
    before = takewhile(lambda line: line not in tests, each.location.children(*REWRITES))
    return shapes(tests) == parsed(location_line(each, flag)) and all(_leads_through(line) for line in before)


def _at(server: Directive, address: str) -> tuple[Directive, ...]:
    return tuple(each for each in server.children("location") if each.args[-1:] == (address,))


def _tests(location: Directive, flag: str) -> tuple[Directive, ...]:
    return tuple(each for each in location.children("if") if flag_of(each) == flag and _leads_through(each))


def _leads_through(test: Directive) -> bool:
    return any(line.args[1].startswith(THROUGH) for line in test.children("rewrite"))


def _ours(line: Directive) -> bool:
    return any(word in (_DONE, _ESCAPED, _URI) for each in walk([line]) for word in each.args)


def through(each: Passing) -> str:
    """The address of the location that its requests are sent through."""
    return f"{THROUGH}{each.name}" if each.name.startswith("@") else THROUGH


def through_block(each: Passing) -> str:
    """That location. It refuses no body, asks for no password, and only gives the address back. From outside there is none."""
    lines = ["keepalive_timeout 0;", "client_max_body_size 0;", f'if ({_URI} = "") {{ return 444; }}', f"set {_DONE} -done;"]
    if each.name.startswith("@"):
        lines += ["satisfy any;", "allow all;", f"rewrite ^ {_URI} break;", f'try_files "" {each.name};']
    else:
        lines += [f"rewrite ^ {_URI} last;"]
    inner = "".join(f"    {line}\n" for line in lines)
    return f"location = {through(each)} {{\n{inner}}}"


def location_line(each: Passing, flag: str) -> str:
    """The one line of a location. The second time no file has the name that is tested."""
    tested = quoted(f"{flag}{_DONE}{_ESCAPED if _sends_as_written(each) else ''}")
    return f"if (-f {tested}) {{ set {_URI} $uri; rewrite ^ {through(each)} last; }}"


def flag_of(test: Directive) -> str:
    """The file that an `if (-f FILE)` tests, without the variables of our line. "" for any other `if`."""
    return test.args[1].partition(_DONE)[0] if test.args[:1] == ("-f",) and test.args[1:] else ""


def _sends_as_written(each: Passing) -> bool:
    """A variable in it changes nothing: it may be empty, and then no URI part is left."""
    return any(one.name in _AS_SENT for one in passes_of(each.location))


def no_cure(each: Passing) -> str:
    """Why no lines can keep this location as it is, or ""."""
    if name := _captured_name(each):
        return f"`server_name {name}` sets $1, and the lines of its server would clear it"
    if not each.location.args[0].startswith("~") and (using := _outer_capture(each)):
        return f"`{using.text}` uses a capture of a regex outside of it"
    limits = each.location.children("limit_req", "limit_conn") if each.name.startswith("@") else ()
    return f"`{limits[0].text}` would come after the limits of its server while the flag is up" if limits else ""


def _captured_name(each: Passing) -> str:
    """A regex in `server_name` that sets $1, or any regex there where $1 is used; "" where there is none."""
    names = [arg for line in each.server.children("server_name") for arg in line.args if arg.startswith("~")]
    is_used = each.captured or any(map(_uses_capture, walk([each.server])))
    return next((name for name in names if is_used or _NUMBERED.search(name)), "")


def captured_in_http(conf: NginxConf) -> tuple[Directive, ...]:
    """The lines of http, outside of all servers, that use $1 to $9. The values behind a regex of a `map` are its own captures."""
    block = http(conf)
    found = (line for each in (block.block or () if block else ()) if each.name != "server" for line in walk([each]))
    return tuple(line for line in found if _uses_capture(line) and not line.name.startswith("~"))


def _uses_capture(line: Directive) -> bool:
    return _CAPTURE.search(" ".join(line.args)) is not None


def _outer_capture(each: Passing) -> Directive | None:
    """A directive that uses $1 to $9, which no regex of this location has set just before it."""
    blocks = each.around[:-1]
    inherited = (line for block in blocks for line in block.block or () if line.block is None and line.name not in REWRITES)
    outside = each.captured if any(map(_may_capture, blocks)) else ()
    found = (line for line in (*outside, *inherited, *_outside_regexes(each.location)) if line.name != "rewrite")
    return next(filter(_uses_capture, found), None)


def _may_capture(block: Directive) -> bool:
    """Whether it is a regex location, or a line of its rewrite phase has a group."""
    tests = (" ".join(line.args) for line in block.children("if", "rewrite"))
    return any("(" in text for text in (" ".join(block.args), *tests))


def _outside_regexes(block: Directive) -> Iterator[Directive]:
    for each in block.block or ():
        if each.name != "location" and not (each.name == "if" and any(arg.lstrip("!").startswith("~") for arg in each.args)):
            yield each
            yield from _outside_regexes(each)


# ---- comparing and writing ----


def shapes(block: Iterable[Directive]) -> tuple[Shape, ...]:
    """Directives without their places."""
    return tuple((each.name, each.args, shapes(each.block or ())) for each in block if each.name != "include")


@cache
def parsed(*lines: str) -> tuple[Shape, ...]:
    """The same of a text."""
    return shapes(parse_dump("# configuration file drain:\n" + "\n".join(lines) + "\n").tree)


def with_lines(text: str, needed: Iterable[DrainLines]) -> str:
    """The text of a file with these lines in it, but for blocks whose old lines must go first.

    StatementError names a block that can't be found in it.
    """
    places = [(block_start(text, each.line, each.words), each) for each in needed if each.lines and not each.remove]
    for at, each in sorted(places, key=lambda place: place[0], reverse=True):
        start, end = line_span(text, each.line)
        line = text[start:end]
        begin = "\n" + line[: len(line) - len(line.lstrip())] + " " * 4
        added = "\n" + each.indented(begin[1:])
        rest, newline, below = text[at:].partition("\n")
        text = text[:at] + added + (begin + rest.lstrip() if rest.strip() else rest) + newline + below
    return text

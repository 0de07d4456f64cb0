"""Finds the nginx directive behind a cause, with its value, file and line.

A value is the one in effect: of the innermost block around the `proxy_pass` (or the like) that has the directive, else nginx's own
default (ngx_http_proxy_module.c, its siblings, ngx_event.c). Where a cause names servers, only the places that pass to them count.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.diagnose.causes import Cause, catalogue
from upswitch.diagnose.count_errors import FAIL_TIMEOUT_S
from upswitch.nginx import configuration
from upswitch.nginx.build import Build
from upswitch.nginx.configuration import PASSES, SCOPES, http, passed_upstream, upstream_blocks
from upswitch.nginx.dump import Directive, NginxConf
from upswitch.site.server_line import canonical, is_address
from upswitch.site.values import parse_duration

_MOST = 6
_LIMIT = re.compile(r"\b(down|max_conns|max_fails|fail_timeout)\b")
"""What on a `server` line keeps nginx from asking it."""


class Setting(Value):
    """One directive in effect. `place` is FILE:LINE, "" where nothing sets it; then `value` is nginx's default, "" for none."""

    name: str
    value: str
    place: str = ""

    @property
    def text(self) -> str:
        if self.place:
            return f"{self.place}: {self.name} {self.value}".rstrip()
        return f"{self.name} {self.value} (nginx's default; nothing sets it)" if self.value else f"{self.name} is not set"


class Passing(Value):
    """One `proxy_pass` or the like, and the blocks around it, the outermost (http) first."""

    directive: Directive
    around: tuple[Directive, ...]

    @property
    def kind(self) -> str:
        """`proxy`, `grpc`, `fastcgi`, ...: how the names of its directives begin."""
        return self.directive.name.removesuffix("_pass")


Addresses = Mapping[str, Collection[str]]
"""Those of upstreams by name, as nginx logs them, where they can't be read from the configuration (names)."""

_UNKNOWN: Addresses = {}


def behind(conf: NginxConf, code: str, servers: Collection[str], addresses: Addresses = _UNKNOWN) -> tuple[Setting, ...]:
    """The settings to look at for a cause seen at these servers (addresses, or names of upstreams); each once, a few at most.

    Where nothing sets them: the places that pass to such a server without an upstream.
    """
    cause = catalogue().causes.get(code)
    if cause is None:
        return ()
    blocks = _blocks(conf, servers, addresses)
    passings = _concerned(passings_of(conf), servers, blocks)
    found = dict.fromkeys((*_of_servers(cause, servers, blocks), *_of_passings(cause, passings), *_of_process(conf, cause)))
    if not any(each.place for each in found):
        found |= dict.fromkeys(_set(each.directive) for each in passings if target_of(each) in servers)
    return tuple(found)[:_MOST]


def passings_of(conf: NginxConf) -> tuple[Passing, ...]:
    """Every place of http that passes requests on, in the order of the configuration."""
    block = http(conf)
    return tuple(_walk(block, ())) if block else ()


def addresses_of(block: Directive) -> tuple[str, ...]:
    """The `server` lines of an upstream by address: IP:PORT, [IP6]:PORT, unix:/path, or NAME:PORT."""
    return tuple(full_address(each.args[0]) for each in block.children("server") if each.args)


def known_addresses(conf: NginxConf) -> dict[str, frozenset[str]]:
    """Those of upstreams by name, without upstreams that have host names."""
    found = {each.args[0]: frozenset(addresses_of(each)) for each in upstream_blocks(conf)}
    return {name: servers for name, servers in found.items() if servers and all(map(is_address, servers))}


def fail_timeout_s(conf: NginxConf) -> int:
    """The longest of all servers."""
    words = (word.partition("=") for block in upstream_blocks(conf) for server in block.children("server") for word in server.args)
    texts = (value if value[-1:].isalpha() else f"{value}s" for name, _, value in words if name == "fail_timeout")
    return max((int(seconds) for seconds in map(parse_duration, texts) if seconds is not None), default=FAIL_TIMEOUT_S)


def full_address(text: str, port: int = 80) -> str:
    """With its port, spelt as nginx logs it; a name stays one."""
    if text.startswith("unix:"):
        return text.rstrip(":")
    written = text if ":" in text.rpartition("]")[2] else f"{text}:{port}"
    ip = canonical(written)
    return written if not ip else f"[{ip.rpartition(':')[0]}]:{ip.rpartition(':')[2]}" if ip.count(":") > 1 else ip


def target_of(passing: Passing) -> str:
    """Where it leads, with its port: an address, or a name (of an upstream, too; then the port means nothing)."""
    port = 443 if passing.directive.args[0].startswith(("https:", "grpcs:")) else 80
    return full_address(passed_upstream(passing.directive), port)


def _walk(scope: Directive, around: tuple[Directive, ...]) -> Iterator[Passing]:
    inside = (*around, scope)
    for each in scope.children(*PASSES):
        if each.args:
            yield Passing(directive=each, around=inside)
    for inner in scope.children(*SCOPES):
        yield from _walk(inner, inside)


def _blocks(conf: NginxConf, servers: Collection[str], addresses: Addresses) -> tuple[Directive, ...]:
    """The upstreams that the servers are of, or that are named themselves."""
    wanted = set(servers)
    return tuple(
        each
        for each in upstream_blocks(conf)
        if each.args[0] in wanted or wanted & {*addresses_of(each), *addresses.get(each.args[0], ())}
    )


def _concerned(passings: tuple[Passing, ...], servers: Collection[str], blocks: tuple[Directive, ...]) -> tuple[Passing, ...]:
    """Those to these servers; else those whose target is only known at run time; else all."""
    names = {each.args[0] for each in blocks} | set(servers)
    named = [each for each in passings if passed_upstream(each.directive) in names or target_of(each) in names]
    open_ended = [each for each in passings if "$" in each.directive.args[0]]
    return tuple(named or (open_ended if servers else []) or passings)


def _of_servers(cause: Cause, servers: Collection[str], blocks: tuple[Directive, ...]) -> Iterator[Setting]:
    for block in blocks:
        yield from _in_effect((block,), _wanted(cause, "upstream"))
        for each in block.children("server") if "server" in cause.settings else ():
            is_named = full_address(each.args[0]) in servers
            if is_named or (block.args[0] in servers and _LIMIT.search(" ".join(each.args[1:]))):
                yield _set(each)


def _of_passings(cause: Cause, passings: tuple[Passing, ...]) -> Iterator[Setting]:
    for passing in passings:
        if "_pass" in cause.settings:
            yield _set(passing.directive)
        if "return" in cause.settings:
            yield from (_set(each) for scope in passing.around for each in scope.children("return") if each.args[:1] > ("500",))
        yield from _in_effect(passing.around, _wanted(cause, "around", passing.kind))


def _of_process(conf: NginxConf, cause: Cause) -> Iterator[Setting]:
    main = Directive(name="main", args=(), file="", line=0, block=conf.tree)
    yield from _in_effect((main,), _wanted(cause, "main"))
    yield from _in_effect(main.children("events"), _wanted(cause, "events"))


def _wanted(cause: Cause, place: str, kind: str = "") -> Iterator[tuple[str, str]]:
    """The directives of a cause that stand in this place, each with nginx's default."""
    defaults = catalogue().directives[place]
    for name in cause.settings:
        if name in defaults:
            yield f"{kind}{name}" if name.startswith("_") else name, defaults[name]


def _in_effect(around: tuple[Directive, ...], wanted: Iterable[tuple[str, str]]) -> Iterator[Setting]:
    """Of the innermost block that has the directive: all its lines, as some stand several times."""
    for name, default in wanted:
        lines = next((found for scope in reversed(around) if (found := scope.children(name))), ())
        yield from map(_set, lines)
        if not lines:
            yield Setting(name=name, value=default)


def _set(directive: Directive) -> Setting:
    name, _, value = directive.text.removesuffix(";").partition(" ")
    return Setting(name=plain(name), value=plain(value), place=plain(directive.place))


_KEEPS_ALIVE_SINCE = (1, 29, 7)


class Known(Value):
    """What the caller knows besides the logs; nothing by default. Upstreams by name.

    `max_conns`: those with a server that has it. `checked`: those that a check module checks with
    `default_down=true`, or holds down now before any failure. `failing`: those that it holds down now after failures.
    `keeps_alive`: whether nginx keeps connections to servers; None: not known.
    """

    max_conns: frozenset[str] = frozenset()
    checked: frozenset[str] = frozenset()
    failing: frozenset[str] = frozenset()
    keeps_alive: bool | None = None


def known_of(conf: NginxConf, build: Build | None) -> Known:
    """`build` None: nginx could not be asked which it is."""
    blocks = configuration.upstream_blocks(conf)
    return Known(
        max_conns=frozenset(each.args[0] for each in blocks if any(map(_is_limited, each.children("server")))),
        checked=frozenset(each.args[0] for each in blocks if _begins_down(each)),
        keeps_alive=_keeps_alive(conf, build) if build else None,
    )


def _keeps_alive(conf: NginxConf, build: Build) -> bool:
    """Since 1.29.7 without being asked to."""
    said = [each.args[:1] for block in configuration.upstream_blocks(conf) for each in block.children("keepalive")]
    return any(each != ("0",) for each in said) or (build.version >= _KEEPS_ALIVE_SINCE and not said)


def _is_limited(server: Directive) -> bool:
    return any(each.startswith("max_conns=") and each != "max_conns=0" for each in server.args)


def _begins_down(block: Directive) -> bool:
    return any("default_down=false" not in check.args for check in block.children("check"))

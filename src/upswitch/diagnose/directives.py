"""Finds the nginx directive behind a cause, with its value, file and line.

A value is the one in effect: of the innermost block around the `proxy_pass` (or the like) that has the directive, else nginx's own
default (ngx_http_proxy_module.c, its siblings, ngx_event.c). Where a cause names servers, only the places that pass to them count.
"""

import re
from collections.abc import Collection, Iterator, Mapping

from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.diagnose.causes.cause import Code
from upswitch.nginx import configuration
from upswitch.nginx.build import Build
from upswitch.nginx.configuration import PASSES, SCOPES, http, passed_upstream, upstream_blocks
from upswitch.nginx.dump import Directive, NginxConf
from upswitch.site.server_line import canonical

_MOST = 6
_Wanted = tuple[tuple[str, str], ...]
"""Names of directives, each with nginx's default, "" where there is none. One that begins with `_` gets `proxy`, `fastcgi`, ..."""

_READ: _Wanted = (("_read_timeout", "60s"),)
_CONNECT: _Wanted = (("_connect_timeout", "60s"),)
_NEXT: _Wanted = (("_next_upstream", "error timeout"),)
_RESOLVER: _Wanted = (("resolver", ""), ("resolver_timeout", "30s"))
_TLS_NAME: _Wanted = (("_ssl_name", "$proxy_host"), ("_ssl_server_name", "off"))
_KEEPALIVE: _Wanted = (("keepalive", "32 local since 1.29.7, none before"), ("keepalive_timeout", "60s"))
_AROUND: Mapping[Code, _Wanted] = {
    Code.READ_TIMEOUT: _READ,
    Code.READ_TIMEOUT_BODY: _READ,
    Code.SEND_TIMEOUT: (("_send_timeout", "60s"),),
    Code.CONNECT_TIMEOUT: _CONNECT,
    Code.TLS_HANDSHAKE_TIMEOUT: _CONNECT,  # ngx_http_upstream_ssl_init_connection
    Code.HEADER_TOO_BIG: (("_buffer_size", "4k or 8k, a page of memory"),),
    Code.UPSTREAM_RESET: _NEXT,
    Code.UPSTREAM_PREMATURE_CLOSE: _NEXT,
    Code.UPSTREAM_ANSWERED: _NEXT,
    Code.UPSTREAM_CLOSED_DURING_SEND: (("client_max_body_size", "1m"),),
    Code.BODY_TOO_LARGE: (("client_max_body_size", "1m"),),
    Code.DNS_NXDOMAIN: _RESOLVER,
    Code.DNS_REFUSED: _RESOLVER,
    Code.DNS_SERVFAIL: _RESOLVER,
    Code.DNS_TIMEOUT: _RESOLVER,
    Code.DNS_SERVER_DOWN: _RESOLVER,
    Code.NO_RESOLVER: _RESOLVER[:1],
    Code.TLS_VERIFY_FAILED: (("_ssl_verify", "off"), ("_ssl_trusted_certificate", "")),
    Code.TLS_NAME_MISMATCH: (("_ssl_verify", "off"), *_TLS_NAME[:1]),
    Code.TLS_CLIENT_CERT_REQUIRED: (("_ssl_certificate", ""),),
    Code.TLS_PROTOCOL_MISMATCH: (("_ssl_protocols", "TLSv1.2 TLSv1.3 (before 1.23.4 TLSv1 TLSv1.1 TLSv1.2)"),),
    Code.TLS_CIPHER_MISMATCH: (("_ssl_ciphers", "DEFAULT"),),
    Code.TLS_SNI_REQUIRED: _TLS_NAME[::-1],
    Code.TLS_HANDSHAKE_CLOSED: _TLS_NAME[::-1],
    Code.BIND_ADDRESS_MISSING: (("_bind", ""),),
    Code.TEMP_PATH_PERMISSION: (("_temp_path", ""),),
    Code.LIMIT_REQ: (("limit_req", ""),),
    Code.LIMIT_CONN: (("limit_conn", ""),),
    Code.AUTH_REQUEST_FAILED: (("auth_request", "off"),),
    Code.CLIENT_CLOSED: (("_ignore_client_abort", "off"), *_READ),
}
_MAIN: Mapping[Code, _Wanted] = {
    Code.FD_LIMIT: (("worker_rlimit_nofile", ""),),
    Code.WORKER_SHUTDOWN_TIMEOUT: (("worker_shutdown_timeout", ""),),
    Code.TEMP_PATH_PERMISSION: (("user", ""),),
}
_EVENTS: Mapping[Code, _Wanted] = {Code.WORKER_CONNECTIONS: (("worker_connections", "512"),)}
_UPSTREAM: Mapping[Code, _Wanted] = {
    Code.KEEPALIVE_RACE: _KEEPALIVE,
    Code.HEALTH_CHECK_DOWN: (("check", ""),),
    Code.HEALTH_CHECK_NOT_YET_UP: (("check", ""),),
}
_LIMIT = re.compile(r"\b(down|max_conns|max_fails|fail_timeout)\b")
"""What on a `server` line keeps nginx from asking it."""

_SERVER_LINES = frozenset({Code.NO_LIVE_ALL_DOWN, Code.MAX_CONNS, Code.CONNECT_REFUSED, Code.NO_ROUTE_TO_HOST})
_PASS_LINES = frozenset(
    {
        Code.TLS_TO_PLAIN_PORT,
        Code.PROTOCOL_MISMATCH_FASTCGI,
        Code.PROTOCOL_MISMATCH_GRPC,
        Code.NOT_HTTP,
        Code.PROXY_PASS_INVALID_URL,
        Code.NO_RESOLVER,
    },
)


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
    """The settings to look at for a cause seen at these servers (addresses, or names of upstreams); each once, a few at most."""
    if code not in set(Code):
        return ()
    cause = Code(code)
    blocks = _blocks(conf, servers, addresses)
    passings = _concerned(passings_of(conf), servers, blocks)
    found = dict.fromkeys((*_of_servers(cause, servers, blocks), *_of_passings(cause, passings), *_of_process(conf, cause)))
    return tuple(found)[:_MOST]


def passings_of(conf: NginxConf) -> tuple[Passing, ...]:
    """Every place of http that passes requests on, in the order of the configuration."""
    block = http(conf)
    return tuple(_walk(block, ())) if block else ()


def addresses_of(block: Directive) -> tuple[str, ...]:
    """The `server` lines of an upstream by address: IP:PORT, [IP6]:PORT, unix:/path, or NAME:PORT."""
    return tuple(full_address(each.args[0]) for each in block.children("server") if each.args)


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


def _of_servers(cause: Code, servers: Collection[str], blocks: tuple[Directive, ...]) -> Iterator[Setting]:
    for block in blocks:
        for name, default in _UPSTREAM.get(cause, ()):
            yield from _in_effect((block,), name, default)
        for each in block.children("server") if cause in _SERVER_LINES else ():
            is_named = full_address(each.args[0]) in servers
            if is_named or (block.args[0] in servers and _LIMIT.search(" ".join(each.args[1:]))):
                yield _set(each)


def _of_passings(cause: Code, passings: tuple[Passing, ...]) -> Iterator[Setting]:
    for passing in passings:
        if cause in _PASS_LINES:
            yield _set(passing.directive)
        if cause is Code.NGINX_RETURN:
            yield from (_set(each) for scope in passing.around for each in scope.children("return") if each.args[:1] > ("500",))
        for name, default in _AROUND.get(cause, ()):
            yield from _in_effect(passing.around, f"{passing.kind}{name}" if name.startswith("_") else name, default)


def _of_process(conf: NginxConf, cause: Code) -> Iterator[Setting]:
    main = Directive(name="main", args=(), file="", line=0, block=conf.tree)
    for name, default in _MAIN.get(cause, ()):
        yield from _in_effect((main,), name, default)
    for name, default in _EVENTS.get(cause, ()):
        yield from _in_effect(main.children("events"), name, default)


def _in_effect(around: tuple[Directive, ...], name: str, default: str) -> Iterator[Setting]:
    """Of the innermost block that has it: all its lines, as some directives stand several times."""
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

    `max_conns`: those with a server that has it. `checked`: those that a check module checks with `default_down=true`.
    `keeps_alive`: whether nginx keeps connections to servers; None: not known.
    """

    max_conns: frozenset[str] = frozenset()
    checked: frozenset[str] = frozenset()
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

"""The lint rules about `proxy_pass` and its kin: what becomes of a request when its server fails. Their words are in rules.toml."""

import re
from collections.abc import Iterator

from upswitch.diagnose.directives import Passing
from upswitch.lint.rules import Spot, Subject, spot
from upswitch.lint.upstream_rules import parameter
from upswitch.nginx import configuration
from upswitch.nginx.dump import Directive
from upswitch.nginx.units import bytes_of, seconds_of
from upswitch.site.server_line import is_name

_ANSWERS = ("http_500", "http_502", "http_503", "http_504", "http_429")
_SHORT_S, _LONG_S = 5.0, 30.0
_HIDDEN = re.compile(r"50[0234]")
_DOCKER_DNS = "127.0.0.11"
_PAGE_BYTES = 4096


# ---- another try ----


def post_sent_twice(subject: Subject) -> Iterator[Spot]:
    for each, _ in _settings(subject, "next_upstream"):
        if "non_idempotent" in each.args:
            words = [word for word in each.args if word != "non_idempotent"]
            yield spot(each, line=_line(each, *words))


def next_upstream_off(subject: Subject) -> Iterator[Spot]:
    for each, passing in _settings(subject, "next_upstream"):
        if "off" in each.args and _servers(subject, passing) > 1:
            yield spot(each, line=_line(each, "error", "timeout"), servers=_servers(subject, passing))
    for each, passing in _settings(subject, "next_upstream_tries"):
        if each.args == ("1",) and _servers(subject, passing) > 1:
            yield spot(each, line=_line(each, "2"), servers=_servers(subject, passing))


def retries_unbounded(subject: Subject) -> Iterator[Spot]:
    """Since 1.7.5 there are limits, and their defaults are none."""
    for passing in subject.passings:
        servers, kind = _servers(subject, passing), passing.kind
        limits = (_setting(passing, f"{kind}_next_upstream_{limit}") for limit in ("tries", "timeout"))
        retry = _setting(passing, f"{kind}_next_upstream")
        if servers > 2 and not any(limits) and (retry is None or "off" not in retry.args):  # noqa: PLR2004  (2 tries are the advice)
            yield spot(passing.directive, servers=servers, line=f"{kind}_next_upstream_tries 2;")


def answers_take_servers_out(subject: Subject) -> Iterator[Spot]:
    """ngx_http_upstream_next: with these words such an answer is a failure of the server."""
    for each, passing in _settings(subject, "next_upstream"):
        answers = [word for word in each.args if word in _ANSWERS]
        quick = [server for block in _blocks(subject, passing) for server in block.children("server") if _fails_once(server)]
        if answers and quick and _servers(subject, passing) > 1:
            rest = [word for word in each.args if word not in _ANSWERS] or ["error", "timeout"]
            yield spot(each, answers=" ".join(answers), line=_line(each, *rest))


def _fails_once(server: Directive) -> bool:
    return parameter(server, "max_fails", "1") == "1"


def read_timeout_short(subject: Subject) -> Iterator[Spot]:
    for each, passing in _settings(subject, "read_timeout"):
        retry = _setting(passing, f"{passing.kind}_next_upstream")
        is_retried = retry is None or {"timeout", "error"} & {*retry.args} >= {"timeout"}
        if each.args and 0 < seconds_of(each.args[0]) <= _SHORT_S and is_retried and _servers(subject, passing) > 1:
            yield spot(each, seconds=f"{seconds_of(each.args[0]):g}", line=_line(each, "60s"))


def connect_timeout_long(subject: Subject) -> Iterator[Spot]:
    for each, passing in _settings(subject, "connect_timeout"):
        if each.args and seconds_of(each.args[0]) >= _LONG_S and _servers(subject, passing) > 1:
            yield spot(each, seconds=f"{seconds_of(each.args[0]):g}", line=_line(each, "3s"))


def request_unbuffered(subject: Subject) -> Iterator[Spot]:
    for each, passing in _settings(subject, "request_buffering"):
        if each.args == ("off",) and _servers(subject, passing) > 1:
            yield spot(each, line=_line(each, "on"))


# ---- connections and headers ----


def keepalive_unused(subject: Subject) -> Iterator[Spot]:
    """nginx-facts.md, section 5. FastCGI has a directive of its own, also since 1.29.7."""
    for passing in subject.passings:
        kept = _kept(subject, passing)
        if not kept:
            continue
        missing = list(_missing_for_keepalive(passing)) if not subject.build.keeps_upstream_connections else []
        if passing.kind == "fastcgi" and _value(passing, "fastcgi_keep_conn", "off") != "on":
            missing = ["fastcgi_keep_conn on;"]
        if missing:
            yield spot(passing.directive, place=kept[0].place, lines=" ".join(missing))


def _missing_for_keepalive(passing: Passing) -> Iterator[str]:
    if passing.kind != "proxy":
        return
    if _value(passing, "proxy_http_version", "1.0") == "1.0":
        yield "proxy_http_version 1.1;"
    connections = [each.args[1:] for each in _headers(passing) if each.args[0].lower() == "connection"]
    if not connections or connections[-1] == ("close",):
        yield 'proxy_set_header Connection "";'


def keepalive_closed_by_map(subject: Subject) -> Iterator[Spot]:
    """The `map` that nginx.org prints for websockets says `close` where no Upgrade is asked for."""
    for passing in subject.passings:
        used = {each.args[1] for each in _headers(passing) if each.args[0].lower() == "connection" and each.args[1:]}
        kept = _kept(subject, passing)
        for block in configuration.http_children(subject.conf, "map") if kept else ():
            closing = [each for each in block.block or () if block.args[-1] in used and (each.name, *each.args) == ("", "close")]
            yield from (spot(each, place=kept[0].place) for each in closing)


def _kept(subject: Subject, passing: Passing) -> list[Directive]:
    return [line for block in _blocks(subject, passing) for line in block.children("keepalive") if line.args != ("0",)]


def set_header_lost(subject: Subject) -> Iterator[Spot]:
    """proxy_set_header of a level replaces all those of the level around it (ngx_http_proxy_merge_loc_conf)."""
    for passing in subject.passings:
        levels = [scope.children("proxy_set_header") for scope in passing.around if scope.children("proxy_set_header")]
        if passing.kind != "proxy" or len(levels) < 2:  # noqa: PLR2004  (the outer level and the inner one)
            continue
        inner = {each.args[0].lower() for each in levels[-1] if each.args}
        lost = [each for each in levels[-2] if each.args and each.args[0].lower() not in inner]
        if any(each.args[0].lower() in {"host", "connection"} for each in lost):
            yield spot(levels[-1][0], place=lost[0].place, lines=" ".join(each.text for each in lost))


def upgrade_without_http_1_1(subject: Subject) -> Iterator[Spot]:
    for passing in subject.passings if not subject.build.keeps_upstream_connections else ():
        is_upgrade = any(each.args[0].lower() == "upgrade" for each in _headers(passing) if each.args)
        if passing.kind == "proxy" and is_upgrade and _value(passing, "proxy_http_version", "1.0") == "1.0":
            yield spot(passing.directive)


def header_buffer_small(subject: Subject) -> Iterator[Spot]:
    """proxy_buffers hold the body. The header has to fit into proxy_buffer_size alone (ngx_http_upstream_process_header)."""
    for each, passing in _settings(subject, "buffers"):
        size = _setting(passing, f"{passing.kind}_buffer_size")
        if size is None and each.args[1:] and bytes_of(each.args[1]) > _PAGE_BYTES:
            yield spot(each, line=f"{passing.kind}_buffer_size {each.args[1]};")


def no_sni(subject: Subject) -> Iterator[Spot]:
    for passing in subject.passings:
        target = passing.directive.args[0]
        name = configuration.passed_upstream(passing.directive)
        hosts = [server.args[0] for block in _blocks(subject, passing) for server in block.children("server") if server.args]
        is_named = any(map(is_name, hosts or [name])) and "$" not in target
        if target.startswith("https:") and is_named and _value(passing, "proxy_ssl_server_name", "off") != "on":
            lines = "proxy_ssl_server_name on;"
            lines += f" proxy_ssl_name {hosts[0].partition(':')[0]};" if hosts and not _setting(passing, "proxy_ssl_name") else ""
            yield spot(passing.directive, lines=lines)


# ---- what hides a failure ----


def error_page_hides(subject: Subject) -> Iterator[Spot]:
    for passing in subject.passings:
        pages = next((found for scope in reversed(passing.around) if (found := scope.children("error_page"))), ())
        for page in pages:
            codes = [word for word in page.args[:-1] if _HIDDEN.fullmatch(word)]
            answer = next((word for word in page.args[:-1] if word.startswith("=")), "")
            is_good = answer[1:2] in {"2", "3"} or (answer == "=" and not page.args[-1].startswith("@"))
            if codes and is_good:
                words = [word for word in page.args if not word.startswith("=")]
                yield spot(page, codes=" ".join(codes), line=_line(page, *words))


def no_resolver(subject: Subject) -> Iterator[Spot]:
    """Only of names that can be followed through `map` and `set`. An upstream of that name needs no resolver."""
    for passing, names in _named_by_variable(subject):
        if _setting(passing, "resolver") is None and not subject.is_incomplete:
            yield spot(passing.directive, names=names)


def variable_hides_name(subject: Subject) -> Iterator[Spot]:
    for passing, names in _named_by_variable(subject):
        if _setting(passing, "resolver") is not None or subject.is_incomplete:
            yield spot(passing.directive, names=names)


def _named_by_variable(subject: Subject) -> Iterator[tuple[Passing, str]]:
    """The places with a variable, and the names in it that no upstream has."""
    upstreams = {block.args[0].lower() for block in configuration.upstream_blocks(subject.conf)}
    for passing in subject.passings:
        if "$" in passing.directive.args[0]:
            targets = [each for each in configuration.passed_upstreams(subject.conf, passing.directive) if each and "$" not in each]
            foreign = [each for each in targets if is_name(each) and not {each.lower(), each.lower().partition(":")[0]} & upstreams]
            if foreign:
                yield passing, ", ".join(dict.fromkeys(each.partition(":")[0] for each in foreign))


def variable_drops_uri(subject: Subject) -> Iterator[Spot]:
    """With a variable nginx takes the written URI for the whole one (ngx_http_proxy_eval)."""
    for passing in subject.passings:
        target = re.match(r"(\w+://[^/]*\$[^/]*)(/[^$]*)$", passing.directive.args[0])
        location = passing.around[-1]
        if passing.kind == "proxy" and target and location.name == "location" and location.args[0][:1] not in ("=", "@"):
            line = _line(passing.directive, target[1])
            is_prefix = not location.args[0].startswith("~")
            lines = f"rewrite ^{location.args[-1]}(.*)$ {target[2]}$1 break; {line}" if target[2] != "/" and is_prefix else line
            yield spot(passing.directive, uri=target[2], lines=lines)


def docker_resolver_ttl(subject: Subject) -> Iterator[Spot]:
    for each in _resolvers(subject):
        if _DOCKER_DNS in each.args and not any(word.startswith("valid=") for word in each.args):
            yield spot(each, line=_line(each, *each.args, "valid=10s"))


def resolver_ipv6(subject: Subject) -> Iterator[Spot]:
    for each in _resolvers(subject):
        if not any(word.startswith(("ipv6=", "ipv4=")) for word in each.args):
            yield spot(each, line=_line(each, *each.args, "ipv6=off"))


def _resolvers(subject: Subject) -> Iterator[Directive]:
    used = [_setting(passing, "resolver") for passing in subject.passings if "$" in passing.directive.args[0]]
    yield from dict.fromkeys(each for each in used if each is not None)


# ---- what is in effect ----


def _settings(subject: Subject, name: str) -> Iterator[tuple[Directive, Passing]]:
    """Each line of `proxy_NAME` (or the like) that is in effect, with the first place that it is in effect for."""
    found: dict[Directive, Passing] = {}
    for passing in subject.passings:
        each = _setting(passing, f"{passing.kind}_{name}")
        if each is not None and (each not in found or _servers(subject, passing) > _servers(subject, found[each])):
            found[each] = passing
    yield from found.items()


def _setting(passing: Passing, name: str) -> Directive | None:
    """The one of the innermost block that has it."""
    return next((found[-1] for scope in reversed(passing.around) if (found := scope.children(name))), None)


def _value(passing: Passing, name: str, otherwise: str) -> str:
    found = _setting(passing, name)
    return found.args[0] if found is not None and found.args else otherwise


def _headers(passing: Passing) -> tuple[Directive, ...]:
    return next((found for scope in reversed(passing.around) if (found := scope.children("proxy_set_header"))), ())


def _blocks(subject: Subject, passing: Passing) -> list[Directive]:
    names = {each.lower() for each in configuration.passed_upstreams(subject.conf, passing.directive)}
    return [block for block in configuration.upstream_blocks(subject.conf) if block.args[0].lower() in names]


def _servers(subject: Subject, passing: Passing) -> int:
    """How many servers a request may try."""
    counts = [sum("down" not in each.args for each in block.children("server")) for block in _blocks(subject, passing)]
    return max(counts, default=1)


def _line(directive: Directive, *args: str) -> str:
    """The same directive with other arguments, as it is to be written."""
    return Directive(name=directive.name, args=args, file="", line=0).text

"""`[upstreams]` of the site file: names, pools, servers, directives, checks."""

import re
from collections.abc import Iterable

from upswitch.site import allowed
from upswitch.site.model import HTTP_CLASSES, Check, Pool, Server, Upstream
from upswitch.site.server_line import identity, parse_server
from upswitch.site.table_reader import Reader, any_number, shown
from upswitch.site.words import BETWEEN, CheckType

UPSTREAM_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
POOL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")

_OURS = ("marker", "standby")  # files of a generation that are not an upstream's
_UPSTREAM_SAYS = (
    "an upstream's name is up to 64 letters, digits and _ . - (not first: . or -), without __standby_, "
    "and not marker or standby, which are files of ours"
)
_POOL_SAYS = (
    "a pool, which is a list of at least one server line under a name of up to 64 letters, digits and _ - (not first), "
    'or one of directives, template, check; an upstream with dots needs quotes: [upstreams."app.v2"]'
)
# A server, a file with servers, and the checks have their own place in the site file; `state` (Plus) is a file with servers.
_ELSEWHERE = re.compile(r"server|include|upstream|state|check.*")
_DIRECTIVE = re.compile(r"[a-z][a-z0-9_]*(?: [A-Za-z0-9_.:/=$@%+,*~\[\]][A-Za-z0-9_.:/=$@%+,*~\[\]-]*)*")
_TEMPLATE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LONGEST_SEND = 4000  # nginx takes no parameter over 4096 bytes
_PARAM = re.compile(r"[A-Z][A-Z0-9_]{0,126}")
_LONGEST_PARAM = 1000
_ONLY_FOR = {
    "http_send": (CheckType.HTTP,),
    "http_expect_alive": (CheckType.HTTP, CheckType.FASTCGI),
    "fastcgi_param": (CheckType.FASTCGI,),
}


def upstreams(reader: Reader) -> tuple[Upstream, ...]:
    """Every upstream that can be read; problems go to the reader."""
    names = reader.rest
    if not names:
        reader.refuse("", "(none)", 'at least one table [upstreams.NAME] with its pools, such as A = ["127.0.0.1:8001"]')
    named = [name for name in names if _is_named(reader, name)]
    _refuse_equal_names(reader, named, "to nginx they are one")
    found = tuple(_upstream(name, reader.inner(name)) for name in named)
    _refuse_unequal_pools(reader, found)
    return found


def http_send(value: object) -> str:
    """A whole HTTP request without a body: printable ASCII, and an empty line at its end."""
    request = allowed.text(value)
    is_plain = re.fullmatch(r"[ -~\r\n\t]*", request) and len(request) <= _LONGEST_SEND and "${" not in request
    if not request.endswith("\r\n\r\n") or not is_plain:
        raise ValueError(
            r"an HTTP request in printable ASCII that ends with an empty line (\r\n\r\n), without ${, at most 4000 characters"
        )
    return request


def http_class(value: object) -> str:
    if value not in HTTP_CLASSES:
        raise ValueError(f"one of {', '.join(HTTP_CLASSES)}")
    return str(value)


def _is_named(reader: Reader, name: str) -> bool:
    """A name out of order is not read on: it would reach a person's terminal raw."""
    is_good = UPSTREAM_NAME.fullmatch(name) is not None and name not in _OURS and BETWEEN not in name
    if not is_good:
        reader.refuse(name, shown(name), _UPSTREAM_SAYS)
    return is_good


def _refuse_equal_names(reader: Reader, names: Iterable[str], why: str) -> None:
    """nginx compares the names of upstreams without case: "duplicate upstream". A pool's is part of its standby's."""
    seen: dict[str, str] = {}
    for name in names:
        former = seen.setdefault(name.lower(), name)
        if former != name:
            reader.refuse(name, shown(name), f"a name that is not {former} in other letters: {why}")


def _refuse_unequal_pools(reader: Reader, found: tuple[Upstream, ...]) -> None:
    names = [{pool.name for pool in upstream.pools} for upstream in found]
    every = set().union(*names)
    for upstream, own in zip(found, names, strict=True):
        if own and own != every:
            missing = ", ".join(sorted(every - own))
            reader.refuse(upstream.name, ", ".join(sorted(own)), f"the same pools in every upstream; missing here: {missing}")


def _upstream(name: str, reader: Reader) -> Upstream:
    directives = reader.each("directives", (), _directive, listed=any_number)
    template = reader.take("template", "upstream.conf.j2", _template)
    check = _check(reader.inner("check")) if "check" in reader else None
    names = [key for key in reader.rest if key != "check"]
    if not names:
        reader.refuse("", "(no pool)", 'at least one pool, such as A = ["127.0.0.1:8001"]')
    for key in names:
        if not POOL_NAME.fullmatch(key):
            reader.refuse(key, shown(key), _POOL_SAYS)
    _refuse_equal_names(reader, names, "to nginx their standbys are one")
    pools = tuple(_pool(key, reader) for key in names if POOL_NAME.fullmatch(key))
    _refuse_shared(reader, pools)
    return Upstream(name=name, pools=pools, directives=directives, template=template, check=check)


def _directive(value: object) -> str:
    line = allowed.text(value)
    if not _DIRECTIVE.fullmatch(line) or _ELSEWHERE.fullmatch(line.split(" ")[0]):
        raise ValueError(
            "one directive without its ;, words of letters, digits and _ . : / = $ @ % + , * ~ [ ] - joined by single spaces; "
            "servers, checks and includes do not stand here",
        )
    return line


def _template(value: object) -> str:
    if isinstance(value, str) and _TEMPLATE.fullmatch(value):
        return value
    try:
        return allowed.path(value)
    except ValueError as exc:
        raise ValueError("the bare name of a packaged template, such as upstream.conf.j2, or an absolute path") from exc


def _check(reader: Reader) -> Check:
    """A check table: the names, units and limits of nginx_upstream_check_module (nginx-facts.md section 6)."""
    default = Check()
    kind = reader.take("type", default.type, allowed.word(CheckType))
    alive = () if kind is CheckType.FASTCGI else default.http_expect_alive
    check = Check(
        type=kind,
        interval_ms=reader.take("interval", default.interval_ms, allowed.whole(1)),
        rise=reader.take("rise", default.rise, allowed.whole(1)),
        fall=reader.take("fall", default.fall, allowed.whole(1)),
        timeout_ms=reader.take("timeout", default.timeout_ms, allowed.whole(1)),
        default_down=reader.take("default_down", default.default_down, allowed.truth),
        # The module takes any number and keeps its low 16 bits: 96707 asks 31171.
        port=reader.take("port", default.port, allowed.whole(0, 65535)),
        http_send=reader.take("http_send", default.http_send, http_send, is_secret=True),
        http_expect_alive=reader.each("http_expect_alive", alive, http_class),
        keepalive_requests=reader.take("keepalive_requests", default.keepalive_requests, allowed.whole(1)),
        fastcgi_param=_fastcgi_param(reader.inner("fastcgi_param")),
    )
    if not reader.is_refused("type"):
        _refuse_of_other_types(reader, check.type)
    reader.close()
    return check


def _refuse_of_other_types(reader: Reader, kind: CheckType) -> None:
    """What the module takes and never uses; Tengine's refuses the first of them."""
    for key, kinds in _ONLY_FOR.items():
        if key in reader and kind not in kinds:
            only = " or ".join(f'type = "{each}"' for each in kinds)
            reader.refuse(key, "(given)", f"only with {only}; the type is {kind}")


def _fastcgi_param(reader: Reader) -> tuple[tuple[str, str], ...]:
    """The request of a fastcgi check, in the order of the file; without one the module asks GET / of index.php."""
    names = reader.rest
    pairs = tuple((name, reader.take(name, "", _param_value, is_secret=True)) for name in names)
    for name in names:
        if not _PARAM.fullmatch(name):
            reader.refuse(name, "(given)", "the name of a FastCGI parameter: capital letters, digits and _")
    return pairs


def _param_value(value: object) -> str:
    """Printable ASCII. nginx would take more, but these are paths, methods and names."""
    text = allowed.text(value)
    if not re.fullmatch(r"[ -~]*", text) or len(text) > _LONGEST_PARAM or "${" in text:
        raise ValueError("printable ASCII without ${, at most 1000 characters")
    return text


def _pool(name: str, reader: Reader) -> Pool:
    servers = reader.each(name, (), _server, listed=_lines)
    if servers and all(server.is_down for server in servers):
        reader.refuse(name, shown([server.text for server in servers]), "at least one server that is not down")
    return Pool(name=name, servers=servers)


def _lines(value: object) -> list[object]:
    if not isinstance(value, list) or not value:
        raise ValueError(_POOL_SAYS)
    return value


def _server(value: object) -> Server:
    return parse_server(allowed.text(value))


def _refuse_shared(reader: Reader, pools: tuple[Pool, ...]) -> None:
    """The check module and the log attribution know a server by its address alone (docs/design.md)."""
    owners: dict[str, str] = {}
    for pool in pools:
        for server in pool.servers:
            owner = owners.setdefault(identity(server), pool.name)
            if owner != pool.name:
                reader.refuse(pool.name, shown(server.text), f"no address of another pool; {owner} has it")
        for server in _repeated(pool.servers):
            reader.refuse(pool.name, shown(server.text), "each address once in a pool")


def _repeated(servers: tuple[Server, ...]) -> list[Server]:
    names = [identity(server) for server in servers]
    return [server for index, server in enumerate(servers) if names[index] in names[:index]]

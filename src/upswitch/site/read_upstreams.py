"""Reading `[upstreams]` of the site file: names, pools, servers, directives, checks."""

import re
from collections.abc import Iterable

from upswitch.site import values
from upswitch.site.model import BETWEEN, HTTP_CLASSES, ONLY_FOR, Check, CheckType, Pool, Server, Upstream
from upswitch.site.read_source import KINDS, is_source, source
from upswitch.site.server_line import LAST_PORT, identity, parse_server
from upswitch.site.values import Reader, any_number, shown

UPSTREAM_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
POOL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")

_OURS = ("marker", "standby")  # files of a generation that are not an upstream's
_UPSTREAM_SAYS = (
    "must be a name of up to 64 letters, digits and _ . -, not beginning with . or -, without __standby_; "
    "the names marker and standby are upswitch's own"
)
_POOL_SAYS = (
    f"must be a pool (a list of at least one server, or a table with {' or '.join(KINDS)}, under a name of up to 64 letters, "
    'digits and _ -), or one of directives, template, check; the name of an upstream with dots needs quotes: [upstreams."app.v2"]'
)
# Servers and checks have their own place in the site file. `state` (Plus) is a file with servers.
_ELSEWHERE = re.compile(r"server|include|upstream|state|check.*")
_DIRECTIVE = re.compile(r"[a-z][a-z0-9_]*(?: [A-Za-z0-9_.:/=$@%+,*~\[\]][A-Za-z0-9_.:/=$@%+,*~\[\]-]*)*")
_TEMPLATE = values.path_or(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}",
    "must be the name of a packaged template, such as upstream.conf.j2, or an absolute path",
)
_LONGEST_SEND = 4000  # nginx takes no parameter over 4096 bytes
_PARAM = re.compile(r"[A-Z][A-Z0-9_]{0,126}")
_LONGEST_PARAM = 1000
http_class = values.matching("|".join(HTTP_CLASSES), f"must be one of {', '.join(HTTP_CLASSES)}")


def upstreams(reader: Reader) -> tuple[Upstream, ...]:
    """Every upstream that can be read. Problems go to the reader."""
    names = reader.rest
    if not names:
        reader.refuse("", "(none)", 'must have at least one table [upstreams.NAME] with its pools, such as A = ["127.0.0.1:8001"]')
    named = [name for name in names if _is_named(reader, name)]
    _refuse_equal_names(reader, named, "to nginx these are one name")
    found = tuple(_upstream(name, reader.inner(name)) for name in named)
    _refuse_unequal_pools(reader, found)
    return found


def http_send(value: object) -> str:
    """A whole HTTP request without a body: printable ASCII, and an empty line at its end."""
    request = values.text(value)
    is_plain = re.fullmatch(r"[ -~\r\n\t]*", request) and len(request) <= _LONGEST_SEND and "${" not in request
    if not request.endswith("\r\n\r\n") or not is_plain:
        raise ValueError(
            f"must be an HTTP request in printable ASCII, up to {_LONGEST_SEND} characters, without ${{, "
            r"and with an empty line (\r\n\r\n) at its end"
        )
    return request


def _is_named(reader: Reader, name: str) -> bool:
    """A wrong name is not read on, as it would reach a terminal raw."""
    is_good = UPSTREAM_NAME.fullmatch(name) is not None and name not in _OURS and BETWEEN not in name
    if not is_good:
        reader.refuse(name, shown(name), _UPSTREAM_SAYS)
    return is_good


def _refuse_equal_names(reader: Reader, names: Iterable[str], why: str) -> None:
    """nginx compares names without case ("duplicate upstream"). A pool's name is part of its standby's."""
    seen: dict[str, str] = {}
    for name in names:
        former = seen.setdefault(name.lower(), name)
        if former != name:
            reader.refuse(name, shown(name), f"must differ from {former} in more than capitals: {why}")


def _refuse_unequal_pools(reader: Reader, found: tuple[Upstream, ...]) -> None:
    names = [{pool.name for pool in upstream.pools} for upstream in found]
    every = set().union(*names)
    for upstream, own in zip(found, names, strict=True):
        if own and own != every:
            missing = ", ".join(sorted(every - own))
            reader.refuse(
                upstream.name, ", ".join(sorted(own)), f"must have the same pools as the other upstreams; {missing} is missing here"
            )


def _upstream(name: str, reader: Reader) -> Upstream:
    directives = reader.each("directives", (), _directive, listed=any_number)
    template = reader.take("template", "upstream.conf.j2", _TEMPLATE)
    check = _check(reader.inner("check")) if "check" in reader else None
    names = [key for key in reader.rest if key != "check"]
    if not names:
        reader.refuse("", "(no pool)", 'must have at least one pool, such as A = ["127.0.0.1:8001"]')
    for key in names:
        if not POOL_NAME.fullmatch(key):
            reader.refuse(key, shown(key), _POOL_SAYS)
    _refuse_equal_names(reader, names, "to nginx their standbys have one name")
    pools = tuple(_pool(key, reader) for key in names if POOL_NAME.fullmatch(key))
    _refuse_shared(reader, pools)
    return Upstream(name=name, pools=pools, directives=directives, template=template, check=check)


def _directive(value: object) -> str:
    line = values.text(value)
    if not _DIRECTIVE.fullmatch(line) or _ELSEWHERE.fullmatch(line.split(" ")[0]):
        raise ValueError(
            "must be one directive without its ;, in words of letters, digits and _ . : / = $ @ % + , * ~ [ ] - with single spaces "
            "between; servers, checks and includes are not allowed here",
        )
    return line


def _check(reader: Reader) -> Check:
    """A check table: the names, units and limits of nginx_upstream_check_module (nginx-facts.md section 6)."""
    default = Check()
    kind = reader.take("type", default.type, values.word(CheckType))
    alive = () if kind is CheckType.FASTCGI else default.http_expect_alive
    check = Check(
        type=kind,
        interval_ms=reader.take("interval", default.interval_ms, values.whole(1)),
        rise=reader.take("rise", default.rise, values.whole(1)),
        fall=reader.take("fall", default.fall, values.whole(1)),
        timeout_ms=reader.take("timeout", default.timeout_ms, values.whole(1)),
        default_down=reader.take("default_down", default.default_down, values.truth),
        # The module accepts any number and keeps its low 16 bits: with 96707 it asks port 31171.
        port=reader.take("port", default.port, values.whole(0, LAST_PORT)),
        http_send=reader.take("http_send", default.http_send, http_send, is_secret=True),
        http_expect_alive=reader.each("http_expect_alive", alive, http_class),
        keepalive_requests=reader.take("keepalive_requests", default.keepalive_requests, values.whole(1)),
        fastcgi_param=_fastcgi_param(reader.inner("fastcgi_param")),
    )
    if not reader.is_refused("type"):
        _refuse_of_other_types(reader, check.type)
    return check


def _refuse_of_other_types(reader: Reader, kind: CheckType) -> None:
    """The module accepts these and never uses them, and Tengine's refuses the first."""
    for key, kinds in ONLY_FOR.items():
        if key in reader and kind not in kinds:
            only = " or ".join(f'type = "{each}"' for each in kinds)
            reader.refuse(key, "(given)", f"is allowed only with {only}; the type here is {kind}")


def _fastcgi_param(reader: Reader) -> tuple[tuple[str, str], ...]:
    """The request of a fastcgi check, in the order of the file. Without one the module asks GET / of index.php."""
    names = reader.rest
    pairs = tuple((name, reader.take(name, "", _param_value, is_secret=True)) for name in names)
    for name in names:
        if not _PARAM.fullmatch(name):
            reader.refuse(name, "(given)", "must be the name of a FastCGI parameter: capital letters, digits and _")
    return pairs


def _param_value(value: object) -> str:
    """Printable ASCII, which is enough for paths, methods and names."""
    text = values.text(value)
    if not re.fullmatch(r"[ -~]*", text) or len(text) > _LONGEST_PARAM or "${" in text:
        raise ValueError(f"must be printable ASCII without ${{, at most {_LONGEST_PARAM} characters")
    return text


def _pool(name: str, reader: Reader) -> Pool:
    if is_source(reader.value(name)):
        return Pool(name=name, servers=(), source=source(reader.inner(name)))
    servers = reader.each(name, (), _server, listed=_lines)
    if servers and all(server.is_down for server in servers):
        reader.refuse(name, shown([server.text for server in servers]), "must have at least one server that is not down")
    return Pool(name=name, servers=servers)


def _lines(value: object) -> list[object]:
    if not isinstance(value, list) or not value:
        raise ValueError(_POOL_SAYS)
    return value


def _server(value: object) -> Server:
    return parse_server(values.text(value))


def _refuse_shared(reader: Reader, pools: tuple[Pool, ...]) -> None:
    """The check module and the reader of the log know a server only by its address (docs/design.md).

    Pools may share a server that is the backup of each of them.
    """
    owners: dict[str, str] = {}
    serving = {identity(server) for pool in pools for server in pool.servers if "backup" not in server.params}
    for pool in pools:
        for server in (each for each in pool.servers if identity(each) in serving):
            owner = owners.setdefault(identity(server), pool.name)
            if owner != pool.name:
                reader.refuse(pool.name, shown(server.text), f"must not be in two pools; pool {owner} has this address too")
        for server in _repeated(pool.servers):
            reader.refuse(pool.name, shown(server.text), "must stand only once in a pool")


def _repeated(servers: tuple[Server, ...]) -> list[Server]:
    names = [identity(server) for server in servers]
    return [server for index, server in enumerate(servers) if names[index] in names[:index]]

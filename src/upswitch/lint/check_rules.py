"""The traps of the two check modules as lint rules, on any upstream with a `check`: nginx's own, and those of the site file.

Why each is a trap stands in docs/nginx-facts.md, section 6; most were seen on real builds of both modules. The modules are told
apart because they differ: where nobody knows which one it is, both have their say, each by its name.
Traps of the lines as they are written are in checklinetraps.py.
"""

import re
from collections.abc import Callable, Iterator

from upswitch.basics.value import Value
from upswitch.generations.generation import served_as
from upswitch.health.module import blackout, checked, zone
from upswitch.health.module.checked import CheckedUpstream
from upswitch.lint.check_line_rules import LINE_RULES
from upswitch.lint.site_rules import Finding, Looked, error, speaks_http, tcp_for_http, warning
from upswitch.nginx import configuration
from upswitch.nginx.dump import Directive, NginxConf
from upswitch.site.model import Nginx
from upswitch.site.words import CheckType, Dialect

_BOTH = (Dialect.YAOWEIBIN, Dialect.TENGINE)
_NAMES = {Dialect.YAOWEIBIN: "yaoweibin's module", Dialect.TENGINE: "Tengine's module"}
_EMPTY_LINE = re.compile(r"\r?\n\r?\n")
_VERSION_1_1 = re.compile(r"[^\r\n]* HTTP/1\.1\r?\n")
_HOST = re.compile(r"^host:", re.MULTILINE | re.IGNORECASE)
_CLOSE = re.compile(r"^connection:[ \t]*close\r?$", re.MULTILINE | re.IGNORECASE)
_FALL_MYSQL = 5  # the modules' default
_HEALTH_URL = "type=http with the check_http_send of a health URL"


class Scene(Value):
    """All that is checked, and by what. `workers` is 0 where nobody said how many (`auto`, or a part of a configuration).

    `modules` are the dialects that it may be. `http` are the upstreams that a `proxy_pass` names. `zone` is where
    `check_shm_size` stands, and `zone_bytes` what it says; None where nobody says it and upswitch renders what is needed.
    """

    upstreams: tuple[CheckedUpstream, ...]
    modules: tuple[Dialect, ...]
    workers: int
    http: frozenset[str]
    zone: str
    zone_bytes: int | None

    @property
    def is_yaoweibin(self) -> bool:
        """Or may be."""
        return Dialect.YAOWEIBIN in self.modules

    @property
    def is_tengine(self) -> bool:
        """Or may be."""
        return Dialect.TENGINE in self.modules

    def heeds(self, upstream: CheckedUpstream) -> bool:
        """Whether the balancer may ask the check (seen: `random` never does, `hash ... consistent` not on Tengine)."""
        words = upstream.balancer.split()
        return not words or (words[0] != "random" and (words[-1] != "consistent" or self.is_yaoweibin))


def of_looked(looked: Looked) -> tuple[Finding, ...]:
    """The site's own tables, and what nginx has beside the generations of ours. Nothing where nginx has no check module."""
    if looked.dialect is Dialect.NONE:
        return ()
    tables = checked.of_site(looked.site)
    rendered = {each.name for each in tables}
    others = (each for each in checked.of_conf(looked.conf) if not _is_rendered(each, looked.site.nginx.live, rendered))
    return _found(_scene(looked.conf, (*others, *tables), (looked.dialect,), nginx=looked.site.nginx))


def of_conf(conf: NginxConf) -> tuple[Finding, ...]:
    """Any configuration, or a part of one that stands inside `http`, without a word on which module reads it."""
    if configuration.http(conf) is None:
        workers = Directive(name="worker_processes", args=("auto",), file=conf.path, line=0)
        http = Directive(name="http", args=(), file=conf.path, line=0, block=conf.tree)
        conf = NginxConf(files=conf.files, tree=(workers, http))
    return _found(_scene(conf, checked.of_conf(conf), _BOTH))


def _is_rendered(upstream: CheckedUpstream, live: str, names: set[str]) -> bool:
    """Ours, and told with its table in the site file."""
    return upstream.place.startswith(f"{live}/") and served_as(upstream.name, "")[0] in names


def _scene(
    conf: NginxConf, upstreams: tuple[CheckedUpstream, ...], modules: tuple[Dialect, ...], *, nginx: Nginx | None = None
) -> Scene:
    """`nginx` is the site's, where there is one: what our own generations hold is not the owner's word."""
    workers = configuration.worker_processes(conf)
    size = configuration.defined_elsewhere(conf, "check_shm_size", live=nginx.live if nginx else "//")
    own = nginx.check_shm_size if nginx else "1m"
    text = size.args[0] if size and size.args else own
    return Scene(
        upstreams=upstreams,
        modules=modules,
        workers=int(workers) if workers.isascii() and workers.isdigit() else 0,
        http=frozenset(each.name for each in upstreams if speaks_http(conf, each.name)),
        zone=size.place if size else "nginx.check_shm_size" if nginx else "the default, 1m",
        zone_bytes=zone.zone_size(text) if text else None,
    )


def _found(scene: Scene) -> tuple[Finding, ...]:
    of_each = (finding for each in scene.upstreams for rule in RULES for finding in rule(scene, each))
    written = tuple(each for each in scene.upstreams if each.lines)
    of_lines = (finding for each in written for rule in LINE_RULES for finding in rule(each, scene.modules))
    return (*of_each, *of_lines, *_shared(scene), *_zone(scene))


# ---- each upstream ----


def _blackout(scene: Scene, upstream: CheckedUpstream) -> Iterator[Finding]:
    seconds = blackout.of(upstream.check, servers=upstream.together, workers=scene.workers or 1)
    if upstream.is_warm or seconds == blackout.NONE or not scene.heeds(upstream):
        return
    known = f"with {scene.workers} worker processes" if scene.workers > 1 else "with one worker process"
    what = (
        f"{upstream.said} answers 502 for up to {seconds.worst:.1f} s, likely {seconds.likely:.1f} s "
        f"({known if scene.workers else f'{known}, less with more'}), after each start of nginx and after each reload that gives "
        "it new servers only: default_down=true, so none of them is up before its checks"
    )
    hint = (
        "two ways out: 1. switch it with upswitch (`upswitch init`): 0 s, it keeps the idle pool warm as a standby upstream; "
        "2. default_down=false: 0 s, but a server gets requests before anybody has asked it, a dead one until "
        f"{upstream.check.fall} checks have failed"
    )
    yield warning("check_blackout", what, hint)


def _timeout(_: Scene, upstream: CheckedUpstream) -> Iterator[Finding]:
    check = upstream.check
    if check.timeout_ms > check.interval_ms:
        seconds = check.fall * (check.timeout_ms + 1.5 * check.interval_ms) / 1000
        what = (
            f"{upstream.said}: timeout={check.timeout_ms} is longer than interval={check.interval_ms}: "
            f"a server that hangs gets requests for up to {seconds:.1f} s before it is taken for down"
        )
        yield warning("check_timeout_long", what, "a timeout below the interval")


def _tcp_for_http(scene: Scene, upstream: CheckedUpstream) -> Iterator[Finding]:
    """The site's own tables are told in lint.py, with the gate."""
    if upstream.lines and upstream.check.type is CheckType.TCP and upstream.name in scene.http:
        yield tcp_for_http(upstream.said, "type=http")


def _stuck_tcp(scene: Scene, upstream: CheckedUpstream) -> Iterator[Finding]:
    """nginx-facts.md, "The stuck tcp check"."""
    check = upstream.check
    if check.type is not CheckType.TCP or not scene.is_yaoweibin:
        return
    keeps = f"{upstream.said}: {_NAMES[Dialect.YAOWEIBIN]} keeps the connection of a tcp check and asks no more while it stands"
    ends = "its servers never come up: 502 for ever" if check.default_down else "a server that was down once never comes back"
    if scene.workers and check.rise > scene.workers:
        what = f"{keeps}, so each worker process asks once: rise={check.rise} is never reached with {scene.workers}, and {ends}"
        yield error("check_tcp_stuck", what, _HEALTH_URL)
    elif not scene.workers and check.rise > 1:
        what = f"{keeps}, so each worker process asks once: with fewer than rise={check.rise} of them (unknown here) {ends}"
        yield warning("check_tcp_stuck", what, f"{_HEALTH_URL}; no parameter of tcp mends it")
    else:
        yield warning("check_tcp_blind", f"{keeps}: a server that is up and then hangs is never found out", _HEALTH_URL)


def _frozen(scene: Scene, upstream: CheckedUpstream) -> Iterator[Finding]:
    """What we render leaves the line out for this module (checklines.py)."""
    check = upstream.check
    if upstream.lines and check.type is CheckType.HTTP and check.keepalive_requests > 1 and scene.is_yaoweibin:
        what = (
            f"{upstream.said}: check_keepalive_requests {check.keepalive_requests}: {_NAMES[Dialect.YAOWEIBIN]} asks once and "
            "no more while the server keeps the connection open: the first verdict stands for ever"
        )
        yield error("check_keepalive_frozen", what, "take check_keepalive_requests out")


def _unheeded(scene: Scene, upstream: CheckedUpstream) -> Iterator[Finding]:
    words = upstream.balancer.split()
    if not words or (words[0] != "random" and (words[-1] != "consistent" or not scene.is_tengine)):
        return
    who = "nginx" if words[0] == "random" else _NAMES[Dialect.TENGINE]
    balancer = words[0] if words[0] == "random" else f"{words[0]} ... {words[-1]}"
    what = f"{upstream.said}: with `{balancer}` {who} does not ask the check: servers that are down get their share of requests"
    yield warning("check_unheeded", what, "another balancer: least_conn, or hash without consistent")


def _ssl_hello(scene: Scene, upstream: CheckedUpstream) -> Iterator[Finding]:
    if upstream.check.type is not CheckType.SSL_HELLO:
        return
    hint = "type=tcp, or type=http on a port that speaks plain HTTP"
    if scene.is_tengine:
        what = f"{upstream.said}: {_NAMES[Dialect.TENGINE]} sends an SSLv3 hello: a server with any OpenSSL of today is down"
        yield error("check_ssl_hello", what, hint)
    if scene.is_yaoweibin:
        what = f"{upstream.said}: {_NAMES[Dialect.YAOWEIBIN]} offers TLS 1.2 at most: a server that takes TLS 1.3 only is down"
        yield warning("check_ssl_hello", what, f"{hint}; none is needed where the servers take TLS 1.2")


def _mysql(_: Scene, upstream: CheckedUpstream) -> Iterator[Finding]:
    if upstream.check.type is CheckType.MYSQL:
        what = f'{upstream.said}: type=mysql takes a server that refuses us ("Host ... is not allowed") for up'
        hint = "allow nginx's address in MySQL, and see with the mysql client that it may connect"
        yield warning("check_mysql", what, hint)
        if upstream.check.fall < _FALL_MYSQL:
            what = (
                f"{upstream.said}: type=mysql with fall={upstream.check.fall}: a greeting that comes with the connection is missed "
                "now and then, and the check times out (3 or 4 of 25 on a local MariaDB, both modules): the server flaps"
            )
            yield warning("check_mysql_flaps", what, f"fall={_FALL_MYSQL} or more, or type=tcp")


def _fastcgi(_: Scene, upstream: CheckedUpstream) -> Iterator[Finding]:
    """Both builds, seen: the parser of headers goes on into the body and follows a name that it never set."""
    if upstream.check.type is CheckType.FASTCGI:
        what = (
            f"{upstream.said}: type=fastcgi reads the page itself as headers: a line such as `<a href='http://...` with no Status "
            "header before it kills nginx's worker (signal 11), and PHP sends none with a 200"
        )
        hint = "let check_fastcgi_param ask for something plain: SCRIPT_NAME and SCRIPT_FILENAME of php-fpm's ping.path, say"
        yield warning("check_fastcgi_crash", what, hint)


def _unix_port(scene: Scene, upstream: CheckedUpstream) -> Iterator[Finding]:
    sockets = [each for each in upstream.servers if each.startswith("unix:")]
    if upstream.check.port and sockets and scene.is_yaoweibin:
        what = (
            f"{upstream.said}: port={upstream.check.port} with {', '.join(sockets)}: "
            f"{_NAMES[Dialect.YAOWEIBIN]} takes such a server for up, whatever happens"
        )
        yield warning("check_port_unix", what, "take port= out")


def _send(_: Scene, upstream: CheckedUpstream) -> Iterator[Finding]:
    """The request itself is never shown: it may hold a secret."""
    check = upstream.check
    if check.type is not CheckType.HTTP:
        return
    if not _EMPTY_LINE.search(check.http_send):
        what = f"{upstream.said}: its check_http_send has no empty line at its end: servers wait for the rest, and are down"
        yield error("check_send_unended", what, r"end it with \r\n\r\n")
    if not _VERSION_1_1.match(check.http_send):
        return
    if not _HOST.search(check.http_send):
        what = f"{upstream.said}: its check_http_send is HTTP/1.1 without Host: servers are to answer 400 (RFC 9112, 3.2)"
        yield warning("check_send_no_host", what, "add a Host line, or write HTTP/1.0")
    if not _CLOSE.search(check.http_send):
        what = (
            f"{upstream.said}: its check_http_send is HTTP/1.1 without `Connection: close`: "
            "the server keeps the connection, and nginx cuts it in the middle of the answer"
        )
        yield warning("check_send_keeps", what, "add `Connection: close`, or write HTTP/1.0")


RULES: tuple[Callable[[Scene, CheckedUpstream], Iterator[Finding]], ...] = (
    _blackout,
    _timeout,
    _tcp_for_http,
    _stuck_tcp,
    _frozen,
    _unheeded,
    _ssl_hello,
    _mysql,
    _fastcgi,
    _unix_port,
    _send,
)


# ---- all of them together ----


def _shared(scene: Scene) -> Iterator[Finding]:
    """The module knows a server by its address alone, and so does whoever reads the log."""
    for one, other, both in _sharing(scene.upstreams):
        if one.name == other.name:
            continue
        said = f"{other.said} and upstream {one.name} ({one.place}) both check {', '.join(both)}"
        if one.check != other.check:
            what = f"{said}, and differently: over a reload both go on with the state of the one that stood first"
            yield warning("check_shared_address", what, "the same check in both, or servers of their own")
        else:
            what = f"{said}: one state for both over a reload; as pools of one site their answers can't be told apart"
            yield warning("check_shared_address", what, "servers of their own where the two are to be switched between")


def _sharing(upstreams: tuple[CheckedUpstream, ...]) -> Iterator[tuple[CheckedUpstream, CheckedUpstream, list[str]]]:
    """Each upstream with the one before it that had some of its servers first, and those."""
    first: dict[str, int] = {}
    for index, other in enumerate(upstreams):
        shared: dict[int, list[str]] = {}
        for address in dict.fromkeys(other.servers):
            owner = first.setdefault(address, index)
            if owner != index:
                shared.setdefault(owner, []).append(address)
        yield from ((upstreams[owner], other, both) for owner, both in shared.items())


def _zone(scene: Scene) -> Iterator[Finding]:
    """What is written in nginx now and what the site file will render in its place count once."""
    tables = {each.name for each in scene.upstreams if not each.lines}
    counted = (each for each in scene.upstreams if not each.lines or each.name not in tables)
    servers = [address for each in counted for address in each.servers]
    for module in scene.modules if servers else ():
        if scene.zone_bytes is not None and not zone.is_enough(scene.zone_bytes, servers, module):
            count = f"{len(servers)} servers under check"
            what = f"check_shm_size ({scene.zone}) is too small for {count} in {_NAMES[module]}: nginx refuses to load"
            yield error("check_shm_small", what, f"in http: check_shm_size {zone.advised(servers, module)};")

"""The lint rules about nginx's own health checks: what goes wrong with a `check` in nginx or with a check table of the site file.

docs/nginx-facts.md, section 6, has the reason for each rule; most were seen on real builds of both modules. The two modules differ,
so a finding names its module. Where nobody knows which module nginx has, both count.
"""

import re
from collections.abc import Iterator

from upswitch.health.nginx_check import NO_BLACKOUT, CheckedUpstream, advised_zone, blackout_of, is_zone_enough, zone_size
from upswitch.lint.rules import LintFinding, Subject, error, tcp_only, warning
from upswitch.nginx import configuration
from upswitch.nginx.dump import Directive
from upswitch.nginx.upstream_file import check_parameter
from upswitch.site.model import CheckType, Dialect
from upswitch.site.server_line import LAST_PORT

_YAOWEIBIN, _TENGINE = "yaoweibin's module", "Tengine's module"
_NAMES = {Dialect.YAOWEIBIN: _YAOWEIBIN, Dialect.TENGINE: _TENGINE}
_EMPTY_LINE = re.compile(r"\r?\n\r?\n")
_VERSION_1_1 = re.compile(r"[^\r\n]* HTTP/1\.1\r?\n")
_HOST = re.compile(r"^host:", re.MULTILINE | re.IGNORECASE)
_CLOSE = re.compile(r"^connection:[ \t]*close\r?$", re.MULTILINE | re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,18}")
_FALL_MYSQL = 5  # the modules' default
_SENT_INSTEAD = (CheckType.FASTCGI, CheckType.AJP, CheckType.SSL_HELLO)
_HEALTH_URL = "use type=http with the check_http_send of a health URL"
_ONE_RISE = f"set rise=1; or {_HEALTH_URL}"


# ---- each upstream ----


def check_blackout(subject: Subject) -> Iterator[LintFinding]:
    workers = subject.workers
    known = f"with {workers} worker processes" if workers > 1 else "with one worker process"
    for upstream in subject.checked:
        seconds = blackout_of(upstream.check, servers=upstream.together, workers=workers or 1)
        if upstream.is_warm or seconds == NO_BLACKOUT or not _may_ask(subject, upstream):
            continue
        what = (
            f"{upstream.said} answers 502 for up to {seconds.worst:.1f} s, likely {seconds.likely:.1f} s "
            f"({known if workers else f'{known}, less with more'}), after each start of nginx and after each reload to new "
            "servers. With default_down=true no server is up before its first checks"
        )
        hint = (
            "two ways out: 1. switch it with upswitch (`upswitch init`), which checks the idle pool beforehand as a standby; "
            "2. write default_down=false: then a server gets requests before its first check, and a dead server gets them until "
            f"{upstream.check.fall} checks have failed"
        )
        yield warning(what, hint, upstream.at)


def _may_ask(subject: Subject, upstream: CheckedUpstream) -> bool:
    """Whether the balancer may ask the check (seen: `random` never does, `hash ... consistent` does not on Tengine)."""
    words = upstream.balancer.split()
    return not words or (words[0] != "random" and (words[-1] != "consistent" or Dialect.YAOWEIBIN in subject.modules))


def check_timeout_long(subject: Subject) -> Iterator[LintFinding]:
    for upstream in subject.checked:
        check = upstream.check
        if check.timeout_ms > check.interval_ms:
            seconds = check.fall * (check.timeout_ms + 1.5 * check.interval_ms) / 1000
            what = (
                f"{upstream.said}: timeout={check.timeout_ms} is longer than interval={check.interval_ms}, "
                f"so a server that hangs gets requests for up to {seconds:.1f} s before it counts as down"
            )
            yield warning(what, "set a timeout below the interval", upstream.at)


def tcp_for_http(subject: Subject) -> Iterator[LintFinding]:
    """The check tables of the site file have the same rule in rules.py, together with the gate."""
    for upstream in subject.checked:
        if upstream.lines and upstream.check.type is CheckType.TCP and subject.speaks_http(upstream.name):
            yield tcp_only(upstream.said, "type=http", upstream.at)


def check_tcp_stuck(subject: Subject) -> Iterator[LintFinding]:
    """nginx-facts.md, "The stuck tcp check". What we render has rise=1 (generations/check_lines.py)."""
    workers = subject.workers
    for upstream in (each for each in _kept_open(subject) if each.lines):
        rise = upstream.check.rise
        ends = "its servers never come up: 502 for ever" if upstream.check.default_down else "a server that was down stays down"
        what = f"{upstream.said}: {_YAOWEIBIN} makes one tcp check in each worker process, and no other while its connection stands"
        if workers and rise > workers:
            yield error(f"{what}. rise={rise} is never reached with {workers} of them, and {ends}", _ONE_RISE, upstream.at)
        elif not workers and rise > 1:
            what += f". With fewer worker processes than rise={rise} (their number is not known here) {ends}"
            yield warning(what, _ONE_RISE, upstream.at)
        elif rise > 1:
            what += f". A server that was down stays down where fewer than rise={rise} of them check it again"
            yield warning(what, _ONE_RISE, upstream.at)


def check_tcp_blind(subject: Subject) -> Iterator[LintFinding]:
    for upstream in _kept_open(subject):
        if not upstream.lines or upstream.check.rise <= (subject.workers or 1):
            what = (
                f"{upstream.said}: {_YAOWEIBIN} does not check by tcp again while its connection stands, "
                "so it never finds a server that was up and then hangs"
            )
            yield warning(what, _HEALTH_URL, upstream.at)


def _kept_open(subject: Subject) -> Iterator[CheckedUpstream]:
    if Dialect.YAOWEIBIN in subject.modules:
        yield from (each for each in subject.checked if each.check.type is CheckType.TCP)


def check_keepalive_frozen(subject: Subject) -> Iterator[LintFinding]:
    """What we render leaves the line out for this module (generations/check_lines.py)."""
    for upstream in _written(subject) if Dialect.YAOWEIBIN in subject.modules else ():
        requests = upstream.check.keepalive_requests
        if upstream.check.type is CheckType.HTTP and requests > 1:
            what = (
                f"{upstream.said}: with check_keepalive_requests {requests} {_YAOWEIBIN} checks once and not again while the "
                "server keeps the connection open. The first result stands for ever"
            )
            yield error(what, "remove check_keepalive_requests", upstream.at)


def check_unheeded(subject: Subject) -> Iterator[LintFinding]:
    for upstream in subject.checked:
        words = upstream.balancer.split()
        is_random = words[:1] == ["random"]
        if is_random or (words[-1:] == ["consistent"] and Dialect.TENGINE in subject.modules):
            balancer = words[0] if is_random else f"{words[0]} ... {words[-1]}"
            what = f"{upstream.said}: with `{balancer}` {'nginx' if is_random else _TENGINE} ignores the check"
            hint = "use another balancer: least_conn, or hash without consistent"
            yield warning(f"{what}, so servers that are down get their share of the requests", hint, upstream.at)


def check_ssl_hello(subject: Subject) -> Iterator[LintFinding]:
    hint = "use type=tcp, or type=http on a port that speaks plain HTTP"
    for upstream in _of_type(subject, CheckType.SSL_HELLO):
        if Dialect.TENGINE in subject.modules:
            what = f"{upstream.said}: {_TENGINE} sends an SSLv3 hello, so a server with any current OpenSSL counts as down"
            yield error(what, hint, upstream.at)
        if Dialect.YAOWEIBIN in subject.modules:
            what = f"{upstream.said}: {_YAOWEIBIN} offers at most TLS 1.2, so a server that accepts only TLS 1.3 counts as down"
            yield warning(what, f"{hint}; nothing is to be done where the servers accept TLS 1.2", upstream.at)


def check_mysql(subject: Subject) -> Iterator[LintFinding]:
    for upstream in _of_type(subject, CheckType.MYSQL):
        what = f'{upstream.said}: with type=mysql a server that refuses us ("Host ... is not allowed") counts as up'
        yield warning(what, "allow nginx's address in MySQL, and try it with the mysql client from there", upstream.at)


def check_mysql_flaps(subject: Subject) -> Iterator[LintFinding]:
    for upstream in _of_type(subject, CheckType.MYSQL):
        if upstream.check.fall < _FALL_MYSQL:
            what = (
                f"{upstream.said}: with type=mysql both modules sometimes miss a greeting that comes with the connection, and the "
                f"check times out (3 or 4 of 25 on a local MariaDB); with fall={upstream.check.fall} the server flaps"
            )
            yield warning(what, f"use fall={_FALL_MYSQL} or more, or type=tcp", upstream.at)


def check_fastcgi_crash(subject: Subject) -> Iterator[LintFinding]:
    """Seen on both builds: the header parser goes on into the body and follows a name that it never set."""
    for upstream in _of_type(subject, CheckType.FASTCGI):
        what = (
            f"{upstream.said}: type=fastcgi reads the page itself as headers. A line such as `<a href='http://...` crashes nginx's "
            "worker (signal 11) where no Status header comes before it, and PHP sends none with a 200"
        )
        yield warning(what, "ask for a plain page with check_fastcgi_param, such as php-fpm's ping.path", upstream.at)


def check_port_unix(subject: Subject) -> Iterator[LintFinding]:
    for upstream in subject.checked if Dialect.YAOWEIBIN in subject.modules else ():
        sockets = [each for each in upstream.servers if each.startswith("unix:")]
        if upstream.check.port and sockets:
            what = f"{upstream.said}: with port={upstream.check.port} {_YAOWEIBIN} always takes {', '.join(sockets)} for up"
            yield warning(what, "remove port=", upstream.at)


# ---- the request. It is never shown, as it may hold a secret ----


def check_send_unended(subject: Subject) -> Iterator[LintFinding]:
    for upstream in _of_type(subject, CheckType.HTTP):
        if not _EMPTY_LINE.search(upstream.check.http_send):
            what = (
                f"{upstream.said}: check_http_send does not end with an empty line, so servers wait for the rest and count as down"
            )
            yield error(what, r"end it with \r\n\r\n", upstream.at)


def check_send_no_host(subject: Subject) -> Iterator[LintFinding]:
    for upstream in _http_1_1(subject):
        if not _HOST.search(upstream.check.http_send):
            what = f"{upstream.said}: check_http_send is HTTP/1.1 without Host, and servers must answer 400 (RFC 9112, 3.2)"
            yield warning(what, "add a Host line, or write HTTP/1.0", upstream.at)


def check_send_keeps(subject: Subject) -> Iterator[LintFinding]:
    for upstream in _http_1_1(subject):
        if not _CLOSE.search(upstream.check.http_send):
            what = (
                f"{upstream.said}: check_http_send is HTTP/1.1 without `Connection: close`, "
                "so the server keeps the connection, and nginx cuts it in the middle of the answer"
            )
            yield warning(what, "add `Connection: close`, or write HTTP/1.0", upstream.at)


# ---- the lines as they are written. A site file can't have these, and we render none ----


def check_refused(subject: Subject) -> Iterator[LintFinding]:
    """`nginx -t` refuses them too, but a file that lint only reads has not been tested."""
    for upstream, line, word in _parameters(subject):
        reason = check_parameter(word)
        if isinstance(reason, str) and not word.startswith("unique=") and _port(word) <= LAST_PORT:
            what = f"{line.place}: upstream {upstream.name}: check {word}: {reason}; nginx refuses the line"
            yield error(what, "fix it until `nginx -t` passes", line)


def check_port_truncated(subject: Subject) -> Iterator[LintFinding]:
    """`nginx -t` accepts it."""
    for upstream, line, word in _parameters(subject):
        if _port(word) > LAST_PORT:
            what = (
                f"{line.place}: upstream {upstream.name}: {word}: the module keeps 16 bits and asks port {_port(word) & LAST_PORT}"
            )
            yield error(what, f"write a port from 1 to {LAST_PORT}", line)


def _parameters(subject: Subject) -> Iterator[tuple[CheckedUpstream, Directive, str]]:
    """Every word of every `check` line, with that line."""
    for upstream in _written(subject):
        yield from ((upstream, line, word) for line in upstream.named("check") for word in line.args)


def _port(word: str) -> int:
    port = word.removeprefix("port=")
    return int(port) if port != word and _NUMBER.fullmatch(port) else 0


def check_replaced(subject: Subject) -> Iterator[LintFinding]:
    for upstream in _written(subject):
        *former, last = upstream.named("check")
        for line in former:
            what = f"{last.place}: upstream {upstream.name}: this check replaces the one at {line.place}, except for its type"
            yield warning(what, f"remove the line at {line.place}", line)


def check_send_order(subject: Subject) -> Iterator[LintFinding]:
    for upstream in _written(subject) if Dialect.TENGINE in subject.modules else ():
        names = [each.name for each in upstream.lines]
        if "check_http_send" in names[: names.index("check")]:
            line = upstream.named("check_http_send")[0]
            what = f"{line.place}: upstream {upstream.name}: {_TENGINE} refuses check_http_send before check"
            yield error(what, "write check first", line)


def check_send_type(subject: Subject) -> Iterator[LintFinding]:
    hint = "remove it, or write type=http"
    for upstream in _written(subject):
        kind = upstream.check.type
        for line in upstream.named("check_http_send") if kind is not CheckType.HTTP else ():
            said = f"{line.place}: upstream {upstream.name}: check_http_send with type={kind}"
            if Dialect.TENGINE in subject.modules:
                yield error(f"{said}: {_TENGINE} refuses it", hint, line)
            if Dialect.YAOWEIBIN in subject.modules and kind in _SENT_INSTEAD:
                yield error(
                    f"{said}: {_YAOWEIBIN} sends it instead of the {kind} request, so the servers never come up", hint, line
                )


def check_alive_lines(subject: Subject) -> Iterator[LintFinding]:
    ends = {Dialect.YAOWEIBIN: f"{_YAOWEIBIN} adds them up", Dialect.TENGINE: f"{_TENGINE} uses only the last one"}
    for upstream in _written(subject):
        lines = upstream.named("check_http_expect_alive")
        if len(lines) > 1:
            places = " and ".join(each.place for each in lines)
            what = f"{places}: upstream {upstream.name} has {len(lines)} lines of check_http_expect_alive: "
            yield warning(what + ", ".join(ends[each] for each in subject.modules), "write one line with all classes", lines[-1])


# ---- all upstreams together ----


def check_shared_address(subject: Subject) -> Iterator[LintFinding]:
    """A module knows a server only by its address, and so does every reader of the log."""
    for one, other, both in _sharing(subject.checked):
        if one.name == other.name:
            continue
        said = f"{other.said} and upstream {one.name} ({one.place}) both check {', '.join(both)}"
        if one.check != other.check:
            what = f"{said} in different ways; after a reload both go on with the state of the first"
            yield warning(what, "write the same check in both, or give each its own servers", other.at)
        else:
            what = f"{said} and share one state after a reload; as pools of one site their requests can't be told apart"
            yield warning(what, "give each its own servers if you want to switch between them", other.at)


def _sharing(upstreams: tuple[CheckedUpstream, ...]) -> Iterator[tuple[CheckedUpstream, CheckedUpstream, list[str]]]:
    """The upstream that had some servers first, a later one, and the servers that both have."""
    first: dict[str, int] = {}
    for index, other in enumerate(upstreams):
        shared: dict[int, list[str]] = {}
        for address in dict.fromkeys(other.servers):
            owner = first.setdefault(address, index)
            if owner != index:
                shared.setdefault(owner, []).append(address)
        yield from ((upstreams[owner], other, both) for owner, both in shared.items())


def check_shm_small(subject: Subject) -> Iterator[LintFinding]:
    """A check in nginx and the table that will replace it count once. Without a size upswitch renders the one that is needed."""
    nginx = subject.site.nginx
    size = configuration.defined_elsewhere(subject.conf, "check_shm_size", live=nginx.live)
    text = size.args[0] if size and size.args else nginx.check_shm_size
    tables = {each.name for each in subject.checked if not each.lines}
    counted = (each for each in subject.checked if not each.lines or each.name not in tables)
    servers = [address for each in counted for address in each.servers]
    place = size.place if size else "nginx.check_shm_size" if subject.site.upstreams else "the default, 1m"
    for module in subject.modules if servers and text else ():
        if not is_zone_enough(zone_size(text), servers, module):
            what = f"check_shm_size ({place}) is too small for {len(servers)} checked servers in {_NAMES[module]}"
            needed = advised_zone(servers, module)
            is_of_site = size is not None and any(size.file.startswith(f"{live}/") for live in configuration.lives(subject.conf))
            fix = f'set nginx.check_shm_size = "{needed}" in the file of that site, and switch it once'
            yield error(f"{what}: nginx refuses to load", fix if is_of_site else f"write in http: check_shm_size {needed};", size)


def _written(subject: Subject) -> tuple[CheckedUpstream, ...]:
    """Those whose check stands in nginx's configuration, not in the site file."""
    return tuple(each for each in subject.checked if each.lines)


def _of_type(subject: Subject, kind: CheckType) -> tuple[CheckedUpstream, ...]:
    return tuple(each for each in subject.checked if each.check.type is kind)


def _http_1_1(subject: Subject) -> tuple[CheckedUpstream, ...]:
    return tuple(each for each in _of_type(subject, CheckType.HTTP) if _VERSION_1_1.match(each.check.http_send))

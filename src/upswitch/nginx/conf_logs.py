"""Which logs a configuration writes, and the log format that upswitch advises.

`access_log` and `error_log` of a level replace those of the level around it (ngx_http_log_merge_loc_conf,
ngx_http_core_merge_loc_conf).
"""

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count

from msgspec.structs import replace

from upswitch.basics.value import Value
from upswitch.hosts.host import MARK
from upswitch.nginx.build import Build
from upswitch.nginx.configuration import PASSES, SCOPES, defines, http, http_children, passed_upstreams, variable_prefix
from upswitch.nginx.dump import Directive, NginxConf
from upswitch.site.names import UNNAMED, generation_variable, prefix_in

COMBINED = '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
"""nginx's built-in format (ngx_http_log_module)."""

LOG_FORMAT_NAME = UNNAMED
_OURS = re.compile(rf"\$(\{{?)({UNNAMED}\w*)")
_LOG_FORMAT = (
    '"msec":"$msec","remote_addr":"$remote_addr","method":"$request_method","uri":"$request_uri","host":"$host","status":"$status",'
    '"request_time":"$request_time","upstream_addr":"$upstream_addr","upstream_status":"$upstream_status",'
    '"upstream_connect_time":"$upstream_connect_time","upstream_header_time":"$upstream_header_time",'
    '"upstream_response_time":"$upstream_response_time","upstream_bytes_sent":"$upstream_bytes_sent",'
    '"upstream_bytes_received":"$upstream_bytes_received","generation":"$%s","pool":"$%s_pool",%s'
    '"pid":"$pid","connection":"$connection","connection_requests":"$connection_requests","completion":"$request_completion"'
)


LARGEST_OWN = 128 << 20
"""Bytes of our own log: ten minutes of some 1,400 requests/s, and as much of FILE.1. What a minute writes comes on top."""

_REQUESTS = "_requests"
_OWN_FORMAT = (
    "$msec $remote_addr $request_method $status $request_time $request_completion $%s_generation "
    '"$upstream_addr" "$upstream_status" "$upstream_connect_time" "$upstream_header_time" %s"%s$arg_%s"'
)


class LogFormat(Value):
    name: str
    text: str
    escape: str = "default"


STDERR = "stderr"
_STANDARD = frozenset({STDERR, "/dev/stderr", "/dev/stdout"})


class AccessLog(Value):
    """One `access_log` as it takes effect somewhere. `upstreams` are the names that the requests in it are passed to.

    `file` is "" and `line` 0 for nginx's default. `path` is resolved, "" for `off`. `buffer`, `gzip`, `flush` and `condition` are
    the parameters' text, or "". `format` is None where no format of that name is defined. `blocks` names the blocks whose lines it
    is among: each request that such a block decides about is in every one of its logs. `prefix` begins the names of our
    variables; `others` are those in the format that hold the generations of other sites. `source` is the file that has its lines,
    "" for `path` itself, and `hindrance` says why none has, both as a host found them (log_target.py).
    """

    path: str
    format_name: str
    format: LogFormat | None
    file: str = ""
    line: int = 0
    buffer: str = ""
    gzip: str = ""
    flush: str = ""
    condition: str = ""
    blocks: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()
    prefix: str = UNNAMED
    others: tuple[str, ...] = ()
    source: str = ""
    hindrance: str = ""

    @property
    def followed(self) -> str:
        """The file that has its lines."""
        return self.source or self.path

    @property
    def is_off(self) -> bool:
        return self.path == ""

    @property
    def is_syslog(self) -> bool:
        return self.path.startswith("syslog:")

    @property
    def has_variables(self) -> bool:
        return "$" in self.path

    @property
    def is_file(self) -> bool:
        """One plain file, which can be followed. Its lines may still come late (`buffer`) or compressed (`gzip`)."""
        return not (self.is_off or self.is_syslog or self.has_variables)


class ErrorLog(Value):
    """One `error_log` as it takes effect. `path` is resolved, or `stderr`, `syslog:...`, `memory:...` as written."""

    path: str
    threshold: str

    @property
    def is_file(self) -> bool:
        return self.path != STDERR and not self.path.startswith(("syslog:", "memory:"))

    @property
    def opened_as(self) -> str:
        """The path that its lines go to; "" for syslog and memory."""
        return "/dev/stderr" if self.path == STDERR else self.path if self.is_file else ""


def journal_tag(path: str) -> str:
    """By which SYSLOG_IDENTIFIER the journal of systemd has the lines of such a log; "" where it does not have them."""
    if path in _STANDARD:
        return "nginx"
    words = path.split(",")
    tags = (word.removeprefix("tag=") for word in words if word.startswith("tag="))
    return next(tags, "nginx") if words[0].startswith("syslog:server=unix:") else ""


def log_formats(conf: NginxConf) -> dict[str, LogFormat]:
    """The http-level formats by name, with the built-in `combined`. `text` is the arguments joined, as nginx joins them."""
    found = {"combined": LogFormat(name="combined", text=COMBINED)}
    for each in http_children(conf, "log_format"):
        written = format_of(each.args)
        found[written.name] = written
    return found


def format_of(args: Sequence[str]) -> LogFormat:
    """The format that the arguments of a `log_format` define."""
    name, *parts = args or ("",)
    escape = parts.pop(0).removeprefix("escape=") if parts and parts[0].startswith("escape=") else "default"
    return LogFormat(name=name, text="".join(parts), escape=escape)


def access_logs(conf: NginxConf, build: Build) -> tuple[AccessLog, ...]:
    """The distinct logs of http's requests, in the order of the configuration. `build` has the `-p` prefix.

    http's own logs are listed where a server inherits them, or where there is no server.
    """
    return _merged(_every(conf, build))


def _every(conf: NginxConf, build: Build) -> list[AccessLog]:
    """The logs of each scope in turn, each with what this scope passes to."""
    block = http(conf)
    if block is None:
        return []
    reader = _AccessLogs(build, conf)
    default = AccessLog(path=build.http_log_path, format_name="combined", format=reader.formats["combined"])
    inherited = reader.of(block) or (default,)
    effective = [each for server in block.children("server") for each in reader.walk(server, inherited)]
    return effective or list(inherited)


def own_logs(
    conf: NginxConf, build: Build, upstreams: Collection[str], *, path: str = "auto", live: str = "", otherwise: str = UNNAMED
) -> tuple[AccessLog, ...]:
    """The access logs of requests to these upstreams (of all where none is given), else those of scopes that may pass to them.

    Never the marker's own, nor those of scopes that pass to others by name. `path`: nginx.access_log of the site file.

    In their formats `$upswitch_generation` is this site's own generation, whatever its name, and no other site's. `live` is
    `Nginx.live`; `otherwise` begins the names of our variables where nothing of ours is live yet.
    """
    prefix = variable_prefix(conf, live=live, otherwise=otherwise)
    places = (each.file for each in defines(conf, generation_variable(prefix)))
    is_ours = not live or all(file.startswith(f"{live}/") for file in places)
    every = [_owned(log, prefix, is_ours=is_ours) for log in _every(conf, build)]
    if path != "auto":
        return tuple(log for log in _merged(every) if log.path == path)
    others = [log for log in every if not (live and log.file.startswith(f"{live}/"))]
    if not upstreams:
        return _merged(others)
    ours = passing_logs(others, upstreams)
    blocks = {block for log in ours for block in log.blocks}
    found = _merged(others)
    chosen = passing_logs(found, upstreams)
    return tuple(replace(log, blocks=tuple(each for each in log.blocks if each in blocks)) for log in chosen)


def passing_logs(logs: Collection[AccessLog], upstreams: Collection[str]) -> list[AccessLog]:
    """Those of requests to these upstreams; without any those of scopes that may pass to them."""
    names = {each.lower() for each in upstreams}
    named = [log for log in logs if not names.isdisjoint(map(str.lower, log.upstreams))]
    unknown = [log for log in logs if "" in log.upstreams]
    return named or unknown or [log for log in logs if not log.upstreams]


def _owned(log: AccessLog, prefix: str, *, is_ours: bool) -> AccessLog:
    """The log as this site reads it. A variable that another file sets too holds the generation of nobody knows which site."""
    others: dict[str, None] = {}

    def renamed(found: re.Match[str]) -> str:
        if found[2] == generation_variable(prefix) and is_ours:
            return f"${found[1]}{generation_variable(UNNAMED)}"
        if prefix_in(found[2]) and found[2] != generation_variable(prefix):
            others[found[2]] = None
        return found[0] + ("_foreign" if found[2] == generation_variable(UNNAMED) else "")

    if log.format is None:
        return replace(log, prefix=prefix)
    text = _OURS.sub(renamed, log.format.text)
    return replace(log, prefix=prefix, format=replace(log.format, text=text), others=tuple(others))


def lacks_generation(log: AccessLog) -> bool:
    """A log that is written but does not name a request's generation."""
    return not log.is_off and (log.format is None or "$upswitch_generation" not in log.format.text)


def log_format_line(prefix: str = UNNAMED, others: Iterable[str] = ()) -> str:
    """The `log_format` from which the watch and `diagnose` learn most (nginx-facts.md, section 7; nginx 1.15.8 and later).

    nginx refuses it before the live generation is included, which defines the generation's variables. `prefix` begins their names.
    `others` are further variables for it: those of other sites whose requests are in the same log.
    """
    beside = "".join(f'"{each}":"${each}",' for each in others)
    return f"log_format {prefix} escape=json '{{{_LOG_FORMAT % (generation_variable(prefix), prefix, beside)}}}';"


def lines_beside(log: AccessLog) -> str:
    """What an owner writes to get a further log with this format beside his own, which loses nothing."""
    default = "" if log.file else f"access_log {log.path}; "  # the first line turns nginx's default off
    path = posixpath.join(posixpath.dirname(log.path), f"{log.prefix}.log")  # logrotate's `*.log` has it too
    line = f"access_log {path} {log.prefix} buffer=32k flush=500ms;"
    return f"{log_format_line(log.prefix, log.others)} and beside the line of this log {default}{line}"


def own_format_name(prefix: str) -> str:
    """The format of the log that upswitch has for itself; its file has the same name."""
    return prefix + _REQUESTS


def own_format_line(prefix: str, build: Build) -> str:
    """Its `log_format`: what the watch reads, and not more. Our own requests are told by their mark alone, not by the query."""
    sent = '"$upstream_bytes_sent" ' if build.has_upstream_bytes_sent else ""
    text = _OWN_FORMAT % (prefix, sent, MARK, MARK.rstrip("="))
    return f"log_format {own_format_name(prefix)} '{text}';"


def log_scopes(
    conf: NginxConf, build: Build, upstreams: Collection[str], *, live: str, prefix: str
) -> tuple[tuple[AccessLog, ...], ...]:
    """The logs of each block whose lines decide about requests to these upstreams. nginx's own default is a log without a file."""
    found: dict[tuple[str, ...], dict[tuple[str, int], AccessLog]] = {}
    every = [_owned(log, prefix, is_ours=True) for log in _every(conf, build) if not log.file.startswith(f"{live}/")]
    for log in passing_logs(every, upstreams):
        found.setdefault(log.blocks, {})[(log.file, log.line)] = log
    return tuple(tuple(logs.values()) for logs in found.values())


def tells_crashes(conf: NginxConf, build: Build) -> bool:
    """Whether the master's log says that a worker died: nginx writes that as an alert (ngx_process_get_status)."""
    return any(log.is_file and log.threshold != "emerg" for log in _master_logs(conf, build))


def _master_logs(conf: NginxConf, build: Build) -> tuple[ErrorLog, ...]:
    return _error_logs(conf.tree, build) or (ErrorLog(path=build.error_log_path, threshold="error"),)


def error_logs(conf: NginxConf, build: Build) -> tuple[ErrorLog, ...]:
    """The distinct logs of the master and of http's servers. The first is the master's, with its `[emerg]` lines."""
    masters = _master_logs(conf, build)
    block = http(conf)
    return tuple(dict.fromkeys((*masters, *(_walk_errors(block, masters, build) if block else ()))))


class _AccessLogs:
    """Reads the `access_log` lines of one configuration."""

    def __init__(self, build: Build, conf: NginxConf) -> None:
        self.formats = log_formats(conf)
        self._build, self._conf = build, conf
        self._blocks = count()

    def walk(self, scope: Directive, inherited: tuple[AccessLog, ...]) -> Iterator[AccessLog]:
        """The logs in effect in this scope and in every one below it."""
        logs = self.of(scope) or inherited
        passes = scope.children(*PASSES)
        upstreams = tuple(dict.fromkeys(name for each in passes for name in passed_upstreams(self._conf, each)))
        yield from (replace(each, upstreams=upstreams) for each in logs)
        for inner in scope.children(*SCOPES):
            yield from self.walk(inner, logs)

    def of(self, scope: Directive) -> tuple[AccessLog, ...]:
        """The lines of this scope itself. `off` turns off the others beside it."""
        block = f"{scope.place}#{next(self._blocks)}"
        logs = tuple(self._read(each, block=block) for each in scope.children("access_log") if each.args)
        return tuple(each for each in logs if each.is_off)[:1] or logs

    def _read(self, directive: Directive, *, block: str) -> AccessLog:
        path, *rest = directive.args
        is_off = path == "off"
        plain = [each for each in rest if "=" not in each and each != "gzip"]
        name = plain[0] if plain else "combined"
        return AccessLog(
            path="" if is_off else path if path.startswith("syslog:") else self._build.resolve(path),
            format_name="" if is_off else name,
            format=None if is_off else self.formats.get(name),
            file=directive.file,
            line=directive.line,
            blocks=(block,),
            buffer=_parameter(rest, "buffer"),
            gzip=_parameter(rest, "gzip") or ("1" if "gzip" in rest else ""),
            flush=_parameter(rest, "flush"),
            condition=_parameter(rest, "if"),
        )


def _parameter(args: list[str], name: str) -> str:
    return next((each.removeprefix(f"{name}=") for each in args if each.startswith(f"{name}=")), "")


def _merged(logs: list[AccessLog]) -> tuple[AccessLog, ...]:
    """Each log once, at its first place, with the upstreams and blocks of all its scopes: no file may be followed twice."""
    found: dict[AccessLog, AccessLog] = {}
    for each in logs:
        same = replace(each, file="", line=0, blocks=(), upstreams=()) if not each.is_off else replace(each, upstreams=())
        first = found.setdefault(same, each)
        upstreams = tuple(dict.fromkeys((*first.upstreams, *each.upstreams)))
        found[same] = replace(first, upstreams=upstreams, blocks=tuple(dict.fromkeys((*first.blocks, *each.blocks))))
    return tuple(found.values())


def _walk_errors(scope: Directive, inherited: tuple[ErrorLog, ...], build: Build) -> Iterator[ErrorLog]:
    logs = _error_logs(scope.block or (), build) or inherited
    yield from logs
    for inner in scope.children(*SCOPES):
        yield from _walk_errors(inner, logs, build)


def _error_logs(block: tuple[Directive, ...], build: Build) -> tuple[ErrorLog, ...]:
    return tuple(
        ErrorLog(
            path=path if path.startswith(("syslog:", "memory:")) or path == STDERR else build.resolve(path),
            threshold=each.args[1] if len(each.args) > 1 else "error",
        )
        for each in block
        if each.name == "error_log" and each.args
        for path in each.args[:1]
    )

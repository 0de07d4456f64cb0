"""A log of our own for the watch: the lines that it needs in nginx's files, and the way out again. Nothing here acts.

Theory. nginx writes every `access_log` of a block, and a block with lines of its own inherits none. So ours goes beside the
owner's, into each block that decides about requests to the site's upstreams and whose logs don't show all that the watch needs.
Where no block has a line, nginx's default counts, and the first line would turn it off: it is written out beside ours. `off` wins
over all others of its block, so such a block is left alone. The `log_format` stands before the first use of it, in http, beside the
include of the live generation or before the first server that needs it: in a file that is edited anyhow. Generations know nothing
of all this, so every one of them fits the edited files, also in a rollback.
"""

import posixpath
import re
from collections.abc import Collection, Iterator
from enum import StrEnum

import msgspec

from upswitch.basics.value import Value
from upswitch.init import places
from upswitch.init.edits import Edit
from upswitch.init.places import AdoptRefused, Splice
from upswitch.logs.coverage import gaps
from upswitch.nginx import conf_logs
from upswitch.nginx.build import Build
from upswitch.nginx.conf_logs import LARGEST_OWN, AccessLog
from upswitch.nginx.configuration import http, http_children, includes_live, variable_prefix
from upswitch.nginx.dump import Directive, NginxConf, walk
from upswitch.nginx.statements import written_at
from upswitch.site.model import Site
from upswitch.site.names import prefix_of

_PARAMETERS = "buffer=32k flush=500ms"
_KEPT = " # nginx's default, which the next line would turn off"
_SAFE = re.compile(r"[A-Za-z0-9_./@:+,=-]*")
"""What a path may hold that stands in nginx's file, in a shell's line and in a unit of systemd."""


class WantsLog(StrEnum):
    """Whether init adds a log of our own where the owner's logs lack what the watch needs."""

    NO = "no"
    WHERE_BOUNDED = "where bounded"
    """Only where the host can keep it small by itself."""
    ALWAYS = "always"


class Scheduler(StrEnum):
    """Who runs a command each minute on a host."""

    SYSTEMD = "systemd"
    CRON = "cron"
    NONE = ""


class OwnLog(Value):
    """`path` is the log's file, "" where none is added. `name` is that of its format, and of what keeps it small.

    `edits` are all edits, with its lines. `notes` are for the owner.
    """

    path: str
    edits: tuple[Edit, ...]
    name: str = ""
    scheduler: Scheduler = Scheduler.NONE
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, str]:
        """What is written on the host to keep it small, by path."""
        return _files(self.scheduler, self.name, self.path) if self.path else {}


def with_own_log(edits: tuple[Edit, ...], after: NginxConf, build: Build, site: Site, *, unread: Collection[str] = ()) -> OwnLog:
    """The edits with our log added where the owner's logs lack something. `after` is the configuration as the edits make it.

    `unread` are the paths of logs that are no files. The order of the edits: nginx starts after each single one.
    AdoptRefused where the lines can't be written.
    """
    prefix = variable_prefix(after, live=site.nginx.live, otherwise=prefix_of(site.name))
    names = [upstream.name for upstream in site.upstreams]
    scopes = conf_logs.log_scopes(after, build, names, live=site.nginx.live, prefix=prefix)
    notes = tuple(_off(scopes))
    lacking = [logs for logs in scopes if not logs[0].is_off and all(log.path in unread or any(gaps(log)) for log in logs)]
    if not lacking:
        return OwnLog(path="", edits=edits, notes=notes)
    include = includes_live(after, site.nginx.include)
    path = own_path(after, build, prefix) or _path_beside(lacking, build, prefix)
    if include is None or not _SAFE.fullmatch(path):
        return OwnLog(path="", edits=edits, notes=(*notes, f"upswitch can't have a log of its own at {path}"))
    lines, inside = _lines(after, build, lacking, prefix=prefix, path=path), _inside(after, lacking)
    anchor = _anchor(after, include, inside)
    changes = [_before(after, anchor, lines.before), *(_before(after, each, [lines.inside]) for each in dict.fromkeys(inside))]
    first = (include.file, anchor.file)
    merged = tuple(_merged(edits, after, [each for each in changes if each.text], first=first))
    return OwnLog(path=path, edits=merged, name=conf_logs.own_format_name(prefix), notes=notes)


def without_own_log(conf: NginxConf, prefix: str) -> Iterator[Splice]:
    """The changes that take every line of ours out again, byte for byte."""
    block, name = http(conf), conf_logs.own_format_name(prefix)
    for each in dict.fromkeys(walk(block.block or ()) if block else ()):
        is_ours = _is_ours(each, name)
        if is_ours or each.name == "access_log":
            text = _text(conf, each)
            start, end = _span(text, each)
            is_kept = text.startswith(_KEPT, end)
            if is_ours or is_kept:
                behind = re.compile(r"\n[ \t]*").match(text, end + len(_KEPT) * is_kept)
                yield Splice(path=each.file, start=start, end=behind.end() if behind else end, text="")


def cut_command(path: str) -> str:
    """The shell's line that cuts the log where it has grown too large.

    nginx appends (O_APPEND), so its file can be cut in place, and nginx need not be told. What was cut off stays as FILE.1, for the
    history of the next watch; a full disk can keep that copy from being made, never the log from being cut. It follows no symlink:
    who may write to the folder must not choose what root empties.
    """
    return (
        f"find {path} -maxdepth 0 -type f -size +{LARGEST_OWN >> 10}k | grep -q . && "
        f"{{ cp -pP --remove-destination {path} {path}.1; dd if=/dev/null of={path} conv=nocreat oflag=nofollow status=none; }}"
    )


def _files(scheduler: Scheduler, name: str, path: str) -> dict[str, str]:
    head = f"# made by upswitch init; upswitch leave removes it\n[Unit]\nDescription=keep {path} small\n\n"
    match scheduler:
        case Scheduler.SYSTEMD:
            service = f"[Service]\nType=oneshot\nExecStart=/bin/sh -c '{cut_command(path)} || :'\n"
            timer = "[Timer]\nOnCalendar=minutely\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n"
            folder = "/etc/systemd/system"
            return {f"{folder}/{name}.service": head + service, f"{folder}/{name}.timer": head + timer}
        case Scheduler.CRON:
            return {f"/etc/cron.d/{name}": f"{head.partition('[')[0]}* * * * * root {cut_command(path)}\n"}
        case Scheduler.NONE:
            return {}


def said(log: OwnLog) -> Iterator[str]:
    """For the owner, where a log is added."""
    if log.path:
        keeps = (
            f"{' and '.join(log.files)} cuts it each minute"
            if log.files
            else f"cut it each minute yourself: {cut_command(log.path)}"
        )
        yield f"the watch gets a log of its own, {log.path}, of {LARGEST_OWN >> 20} MiB and as much again at most; {keeps}"


def own_path(conf: NginxConf, build: Build, prefix: str) -> str:
    """Where the log of our own is that nginx writes now; "" where it has none."""
    name = conf_logs.own_format_name(prefix)
    return next((log.path for log in conf_logs.access_logs(conf, build) if log.format_name == name), "")


def _is_ours(each: Directive, name: str) -> bool:
    return (each.name == "log_format" and each.args[:1] == (name,)) or (each.name == "access_log" and each.args[1:2] == (name,))


def _off(scopes: Collection[tuple[AccessLog, ...]]) -> Iterator[str]:
    for place in dict.fromkeys(f"{logs[0].file}:{logs[0].line}" for logs in scopes if logs[0].is_off):
        yield f"access_log is off at {place}: nginx writes no log there, also none of ours, so the watch sees no requests of it"


def _path_beside(lacking: list[tuple[AccessLog, ...]], build: Build, prefix: str) -> str:
    """In the folder of a log that nginx writes already: it may write there, also by SELinux and by its unit."""
    owners = [log.path for logs in lacking for log in logs if log.is_file and not log.path.startswith(("/dev/", "/proc/"))]
    return posixpath.join(posixpath.dirname((owners or [build.http_log_path])[0]), conf_logs.own_format_name(prefix))


class _Lines(Value):
    """What is written: `before` the first use, in http, and `inside` each block whose own lines lack something."""

    before: tuple[str, ...]
    inside: str


def _lines(conf: NginxConf, build: Build, lacking: list[tuple[AccessLog, ...]], *, prefix: str, path: str) -> _Lines:
    name = conf_logs.own_format_name(prefix)
    form = [conf_logs.own_format_line(prefix, build)] if name not in conf_logs.log_formats(conf) else []
    log = f"access_log {path} {name} {_PARAMETERS};"
    default = [f"access_log {build.http_log_path};{_KEPT}"] if any(not logs[0].file for logs in lacking) else []
    is_of_http = bool(default) or not _of_http(conf).isdisjoint((logs[0].file, logs[0].line) for logs in lacking)
    return _Lines(before=(*form, *default, *([log] if is_of_http else [])), inside=log)


def _of_http(conf: NginxConf) -> set[tuple[str, int]]:
    return {(each.file, each.line) for each in http_children(conf, "access_log")}


def _inside(conf: NginxConf, lacking: list[tuple[AccessLog, ...]]) -> list[Directive]:
    """The first line of each block of its own that lacks something."""
    wanted = {(logs[0].file, logs[0].line) for logs in lacking} - _of_http(conf)
    return [each for each in walk(http_children(conf, "server")) if each.name == "access_log" and (each.file, each.line) in wanted]


def _anchor(conf: NginxConf, include: Directive, inside: list[Directive]) -> Directive:
    """What the format must stand before: the include of the live generation, or the first server that needs it."""
    block = http(conf)
    for each in (block.block or ()) if block else ():
        if each == include or (each.name == "server" and any(one in inside for one in walk([each]))):
            return each
    return include


def _before(conf: NginxConf, directive: Directive, lines: Collection[str]) -> Splice:
    text = _text(conf, directive)
    at, _ = _span(text, directive)
    margin = re.search(r"[ \t]*\Z", text[:at])
    return Splice(path=directive.file, start=at, end=at, text="".join(f"{line}\n{margin[0] if margin else ''}" for line in lines))


def _span(text: str, directive: Directive) -> tuple[int, int]:
    found = written_at(text, directive.line, (directive.name, *directive.args))
    if not found:
        raise AdoptRefused(f"{directive.place}: `{directive.text}` can't be found in the text; begin it on a line of its own")
    return found[0][0].start, found[0][-1].end


def _text(conf: NginxConf, directive: Directive) -> str:
    return next(file.text for file in conf.files if file.path == directive.file)


def _merged(edits: tuple[Edit, ...], conf: NginxConf, changes: list[Splice], *, first: Collection[str]) -> Iterator[Edit]:
    """The edits with the changes. The files `first` come first: what they define is used in the others."""
    found = {edit.path: edit for edit in edits}
    changed = {each.path for each in changes}
    for path in dict.fromkeys((*first, *found, *(each.path for each in changes))):
        if path in changed or path in found:
            text = next(file.text for file in conf.files if file.path == path)
            base = found.get(path) or Edit(path=path, old=text, new=text)
            new = places.spliced(base.new, [each for each in changes if each.path == path])
            yield msgspec.structs.replace(base, new=new)

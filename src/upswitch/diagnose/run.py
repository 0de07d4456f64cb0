"""From logs, as files or on the live host, to a diagnosis; and with a live host on: its servers, names, and what nginx is told."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from upswitch.basics.errors import HostError
from upswitch.basics.value import Value
from upswitch.diagnose import directives, host
from upswitch.diagnose.count_access import Access, AccessCounter
from upswitch.diagnose.count_errors import FAIL_TIMEOUT_S, Addresses, ErrorCounter
from upswitch.diagnose.diagnose import Diagnosis, diagnose
from upswitch.diagnose.directives import Known
from upswitch.diagnose.host import Asked, HostSight
from upswitch.diagnose.listener import Listener
from upswitch.health import rounds
from upswitch.hosts.host import Host, Ports
from upswitch.logs import coverage, formats, since
from upswitch.logs.error_line import parse_error
from upswitch.logs.line import LineReader, newlines, seconds_of
from upswitch.logs.since import EVER, AccessTimes, ErrorTimes, Since, Span, Times
from upswitch.logs.source import FileSource, JournalSource, Source, with_rotated
from upswitch.nginx import conf_logs, log_target
from upswitch.nginx.conf_logs import AccessLog, ErrorLog, LogFormat, journal_tag
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.log_target import Target
from upswitch.site.model import Site

_LAST = Since(seconds=600)
"""How far back a live host's logs are read."""

_TOO_HIGH = frozenset({"crit", "alert", "emerg"})


class Wanted(Value):
    """What to read. No files: the live host's own logs. `files` may hold either kind of lines; `log_format`: as people paste it."""

    files: tuple[str, ...] = ()
    error_logs: tuple[str, ...] = ()
    access_logs: tuple[str, ...] = ()
    log_format: str = ""
    since: Since | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.files, *self.error_logs, *self.access_logs)))


class LogRead(Value):
    """One log: what was read of it. Times as it writes them, "" without any."""

    name: str
    kind: str
    lines: int
    first: str
    last: str


class Diagnosed(Value):
    """All of it. `whose`: which pools an address is of.

    `problems` are what is wrong beside the logs, `notes` what could not be seen; both sentences. `since` "": all that there is.
    `zone` is that of times without one, `+0100`, "" where it is not known.
    """

    diagnosis: Diagnosis
    access: Access
    read: tuple[LogRead, ...]
    since: str = ""
    whose: Mapping[str, str] = msgspec.field(default_factory=dict)
    asked: tuple[Asked, ...] = ()
    listeners: tuple[Listener, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    zone: str = ""

    @property
    def failing(self) -> tuple[Asked, ...]:
        """Live servers that fail now."""
        return tuple(each for each in self.asked if each.is_live and not each.probe.ok)

    @property
    def is_trouble(self) -> bool:
        """Whether anybody should act on anything of it."""
        return any(each.is_hurting for each in self.diagnosis.findings) or bool(self.problems or self.failing)


_Given = tuple[tuple[FileSource, ...], tuple[tuple[FileSource, LineReader], ...], tuple[str, ...]]


class _Logs(Value):
    """What there is to read, and from when on."""

    errors: tuple[Source, ...]
    access: tuple[tuple[Source, LineReader], ...]
    span: Span
    notes: tuple[str, ...] = ()


def of_files(wanted: Wanted, site: Site | None, conf: NginxConf = host.NO_CONF) -> Diagnosed:
    """Files alone; with a site it is said whose a server is. OSError and FormatError where a file can't be used.

    `conf` is that of the nginx that wrote them: it knows their formats, the health checks, and the directives behind the causes.
    """
    logs, addresses = _files(wanted, conf_logs.log_formats(conf).values()), directives.known_addresses(conf)
    found = _read(logs, directives.known_of(conf, None), addresses, fail_timeout_s=directives.fail_timeout_s(conf))
    found = msgspec.structs.replace(found, diagnosis=_with_settings(found.diagnosis, conf, addresses))
    return found if site is None else msgspec.structs.replace(found, whose=_whose(site, {}))


def of_host(ports: Ports, site: Site, wanted: Wanted) -> Diagnosed:
    """The live host: its logs (or the files), and the checks. HostError where it can't be asked at all."""
    live = host.look(ports.host, site)
    logs = _files(wanted, live.log_formats) if wanted.names else _host_logs(ports.host, site, live, wanted)
    found = _read(logs, live.known, host.ever(ports.host, site, live), fail_timeout_s=directives.fail_timeout_s(live.conf))
    asked = host.ask_servers(ports, site, live)
    asked = host.with_listeners(ports.host, asked, pid=live.master)
    listeners, unread = host.listeners(ports.host, found.diagnosis.findings, asked, pid=live.master)
    places, peers = live.places(site), found.access.peers if live.build else {}
    return msgspec.structs.replace(
        found,
        diagnosis=_with_settings(found.diagnosis, live.conf, live.addresses),
        whose=_whose(site, live.names.resolved),
        asked=asked,
        listeners=listeners,
        problems=(*live.problems, *host.strangers(peers, places)),
        notes=(
            *found.notes,
            *unread,
            *host.unasked(peers, places, spared=live.spared),
        ),
    )


def _with_settings(diagnosis: Diagnosis, conf: NginxConf, addresses: Addresses) -> Diagnosis:
    if not conf.tree:
        return diagnosis
    behind = (directives.behind(conf, each.code, each.servers, addresses) for each in diagnosis.findings)
    findings = (msgspec.structs.replace(each, settings=its) for each, its in zip(diagnosis.findings, behind, strict=True))
    return msgspec.structs.replace(diagnosis, findings=tuple(findings))


def _whose(site: Site, names: rounds.Resolved) -> dict[str, str]:
    """The pools that an address is in, by address; as long as a name is not resolved it stands for itself."""
    found: dict[str, list[str]] = {}
    for pool in site.pools:
        for upstream, addresses in rounds.servers(site, pool, names).items():
            for address in addresses:
                found.setdefault(address, []).append(f"{upstream} {pool}")
    return {address: ", ".join(pools) for address, pools in found.items()}


def _unseen(access: Iterable[AccessLog], errors: Iterable[ErrorLog], seen: Mapping[str, Target]) -> Iterator[str]:
    """What the host's logs don't tell us."""
    for log in access:
        if not coverage.can_follow(log) and not _tag(log.path, seen):
            why = f": {log.hindrance}" if log.hindrance else ""
            yield f"The access log at {log.file}:{log.line} ({log.path or 'off'}) can't be read here{why}."
    for each in errors:
        target = seen.get(each.opened_as, Target())
        if not target.path and not _tag(each.opened_as or each.path, seen):
            yield f"error_log {each.path} is no file, so its lines are not seen{f': {target.why}' if target.why else ''}."
        elif each.threshold in _TOO_HIGH:
            yield f"{each.path} has only lines from {each.threshold} on. Most failures have the level error and are missing."


def _tag(path: str, seen: Mapping[str, Target]) -> str:
    """By which the journal has the lines of such a log, "" where it has not."""
    return seen[path].tag if path in seen else journal_tag(path)


# ---- what to read ----


def _files(wanted: Wanted, found_formats: Iterable[LogFormat]) -> _Logs:
    errors, access, notes = _by_kind(wanted, found_formats)
    if wanted.since is None:
        return _Logs(errors=errors, access=access, span=EVER, notes=notes)
    span = since.in_files(
        wanted.since,
        newest_errors=[source.newest(since.past_errors()) for source in errors],
        newest_requests=[source.newest(AccessTimes(reader)) for source, reader in access],
    )
    return _Logs(errors=errors, access=access, span=span, notes=notes)


def _by_kind(wanted: Wanted, found_formats: Iterable[LogFormat]) -> _Given:
    """The files by what they hold, the oldest first; one with both kinds of lines is among the access logs.

    Beside an access log, an error log is never read as both: a client can forge lines in it (logs/error_line.py).
    And what can't be read of them, a sentence each: as long as another log can be read, that is no reason to stop.
    """
    errors, access, notes = list[FileSource](), list[tuple[FileSource, LineReader]](), list[str]()
    for name in wanted.names:
        source, is_error_log = FileSource(name), name in wanted.error_logs
        source.unwrap(lambda text: _count_errors(text) + formats.count_read(text, given=wanted.log_format, known=found_formats))
        head = source.head()
        is_one = is_error_log and (not head or (bool(set(wanted.access_logs) - {name}) and _count_errors(head) > 0))
        known = None if is_one else formats.reader_in(head, given=wanted.log_format, known=found_formats)
        if known:
            access.append((source, known.reader))
            notes += [f"{source.name} is read as the log_format {known.name}."] if not wanted.log_format else []
        elif is_error_log or _count_errors(head):
            errors.append(source)
        elif wanted.log_format or len(wanted.names) == 1:
            formats.reader_of(source, given=wanted.log_format, known=found_formats)
        else:
            notes.append(f"{source.name} is of no log_format that we know: give its text with --log-format")
    errors.sort(key=lambda source: ErrorTimes(EVER).first(source.head()))
    access.sort(key=lambda each: seconds_of(AccessTimes(each[1]).first(each[0].head())) or 0)
    return tuple(errors), tuple(access), tuple(notes)


def _count_errors(text: bytes) -> int:
    return sum(parse_error(line) is not None for line in text.split(b"\n"))


def _host_logs(host: Host, site: Site, live: HostSight, wanted: Wanted) -> _Logs:
    """Each log from what its path really leads to."""
    errors, access = _error_logs(site, live), _access_logs(site, live)
    paths = (*filter(None, (each.opened_as for each in errors)), *(log.path for log in access if log.is_file))
    seen = log_target.targets(host, paths, master=live.master)
    access = coverage.distinct(log_target.with_targets(access, seen))
    span = since.on_host(host, wanted.since or _LAST)
    places = {log: (tag := _tag(log.path, seen), "" if tag else log.followed) for log in access}
    read = [(places[log], coverage.reader_of(log)) for log in access if coverage.can_follow(log) or (log.format and places[log][0])]
    taken = {place for place, _ in read}  # their error lines are read with them
    of_errors = dict.fromkeys((_tag(each.opened_as or each.path, seen), seen.get(each.opened_as, Target()).path) for each in errors)
    requests = ((each, reader) for place, reader in read for each in _sources(host, place, span, AccessTimes(reader, span)))
    failures = (each for place in of_errors if place not in taken for each in _sources(host, place, span, ErrorTimes(span)))
    return _Logs(errors=tuple(failures), access=tuple(requests), span=span, notes=tuple(_unseen(access, errors, seen)))


def _sources(host: Host, place: tuple[str, str], span: Span, times: Times) -> tuple[Source, ...]:
    """`place`: the tag in the journal, or a path; both may be ""."""
    tag, path = place
    if tag:
        return (JournalSource(host, tag, since=span.unix or 0),)
    return with_rotated(host, path, times) if path else ()


def _error_logs(site: Site, live: HostSight) -> tuple[ErrorLog, ...]:
    if site.nginx.error_log != "auto":
        return (ErrorLog(path=site.nginx.error_log, threshold="error"),)
    if live.build:
        return conf_logs.error_logs(live.conf, live.build)
    named = live.disk.manifest.error_log if live.disk.manifest else ""
    return (ErrorLog(path=named, threshold="error"),) if named else ()


def _access_logs(site: Site, live: HostSight) -> tuple[AccessLog, ...]:
    if live.build is None:
        return ()
    logs = conf_logs.own_logs(live.conf, live.build, [each.name for each in site.upstreams], live=site.nginx.live)
    return tuple(log for log in logs if site.nginx.access_log in {"auto", log.path})


def _read(logs: _Logs, known: Known, addresses: Addresses, *, fail_timeout_s: int = FAIL_TIMEOUT_S) -> Diagnosed:
    span, reading = logs.span, _Reading()
    access, beside = Access(), ErrorCounter(since=span.words, addresses=addresses, fail_timeout_s=fail_timeout_s)
    for source, reader in logs.access:
        requests = AccessCounter(reader, span=span.range, others=beside.count)
        reading.count(source, AccessTimes(reader, span), requests.count)
        access += requests.found()
    counter = ErrorCounter(since=span.words, addresses=addresses, peers=access.peers, fail_timeout_s=fail_timeout_s)
    for source in logs.errors:
        reading.count(source, ErrorTimes(span), counter.count)
    errors = counter.found() + beside.found()
    kinds = {each.kind for each in reading.read} | ({"error"} if beside.found().lines else set())
    found = diagnose(errors if "error" in kinds else None, access if "access" in kinds else None, known)
    if "error" not in kinds:
        found = msgspec.structs.replace(found, unread=errors.unread)
    return Diagnosed(
        diagnosis=found,
        access=access,
        read=tuple(sorted(reading.read, key=lambda each: each.kind, reverse=True)),  # the error logs first
        since=span.words,
        notes=(*logs.notes, *reading.notes),
        zone=span.zone,
    )


class _Reading:
    """What was read, and what could not be."""

    def __init__(self) -> None:
        self.read: list[LogRead] = []
        self.notes: list[str] = []

    def count(self, source: Source, times: Times, count: Callable[[bytes], None]) -> None:
        """A host's log that can't be read is noted: the others say something all the same."""
        first = last = b""
        lines = 0
        try:
            for block in source.blocks(times):
                count(block)
                first, last, lines = first or block, block, lines + newlines(block)
        except HostError as exc:
            self.notes.append(f"The {times.kind} log {exc.what.removeprefix('read ')} can't be read: {exc.reason}")
            return
        self.notes += [source.cut] if source.cut else []
        span = (times.first(first), times.last(last))
        self.read.append(LogRead(name=source.name, kind=times.kind, lines=lines, first=span[0], last=span[1]))

"""What `diagnose` prints: the sum, each cause with what to do, what the live host says, and what was read."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from upswitch.core import outcome
from upswitch.core.behind import Setting
from upswitch.core.causes.cause import Code
from upswitch.core.finding import Finding
from upswitch.core.foreign import plain
from upswitch.core.words import Value
from upswitch.diagnosing import Diagnosed, LogRead
from upswitch.livechecks import Asked
from upswitch.report import cause_line
from upswitch.views import CauseLine, SettingLine

_BENIGN = frozenset({Code.NONE_TOLERATED, Code.NONE_BUFFERING_NOTICE, Code.CLIENT_CLOSED})
_MOST_SERVERS = 8
_MSEC = re.compile(r"\d{9,11}(\.\d{3})?")


class AskedLine(Value):
    """One server, asked past nginx. `live`: of the pool that serves."""

    upstream: str
    pool: str
    server: str
    live: bool
    up: bool
    text: str


class LogLine(Value):
    name: str
    kind: str
    lines: int
    first: str
    last: str


class DiagnoseView(Value):
    """`diagnose`: exit 0 with nothing found (or what hurt nobody), 3 with findings. `whose`: the pools of an address."""

    command: str
    exit: int
    said: str
    since: str
    findings: tuple[CauseLine, ...]
    problems: tuple[str, ...]
    servers: tuple[AskedLine, ...]
    whose: dict[str, str]
    read: tuple[LogLine, ...]
    unread: int
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        lines, told = [self.said], set[str]()
        for finding in self.findings:
            lines += ["", *_finding_lines(finding, self.whose, told)]
            told = told if finding.consequence_of else {each.text for each in finding.settings}
        lines += ["", *(f"Problem: {each}" for each in self.problems)] if self.problems else []
        asked = (f"  {'' if each.up else 'FAILS: '}{each.text}" for each in self.servers)
        lines += ["", "Each server asked past nginx, now:", *asked] if self.servers else []
        lines += ["", *map(_log_text, self.read), *(f"Note: {each}" for each in self.notes)]
        return "\n".join(lines)


def diagnosed(found: Diagnosed) -> DiagnoseView:
    causes = found.diagnosis.findings
    settings = found.settings or ((),) * len(causes)
    findings = tuple(cause_line(each, tuple(map(_setting_line, its))) for each, its in zip(causes, settings, strict=True))
    servers = tuple(_asked_line(each, found.live_pool) for each in found.asked)
    is_found = any(map(hurts, causes)) or bool(found.problems) or any(each.live and not each.up for each in servers)
    return DiagnoseView(
        command="diagnose",
        exit=outcome.FINDINGS if is_found else 0,
        said=_said(found),
        since=found.since,
        findings=findings,
        problems=found.problems,
        servers=servers,
        whose=dict(found.whose),
        read=tuple(map(_log_line, found.read)),
        unread=found.diagnosis.unread,
        notes=(*found.notes, *_unread(found.diagnosis.unread), *found.diagnosis.limits),
    )


def _unread(lines: int) -> tuple[str, ...]:
    return (f"{lines} lines are not of their log's format",) if lines else ()


def hurts(finding: Finding) -> bool:
    """Whether anybody should act on it. A failure that a retry hid is one."""
    return finding.code not in _BENIGN or finding.clients > 0


def _said(found: Diagnosed) -> str:
    """How many of how many, since when, and the worst in one sentence."""
    since = f" since {found.since}" if found.since else ""
    worst = found.diagnosis.findings[:1]
    lines = found.diagnosis.error_lines
    if found.diagnosis.requests is not None:
        left = sum(each.clients for each in found.diagnosis.findings if each.code == Code.CLIENT_CLOSED)
        given_up = f" ({left} of them given up by their clients)" if left else ""
        head = f"{found.traffic.failed + left} of {found.traffic.requests} requests failed{given_up}{since}"
        also = f", and {lines} lines of the error log were read" if lines is not None else ""
    else:
        hurting = sum(each.count for each in found.diagnosis.findings if hurts(each))
        head, also = f"{hurting} of {lines or 0} lines of the error log tell of failures{since}", ""
    if worst and not hurts(worst[0]):
        return f"nothing that hurt anybody: {head}{also}"
    if worst:
        return f"{head}. Worst: {worst[0].count} x {worst[0].code}{_at(worst[0])}: {_why(worst[0])}"
    is_wrong = bool(found.problems) or any(each.pool == found.live_pool and not each.probe.ok for each in found.asked)
    nothing = "no cause was found in the logs" if is_wrong else "nothing found"
    return f"{nothing}: {head}{also}"


def _why(finding: Finding) -> str:
    return finding.note if finding.code == Code.CLIENT_CLOSED and finding.note else finding.why


def _at(finding: Finding) -> str:
    return f" at {_listed(finding.servers, {})}" if finding.servers else ""


def _listed(servers: tuple[str, ...], whose: dict[str, str]) -> str:
    named = [f"{each} ({whose[each]})" if each in whose else each for each in servers[:_MOST_SERVERS]]
    more = f" and {len(servers) - _MOST_SERVERS} more" if len(servers) > _MOST_SERVERS else ""
    return ", ".join(named) + more


def _finding_lines(finding: CauseLine, whose: dict[str, str], told: set[str]) -> Iterator[str]:
    """A consequence without the settings that were told (`told`) of its cause."""
    margin = "    " if finding.consequence_of else ""
    status = "no status" if finding.status is None else f"{finding.status:03}"
    follows = f"  (follows from {finding.consequence_of})" if finding.consequence_of else ""
    hidden = f" ({finding.clients} reached clients)" if finding.clients < finding.count else ""
    yield f"{margin}{finding.code}  {finding.count} x{hidden}  {status}  {_listed(finding.servers, whose)}{follows}".rstrip()
    lines = [
        ("when", _span(finding.first, finding.last)),
        ("line", finding.evidence),
        ("why", finding.why),
        ("check", finding.check),
    ]
    lines += [
        ("fix", finding.fix),
        *(("set", each.text) for each in finding.settings if not (finding.consequence_of and each.text in told)),
    ]
    yield from (f"{margin}  {name + ':':7}{text}" for name, text in (*lines, ("note", finding.note)) if text)


def _setting_line(setting: Setting) -> SettingLine:
    return SettingLine(name=setting.name, value=plain(setting.value), place=plain(setting.place), text=plain(setting.text))


def _asked_line(asked: Asked, live_pool: str) -> AskedLine:
    return AskedLine(
        upstream=asked.upstream,
        pool=asked.pool,
        server=asked.target.server,
        live=asked.pool == live_pool,
        up=asked.probe.ok,
        text=asked.text,
    )


def _log_line(read: LogRead) -> LogLine:
    return LogLine(name=plain(read.name), kind=read.kind, lines=read.lines, first=read.first, last=read.last)


def _log_text(log: LogLine) -> str:
    span = f", {_span(log.first, log.last)}" if log.first else ""
    return f"Read: {log.name} ({log.kind} log, {log.lines} lines{span})"


def _span(first: str, last: str) -> str:
    return _clock(first) if first == last else f"{_clock(first)} to {_clock(last)}"


def _clock(time: str) -> str:
    """Seconds since 1970 as people read them."""
    return f"{datetime.fromtimestamp(float(time), UTC):%Y-%m-%d %H:%M:%S} UTC" if _MSEC.fullmatch(time) else time

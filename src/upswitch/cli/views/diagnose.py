"""What `diagnose` prints: a summary, each cause with what to do, what the live host says, and which logs were read."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from upswitch.basics.text import plain
from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View
from upswitch.diagnose.causes import Code
from upswitch.diagnose.evidence import OTHERS
from upswitch.diagnose.finding import Finding
from upswitch.diagnose.host import Asked
from upswitch.diagnose.run import Diagnosed, LogRead

_MOST_SERVERS = 8
_MOST_COMMANDS = 3
_QUOTED = re.compile(r"`([^`]+)`")
_WORD = re.compile(r"\b(?:ADDRESS|HOST|PORT|PATH|NAME|FILE|LIST|RESOLVER|WORKER|WORKER_PID|BIGFILE)\b")
_MSEC = re.compile(r"\d{9,11}(\.\d{3})?")
_WORDS = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d")


class DiagnoseView(View):
    """`diagnose`: exit 0 with nothing found, or nothing that needs action; else 3."""

    found: Diagnosed
    is_all: bool = False

    @property
    def said(self) -> str:
        return _said(self.found)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(map(plain, self.found.problems))

    @property
    def notes(self) -> tuple[str, ...]:
        diagnosis = self.found.diagnosis
        noise = 0 if self.is_all else sum(each.count for each in diagnosis.noise)
        hidden = (f"{_lines(noise)} of the error log are no failed request: `--all` shows them",) if noise else ()
        unread = (f"{_lines(diagnosis.unread)} could not be read: not in the log's format",) if diagnosis.unread else ()
        return (*map(plain, self.found.notes), *hidden, *unread, *diagnosis.limits)

    @property
    def text(self) -> str:
        found, lines, shown = self.found, [self.said], set[str]()
        for finding in (*found.diagnosis.findings, *(found.diagnosis.noise if self.is_all else ())):
            lines += ["", *_finding_lines(finding, found, shown)]
            shown = shown if finding.consequence_of else {each.text for each in finding.settings}
        lines += ["", *(f"Problem: {each}" for each in self.problems)] if self.problems else []
        lines += ["", "Each server, checked directly (not through nginx) now:", *_asked_text(found.asked)] if found.asked else []
        lines += ["", "Who listens at these addresses of this machine:", *_listening_text(found)] if found.listeners else []
        lines += ["", *(_log_text(each, found.zone) for each in found.read), *(f"Note: {each}" for each in self.notes)]
        if commands := _next(found):
            lines += ["", "Next:", *(f"    {each}" for each in commands)]
        return "\n".join(lines)


def diagnosed(found: Diagnosed, *, is_all: bool = False) -> DiagnoseView:
    exit_ = Exit.FINDINGS if found.is_trouble else Exit.DONE
    return DiagnoseView(command="diagnose", exit=exit_, found=found, is_all=is_all)


def _next(found: Diagnosed) -> tuple[str, ...]:
    """Commands to type next: for the log of a process that fails, then those that `check` names, with the server put in."""
    commands = dict.fromkeys([each.next for each in found.listeners if each.next][:1])
    for finding in found.diagnosis.findings:
        if finding.is_hurting:
            commands |= dict.fromkeys(filter(None, (_filled(each, finding) for each in _QUOTED.findall(finding.check))))
    return tuple(commands)[:_MOST_COMMANDS]


def _filled(command: str, finding: Finding) -> str:
    """With the server in the place of ADDRESS, HOST and PORT; "" for what is no command, or holds another such word."""
    server = next((each for each in finding.servers if each != OTHERS), "")
    host, _, port = server.rpartition(":")
    named = {"ADDRESS": server, "HOST": host.strip("[]"), "PORT": port if host and port.isdigit() else "", "PATH": ""}
    if server.startswith("unix:"):
        named = {"PATH": server.removeprefix("unix:")}
    text = _WORD.sub(lambda word: named.get(word[0]) or word[0], command)
    return text if " " in text and not _WORD.search(text) and not text.startswith("proxy_") else ""


def _said(found: Diagnosed) -> str:
    """What fails now, how many requests failed and since when, and the worst cause with its consequences."""
    since = f" since {_clock(found.since, found.zone)}" if found.since else ""
    worst, *others = found.diagnosis.findings or (None,)
    lines = found.diagnosis.error_lines
    now = f"FAILING now: {_listed(tuple(each.target.server for each in found.failing), {})}. " if found.failing else ""
    if found.access.requests or lines is None:
        left = sum(each.clients for each in found.diagnosis.findings if each.code == Code.CLIENT_CLOSED)
        given_up = f" (in {left} of them the client gave up)" if left else ""
        head = f"{found.access.failed + left} of {found.access.requests} requests failed{given_up}{since}"
        also = f", and {lines} lines of the error log were read" if lines is not None else ""
    else:
        hurting = sum(each.count for each in found.diagnosis.findings if each.is_hurting)
        head, also = f"{hurting} of {lines or 0} lines of the error log report failures{since}", ""
    if worst and not worst.is_hurting:
        return f"{now}No action needed: {head}{also}"
    if worst:
        then = "".join(f", then {each.count} x {each.code}" for each in others if each.consequence_of == worst.code)
        at = f" at {_listed(worst.servers, {})}" if worst.servers else ""
        return f"{now}{head}. Worst: {worst.count} x {worst.code}{at}{then}: {worst.why}"
    nothing = "No cause was found in the logs" if found.is_trouble else "Nothing found"
    return f"{now}{nothing}: {head}{also}"


def _listed(servers: tuple[str, ...], whose: Mapping[str, str]) -> str:
    named = [f"{each} ({whose[each]})" if each in whose else each for each in servers[:_MOST_SERVERS]]
    more = f" and {len(servers) - _MOST_SERVERS} more" if len(servers) > _MOST_SERVERS else ""
    return ", ".join(named) + more


def _finding_lines(finding: Finding, found: Diagnosed, shown: set[str]) -> Iterator[str]:
    """A consequence does not repeat the settings that its cause has shown (`shown`)."""
    margin = "    " if finding.consequence_of else ""
    status = "no status" if finding.status is None else f"{finding.status:03}"
    follows = f"  (follows from {finding.consequence_of})" if finding.consequence_of else ""
    hidden = f" ({finding.clients} reached clients)" if finding.clients < finding.count else ""
    yield f"{margin}{finding.code}  {finding.count} x{hidden}  {status}  {_listed(finding.servers, found.whose)}{follows}".rstrip()
    lines = [
        ("when", _span(finding.first, finding.last, found.zone)),
        ("line", finding.evidence),
        ("why", finding.why),
        ("check", finding.check),
        ("fix", finding.fix),
        *(("set", each.text) for each in finding.settings if not (finding.consequence_of and each.text in shown)),
        ("note", finding.note),
    ]
    yield from (f"{margin}  {name + ':':7}{text}" for name, text in lines if text)


def _asked_text(servers: tuple[Asked, ...]) -> Iterator[str]:
    failing = [each for each in servers if not each.probe.ok]
    yield from (f"  FAILING: {each.text}" for each in failing)
    if rest := len(servers) - len(failing):
        other = "other " if failing else ""
        yield f"  {rest} {other}server answers" if rest == 1 else f"  {rest} {other}servers answer"


def _listening_text(found: Diagnosed) -> Iterator[str]:
    for each in found.listeners:
        yield f"  {_listed((each.server,), found.whose)}"
        yield from (f"    {fact}" for fact in each.said)
        yield from (f"    journal: {line}" for line in each.journal)


def _log_text(log: LogRead, zone: str) -> str:
    span = f", {_span(log.first, log.last, zone)}" if log.first else ""
    return f"Read: {log.name} ({log.kind} log, {_lines(log.lines)}{span})"


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"


def _span(first: str, last: str, zone: str) -> str:
    return _clock(first, zone) if first == last else f"{_clock(first, zone)} to {_clock(last, zone)}"


def _clock(time: str, zone: str) -> str:
    """A log's time with its zone. An error log has none, an access log may have seconds since 1970: both are shown in one zone."""
    if _WORDS.fullmatch(time):
        return f"{time} {zone or '(local time)'}"
    if not _MSEC.fullmatch(time):
        return time
    at = datetime.fromtimestamp(float(time), datetime.strptime(zone, "%z").tzinfo if zone else UTC)
    return f"{at:%Y/%m/%d %H:%M:%S %z}"

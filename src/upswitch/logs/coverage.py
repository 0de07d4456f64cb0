"""Says what the watch can and can't see in an access log. `lint`, `plan` and `switch` show it."""

from collections.abc import Iterator, Sequence

from upswitch.basics.value import Value
from upswitch.logs.format_regex import forgeable
from upswitch.logs.line import CLOCKS, LineReader, compile_format
from upswitch.nginx import conf_logs
from upswitch.nginx.conf_logs import AccessLog
from upswitch.nginx.units import seconds_of
from upswitch.site.names import generation_variable, name_of

_SILENT = 10.0
"""Seconds without a line, while our own requests are answered, after which a log is blind."""

_PATIENCE = 30.0
"""Seconds; a watch does not wait for a `flush` that takes longer."""

_NO_FILES = ("/dev/", "/proc/")
_PLAIN = "write a plain file beside it, access_log PATH FORMAT; or let `upswitch init` give the watch a log of its own"

_LOSSES = {
    "upstream_status": "a failure that error_page hides is not seen, and nginx's own 50x answers count",
    "request_time": "clients that give up on a hanging pool are not seen",
    "request_completion": "answers that begin and never end are not seen",
    "remote_addr": "one client's failures count like everybody's",
}


_DECIDING = ("status", "upstream_status", "upstream_addr", "upswitch_generation")


class Gap(Value):
    """One thing that a log doesn't show: a code for programs, what it means for the watch, what to write instead."""

    code: str
    what: str
    hint: str


def can_follow(log: AccessLog) -> bool:
    """Whether the log is a plain file in a known format that shows failures."""
    return not _unfollowed(log)


def beside(logs: Sequence[AccessLog]) -> tuple[tuple[AccessLog, ...], ...]:
    """Groups logs of the same requests, the most informative first. Only one of a group is followed: no request counts twice.

    A log whose blocks all have better ones joins the first of those.
    """
    found = list[list[AccessLog]]()
    covered = set[str]()
    for log in sorted(logs, key=lambda log: (not can_follow(log), len(list(gaps(log))))):
        if log.blocks and covered.issuperset(log.blocks):
            next(group for group in found if not set(group[0].blocks).isdisjoint(log.blocks)).append(log)
        else:
            found.append([log])
            covered.update(log.blocks)
    return tuple(map(tuple, found))


def distinct(logs: Sequence[AccessLog]) -> tuple[AccessLog, ...]:
    """Keeps the most informative of the logs that have the same requests."""
    return tuple(same[0] for same in beside(logs))


def silent_after(log: AccessLog) -> float:
    """How many seconds without a line are normal. Lines that wait in a buffer come one `flush` later."""
    flush_s = seconds_of(log.flush)
    return _SILENT + (flush_s if flush_s <= _PATIENCE else 0.0)


def reader_of(log: AccessLog) -> LineReader:
    """The reader of a log for which `can_follow` is true."""
    assert log.format is not None  # noqa: S101  (can_follow)
    return compile_format(log.format.text, log.format.escape)


def gaps(log: AccessLog) -> Iterator[Gap]:
    """What one log does not show, worst first."""
    at = f"{log.file}:{log.line}" if log.file else "nginx's default"
    why = _unfollowed(log)
    if why:
        yield Gap(code="log_unwatched", what=f"access log at {at}: {why}", hint=_PLAIN)
    else:
        yield from _attribution(log, f"access log {log.path} ({at})")
        yield from _late(log, f"access log {log.path} ({at})")


def _unfollowed(log: AccessLog) -> str:
    if log.is_off:
        return "it is off, so the watch has only its own requests"
    if log.is_syslog and not log.source:
        return "it goes to syslog, which the watch can't follow"
    if log.has_variables:
        return f"{log.path}: the watch can't follow a name with variables"
    if log.format is None:
        return f"{log.path}: its format {log.format_name} is not defined"
    if log.gzip:
        return f"{log.path}: it is compressed, so the watch can't follow it"
    if log.hindrance or (not log.source and log.path.startswith(_NO_FILES)):
        return f"{log.path}: the watch can't follow it: {log.hindrance or 'it is a device'}"
    if not reader_of(log).variables & {"status", "upstream_status"}:
        return f"{log.path}: its format {log.format_name} has neither $upstream_status nor $status, so it shows no failure"
    return ""


def _attribution(log: AccessLog, name: str) -> Iterator[Gap]:
    has = reader_of(log).variables
    site = name_of(log.prefix)
    hint = (
        f"`upswitch init{f' -s {site}' if site else ''}` gives the watch a log of its own beside it. "
        f"By hand: write {conf_logs.lines_beside(log)}"
    )
    own = f"${generation_variable(log.prefix)}"
    if not has & {"upswitch_generation", "upstream_addr"}:
        what = f"{name} has neither {own} nor $upstream_addr (LIMITED MODE): other upstreams and old workers count too"
        yield Gap(code="log_limited", what=what, hint=hint)
    elif "upswitch_generation" not in has:
        yield Gap(
            code="log_no_generation",
            what=f"{name} has no {own}, so the watch tells pools apart by address",
            hint=hint,
        )
    if lacks := [f"${variable} ({loss})" for variable, loss in _LOSSES.items() if variable not in has]:
        yield Gap(code="log_lacks", what=f"{name} lacks {', '.join(lacks)}", hint=hint)
    if has.isdisjoint(CLOCKS):
        what = f"{name} has no time, so there is no history, and normal bursts of failures look new"
        yield Gap(code="log_no_time", what=what, hint=hint)


def _late(log: AccessLog, name: str) -> Iterator[Gap]:
    if log.buffer and not log.flush:
        what = f"{name} has buffer={log.buffer} without flush, so on a quiet site the watch sees nothing"
        yield Gap(code="log_buffered", what=what, hint="add flush=1s")
    elif seconds_of(log.flush) > _PATIENCE:
        what = f"{name} has buffer={log.buffer} flush={log.flush}: on a quiet site the watch ends before it sees anything"
        yield Gap(code="log_buffered", what=what, hint="flush=1s")
    elif seconds_of(log.flush) > 1.0:
        yield Gap(code="log_late", what=f"{name} has flush={log.flush}, so the watch sees requests that late", hint="flush=1s")
    if log.condition:
        what = f"{name} has if={log.condition}: the watch does not see the requests that it leaves out"
        yield Gap(code="log_conditional", what=what, hint="add a log without if= for the requests to these upstreams")
    reader = reader_of(log)
    if log.format and log.format.escape == "none":
        what = f"{name} has escape=none, so a client can write text that looks like other fields"
        yield Gap(code="log_unescaped", what=what, hint="use escape=json, or no escape= at all")
    elif free := forgeable(reader.parts, reader.escape, _DECIDING):
        named = ", ".join(f"${each}" for each in free)
        what = (
            f"{name} has {named} without quotes before what decides: a client can write there what looks like a failure of the pool"
        )
        yield Gap(
            code="log_unquoted", what=what, hint=f'quotes around them ("${free[0]}"), or behind $upstream_status and $upstream_addr'
        )

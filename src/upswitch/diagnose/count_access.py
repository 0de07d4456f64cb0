"""Requests that went wrong, counted by what went wrong at which server: what `diagnose` makes of the entries of access logs."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec
from msgspec.structs import asdict, replace

from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.diagnose.evidence import MOST_KEPT, OTHERS, Exhibit
from upswitch.logs.entries import EntryCounter, Lines
from upswitch.logs.line import (
    ALWAYS,
    CLIENT_LEFT,
    CLOCKS,
    GATEWAY,
    NOT_HTTP,
    OWN_ERROR,
    UNREPEATABLE,
    Entry,
    LineReader,
    elements,
    seconds_of,
)

_GATEWAY = frozenset(map(str, GATEWAY))
_NOTHING = frozenset({None, "", "-"})
_GIVEN_UP = "given up"
_SHUT, _CUT = 0, (200, 206)


class Wrong(StrEnum):
    """What went wrong with a request, or with one of its attempts at a server."""

    OURS = "ours"  # nginx gave up on the server
    ANSWERED = "answered"  # the server said 5xx
    EITHER = "either"  # one of these
    UNASKED = "unasked"  # 5xx without a server
    LEFT = "left"  # the client left with no answer, after 1 s or more where the format tells
    CUT = "cut"  # nginx did not send the answer to its end; one that the server cut short is logged as complete
    SHUT = "shut"  # status 000
    RAW = "raw"  # status 009
    RACED = "raced"  # also OURS: at once on a connection that took no time, of a method that is not sent twice
    DIED = "died"  # also OURS: after the request was sent, of any other method


class Trouble(Value):
    """`server` as in `$upstream_addr`, or ""; `status` the attempt's, else the client's; `is_last`: none was asked after it."""

    wrong: Wrong
    server: str
    status: int
    is_last: bool = True


def troubles(entry: Entry) -> tuple[Trouble, ...]:
    """What went wrong with a request and with its attempts, as far as its entry says."""
    status, answers, peers = entry.status, _answers(entry), elements(entry.upstream_addr)
    servers = [_name(peer) for peer in peers] if len(peers) >= len(answers) else [""] * len(answers)
    server = servers[len(answers) - 1]
    if status == CLIENT_LEFT:
        is_hung = entry.has_left_unanswered(answers[-1]) or (entry.request_time is None and entry.is_left(answers[-1]))
        is_asked = entry.upstream_addr not in {"", "-"}
        return (Trouble(wrong=Wrong.LEFT, server=server, status=CLIENT_LEFT),) if is_hung and is_asked else ()
    if status in {_SHUT, NOT_HTTP}:
        return (Trouble(wrong=Wrong.SHUT if status == _SHUT else Wrong.RAW, server=server, status=status or 0),)
    failed = _failed(entry, answers, servers)
    if status is None or any(each.is_last for each in failed):
        return failed
    if status >= OWN_ERROR:
        is_ours = server and answers[-1] in _NOTHING
        return (*failed, Trouble(wrong=Wrong.OURS if is_ours else Wrong.UNASKED, server=server if is_ours else "", status=status))
    is_cut = not failed and status in _CUT and entry.request_completion in {"", "-"}
    return (Trouble(wrong=Wrong.CUT, server=server, status=status),) if is_cut else failed


def asked(entry: Entry) -> tuple[str, ...]:
    """The servers that got the request, as `$upstream_addr` names them."""
    return tuple(name for peer in elements(entry.upstream_addr) if (name := _name(peer)))


def _failed(entry: Entry, answers: list[str], servers: list[str]) -> tuple[Trouble, ...]:
    """The attempts that failed."""
    headers = elements(entry.upstream_header_time) if entry.upstream_header_time else []
    failed = []
    for index, (answer, server) in enumerate(zip(answers, servers, strict=False)):
        if answer == _GIVEN_UP:
            failed.append(Trouble(wrong=Wrong.OURS, server=server, status=GATEWAY[0], is_last=False))
        elif answer.isdigit() and int(answer) >= OWN_ERROR:
            is_known = len(headers) >= len(answers) or (answer not in _GATEWAY and entry.upstream_status is not None)
            wrong = (_whose(headers[index]) if len(headers) >= len(answers) else Wrong.ANSWERED) if is_known else Wrong.EITHER
            failed.append(Trouble(wrong=wrong, server=server, status=int(answer), is_last=index == len(answers) - 1))
    if failed and failed[-1] == Trouble(wrong=Wrong.OURS, server=failed[-1].server, status=GATEWAY[0]):
        failed += _after_sending(entry, failed[-1])
    return tuple(failed)


def _whose(header: str) -> Wrong:
    if not header:
        return Wrong.EITHER
    return Wrong.OURS if header == "-" else Wrong.ANSWERED


def _after_sending(entry: Entry, ours: Trouble) -> list[Trouble]:
    """A keep-alive race or its counterproof, where the format tells: nginx tries again what may be sent twice, and heals it."""
    sent, connected = elements(entry.upstream_bytes_sent)[-1], elements(entry.upstream_connect_time)[-1]
    if not entry.method or sent in {"", "-", "0"} or connected in _NOTHING:
        return []
    if entry.method not in UNREPEATABLE:
        return [Trouble(wrong=Wrong.DIED, server=ours.server, status=ours.status)]
    return [Trouble(wrong=Wrong.RACED, server=ours.server, status=ours.status)] if connected == "0" else []


def _answers(entry: Entry) -> list[str]:
    """The servers' statuses, without the end of a list that leads to no server.

    Where the format has no list, `$status` is the last server's, and nginx gave up on those that it asked before.
    """
    if entry.upstream_status is None:
        status = "" if entry.status is None else f"{entry.status:03}"
        return [*[_GIVEN_UP] * (entry.upstream_addr or "").rpartition(" : ")[2].count(", "), status]
    answers = elements(entry.upstream_status)
    while len(answers) > 1 and not answers[-1]:
        answers.pop()
    return answers


def _name(peer: str) -> str:
    return "" if peer in _NOTHING else plain(peer)


_LIMITS = {
    "status": "answers of nginx itself",
    "upstream_status": "failures that a retry or error_page hid",
    "upstream_addr": "which server failed",
    "upstream_header_time": "whose a 502 is where the error log has no line",
    "request_time": "clients that left a hanging server",
    "request_completion": "clients that left in the middle of an answer",
    "time": "times",
}
"""What is not seen without a variable."""
_RACING = ("upstream_connect_time", "upstream_bytes_sent", "request")
_RACES = "keep-alive races"
_MOST_REMEMBERED = 1 << 12
_NO_HTTP = 100

ALL = frozenset(_LIMITS) | {*_RACING}
"""What is looked at: `request` stands for the method too, `time` for any variable that has one."""


class AccessCount(Trouble, kw_only=True):  # every Value is; mypy does not see it here
    """Requests (OURS, ANSWERED, EITHER: attempts) with which the same went wrong at one server, which may be OTHERS.

    `least_s` and `most_s`: the shortest and the longest of them in whole seconds (of several attempts their mean), 0 where the
    format does not tell.

    `first` and `last` are times as the log writes them, in its order, "" where it has none. `evidence` is the first line seen,
    escaped and cut, without values that may be secrets.
    """

    count: int
    first: str
    last: str
    evidence: str
    least_s: int = 0
    most_s: int = 0


class Access(Value):
    """What access logs said in the span. `unread` lines are not of the format. `variables`: those of ALL that every format has.

    `failed` requests have a status of 500 and more, or none of HTTP at all (000, 009). `peers`: attempts by the address asked (of
    "no live upstreams" an upstream's name).
    """

    counts: tuple[AccessCount, ...] = ()
    requests: int = 0
    failed: int = 0
    peers: Mapping[str, int] = msgspec.field(default_factory=dict)
    unread: int = 0
    variables: frozenset[str] = ALL

    def __add__(self, more: "Access") -> "Access":
        """Of two logs."""
        return Access(
            counts=self.counts + more.counts,
            requests=self.requests + more.requests,
            failed=self.failed + more.failed,
            peers=Counter(self.peers) + Counter(more.peers),
            unread=self.unread + more.unread,
            variables=self.variables & more.variables,
        )

    @property
    def limits(self) -> tuple[str, ...]:
        """What can't be seen in these logs, and what their format lacks: a sentence each."""
        lacking = [name for name in (*_LIMITS, *_RACING) if name not in self.variables]
        unseen = [*(_LIMITS[name] for name in lacking if name in _LIMITS), *(() if self.tells_races else (_RACES,))]
        named = " ".join(f"${name}" if name != "time" else "$time_iso8601" for name in lacking)
        return (f"This log format does not show {', '.join(unseen)}.", f"It lacks {named}.") if unseen else ()

    @property
    def tells_attempts(self) -> bool:
        """Whether failed attempts at each server are seen."""
        return "upstream_addr" in self.variables and not self.variables.isdisjoint({"status", "upstream_status"})

    @property
    def tells_races(self) -> bool:
        return self.variables.issuperset(_RACING)


@dataclass
class _Count:
    """A count that grows."""

    first: str
    evidence: str
    least_s: int
    most_s: int
    last: str = ""
    count: int = 0


@dataclass
class _Fate:
    """What all requests of one entry have in common: where their troubles are counted, and the servers that got them."""

    counts: tuple[_Count, ...]
    peers: tuple[str, ...]
    is_failed: bool
    seconds: int


class AccessCounter:
    """Counts access logs of one format, the oldest lines first. Memory is bounded; cost: bench/diagnose.py."""

    def __init__(self, reader: LineReader, *, span: range = ALWAYS, others: Callable[[bytes], None] | None = None) -> None:
        """Only lines of these seconds since 1970 count; with another span than ALWAYS a line without a time does not.

        `others` gets the lines that are not of the format, in blocks, instead of that they are counted as unread.
        """
        self._span = span
        self._count_others, self._others = others, list[bytes]()
        self._exhibit = Exhibit(reader)
        is_timed = span != ALWAYS
        self._entries = EntryCounter(reader, is_timed=is_timed, is_for_diagnosis=True, others=self._others if others else None)
        also = {"request"} if "request_method" in reader.variables else set[str]()
        also |= {"time"} if CLOCKS & reader.variables else set()
        self._variables = ALL & (reader.variables | also)
        self._fates: dict[Entry, _Fate] = {}
        self._known_times: dict[str, bool] = {}
        self._counts: dict[Trouble, _Count] = {}
        self._peers = Counter[str]()
        self._requests = self._failed = self._unread = 0

    def count(self, block: bytes) -> None:
        """Whole lines, each with its newline."""
        self.add(self._entries.count(block))
        if self._count_others and self._others:
            self._count_others(b"".join(self._others))
            self._others.clear()

    def add(self, lines: Iterable[Lines]) -> None:
        """Lines of this format that somebody else has counted."""
        for each in lines:
            if each.entry is None:
                self._unread += 0 if self._count_others else each.times
            elif self._is_in_span(each.time):
                self._judge(each.entry, each)

    def found(self) -> Access:
        """All so far, the commonest first."""
        counts = tuple(AccessCount(**asdict(trouble), **vars(count)) for trouble, count in self._counts.items())
        return Access(
            counts=tuple(sorted(counts, key=lambda each: -each.count)),
            requests=self._requests,
            failed=self._failed,
            peers=self._peers,
            unread=self._unread,
            variables=self._variables,
        )

    def _is_in_span(self, time: str) -> bool:
        if self._span == ALWAYS:
            return True
        if time not in self._known_times:
            if len(self._known_times) >= _MOST_REMEMBERED:
                self._known_times.clear()
            at = seconds_of(time)
            self._known_times[time] = at is not None and int(at) in self._span
        return self._known_times[time]

    def _judge(self, entry: Entry, lines: Lines) -> None:
        fate = self._fates.get(entry)
        if fate is None:
            if len(self._fates) >= _MOST_REMEMBERED:
                self._fates.clear()
            self._fates[entry] = fate = self._fate(entry, lines)
        self._requests += lines.times
        self._failed += lines.times if fate.is_failed else 0
        for peer in fate.peers:
            if peer in self._peers or len(self._peers) < _MOST_REMEMBERED:
                self._peers[peer] += lines.times
        for count in fate.counts:
            count.count += lines.times
            count.last = lines.time
            count.least_s, count.most_s = min(count.least_s, fate.seconds), max(count.most_s, fate.seconds)

    def _fate(self, entry: Entry, lines: Lines) -> _Fate:
        if entry.upstream_status is None and "upstream_status" in self._variables:
            entry = replace(entry, upstream_status="")  # of a good line, whose one answer was not captured
        connected = [each for each in elements(entry.upstream_connect_time) if each not in _NOTHING]
        seconds = int((entry.request_time or 0) / max(1, len(connected)))
        return _Fate(
            counts=tuple(self._kept(trouble, lines, seconds) for trouble in troubles(entry)),
            peers=asked(entry),
            is_failed=entry.status is not None and not _NO_HTTP <= entry.status < OWN_ERROR,
            seconds=seconds,
        )

    def _kept(self, trouble: Trouble, lines: Lines, seconds: int) -> _Count:
        """Where it is counted."""
        if trouble not in self._counts and len(self._counts) >= MOST_KEPT:
            trouble = replace(trouble, server=OTHERS)
        if trouble not in self._counts:
            self._counts[trouble] = _Count(lines.time, self._exhibit.shown(lines.sample), seconds, seconds)
        return self._counts[trouble]

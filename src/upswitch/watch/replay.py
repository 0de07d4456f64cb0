"""The watch on past traffic: the rule over access logs, second by second, as it would have judged the release that they tell of."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import compress

import msgspec

from upswitch.basics.errors import NginxBrokenError
from upswitch.basics.value import Value
from upswitch.hosts.host import Host, Ports
from upswitch.logs import coverage, formats
from upswitch.logs.entries import EntryCounter, Moment, by_second
from upswitch.logs.formats import FormatError
from upswitch.logs.line import ALWAYS, HISTORY_S, LATE_S, LineReader, seconds_of
from upswitch.logs.since import EVER, AccessTimes, Span
from upswitch.logs.source import FileSource
from upswitch.nginx import conf_logs, running
from upswitch.nginx.conf_logs import AccessLog
from upswitch.site.model import Site
from upswitch.watch import clients, ending, rule
from upswitch.watch.attribution import Attribution, Counts, Mode, judged
from upswitch.watch.clients import Clients, Fair
from upswitch.watch.history import History, Second
from upswitch.watch.logs import SHORT_HISTORY, left_out, short_history
from upswitch.watch.release import Opening, Release, pools_of, release
from upswitch.watch.rule import Judgement, Thresholds

_MINUTE = 60
_TOLD_EVERY = 32
_MOST_TOLD = 5


class ReplayError(ValueError):
    """The logs can't be replayed: what is missing, and what to give."""


class Log(Value):
    """One log, and how its lines are written."""

    source: FileSource
    reader: LineReader

    @property
    def name(self) -> str:
        return self.source.name


def logs_given(names: Sequence[str], log_format: str) -> tuple[Log, ...]:
    """The logs with the format that was given, or each with a usual one where none was (reader_of has the errors)."""
    sources = map(FileSource, names)
    return tuple(Log(source=each, reader=formats.reader_of(each, given=log_format).reader) for each in sources)


def logs_here(host: Host, site: Site, names: Sequence[str]) -> tuple[Log, ...]:
    """The logs with the formats that the site's nginx writes them in, or a usual one where it does not say."""
    try:
        build = running.read_build(host, site.nginx)
        conf = running.read_conf(host, site.nginx, build)
    except NginxBrokenError as exc:
        try:
            return logs_given(names, "")
        except FormatError as unknown:
            raise FormatError(f"nginx here does not say its format ({exc}), and {unknown}") from exc
    logs = [log for log in conf_logs.own_logs(conf, build, (), live=site.nginx.live) if log.format]
    ours = conf_logs.own_logs(conf, build, [upstream.name for upstream in site.upstreams], live=site.nginx.live)
    return tuple(Log(source=each, reader=_reader(each, logs, ours)) for each in map(FileSource, names))


def _reader(source: FileSource, logs: Sequence[AccessLog], ours: Sequence[AccessLog]) -> LineReader:
    """Of the log that is this file, or was before it was rotated; else of what its first lines are, our upstreams' logs first."""
    path = os.path.abspath(source.name)
    same = [log for log in logs if path == log.path or path.startswith((f"{log.path}.", f"{log.path}-"))]
    readers = {coverage.reader_of(log): None for log in same}
    if len(readers) == 1:
        return next(iter(readers))
    known = [log.format for log in (*same, *ours, *logs) if log.format]
    return formats.reader_of(source, given="", known=known).reader


class Asked(Value):
    """What is to be replayed. `at` is the moment of the switch (Unix time), None to look for it. `duration` is seconds.

    `pool` "" is the one that took over. `site` None: pools are known only by the generations in the log. `taken_back` as an
    Attribution has it.
    """

    logs: tuple[Log, ...]
    at: int | None
    pool: str
    duration: int
    thresholds: Thresholds
    site: Site | None
    taken_back: tuple[range, ...] = ()


class Replayed(Value):
    """How the watch would have ended. `looks` are the rule's, one a second after the switch, up to the verdict.

    `verdict` is `rollback` or an ending.Final; `since` are the requests to the pool in those seconds, `former` those to another.
    """

    verdict: str
    at: int
    release: Release
    mode: Mode
    looks: tuple[Judgement, ...]
    since: tuple[Second, ...]
    former: int
    notes: tuple[str, ...]


def replay(ports: Ports, asked: Asked) -> Replayed:
    """One pass over the logs. ReplayError where they don't tell; OSError where one can't be opened.

    KeyboardInterrupt at a signal: half a replay has no verdict.
    """
    opening = Opening(pools_of(asked.site), asked.pool)
    window = Window(asked.duration, at=asked.at, begins=opening)
    streams = [_Stream(number, log, window) for number, log in enumerate(asked.logs)]
    _read(ports, streams, window)
    _check(asked, streams, window)
    found = _judged(asked, streams, window)
    return msgspec.structs.replace(found, notes=(*_others(opening, found), *found.notes))


class Window:
    """The seconds that may still matter: ten minutes and the watch around `at`; while that is sought, the last ten minutes.

    `oldest` and `newest` are of all lines, kept or not; None without any.
    """

    def __init__(self, duration: int, *, at: int | None, begins: Callable[[int, Moment], bool]) -> None:
        """`begins` is told each second and its lines, in their order, and says whether the switch is in it."""
        self.at = at
        self._is_sought = at is None
        self.oldest: int | None = None
        self.newest: int | None = None
        self._duration = duration
        self._begins = begins
        self._seconds: dict[int, list[tuple[int, Moment]]] = {}
        self._looked = 0

    @property
    def since(self) -> int:
        """Nothing before it matters; 0 while that is not known."""
        return max(0, self.at - HISTORY_S) if self.at is not None else 0

    @property
    def until(self) -> int | None:
        return None if self.at is None else self.at + self._duration

    def add(self, source: int, counted: dict[int, Moment]) -> None:
        """What the source of this number said. Lines may come late, but not after `settle` went beyond them."""
        for second, moment in counted.items():
            self.oldest = second if self.oldest is None else min(self.oldest, second)
            self.newest = second if self.newest is None else max(self.newest, second)
            if self._is_sought or second in self._kept:
                self._seconds.setdefault(second, []).append((source, moment))

    def settle(self, upto: int) -> bool:
        """All lines before `upto` have come. True: nothing that matters can come any more.

        A log in which the switch was sought is read to its end, to tell of later ones.
        """
        for second in sorted(each for each in self._seconds if self._looked < each < upto):
            self._looked = second
            if self._begins(second, self.moment(range(second, second + 1))) and self.at is None:
                self.at = second
        kept = self._kept if self.at is not None else range(upto - HISTORY_S, ALWAYS.stop)
        self._seconds = {each: found for each, found in self._seconds.items() if each > self._looked or each in kept}
        return not self._is_sought and upto >= kept.stop

    @property
    def _kept(self) -> range:
        return range(self.since, ALWAYS.stop if self.until is None else self.until)

    def moment(self, seconds: range) -> Moment:
        """All lines of these seconds as one."""
        found: Moment = Counter()
        for _, _, moment in self._of(seconds):
            found.update(moment)
        return found

    def counts(self, seconds: range, whose: Callable[[int], Attribution]) -> Iterator[Counts]:
        """Second by second; `whose` is by the number of the source. A second without lines is a quiet one."""
        for second in seconds:
            parts = (judged(moment.items(), whose(source)) for _, source, moment in self._of(range(second, second + 1)))
            yield sum(parts, Counts())

    def _of(self, seconds: range) -> Iterator[tuple[int, int, Moment]]:
        for second in seconds if len(seconds) < len(self._seconds) else sorted(set(seconds) & self._seconds.keys()):
            for source, moment in self._seconds.get(second, ()):
                yield second, source, moment


class _Stream:
    """One log being read. `front` is a second that it has reached: one line from the future must not end the reading.

    `back` is the first jump back in it, from and to: the newest second so far, and the last line's.
    """

    def __init__(self, number: int, log: Log, window: Window) -> None:
        self.number = number
        self.log = log
        self.front = self._newest = -1
        self.back: tuple[int, int] | None = None
        self.unread = 0
        self._counter = EntryCounter(log.reader, is_timed=True, is_by_client=True)
        self.source = log.source
        self._times = AccessTimes(log.reader, Span(unix=window.since) if window.since else EVER)
        self._blocks = self.source.blocks(self._times)
        self._window = window

    def step(self) -> bool:
        """The next block; False at the end."""
        block = next(self._blocks, None)
        if block is None:
            return False
        counted, unread = by_second(self._counter.count(block))
        self.unread += unread
        if counted:
            self.front = max(self.front, min(counted))
            self._newest = max((self._newest, *counted))
            self._compare(int(seconds_of(self._times.last(block)) or 0))
        self._window.add(self.number, counted)
        return True

    def _compare(self, last: int) -> None:
        if self.back is None and self._newest - last > _MINUTE:
            self.back = self._newest, last


def _read(ports: Ports, streams: Sequence[_Stream], window: Window) -> None:
    """All of them side by side: the one that is least far is read next, so that what is kept stays small."""
    left, blocks, is_done = [*streams], 0, False
    while left and not is_done:
        if ports.interrupts.count:
            raise KeyboardInterrupt
        least = min(left, key=lambda each: each.front)
        if not least.step():
            left.remove(least)
        blocks += 1
        if blocks % _TOLD_EVERY == 0:
            ports.tell("replay", f"{blocks} MiB read", is_passing=True)
        is_done = window.settle(min((each.front for each in left), default=ALWAYS.stop) - LATE_S)


def _check(asked: Asked, streams: Sequence[_Stream], window: Window) -> None:
    """There must be something to judge."""
    names = ", ".join(log.name for log in asked.logs)
    if window.oldest is None or window.newest is None:
        unread = sum(each.unread for each in streams)
        raise ReplayError(
            f"{names}: none of its {unread} lines has this format and a time. Give the log_format of the nginx that wrote them."
        )
    span = f"{names} covers {clock_time(window.oldest)} to {clock_time(window.newest)}"
    if window.at is None and not any(_can_tell(log.reader, asked) for log in asked.logs):
        raise ReplayError(f"LIMITED MODE: neither a generation nor an address tells when the pool took over. Give --at ({span}).")
    if window.at is None:
        raise ReplayError(f"{span}: {asked.pool or 'no other pool'} did not take over in this time. Give --at.")
    if window.newest < window.at:
        raise ReplayError(f"{names} ends at {clock_time(window.newest)}: {clock_time(window.at)} is not in it")
    if window.oldest >= window.at + asked.duration:
        raise ReplayError(f"{names} begins at {clock_time(window.oldest)}: {clock_time(window.at)} is not in it")


def _can_tell(reader: LineReader, asked: Asked) -> bool:
    return reader.has_generation or (asked.site is not None and reader.has_upstream_addr)


def clock_time(at: int) -> str:
    """Unix time as people write it."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _judged(asked: Asked, streams: Sequence[_Stream], window: Window) -> Replayed:
    assert window.at is not None  # noqa: S101  (_check)
    before, after = _spans(window)
    minute = [window.moment(range(second, second + 1)) for second in before[-_MINUTE:]]
    found = release(pools_of(asked.site), minute, window.moment(after), pool=asked.pool)
    whose = [found.attribution.before(each.log.reader) for each in streams]
    usual = (not any(at in span for span in asked.taken_back) for at in before)
    past = tuple(compress(window.counts(before, lambda number: whose[number]), usual))
    counts = tuple(window.counts(after, lambda _: found.attribution))
    names = tuple(each.clients for each in past)
    history, known = clients.usual(History(seconds=tuple(each.new for each in past)), names), clients.merged(names)
    looks = _looks(history, counts, known, asked.thresholds)
    seen = counts[: len(looks)]
    since, former = tuple(each.new for each in seen), sum(each.former.total for each in seen)
    given_up = clients.given_up(history, since, [each.clients for each in seen], known)
    last = ending.last(history, since, _fair(seen, known).seconds)
    new = sum(each.total for each in since)
    return Replayed(
        verdict=_verdict(looks[-1], last, new=new, former=former, is_given_up=given_up.is_spike),
        at=window.at,
        release=found,
        mode=max((_mode(found, each.log.reader) for each in streams), key=list(Mode).index),
        looks=looks,
        since=since,
        former=former,
        notes=(*_ended(seen, found.pool), *_left_out(len(before) - len(past)), *_notes(asked, streams, window)),
    )


def _verdict(look: Judgement, last: Judgement, *, new: int, former: int, is_given_up: bool) -> str:
    if look.is_spike:
        return "rollback"
    return ending.finish(look, last, has_log=True, new=new, former=former, probes=0, is_given_up=is_given_up)


def _ended(seen: Sequence[Counts], pool: str) -> Iterator[str]:
    """Verdicts count requests: the silence of a pool that was switched away from again speaks neither for it nor against it."""
    last_s = max((at_s for at_s, each in enumerate(seen, 1) if each.new.total), default=len(seen))
    if last_s + LATE_S <= len(seen) and any(each.former.total + each.other for each in seen[last_s:]):
        yield f"{pool} got no requests after t+{last_s}s."


def _left_out(seconds: int) -> Iterator[str]:
    if seconds:
        yield left_out(seconds)


def _spans(window: Window) -> tuple[range, range]:
    """The seconds before the switch and since: as far as the logs go."""
    at, oldest, newest = window.at or 0, window.oldest or 0, window.newest or 0
    return range(min(at, max(oldest, at - HISTORY_S)), at), range(at, min(window.until or at, newest + 1))


def _looks(history: History, counts: Sequence[Counts], known: Clients, thresholds: Thresholds) -> tuple[Judgement, ...]:
    """One a second, up to the first spike: what came after it the watch would not have let come."""
    looks: list[Judgement] = []
    for end, quick in enumerate(rule.looks(history, [each.new for each in counts], thresholds), 1):
        seen, look = counts[:end], quick
        if quick.failed:  # else nobody is to be left out
            whose = [each.clients for each in seen]
            look = clients.judge(history, _fair(seen, known), whose, known, thresholds=thresholds)
        looks.append(look)
        if look.is_spike:
            break
    return tuple(looks)


def _fair(counts: Sequence[Counts], known: Clients) -> Fair:
    return clients.fair([each.new for each in counts], [each.clients for each in counts], known)


def _mode(found: Release, reader: LineReader) -> Mode:
    """Of a pool that got nothing no generation is known, but lines of others are told from its own all the same."""
    return Mode.GENERATION if found.attribution.pool and reader.has_generation else found.attribution.mode(reader)


def _others(opening: Opening, found: Replayed) -> Iterator[str]:
    """A log may tell of several releases, and one of them is judged."""
    whose = found.release.attribution
    others = [(at, each) for at, each in opening.found if (each.pool, each.generation) != (whose.pool, whose.generation)]
    told = [f"{each.generation or each.pool} at {clock_time(at)}" for at, each in others[:_MOST_TOLD]]
    told += [f"{len(others) - _MOST_TOLD} more"] * (len(others) > _MOST_TOLD)
    if told:
        yield f"These took over too: {', '.join(told)}. --at TIME judges another one."


def _notes(asked: Asked, streams: Sequence[_Stream], window: Window) -> Iterator[str]:
    """What a person should know of how far this saw."""
    before, after = _spans(window)
    if len(before) < SHORT_HISTORY:
        yield short_history(len(before))
    if len(after) < asked.duration:
        yield f"The log ends {len(after)} s after the switch, but the watch lasts {asked.duration} s."
    for each in streams:
        if each.unread:
            yield f"{each.log.name}: lines that are not of the format or have no time: {each.unread}"
        if each.back:
            newest, last = map(clock_time, each.back)
            yield f"{each.log.name}: {newest} stands before {last}. A clock was set, or the lines are not in order."
        if each.source.cut:
            yield each.source.cut
    for reader in dict.fromkeys(each.log.reader for each in streams):
        yield from _gaps(reader)


def _gaps(reader: LineReader) -> Iterator[str]:
    if not (reader.has_generation or reader.has_upstream_addr):
        yield "LIMITED MODE: the format has neither $upswitch_generation nor $upstream_addr, so every line counts for the pool."
    if not reader.has_upstream_status:
        yield "The format lacks $upstream_status. A failure that error_page hides is not seen, and nginx's own 50x answers count."
    if not reader.has_completion:
        yield "The format lacks $request_completion or $request_time, so answers that begin and do not end are not seen."
    if not reader.has_request_time:
        yield "The format lacks $request_time, so clients that give up on a hanging pool are not seen."

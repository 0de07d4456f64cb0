"""Whose request a log line tells of, and whether it failed (docs/design.md).

The ladder: the generation, where the format has `$upswitch_generation`; the addresses in `$upstream_addr`, where it has
that; neither: LIMITED MODE, every line counts, by `$status` alone. A line is the new pool's when every rung that is there
says so: an old worker that drains has the former generation, another upstream in the same log has foreign addresses.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from upswitch.basics.result import Failure
from upswitch.basics.value import Value
from upswitch.hosts.host import Asking
from upswitch.logs.coverage import can_follow, distinct, gaps, reader_of
from upswitch.logs.entries import EntryCounter, Lines, by_second
from upswitch.logs.line import GATEWAY, GOOD, HISTORY_S, Entry, LineReader, elements
from upswitch.nginx.conf_logs import AccessLog
from upswitch.site.names import generation_variable
from upswitch.watch.clients import Clients, merged
from upswitch.watch.history import History, Second

_NOBODY: Clients = {}
_GATEWAY = frozenset(map(str, GATEWAY))


class Mode(StrEnum):
    """How well a log can be attributed. LIMITED is to be told to people: other upstreams and old workers count too."""

    GENERATION = "generation"
    ADDRESS = "address"
    LIMITED = "limited"


_HOW_TOLD = {
    Mode.GENERATION: "It tells pools apart by ${}.",
    Mode.ADDRESS: "It tells pools apart by $upstream_addr.",
    Mode.LIMITED: "It can't tell pools apart there (LIMITED MODE).",
}


class Whose(StrEnum):
    NEW = "new"
    FORMER = "former"
    OTHER = "other"
    LEFT = "left"
    """Of the new pool or the former one, but its client left at once, before the pool had answered."""


class Hit(Value):
    whose: Whose
    failure: Failure = Failure.NONE


class Attribution(Value):
    """Who is who after the switch. Addresses are as nginx logs them: resolved, `IP:PORT`, `[IP6]:PORT` or `unix:/path`.

    Leave `addresses` empty where they can't all be known (a `resolve` name): then only the generation decides.
    `pool` stands in for `generation` where any of a pool's generations will do.
    `upstreams` are the names of the site's upstreams: "no live upstreams" logs the name in the place of an address.
    `ignores_app`: failures of the app itself are the owner's matter (watch.app_errors). `taken_back`: when releases served that
    were taken back, in Unix time by the host's clock. Where a log can't tell pools apart, their failures would pass for usual ones.
    """

    generation: str = ""
    pool: str = ""
    addresses: frozenset[str] = frozenset()
    former_generation: str = ""
    former_addresses: frozenset[str] = frozenset()
    upstreams: frozenset[str] = frozenset()
    ignores_app: bool = False
    taken_back: tuple[range, ...] = ()

    @property
    def servers(self) -> frozenset[str]:
        """Of the new pool and its upstreams, as the error log names them; none where the addresses can't all be known."""
        return self.addresses | self.upstreams if self.addresses else frozenset()

    @property
    def former_servers(self) -> frozenset[str]:
        """The same of the former pool."""
        return self.former_addresses | self.upstreams if self.former_addresses else frozenset()

    def mode(self, reader: LineReader) -> Mode:
        if self.generation and reader.has_generation:
            return Mode.GENERATION
        return Mode.ADDRESS if self.addresses and reader.has_upstream_addr else Mode.LIMITED

    def before(self, reader: LineReader) -> "Attribution":
        """For the lines before the switch: the former pool's are the ones that count, under whatever generation it served.

        Where the format has the generation, one of another pool is not the former pool's: "no live upstreams" of a release
        that failed ten minutes ago has no address, and must not pass for the noise that the site always had.
        Only where the format has no addresses must the former generation tell them; then the history begins with that generation.
        """
        is_by_address = self.former_addresses and reader.has_upstream_addr
        generation = "" if is_by_address else self.former_generation
        pool = self.former_generation.partition("-")[2]
        return Attribution(
            generation=generation,
            pool=pool,
            addresses=self.former_addresses,
            upstreams=self.upstreams,
            ignores_app=self.ignores_app,
        )

    def classify(self, entry: Entry) -> Hit:
        """Whose it was, and whether that pool's last answer was a failure; another upstream's answers are not looked at."""
        peers = elements(entry.upstream_addr)
        whose = self._whose(entry, peers)
        if whose is Whose.OTHER:
            return Hit(whose=whose)
        addresses = self.addresses if whose is Whose.NEW else self.former_addresses
        answer = self._last_answer(entry, peers, addresses)
        failure = self._failure(entry, answer)
        has_left = failure is Failure.NONE and entry.is_left(answer)
        return Hit(whose=Whose.LEFT if has_left else whose, failure=failure)

    def _whose(self, entry: Entry, peers: list[str]) -> Whose:
        by_address = self._by_address(peers) if self.addresses and entry.upstream_addr is not None else Whose.NEW
        return Whose.FORMER if by_address is Whose.NEW and self._is_foreign(entry.generation) else by_address

    def _is_foreign(self, generation: str | None) -> bool:
        """Another generation than ours; or, where only the pool is known, one of another pool."""
        if not generation or generation == "-":
            return bool(self.generation) and generation is not None
        if self.generation:
            return generation != self.generation
        return bool(self.pool) and generation.partition("-")[2] != self.pool

    def _by_address(self, peers: list[str]) -> Whose:
        if not self.addresses.isdisjoint(peers):
            return Whose.NEW
        if not self.former_addresses.isdisjoint(peers):
            return Whose.FORMER
        return Whose.OTHER if self.upstreams.isdisjoint(peers) else Whose.NEW

    def _failure(self, entry: Entry, answer: str) -> Failure:
        """`answer` is the pool's last one."""
        if answer in _GATEWAY:
            return Failure.GATEWAY
        if entry.has_left_unanswered(answer):
            return Failure.HUNG
        if not self.ignores_app and entry.has_app_failed(answer):
            return Failure.APP
        return Failure.GIVEN_UP if entry.is_given_up(answer) else Failure.NONE

    def _last_answer(self, entry: Entry, peers: list[str], addresses: frozenset[str]) -> str:
        """The pool's last status, "" or "-" without one. `$status` only stands in where the format has no `$upstream_status`."""
        if entry.upstream_status is None:
            return "" if entry.status is None else f"{entry.status:03}"
        answers = elements(entry.upstream_status)
        if not addresses or entry.upstream_addr is None or len(answers) != len(peers):
            return answers[-1]
        ours = addresses | self.upstreams
        return next((answer for peer, answer in zip(reversed(peers), reversed(answers), strict=True) if peer in ours), "")


def told(logs: Sequence[AccessLog], attribution: Attribution, *, asked: Sequence[Asking]) -> tuple[str, ...]:
    """What a watch reads and requests, and what it can't see: a sentence each."""
    logs = distinct(logs)
    followed = [f"The watch reads {log.followed}. {_how(log, attribution)}" for log in logs if can_follow(log)]
    own = [f"The watch requests {each.shown} itself, twice a second." for each in asked]
    blind = [] if followed or own else ["The watch has no log to read and no watch.probe, so it sees no requests (BLIND)."]
    return (*followed, *own, *blind, *(gap.what for log in logs for gap in gaps(log)))


def _how(log: AccessLog, attribution: Attribution) -> str:
    return _HOW_TOLD[attribution.mode(reader_of(log))].format(generation_variable(log.prefix))


class Counts(Value):
    """Requests by whose they are; `ours` are our own to the new pool, and in no other. `unread` lines are not of the format.

    `clients` are the clients of `new`: of all requests that failed, and of a sample of the others. `left` are requests whose
    client left at once, before the pool had answered: they say nothing, good or bad.
    """

    new: Second = Second()
    clients: Clients = _NOBODY
    left: int = 0
    ours: Second = Second()
    former: Second = Second()
    other: int = 0
    unread: int = 0

    def with_cut(self, cut: Mapping[str, int]) -> "Counts":
        """So many of the good requests, by client, were cut short."""
        good = self.new.failed(Failure.NONE)
        app = min(good, sum(cut.values()))
        if not app:
            return self
        whose = {name: Second(total=times, app=times) for name, times in cut.items() if name}
        return msgspec.structs.replace(self, new=self.new + Second(app=app), clients=merged((self.clients, whose)))

    @property
    def lines(self) -> int:
        """All of them, of the format or not."""
        return self.new.total + self.former.total + self.other + self.unread + self.left

    def __add__(self, more: "Counts") -> "Counts":
        return Counts(
            new=self.new + more.new,
            clients=merged((self.clients, more.clients)),
            left=self.left + more.left,
            ours=self.ours + more.ours,
            former=self.former + more.former,
            other=self.other + more.other,
            unread=self.unread + more.unread,
        )


def counter_for(
    attribution: Attribution, reader: LineReader, *, is_timed: bool = False, is_for_diagnosis: bool = False
) -> EntryCounter:
    """Counts a log whose lines are mostly of the generation (or the pool) that is judged."""
    generation = re.escape(attribution.generation.encode())
    pool = rb"\d+-" + re.escape(attribution.pool.encode()) if attribution.pool else b""
    return EntryCounter(
        reader, expected=generation or pool, is_timed=is_timed, is_for_diagnosis=is_for_diagnosis, is_by_client=True
    )


def counts_of(lines: Iterable[Lines], attribution: Attribution) -> Counts:
    """Lines of any time: their order does not matter."""
    return judged(((each.entry, each.times) for each in lines), attribution)


def judged(entries: Iterable[tuple[Entry | None, int]], attribution: Attribution) -> Counts:
    """Entries and how often each came; None for lines that are not of the format."""
    hits, clients = Counter[Hit | None](), dict[str, Second]()
    for entry, times in entries:
        hit = attribution.classify(entry) if entry else None
        hits[hit] += times
        if hit and entry and entry.client and hit.whose is Whose.NEW:
            clients[entry.client] = clients.get(entry.client, Second()) + _failed(hit.failure, times)
    return Counts(
        new=_second(hits, Whose.NEW),
        clients=clients,
        left=sum(times for hit, times in hits.items() if hit and hit.whose is Whose.LEFT),
        former=_second(hits, Whose.FORMER),
        other=hits[Hit(whose=Whose.OTHER)],
        unread=hits[None],
    )


def ours(entries: Iterable[Entry | None], attribution: Attribution) -> Second:
    """Our own requests that the new pool answered: any answer but 2xx and 3xx is a failure."""
    found = Second()
    for entry in filter(None, entries):
        hit = attribution.classify(entry)
        is_bad = hit.failure is Failure.NONE and entry.status is not None and entry.status not in GOOD
        if hit.whose is Whose.NEW:
            found += _failed(Failure.GATEWAY if is_bad else hit.failure, 1)
    return found


def _second(hits: Counter[Hit | None], whose: Whose) -> Second:
    return sum((_failed(failure, hits[Hit(whose=whose, failure=failure)]) for failure in Failure), Second())


def _failed(failure: Failure, times: int) -> Second:
    """So many requests that failed in this way."""
    return Second(total=times, **({} if failure is Failure.NONE else {failure.value: times}))


class Timeline:
    """What logs say, by the second in which each line was written, by the host's clock."""

    def __init__(self) -> None:
        self._counts: dict[int, Counts] = {}

    def add(self, lines: Iterable[Lines], attribution: Attribution) -> None:
        """Lines without a time are left out."""
        for at, moment in by_second(lines)[0].items():
            self._counts[at] = self.at(at) + judged(moment.items(), attribution)

    def add_cut(self, at: int, cut: Mapping[str, int]) -> None:
        """Answers that were cut short, by client: their lines say that they are complete."""
        self._counts[at] = self.at(at).with_cut(cut)

    @property
    def seen(self) -> range:
        """From the oldest second that has a line to just after the newest; empty without any."""
        return range(min(self._counts), max(self._counts) + 1) if self._counts else range(0)

    def at(self, second: int) -> Counts:
        """A second without lines is a quiet one."""
        return self._counts.get(second, Counts())

    def history(self, taken_back: Iterable[range] = ()) -> History:
        """The last 600 s of them at most, but those in which a release served that was taken back."""
        return History(seconds=tuple(self.at(each).new for each in self._usable(taken_back)))

    def clients(self, taken_back: Iterable[range] = ()) -> tuple[Clients, ...]:
        """Of the same seconds."""
        return tuple(self.at(each).clients for each in self._usable(taken_back))

    def _usable(self, taken_back: Iterable[range]) -> list[int]:
        spans = [*taken_back]
        return [at for at in self.seen[-HISTORY_S:] if not any(at in span for span in spans)]

"""The one counter of access logs: what lines say, and how many say so. Watch, replay and `diagnose` judge its entries.

Theory. Nearly every line is of a good request: answered once, below 500, and complete. One regular expression walks over a block
and takes of good lines only the server, the generation and, if asked for, the time. A second one takes of the others all that
decides. Where no diagnosis is asked for, the first one takes failed requests too. What was taken is counted by value, and each
distinct value becomes an entry once. A line that fits neither is read alone.

Blocks are walked in pieces of 64 KiB, which stay in the processor's cache: half as fast again as 1 MiB. Where a walk finds another
number of lines than the piece has newlines, something in it is not of the format, and its lines are read one by one. While most
requests fail, the first walk is left out; while most lines are of another format, both are: they would cost the square of a line.

A value that nobody wants is skipped without a look at it. So a line of another format with the same literals in the same order may
pass here where LineReader refuses it. A client can't write one: the literals are nginx's.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from msgspec.structs import replace

from upswitch.hosts.count_program import Alike
from upswitch.logs.line import (
    CAPTURED,
    CLIENT_LEFT,
    HUNG_S,
    MAX_LINE,
    METHOD,
    NOT_HTTP,
    Entry,
    LineReader,
    client_of,
    entry_of,
    newlines,
    seconds_of,
)

_PIECE = MAX_LINE + 1
_MOST_REMEMBERED = 1 << 12
_LONGEST_S = 999
_TIME, _BYTES = rb"\d{1,20}\.\d{3}", rb"\d{1,20}"


def _elements(number: bytes) -> bytes:
    """A list of such numbers, one for each server that was tried."""
    return rb"(?>(?:(?:%b|-)(?:(?:, | : )(?:%b|-))*(?: : )?)?)" % (number, number)


def _list(name: bytes, number: bytes) -> bytes:
    """Captures of the last number its first digit, also behind attempts with none or 0: equal lines are counted at once."""
    last = rb"(?:-(?!, | : )|(?=%b(?!, | : ))\d)" % number
    return rb"(?P<%b>(?>(?:[-0], )*)%b|%b)(?:(?<=\d)[\d.]++)?" % (name, last, _elements(number))


_GOOD = {
    "status": rb"(?!%d)[1-4]\d\d" % CLIENT_LEFT,
    "upstream_status": rb"(?:[1-4]\d\d|-)?",
    "request_completion": rb"OK",
}
"""What a good request has, where the format has the variable."""
_EXACT_TIMES = {"upstream_header_time": rb"(?:0\.[0-9][0-9][0-9]|%b)" % _elements(_TIME)}
"""Not captured, but looked at: a line whose time is no time is not of the format. Most are under a second: the first branch."""
_GOOD_VALUES = {name: re.compile(shape.decode()) for name, shape in _GOOD.items()}
_SECONDS = rb"(?:(?:%b)\.\d{3}|(?P<request_time>\d{1,20})\.\d{3})" % b"|".join(b"%d" % second for second in range(HUNG_S))
"""Captured only of a request that took HUNG_S or more."""
_TIMES = {
    "msec": rb"(?P<time>\d{1,20})\.\d{3}",
    "time_iso8601": rb"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d)",
    "time_local": rb"(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})",
}
_NUMBER = re.compile(r"[\d.]+")


MOST_CLIENTS = 256
"""Clients of failed requests that one block names; beyond them no single one decides."""

SAMPLED = 64
"""Lines of a block whose clients are named though nothing failed: by them the shares of the clients are known."""
_Values = tuple[bytes, ...]
_Said = tuple[Entry | None, str, bool]  # what a line says; its time; whether its request was good
_UNREAD: tuple[_Said, str] = ((None, "", False), "")
_Told = tuple[_Said, str, int, _Values]  # what lines say, their client, how many, and what was taken of one; () by client


_ALIKE = {
    "time": b"0" * 256,
    "upstream_header_time": bytes.maketrans(b"123456789", b"000000000"),
    **dict.fromkeys(("upstream_connect_time", "upstream_bytes_sent"), bytes.maketrans(b"23456789", b"11111111")),
}
"""What is nothing, 0, or more stays so; beyond that all numbers become the same."""


@dataclass(slots=True)
class Lines:
    """Lines that say the same. `entry` is None where they are not of the format. `time` is to the second, as the log writes it.

    What the first expression took has no more in its entry than what that expression captures.
    """

    entry: Entry | None
    time: str
    times: int = 0
    block: bytes = b""
    values: Sequence[_Values] = ((),)
    of: _Values = ()

    @property
    def sample(self) -> bytes:
        """The first of them without its newline; b"" where the first expression took them all."""
        return self.block.split(b"\n")[self.values.index(self.of)]


_Found = dict[tuple[int, str], Lines]
Moment = Counter[Entry]
"""The lines of one second (or of several) by what they say."""


class EntryCounter:
    """Counts blocks of one log. Memory is constant; cost about 1 us a line (bench/counting.py)."""

    def __init__(
        self,
        reader: LineReader,
        *,
        expected: bytes = b"",
        is_timed: bool = False,
        is_for_diagnosis: bool = False,
        is_by_client: bool = False,
        others: list[bytes] | None = None,
    ) -> None:
        """`expected` is a regular expression: a good line whose generation fits has none in its entry, which is a sixth faster.

        `is_timed`: lines of good requests have times as well as the others. Without `is_for_diagnosis` the first expression takes
        failed requests too, with no more than the watch's rule needs: during an outage that is twice as fast.

        `is_by_client`: entries of failed requests name their client (MOST_CLIENTS of a block), and so do the first SAMPLED lines.
        `others` gets the lines that are not of the format, each with its newline.
        """
        self._reader = reader
        self._literal = max((part.literal for part in reader.parts), key=len)
        self._foreign = others
        self._is_by_client = is_by_client and reader.has_client
        self._clients: dict[bytes, str] = {}
        self._whose: dict[tuple[int, str], tuple[Entry, Entry]] = {}
        self._is_split = is_for_diagnosis or self._is_by_client
        clock = _clock_of(reader)
        generation = rb"(?:%b|(?P<upswitch_generation>[\w-]++))" % expected if expected else b""
        unsaid = "upswitch_generation" if expected else ""
        taken = _EXACT_TIMES | {"upstream_addr": b"", "upswitch_generation": generation}
        good = (_GOOD if self._is_split else _answered(reader)) | taken | (clock if is_timed else {})
        self._good = _Walk(reader.blocks(good), unsaid=unsaid)
        self._others = _Walk(reader.blocks(_wishes_of(reader, is_by_client=self._is_by_client) | clock))
        self._walks: tuple[_Walk, ...] = (self._others,)
        if self._is_by_client and not is_for_diagnosis:
            answered = _answered(reader) | taken | clock | {"remote_addr": b""}
            self._walks = (_Walk(reader.blocks(answered), unsaid=unsaid), self._others)
        self._is_outage = self._is_foreign = False

    def count(self, block: bytes, alike: Iterable[Alike] = ()) -> list[Lines]:
        """Whole lines, each with its newline; and lines that were counted on the host."""
        good, found, few = Counter[_Values](), _Found(), list[bytes]()
        self._clients.clear()
        sampled, rest = _headed(block, SAMPLED) if self._is_by_client else (b"", block)
        for piece in _pieces(sampled):
            self._count_others(piece, found, is_sampled=True)
        for piece in _pieces(rest):
            is_walked = not (self._is_outage or self._is_foreign or len(piece) > _PIECE)
            others = self._without_good(piece, good) if is_walked else piece
            if len(others) * 2 < len(piece):
                few.append(others)
                continue
            failed, unread = self._count_others(others, found)
            half = newlines(piece) / 2
            self._is_outage, self._is_foreign = self._is_split and failed > half, unread > half
        for others in _pieces(b"".join(few)):
            self._count_others(others, found)
        for each in alike:
            said, client = self._read(each.line[:-1])
            _add(found, self._of_client(said, client), each.times).block = each.line
        for values, times in good.items():
            _add(found, self._good.said(values), times)
        return list(found.values())

    def _without_good(self, piece: bytes, good: Counter[_Values]) -> bytes:
        """Counts the lines of good requests, and gives the others."""
        values = self._good.over(piece)
        if values is None:
            return piece
        good.update(values)
        return b"".join([each[-1] * good.pop(each) for each in [*good] if each[-1]])

    def _count_others(self, others: bytes, found: _Found, *, is_sampled: bool = False) -> tuple[int, int]:
        """How many of them are not of good requests, and how many are not of the format."""
        failed = unread = 0
        for walk in self._walks:
            values = None if self._is_foreign or len(others) > _PIECE else walk.over(others)
            if values is None and walk is not self._others:
                continue
            values = values or [(line + b"\n",) for line in others.split(b"\n")[:-1]]
            block, others = others, b"".join([each[-1] for each in values if each[-1]]) if walk is not self._others else b""
            for said, client, times, of in self._told(walk, values):
                lines = _add(found, self._of_client(said, client if is_sampled or not said[-1] else ""), times)
                if of and not lines.block:
                    lines.block, lines.values, lines.of = block, values, of
                failed += 0 if said[-1] else times
                unread += times if said[0] is None else 0
            if not others:
                break
        return failed, unread

    def _told(self, walk: "_Walk", values: Sequence[_Values]) -> Iterator[_Told]:
        """What the lines say that a walk matched, by client where that is wanted; else in their order. The last walk reads all."""
        is_last = walk is self._others
        if walk.client_at < 0:
            for each, times in Counter(values).items():
                if not each[-1]:
                    yield walk.said(each), "", times, each
                elif is_last:
                    yield self._read_alone(each, times)
            return
        matched = [each for each in values if not each[-1]]
        addresses = [each[walk.client_at] for each in matched]
        list(map(self._named, dict.fromkeys(addresses)))
        names = map(self._clients.get, addresses)
        for (kind, client), times in Counter(zip(map(walk.without_client, matched), names, strict=True)).items():
            yield walk.said((*kind[: walk.client_at], b"", *kind[walk.client_at :])), client or "", times, ()
        for each, times in Counter(each for each in values if is_last and each[-1]).items():
            yield self._read_alone(each, times)

    def _read_alone(self, line: _Values, times: int) -> _Told:
        """What a line says that no walk matched."""
        said, client = self._read(line[-1][:-1])
        if said[0] is None and self._foreign is not None:
            self._foreign.append(line[-1] * times)
        return said, client, times, line

    def _named(self, address: bytes) -> str:
        """A client; "" for those beyond MOST_CLIENTS."""
        name = self._clients.get(address)
        if name is None and len(self._clients) < MOST_CLIENTS:
            self._clients[address] = name = client_of(address)
        return name or ""

    def _of_client(self, said: _Said, client: str) -> _Said:
        """The entry with its client; always the same object for the same two."""
        entry, time, is_good = said
        if entry is None or not client:
            return said
        if len(self._whose) >= _MOST_REMEMBERED:
            self._whose.clear()
        whose = self._whose.get((id(entry), client))
        if whose is None or whose[0] is not entry:  # the number may be another entry's by now
            whose = self._whose[id(entry), client] = entry, replace(entry, client=client)
        return whose[1], time, is_good

    def _read(self, line: bytes) -> tuple[_Said, str]:
        """What a line says, and its client where that is wanted: the same whatever lines stand beside it."""
        if self._literal not in line:  # nearly all lines of another format
            return _UNREAD
        entry = self._reader.read(line)
        if entry is None:
            return self._walked(line) if len(line) <= MAX_LINE else _UNREAD
        return _said(entry), self._named(entry.client.encode()) if self._is_by_client and entry.client else ""

    def _walked(self, line: bytes) -> tuple[_Said, str]:
        """A line that only one of the two expressions takes, which look at less."""
        for walk in (*reversed(self._walks), self._good):
            values = walk.over(line + b"\n") or []
            if values and not values[0][-1]:
                at = walk.client_at
                return walk.said(values[0]), self._named(values[0][at]) if self._is_by_client and at >= 0 else ""
        return _UNREAD


def _headed(block: bytes, most: int) -> tuple[bytes, bytes]:
    """The first lines of a block, so many at most, and the rest."""
    end = 0
    for _ in range(most):
        end = block.find(b"\n", end) + 1 or end
    return block[:end], block[end:]


class _Walk:
    """A regular expression that takes of each line what decides, or the whole line where it does not fit."""

    def __init__(self, pattern: re.Pattern[bytes], *, unsaid: str = "") -> None:
        """`unsaid`: a variable that is not in the entry where it is empty."""
        self._pattern = pattern
        self._unsaid = unsaid
        self._names = tuple(pattern.groupindex)[:-1]
        self._at = self._names.index("time") if "time" in self._names else len(self._names)
        self.client_at = self._names.index("remote_addr") if "remote_addr" in self._names else -1
        rest = [at for at in range(len(self._names) + 1) if at != self.client_at]
        self.without_client = itemgetter(*rest) if len(rest) > 1 else itemgetter(slice(-1, None))  # a tuple in both cases
        self._tables = [_ALIKE.get(name) for name in (*self._names, "line")]
        self._known: dict[_Values, _Said] = {}

    def over(self, lines: bytes) -> list[_Values] | None:
        """None where something in them is not of the format."""
        found: list[_Values] = self._pattern.findall(lines)
        return found if len(found) == newlines(lines) else None

    def said(self, values: _Values) -> _Said:
        """Remembered without the time, which is new each second."""
        key = tuple(map(bytes.translate, values, self._tables))
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            named = {name: value for name, value in zip(self._names, key, strict=False) if value or name != self._unsaid}
            self._known[key] = known = _said(entry_of(named))
        entry, _, is_good = known
        return entry, values[self._at].decode(), is_good  # the line, which is empty, where no time was asked for


def _add(found: _Found, said: _Said, times: int) -> Lines:
    entry, time, _ = said
    lines = found.get((id(entry), time))
    if lines is None:
        found[id(entry), time] = lines = Lines(entry, time)
    lines.times += times
    return lines


def by_second(lines: Iterable[Lines]) -> tuple[dict[int, Moment], int]:
    """By Unix time; and how many lines are not of the format, or have no time."""
    counted, unread = dict[int, Moment](), 0
    for each in lines:
        at = seconds_of(each.time)
        if each.entry is None or at is None:
            unread += each.times
        else:
            counted.setdefault(int(at), Counter())[each.entry] += each.times
    return counted, unread


def _said(entry: Entry) -> _Said:
    """Without what differs from line to line and decides nothing: else every line would be a kind of its own."""
    time = (entry.time or "").partition(".")[0]
    short = replace(
        entry,
        client="",
        time=None,
        request_time=None if entry.request_time is None else _seconds(entry.request_time),
        upstream_header_time=_numbers("0", "0", entry.upstream_header_time),
        upstream_connect_time=_numbers("0", "1", entry.upstream_connect_time),
        upstream_bytes_sent=_numbers("0", "1", entry.upstream_bytes_sent),
    )
    return short, time, is_good(entry)


def _seconds(time: float) -> float:
    """Whole ones, and nothing of less than HUNG_S or more than _LONGEST_S."""
    return float(min(int(time), _LONGEST_S)) if time >= HUNG_S else 0.0


def _numbers(nothing: str, more: str, text: str | None) -> str | None:
    """With each number replaced: by `nothing` if it is 0, else by `more`."""
    return text and _NUMBER.sub(lambda found: more if found[0].strip("0.") else nothing, text)


def is_good(entry: Entry) -> bool:
    """What was not captured is as the first walk asks for it."""
    said = {"upstream_status": entry.upstream_status, "request_completion": entry.request_completion}
    said["status"] = None if entry.status is None else f"{entry.status:03}"
    return all(_GOOD_VALUES[name].fullmatch(value) for name, value in said.items() if value is not None)


def _pieces(block: bytes) -> Iterator[bytes]:
    """Whole lines, at most _PIECE bytes of them; a line that is longer comes alone."""
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + _PIECE) + 1 or block.index(b"\n", start) + 1
        yield block[start:end]
        start = end


def _clock_of(reader: LineReader) -> dict[str, bytes]:
    """The one variable that tells the time, to the second; empty where the format has none."""
    variables = {part.variable for part in reader.parts}
    return next(({name: shape} for name, shape in _TIMES.items() if name in variables), {})


def _answered(reader: LineReader) -> dict[str, bytes]:
    """What decides for the watch's rule, of all requests but those whose client left, or whose answer was no HTTP."""
    status = rb"(?!%d|%03d)\d{3}" % (CLIENT_LEFT, NOT_HTTP)
    whole = {"request_completion": _GOOD["request_completion"], "status": status}
    return whole | ({"upstream_status": b""} if reader.has_upstream_status else {"status": b"(?P<status>%b)" % status})


def _wishes_of(reader: LineReader, *, is_by_client: bool) -> dict[str, bytes]:
    """What decides about a request that was not good."""
    unwanted = _TIMES.keys() | (set() if is_by_client else {"remote_addr"})
    wishes = dict.fromkeys(CAPTURED - unwanted, b"") | {"request_time": _SECONDS}
    wishes |= {"status": rb"(?P<status>\d{3})", "upstream_header_time": _list(b"upstream_header_time", _TIME)}
    wishes |= {"upstream_bytes_sent": _list(b"upstream_bytes_sent", _BYTES)}
    wishes |= {"request": METHOD % b"request" + rb'[^"\\\n]*+', "request_method": METHOD % b"request_method" + rb"[A-Z_-]*+"}
    return {name: shape for name, shape in wishes.items() if name in reader.variables}

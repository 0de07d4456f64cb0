"""The regular expressions that walk over a block of lines, and what a line says by what they took of it (theory: entries.py).

A value that nobody wants is skipped without a look at it. So a line of another format with the same literals in the same order may
pass here where LineReader refuses it. A client can't write one: the literals are nginx's.
"""

import re
from operator import itemgetter

from msgspec.structs import replace

from upswitch.logs.line import CAPTURED, CLIENT_LEFT, HUNG_S, METHOD, NOT_HTTP, Entry, LineReader, entry_of, newlines

MOST_REMEMBERED = 1 << 12
"""Distinct values that are kept, so that memory is constant."""
Values = tuple[bytes, ...]
Said = tuple[Entry | None, str, bool]
"""What a line says; its time; whether its request was good."""

_LONGEST_S = 999
_TIME, _BYTES = rb"\d{1,20}\.\d{3}", rb"\d{1,20}"


def _elements(number: bytes) -> bytes:
    """A list of such numbers, one for each server that was tried."""
    return rb"(?>(?:(?:%b|-)(?:(?:, | : )(?:%b|-))*(?: : )?)?)" % (number, number)


def _list(name: bytes, number: bytes) -> bytes:
    """Captures of the last number its first digit, also behind attempts with none or 0: equal lines are counted at once."""
    last = rb"(?:-(?!, | : )|(?=%b(?!, | : ))\d)" % number
    return rb"(?P<%b>(?>(?:[-0], )*)%b|%b)(?:(?<=\d)[\d.]++)?" % (name, last, _elements(number))


GOOD = {
    "status": rb"(?!%d)[1-4]\d\d" % CLIENT_LEFT,
    "upstream_status": rb"(?:[1-4]\d\d|-)?",
    "request_completion": rb"OK",
}
"""What a good request has, where the format has the variable."""
EXACT_TIMES = {"upstream_header_time": rb"(?:0\.[0-9][0-9][0-9]|%b)" % _elements(_TIME)}
"""Not captured, but looked at: a line whose time is no time is not of the format. Most are under a second: the first branch."""
_GOOD_VALUES = {name: re.compile(shape.decode()) for name, shape in GOOD.items()}
_SECONDS = rb"(?:(?:%b)\.\d{3}|(?P<request_time>\d{1,20})\.\d{3})" % b"|".join(b"%d" % second for second in range(HUNG_S))
"""Captured only of a request that took HUNG_S or more."""
_TIMES = {
    "msec": rb"(?P<time>\d{1,20})\.\d{3}",
    "time_iso8601": rb"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d)",
    "time_local": rb"(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})",
}
_NUMBER = re.compile(r"[\d.]+")


_ALIKE = {
    "time": b"0" * 256,
    "upstream_header_time": bytes.maketrans(b"123456789", b"000000000"),
    **dict.fromkeys(("upstream_connect_time", "upstream_bytes_sent"), bytes.maketrans(b"23456789", b"11111111")),
}
"""What is nothing, 0, or more stays so; beyond that all numbers become the same."""


class Walk:
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
        self._known: dict[Values, Said] = {}

    def over(self, lines: bytes) -> list[Values] | None:
        """None where something in them is not of the format."""
        found: list[Values] = self._pattern.findall(lines)
        return found if len(found) == newlines(lines) else None

    def said(self, values: Values) -> Said:
        """Remembered without the time, which is new each second."""
        key = tuple(map(bytes.translate, values, self._tables))
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            named = {name: value for name, value in zip(self._names, key, strict=False) if value or name != self._unsaid}
            self._known[key] = known = said_by(entry_of(named))
        entry, _, is_good = known
        return entry, values[self._at].decode(), is_good  # the line, which is empty, where no time was asked for


def said_by(entry: Entry) -> Said:
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


def clock_of(reader: LineReader) -> dict[str, bytes]:
    """The one variable that tells the time, to the second; empty where the format has none."""
    variables = {part.variable for part in reader.parts}
    return next(({name: shape} for name, shape in _TIMES.items() if name in variables), {})


def answered(reader: LineReader) -> dict[str, bytes]:
    """What decides for the watch's rule, of all requests but those whose client left, or whose answer was no HTTP."""
    status = rb"(?!%d|%03d)\d{3}" % (CLIENT_LEFT, NOT_HTTP)
    whole = {"request_completion": GOOD["request_completion"], "status": status}
    return whole | ({"upstream_status": b""} if reader.has_upstream_status else {"status": b"(?P<status>%b)" % status})


def wishes_of(reader: LineReader, *, is_by_client: bool) -> dict[str, bytes]:
    """What decides about a request that was not good."""
    unwanted = _TIMES.keys() | (set() if is_by_client else {"remote_addr"})
    wishes = dict.fromkeys(CAPTURED - unwanted, b"") | {"request_time": _SECONDS}
    wishes |= {"status": rb"(?P<status>\d{3})", "upstream_header_time": _list(b"upstream_header_time", _TIME)}
    wishes |= {"upstream_bytes_sent": _list(b"upstream_bytes_sent", _BYTES)}
    wishes |= {"request": METHOD % b"request" + rb'[^"\\\n]*+', "request_method": METHOD % b"request_method" + rb"[A-Z_-]*+"}
    return {name: shape for name, shape in wishes.items() if name in reader.variables}

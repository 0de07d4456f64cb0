"""Turns `--since` into the times that each kind of log writes.

nginx writes its error log in the host's local time without a zone; an access log may have zone, or seconds since 1970. On a live
host the host's own `date` knows both. Files may come from another machine and another time zone: `10m` are then the last ten
minutes that stand in them, and a time without a zone is in the zone that the access log is written in, else in this machine's.

A client can break a line of the error log and write what follows, with any time. It can't in an access log.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from upswitch.basics.errors import HostError
from upswitch.basics.value import Value
from upswitch.hosts.host import Host
from upswitch.logs.line import ALWAYS, LATE_S, LineReader, seconds_of
from upswitch.site.values import parse_duration

_WORDS = "%Y/%m/%d %H:%M:%S"
_ERROR_TIME = re.compile(rb"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?= \[)")
_ZONE = re.compile(r"([+-])(\d\d):?(\d\d)$")
_QUICK = 5.0  # seconds
_NAMEABLE = range(1971, 9998)
"""Years that exist in every time zone."""


class Since(Value):
    """Either seconds before the end of the log, or a time (ISO 8601, with or without a zone)."""

    seconds: float = 0.0
    at: str = ""


class Span(Value):
    """Where reading begins: `words` as an error log writes times, `unix` in seconds since 1970. "" and None mean the start."""

    words: str = ""
    unix: int | None = None

    @property
    def range(self) -> range:
        return ALWAYS if self.unix is None else range(self.unix, ALWAYS.stop)

    @property
    def zone(self) -> str:
        """The time zone of `words`, as `+0100`; "" where `words` is empty."""
        begin = _error_time(self.words)
        if begin is None or self.unix is None:
            return ""
        return f"{begin.replace(tzinfo=timezone(begin - datetime.fromtimestamp(self.unix, UTC).replace(tzinfo=None))):%z}"


EVER = Span()


class Times(ABC):
    """Reads the times in one kind of log, and says which lines are too old to count."""

    kind: str
    is_bounded: bool

    @abstractmethod
    def of(self, line: bytes) -> str:
        """The time of a line; "" where the line has none."""

    @abstractmethod
    def is_before(self, time: str) -> bool:
        """Whether a line of this time is too old to count."""

    def first(self, block: bytes) -> str:
        """The first time in these lines; "" where none has a time."""
        return next(filter(None, map(self.of, block.split(b"\n"))), "")

    def last(self, block: bytes) -> str:
        return next(filter(None, map(self.of, reversed(block.split(b"\n")))), "")


class ErrorTimes(Times):
    """Times of nginx's error log; they sort as text. A line later than `until` is ignored: a client forged its time."""

    kind = "error"

    def __init__(self, span: Span = EVER, *, until: str = "") -> None:
        self._since = span.words
        self._until = until
        self.is_bounded = self._since != ""

    def of(self, line: bytes) -> str:
        found = _ERROR_TIME.match(line)
        time = found[0].decode() if found else ""
        return "" if self._until and time > self._until else time

    def last(self, block: bytes) -> str:
        """The newest time, in any of the lines."""
        return max(map(self.of, block.split(b"\n")))

    def is_before(self, time: str) -> bool:
        return time < self._since


def past_errors() -> ErrorTimes:
    """Times up to now, by the clock and zone of this machine."""
    return ErrorTimes(until=f"{datetime.now():{_WORDS}}")  # noqa: DTZ005  (the log has no zone either)


class AccessTimes(Times):
    """Times of an access log. A line may stand up to LATE_S later in the file than its time says."""

    kind = "access"

    def __init__(self, reader: LineReader, span: Span = EVER) -> None:
        self._reader = reader
        self._since = (span.unix or 0) - LATE_S
        self.is_bounded = span.unix is not None

    def of(self, line: bytes) -> str:
        entry = self._reader.read(line)
        return entry.time if entry and entry.time and seconds_of(entry.time) is not None else ""

    def is_before(self, time: str) -> bool:
        at = seconds_of(time)
        return at is not None and at < self._since


def parse_since(text: str) -> Since:
    """`10m`, `1.5h`, or ISO 8601. ValueError for anything else."""
    seconds = parse_duration(text)
    if seconds is not None:
        return Since(seconds=seconds)
    if datetime.fromisoformat(text).year not in _NAMEABLE:
        raise ValueError(f"the year of {text}")
    return Since(at=text)


def on_host(host: Host, since: Since) -> Span:
    """Uses the clock and the zone of the host. HostError where the host can't be reached."""
    at = datetime.fromisoformat(since.at) if since.at else None
    when = f"{at:%Y-%m-%d %H:%M:%S}" if at else f"-{since.seconds:.0f} seconds"
    when = f"@{at.timestamp():.0f}" if at and at.tzinfo else when
    ran = host.run(("date", "-d", when, f"+{_WORDS} %s"), deadline=_QUICK)
    words, _, unix = ran.out.decode("ascii", "replace").strip().rpartition(" ")
    if ran.exit != 0 or not unix.isdigit():
        raise HostError(f"ask for the date of {when}", ran.words)
    return Span(words=words, unix=int(unix))


def in_files(since: Since, *, newest_errors: Iterable[str], newest_requests: Iterable[str]) -> Span:
    """Counts back from the newest time in the access logs, or in the error logs where no request has a time."""
    requests = [each for each in newest_requests if each]
    zone = next((zone for each in requests if (zone := _zone(each))), None)
    if since.at:
        at = datetime.fromisoformat(since.at)
        begin = at if at.tzinfo else _placed(at, zone)
    else:
        ends = [each for text in requests if (each := _request_time(text))]
        ends = ends or [_placed(each, zone) for text in newest_errors if (each := _error_time(text))]
        if not ends:
            return Span()
        begin = max(ends) - timedelta(seconds=since.seconds)
    return Span(words=f"{begin.astimezone(zone):{_WORDS}}", unix=int(begin.timestamp()))


def _placed(at: datetime, zone: tzinfo | None) -> datetime:
    """Adds a zone to a time without one; None means the zone of this machine."""
    return at.replace(tzinfo=zone) if zone else at.astimezone()


def _error_time(text: str) -> datetime | None:
    try:
        found = datetime.strptime(text, _WORDS)  # noqa: DTZ007  (_placed adds the zone)
    except ValueError:
        return None
    return found if found.year in _NAMEABLE else None


def _request_time(text: str) -> datetime | None:
    unix = seconds_of(text)
    try:
        found = datetime.fromtimestamp(unix, UTC) if unix is not None else None
    except (ValueError, OverflowError):
        return None
    return found if found and found.year in _NAMEABLE else None


def _zone(time: str) -> tzinfo | None:
    found = _ZONE.search(time)
    if not found:
        return None
    east = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return timezone(-east if found[1] == "-" else east) if east < timedelta(days=1) else None

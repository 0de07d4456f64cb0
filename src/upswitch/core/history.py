"""What the log says about the ten minutes before a switch."""

import re
from calendar import timegm
from collections import Counter
from collections.abc import Iterable

from upswitch.core.attribution import Attribution, Hit, second
from upswitch.core.logformat import LineReader
from upswitch.core.rule import HISTORY_S, History, Second

_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LOCAL = re.compile(r"(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d\d)(\d\d)", re.ASCII)
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)([+-]\d\d):(\d\d)", re.ASCII)


def whole_lines(block: bytes, *, is_cut: bool) -> list[bytes]:
    """The whole lines of a block of a log; `is_cut` where it begins inside the file, so that its first line is torn."""
    lines = block.split(b"\n")
    return lines[1:-1] if is_cut else lines[:-1]


def count_history(lines: Iterable[bytes], reader: LineReader, *, attribution: Attribution, until: float | None = None) -> History:
    """The seconds before `until` (Unix time by the host's clock; None: just after the last line), from lines in any order.

    It reaches back to the oldest line that the log has, at most 600 s; a second without lines in between is a quiet one.
    Lines after `until` are left out. Empty where the format has no time. `attribution` is that of the lines before:
    `Attribution.before`.
    """
    counted: Counter[tuple[int, Hit]] = Counter()
    oldest = newest = None
    for line in lines:
        entry = reader.read(line)
        at = seconds_of(entry.time) if entry and entry.time else None
        if entry is None or at is None:
            continue
        oldest, newest = min(at, oldest or at), max(at, newest or at)
        counted[int(at), attribution.classify(entry)] += 1
    if oldest is None or newest is None:
        return History()
    end = int(newest) + 1 if until is None else int(until)
    return _history(counted, range(max(int(oldest), end - HISTORY_S), end))


def seconds_of(time: str) -> float | None:
    """Unix time of a `$msec`, `$time_iso8601` or `$time_local`; None where it is none of them."""
    if match := _LOCAL.fullmatch(time):
        day, month, year, *clock = match.groups()
        return _unix((int(year), _MONTHS.index(month), int(day)), clock) if month in _MONTHS else None
    if match := _ISO.fullmatch(time):
        year, month, day, *clock = match.groups()
        return _unix((int(year), int(month), int(day)), clock)
    return float(time) if re.fullmatch(r"\d{1,12}\.\d{3}", time, re.ASCII) else None


def _unix(date: tuple[int, int, int], clock: list[str]) -> float | None:
    year, month, day = date
    hour, minute, sec, east_h, east_m = map(int, clock)
    if year == 0 or not 1 <= month < len(_MONTHS):
        return None
    east_s = east_h * 3600 + (-east_m if clock[3].startswith("-") else east_m) * 60
    return float(timegm((year, month, day, hour, minute, sec)) - east_s)


def _history(counted: Counter[tuple[int, Hit]], span: range) -> History:
    seconds = dict.fromkeys(span, Second())
    for (at, hit), times in counted.items():
        if at in seconds:
            seconds[at] += second(hit, times)
    return History(seconds=tuple(seconds.values()))

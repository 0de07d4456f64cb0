"""What logs say about the time before a switch, second by second, and about any other time."""

import re
from calendar import timegm

ALWAYS = range(timegm((9999, 12, 31, 23, 59, 60)))
"""Seconds since 1970 up to the last year of four digits: all that a log can name."""

_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LOCAL = re.compile(r"(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d\d)(\d\d)", re.ASCII)
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)([+-]\d\d):(\d\d)", re.ASCII)


def seconds_of(time: str) -> float | None:
    """Unix time of a `$msec` (its fraction may be missing), `$time_iso8601` or `$time_local`; None where it is none of them.

    None too where it is not in ALWAYS: people, and Python, have no date for it.
    """
    if match := _LOCAL.fullmatch(time):
        day, month, year, *clock = match.groups()
        found = _unix((int(year), _MONTHS.index(month), int(day)), clock) if month in _MONTHS else None
    elif match := _ISO.fullmatch(time):
        year, month, day, *clock = match.groups()
        found = _unix((int(year), int(month), int(day)), clock)
    else:
        found = float(time) if re.fullmatch(r"\d{1,12}(\.\d{3})?", time, re.ASCII) else None
    return found if found is not None and int(found) in ALWAYS else None


def _unix(date: tuple[int, int, int], clock: list[str]) -> float | None:
    year, month, day = date
    hour, minute, sec, east_h, east_m = map(int, clock)
    if year == 0 or not 1 <= month < len(_MONTHS):
        return None
    east_s = east_h * 3600 + (-east_m if clock[3].startswith("-") else east_m) * 60
    return float(timegm((year, month, day, hour, minute, sec)) - east_s)


LATE_S = 5
"""Seconds by which a line may stand behind its time."""
HISTORY_S = 600

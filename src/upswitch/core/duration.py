"""Durations as people write them in the site file: one number and one unit."""

import re

LONGEST = 86_400.0
ALLOWED = "a duration up to 24h: one number and one unit of ms, s, m, h, such as 500ms or 1.5s"

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float | None:
    """Seconds, from 0 to 24 hours; None where `text` is no duration."""
    found = _DURATION.fullmatch(text)
    if not found:
        return None
    seconds = float(found[1]) * _SECONDS[found[2]]
    return seconds if seconds <= LONGEST else None

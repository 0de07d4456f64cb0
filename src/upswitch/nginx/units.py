"""nginx's own notation for times and sizes (ngx_parse_time, ngx_parse_size)."""

import re

_TIME = re.compile(r"(\d+)(ms|[smhdwMy]?)", re.ASCII)
_SECONDS = {
    "ms": 0.001,
    "": 1.0,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
    "M": 2_592_000.0,
    "y": 31_536_000.0,
}
_SIZE = re.compile(r"(\d+)([kKmMgG]?)", re.ASCII)
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def seconds_of(text: str) -> float:
    """`1m30s`; a bare number is seconds. 0.0 where there is none."""
    return sum(int(number) * _SECONDS[unit] for number, unit in _TIME.findall(text))


def bytes_of(text: str) -> int:
    """`16k`; a bare number is bytes. 0 where it is no size, such as a variable."""
    found = _SIZE.fullmatch(text)
    return int(found[1]) * _BYTES[found[2].lower()] if found else 0

"""Minutes of traffic before a test begins: a line that nginx has just written, over and over, with other times and clients."""

import re
from collections.abc import Iterable

from upswitch_lab.lab import Lab
from upswitch_lab.process import until


def given_minutes(lab: Lab, *flows: tuple[str, Iterable[float], int], **values: object) -> None:
    """Each flow is a client, the seconds before now at which it made a request, and the status. They lie in the rotated log.

    `values` are what else the lines say, by their keys.
    """
    until(lambda: lab.access_log.stat().st_size > 0, what="a line in the access log")
    line = lab.access_log.read_text().splitlines()[0]
    now = float(_value(line, "msec"))
    requests = sorted((now - ago, client, status) for client, seconds, status in flows for ago in seconds)
    lines = (
        _changed(line, msec=f"{at:.3f}", remote_addr=client, status=status, upstream_status=status, **values)
        for at, client, status in requests
    )
    (lab.folder / "access.log.1").write_text("".join(f"{each}\n" for each in lines))


def every(interval: float, *, of: float, until: float = 0.0) -> list[float]:
    """Seconds before now, from `of` on to `until`."""
    return [of - number * interval for number in range(1, int((of - until) / interval))]


def _value(line: str, key: str) -> str:
    return re.search(rf'"{key}":"([^"]*)"', line)[1]


def _changed(line: str, **values: object) -> str:
    for key, value in values.items():
        line = line.replace(f'"{key}":"{_value(line, key)}"', f'"{key}":"{value}"', 1)
    return line

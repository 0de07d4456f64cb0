"""The closed sets of words of the site file, and the names of generations."""

import re
from collections.abc import Iterable
from enum import StrEnum

from upswitch.basics.value import Value


class Verdict(StrEnum):
    """What the gate concludes; RUNNING until it does."""

    RUNNING = "running"
    PASS = "pass"  # noqa: S105  (a verdict, not a password)
    FAIL = "fail"


class CheckType(StrEnum):
    """The types of health check of nginx_upstream_check_module."""

    TCP = "tcp"
    HTTP = "http"
    SSL_HELLO = "ssl_hello"
    MYSQL = "mysql"
    AJP = "ajp"
    FASTCGI = "fastcgi"


class Dialect(StrEnum):
    """The check module of an nginx. It is found out on the host (nginx/running.py), never believed from a file."""

    NONE = "none"
    YAOWEIBIN = "yaoweibin"
    TENGINE = "tengine"


class SpikePolicy(StrEnum):
    """`watch.on_spike`: what follows when the new pool fails."""

    ROLLBACK = "rollback"
    HOLD = "hold"


class SilencePolicy(StrEnum):
    """`watch.on_silence`: what follows when the watch saw too little to judge."""

    KEEP = "keep"
    ROLLBACK = "rollback"
    HOLD = "hold"


class Vantage(StrEnum):
    """`gate.vantage`: where our health checks start: on the nginx host, or on this machine."""

    HOST = "host"
    HERE = "here"


class Unreachable(StrEnum):
    """`rollout.unreachable`: what follows when a host can't be reached before anything was done."""

    REFUSE = "refuse"
    SKIP = "skip"


_NAME = re.compile(r"([0-9]{6,9})-([A-Za-z0-9_-]{1,64})\Z")


class Generation(Value):
    """One rendered configuration. `number` only goes up. `name` is its folder, and what nginx's marker reports."""

    number: int
    pool: str

    @property
    def name(self) -> str:
        return f"{self.number:06d}-{self.pool}"


def parse_name(text: str) -> Generation | None:
    """`000042-B` as a Generation. None for any other text."""
    match = _NAME.match(text)
    found = Generation(number=int(match[1]), pool=match[2]) if match else None
    return found if found and found.name == text else None  # `0000042-B` would be another folder than the one it names


def parse_names(names: Iterable[str]) -> tuple[Generation, ...]:
    """The generations among the names in a folder, lowest number first. Other names are not ours."""
    found = [generation for generation in map(parse_name, names) if generation is not None]
    return tuple(sorted(found, key=lambda generation: generation.number))


BETWEEN = "__standby_"
"""Between the upstream and the pool in the name of a standby upstream."""

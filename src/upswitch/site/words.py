"""upswitch.site.words."""

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
    """The probe types of nginx_upstream_check_module."""

    TCP = "tcp"
    HTTP = "http"
    SSL_HELLO = "ssl_hello"
    MYSQL = "mysql"
    AJP = "ajp"
    FASTCGI = "fastcgi"


class Dialect(StrEnum):
    """Whose `check` directives an nginx understands: found out on the host (nginx/check_module.py), never believed from a file."""

    NONE = "none"
    YAOWEIBIN = "yaoweibin"
    TENGINE = "tengine"


class SpikePolicy(StrEnum):
    """`watch.on_spike`: what a failed watch leads to."""

    ROLLBACK = "rollback"
    HOLD = "hold"


class SilencePolicy(StrEnum):
    """`watch.on_silence`: what a watch that could not judge leads to."""

    KEEP = "keep"
    ROLLBACK = "rollback"
    HOLD = "hold"


class Vantage(StrEnum):
    """`gate.vantage`: where our probes come from: where nginx stands, or this machine."""

    HOST = "host"
    HERE = "here"


class Unreachable(StrEnum):
    """`rollout.unreachable`: what a host that can't be reached leads to, before anything was done."""

    REFUSE = "refuse"
    SKIP = "skip"


_NAME = re.compile(r"([0-9]{6,9})-([A-Za-z0-9_-]{1,64})\Z")


class Generation(Value):
    """One rendered configuration: `number` only goes up; `name` is its folder and what nginx's marker answers."""

    number: int
    pool: str

    @property
    def name(self) -> str:
        return f"{self.number:06d}-{self.pool}"


def parse_name(text: str) -> Generation | None:
    """`000042-B` -> Generation; None for any other text."""
    match = _NAME.match(text)
    found = Generation(number=int(match[1]), pool=match[2]) if match else None
    return found if found and found.name == text else None  # `0000042-B` would be another folder than the one it names


def parse_names(names: Iterable[str]) -> tuple[Generation, ...]:
    """The generations among the names of a folder, lowest number first; anything else in the folder is not ours."""
    found = [generation for generation in map(parse_name, names) if generation is not None]
    return tuple(sorted(found, key=lambda generation: generation.number))


BETWEEN = "__standby_"

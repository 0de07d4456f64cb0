"""The closed sets of words that everything else is said in (docs/design.md)."""

from enum import StrEnum
from typing import Any, dataclass_transform

import msgspec


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _Frozen(msgspec.StructMeta):
    """msgspec inherits `frozen` but not `kw_only`; here both are the rule for every subclass."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> Any:
        return super().__new__(cls, name, bases, namespace, **{"frozen": True, "kw_only": True, **config})


class Value(msgspec.Struct, metaclass=_Frozen):
    """Base of every value: immutable, slotted, keyword-only, and encodable as JSON without further code."""


class Phase(StrEnum):
    """Where a run is. The last six are endings."""

    PLANNED = "planned"
    GATED = "gated"
    STAGED = "staged"
    TESTED = "tested"
    WARMED = "warmed"
    RECHECKED = "rechecked"
    ARMED = "armed"
    DRAINED = "drained"
    SWAPPED = "swapped"
    RELOADED = "reloaded"
    CONFIRMED = "confirmed"
    JUDGED = "judged"
    BACKING_OUT = "backing_out"
    RESTORED = "restored"
    RELOADED_BACK = "reloaded_back"
    DONE = "done"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    HELD = "held"
    ROLLED_BACK = "rolled_back"
    STUCK = "stuck"


class Step(StrEnum):
    """One act. Verbs; what each does to a host is in steps.py."""

    GATE = "gate"
    STAGE = "stage"
    TEST = "test"
    WARM = "warm"
    RECHECK = "recheck"
    ARM = "arm"
    DRAIN = "drain"
    SWAP = "swap"
    RELOAD = "reload"
    CONFIRM = "confirm"
    WATCH = "watch"
    FINISH = "finish"
    RESTORE = "restore"
    RELOAD_BACK = "reload_back"
    CONFIRM_BACK = "confirm_back"


class Result(StrEnum):
    """How a step ended. UNKNOWN: it timed out or lost its connection, so it may or may not have happened."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    INTERRUPTED = "interrupted"
    HOLD = "hold"


class Outcome(StrEnum):
    """What a command proved at its end."""

    SWITCHED = "SWITCHED"
    UNCHANGED = "UNCHANGED"
    REFUSED = "REFUSED"
    INTERRUPTED = "INTERRUPTED"
    HELD = "HELD"
    ROLLED_BACK = "ROLLED_BACK"
    STUCK = "STUCK"


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
    """Whose `check` directives an nginx understands: found out on the host (checking.py), never believed from a file."""

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

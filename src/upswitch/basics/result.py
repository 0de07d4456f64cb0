"""upswitch.basics.result."""

from enum import StrEnum

from upswitch.basics.value import Value


class Result(StrEnum):
    """How a step ended. UNKNOWN: it timed out or lost its connection, so it may or may not have happened."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    INTERRUPTED = "interrupted"
    HOLD = "hold"


class Failure(StrEnum):
    """How a request failed. GATEWAY: the pool's last answer was 502/503/504. HUNG: the client left after 1 s or more unanswered."""

    NONE = "none"
    GATEWAY = "gateway"
    HUNG = "hung"


class Took(Value):
    """What a step came to: its result, and one line for people."""

    result: Result
    said: str

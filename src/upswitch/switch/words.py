"""upswitch.switch.words."""

from enum import StrEnum


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
    """One act. Verbs; what each does to a host is in switch/steps.py."""

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


class Outcome(StrEnum):
    """What a command proved at its end."""

    SWITCHED = "SWITCHED"
    UNCHANGED = "UNCHANGED"
    REFUSED = "REFUSED"
    INTERRUPTED = "INTERRUPTED"
    HELD = "HELD"
    ROLLED_BACK = "ROLLED_BACK"
    STUCK = "STUCK"

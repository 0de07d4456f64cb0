"""The exit codes. `upswitch --help` prints them; tests hold README's table and the incident pages against them."""

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    """An exit code and its meaning, one sentence. Every outcome but SWITCHED and UNCHANGED has the code of its own name."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    DONE = 0, "Done as asked, or nothing was found."
    BUG = 1, "A bug in upswitch; the traceback is kept."
    USAGE = 2, "Usage error: the command line or the site file is wrong; nothing was changed."
    REFUSED = 3, "Refused, and nothing was changed; or there are findings."
    ROLLED_BACK = 4, "The change failed and was rolled back: the former pool serves."
    STUCK = 5, "Automatic recovery failed, or hosts serve different pools: a person must look now."
    LOCKED = 6, "Another upswitch holds the lock; this one changed nothing."
    HELD = 7, "The new pool fails and still serves: a person must decide now."
    INTERRUPTED = 130, "Interrupted before the swap; nothing was changed."

    FINDINGS = REFUSED


def exit_of(outcome: str) -> Exit:
    """The exit code of an outcome."""
    return Exit.DONE if outcome in {"SWITCHED", "UNCHANGED"} else Exit[outcome]

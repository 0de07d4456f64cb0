"""upswitch.switch.turn."""

from typing import Protocol

from upswitch.basics.result import Took
from upswitch.basics.value import Value
from upswitch.switch.words import Step
from upswitch.watch.probation import Probation


class Stand(Value):
    """One host before a rollback. `run` made what is live, which was a way back or not; `before` is the pool that it replaced."""

    run: str
    pool: str
    before: str
    is_back: bool = False


class Turn(Protocol):
    """One host's place among the others that are switched with it. Alone, nothing is ever waited for."""

    def before_lock(self) -> None:
        """Return when this host may take its lock. RefusedError where the fleet goes no further."""
        ...

    def locked(self) -> None: ...

    def prepared(self) -> Took | None:
        """This host is prepared; return when its wave may go (None), or why it never will."""
        ...

    def saw(self, step: Step, took: Took) -> None:
        """How a step of this host ended."""
        ...

    def stopped(self) -> Took | None:
        """Why the whole fleet goes no further, None while it does. A result of HOLD: all stay as they are."""
        ...

    def heard(self, probation: Probation) -> Took | None:
        """One second of this host's watch; then as `stopped`: all hosts' seconds together may be a spike where none alone is."""
        ...

    def passed(self) -> bool:
        """This host, which answers, has been watched long enough; whether all have. Asked once a second until they have."""
        ...

    def stands_by(self) -> None:
        """This host has nothing to do; return when the others are done. Until then its lock is kept for them."""
        ...

    def goes_back(self, stand: Stand) -> bool:
        """Before a rollback: whether this host goes, or stays: the newest run never reached it. RefusedError: they disagree."""
        ...

    def judged(self) -> Took | None:
        """This host ends its watch; returns when all do: None, or why it must go back after all, because another one does not."""
        ...


class Alone:
    """A ports.Turn without others."""

    def before_lock(self) -> None:
        return

    def locked(self) -> None:
        return

    def prepared(self) -> Took | None:
        return None

    def saw(self, step: Step, took: Took) -> None:
        del step, took

    def stopped(self) -> Took | None:
        return None

    def heard(self, probation: Probation) -> Took | None:
        del probation
        return None

    def passed(self) -> bool:
        return True

    def stands_by(self) -> None:
        return

    def goes_back(self, stand: Stand) -> bool:
        del stand
        return True

    def judged(self) -> Took | None:
        return None

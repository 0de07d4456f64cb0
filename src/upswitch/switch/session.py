"""One command on one host: what the caller wants, the ports it acts with, and its place among the other hosts."""

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from upswitch.basics.errors import Owner
from upswitch.basics.result import Took
from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.hosts.host import Host, Ports
from upswitch.site.model import Site
from upswitch.switch.machine import Step
from upswitch.watch.probation import Others, Probation


class Ask(Value):
    """What the caller wants. `skips` are steps left out by choice."""

    run: str
    command: str
    pool: str
    reason: str = ""
    user: str = ""
    skips: tuple[Step, ...] = ()


class Choices(Value):
    """What the caller accepts: live files edited by hand as the way back; a switch with no way back at all; far fewer servers."""

    adopt: bool = False
    one_way: bool = False
    shrink: bool = False


class Meeting(StrEnum):
    """A point of a run at which a host may have to wait for the others.

    LOCK: before it takes its lock; the first host decides between two commands that come at once. LOCKED: it has its lock.
    PREPARED: before its first change; until all hosts are prepared and its wave may go. CHANGE: before each further step that
    changes the host; a host that failed stops the others. UNCHANGED: it has nothing to do, and keeps its lock until the others
    are done. Nobody waits at LOCKED and CHANGE.
    """

    LOCK = "lock"
    LOCKED = "locked"
    PREPARED = "prepared"
    CHANGE = "change"
    UNCHANGED = "unchanged"


class Stand(Value):
    """One host before a rollback. `run` made the live generation (`is_back`: by going back); `before` is the pool before it."""

    run: str
    pool: str
    before: str
    is_back: bool = False


class Turn(Others, Protocol):
    """What one host reports to the other hosts, and hears from them. The watch has its own part of this (`Others`)."""

    def meet(self, at: Meeting) -> Took | None:
        """Wait for the others where that is needed. None: this host goes on; else the reason why it goes no further."""
        ...

    def saw(self, step: Step, took: Took) -> None:
        """How a step of this host ended."""
        ...

    def goes_back(self, stand: Stand) -> bool:
        """Before a rollback: whether this host goes back, or stays where the newest run never reached it. RefusedError."""
        ...


class Alone:
    """A `Turn` without other hosts: never waits, never stops."""

    def meet(self, at: Meeting) -> Took | None:
        del at
        return None

    def saw(self, step: Step, took: Took) -> None:
        del step, took

    def heard(self, probation: Probation) -> Took | None:
        del probation
        return None

    def passed(self) -> bool:
        return True

    def judged(self) -> Took | None:
        return None

    def goes_back(self, stand: Stand) -> bool:
        del stand
        return True


@dataclass(frozen=True, kw_only=True)
class RunPorts(Ports):
    """The ports of a host that a run may change, and its place among the others. Site files are on `home`, where upswitch runs."""

    turn: Turn
    home: Host


@dataclass(frozen=True, kw_only=True)
class Session:
    """One command on one host. `user`, `machine` and `pid` are for those who wait for the lock, and for the history.

    `run` is the run's name in the journal of every host.
    """

    site: Site
    ports: RunPorts
    user: str
    machine: str
    pid: int
    run: str

    def owner(self, reason: str) -> Owner:
        since = self.ports.clock.now()
        return Owner(user=self.user, host=self.machine, pid=self.pid, since=since, reason=clean(reason).strip())

    def ask(self, command: str, pool: str, *, reason: str = "", skips: tuple[Step, ...] = ()) -> Ask:
        """What a new run is for."""
        return Ask(run=self.run, command=command, pool=pool, reason=clean(reason), user=self.user, skips=skips)


def new_run(now: str) -> str:
    """A run's name: wall time, and what tells it from another one of that second."""
    return f"{now[:19].replace(':', '').replace('-', '')}-{secrets.token_hex(3)}"


_LONGEST = 500  # characters of a reason


def clean(text: str) -> str:
    """Words from the command line as they may be kept and shown: no control character, no byte that is not UTF-8."""
    return plain(text[:_LONGEST])

"""upswitch.switch.session."""

import secrets
from dataclasses import dataclass

from upswitch.basics.errors import Owner
from upswitch.basics.text import plain
from upswitch.site.model import Site
from upswitch.switch.planning import Ask
from upswitch.switch.turn import RunPorts
from upswitch.switch.words import Step


@dataclass(frozen=True, kw_only=True)
class Session:
    """One command on one host. `user`, `machine` and `pid` are for whoever waits for the lock, and for the history.

    `run` names what is done, in the journal of every host that it is done to.
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

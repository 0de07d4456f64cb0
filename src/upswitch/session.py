"""What a command acts with, and what it needs from the command line around it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from upswitch.core.errors import Owner
from upswitch.core.foreign import plain
from upswitch.core.planning import Ask
from upswitch.core.site import Site
from upswitch.core.words import Step, Value
from upswitch.ports import Ports
from upswitch.views import View

SITE_FILE = "upswitch.toml"
"""The one that is found by itself."""


class Common(Value):
    """The options of every command that reads a site file; those of `switch` change the site before any host is reached.

    `pool` must be one of the site's, `on_spike` takes the place of watch.on_spike; "" is neither.
    """

    config: str
    as_json: bool
    events: str = ""
    hosts: tuple[str, ...] = ()
    on_spike: str = ""
    pool: str = ""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One command on one host. `user`, `machine` and `pid` are for whoever waits for the lock, and for the history.

    `run` names what is done, in the journal of every host that it is done to.
    """

    site: Site
    ports: Ports
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


Act = Callable[[Session], View]
"""What a command does on one host."""


def new_run(now: str) -> str:
    """A run's name: wall time, and what tells it from another one of that second."""
    return f"{now[:19].replace(':', '').replace('-', '')}-{secrets.token_hex(3)}"


_LONGEST = 500  # characters of a reason


def clean(text: str) -> str:
    """Words from the command line as they may be kept and shown: no control character, no byte that is not UTF-8."""
    return plain(text[:_LONGEST])


class App(Protocol):
    """The program around the commands."""

    def serve(self, command: str, common: Common, act: Act, *, every: float | None = None) -> int:
        """Read the site, open the ports, act on each host, print; the exit code. With `every`: again after so many seconds."""
        ...

    def serve_site(self, command: str, common: Common, site: Site, *, act: Act) -> int:
        """The same for a site that no file describes yet."""
        ...

    def serve_files(self, command: str, common: Common, act: Callable[[Session, Site | None], View]) -> int:
        """The same on files alone, with no nginx and no rights but the caller's: nothing that the site file names is run.

        None where no site file was asked for and none can be read.
        """
        ...

    @property
    def has_reader(self) -> bool:
        """Whether anybody still reads what is printed."""
        ...

    def templates(self, site: Site) -> dict[str, str]:
        """The packaged templates and the site's own, by name."""
        ...

    def show(self, view: View, *, as_json: bool) -> int:
        """Print one view; its exit code."""
        ...

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
    """The options of every command that reads a site file."""

    config: str
    as_json: bool
    events: str = ""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One command on one site. `user`, `machine` and `pid` are for whoever waits for the lock, and for the history."""

    site: Site
    ports: Ports
    user: str
    machine: str
    pid: int

    def owner(self, reason: str) -> Owner:
        since = self.ports.clock.now()
        return Owner(user=self.user, host=self.machine, pid=self.pid, since=since, reason=clean(reason).strip())

    def ask(self, command: str, pool: str, *, reason: str = "", skips: tuple[Step, ...] = ()) -> Ask:
        """A new run's name and what it is for."""
        stamp = self.ports.clock.now()[:19].replace(":", "").replace("-", "")
        name = f"{stamp}-{secrets.token_hex(3)}"
        return Ask(run=name, command=command, pool=pool, reason=clean(reason), user=self.user, skips=skips)


_LONGEST = 500  # characters of a reason


def clean(text: str) -> str:
    """Words from the command line as they may be kept and shown: no control character, no byte that is not UTF-8."""
    return plain(text[:_LONGEST])


class App(Protocol):
    """The program around the commands."""

    def serve(self, command: str, common: Common, act: Callable[[Session], View]) -> int:
        """Read the site, open the ports, act, print; the exit code."""
        ...

    def serve_site(self, command: str, common: Common, site: Site, *, act: Callable[[Session], View]) -> int:
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

"""What a command acts with, and what it needs from the command line around it."""

from collections.abc import Callable
from typing import Protocol

from upswitch.basics.value import Value
from upswitch.cli.views.parts import View
from upswitch.site.model import Site
from upswitch.switch.session import Session

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


Act = Callable[[Session], View]
"""What a command does on one host."""


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

"""The machines that nginx runs on: what upswitch needs of one (host.py), and the adapters local/, ssh/ and container/.

It may import site and basics, and is the only room that knows SSH, sockets and processes. Begin with host.py, then ssh/host.py; a
new kind of machine is a folder beside ssh/ and a row below.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upswitch.hosts.host import Machine, Opener, Tell
    from upswitch.site.model import Nginx

KINDS = {"ssh": "upswitch.hosts.ssh.host"}
"""The kinds of machines that a site's hosts can be, and the module that has the `Opener` of each."""


def opener(kind: str, *, ask: Callable[[str], str | None]) -> "Opener":
    """`ask` asks the user for a secret; None where nobody can be asked. HostError where the user's settings can't be read."""
    found: Opener = import_module(KINDS[kind]).Opener(ask)
    return found


def container(nginx: "Nginx", *, outer: "Machine | None" = None, tell: "Tell | None" = None, name: str = "") -> "Machine":
    """The container that nginx runs in, on `outer` or on this machine. HostError where it can't be used."""
    keeps = {"nginx.dir": nginx.dir, "nginx.state": nginx.state}
    module = import_module("upswitch.hosts.container.host")
    found: Machine = module.ContainerHost(
        name or nginx.container, nginx.container, outer=outer or module.Here(), keeps=keeps, tell=tell
    )
    return found

"""The ports of this machine, with real adapters: for tests of what stands between the command line and a host."""

from pathlib import Path

from upswitch.adapters import templates
from upswitch.adapters.clock import SystemClock
from upswitch.adapters.local import LocalHost
from upswitch.adapters.lock import FileLock
from upswitch.adapters.probe import NetProber
from upswitch.adapters.signals import Interrupts
from upswitch.adapters.through import ThroughProbe
from upswitch.core.errors import Owner
from upswitch.core.site import Nginx
from upswitch.core.sitefile import parse_site
from upswitch.ports import Ports
from upswitch.rollout import Alone

TEMPLATES = templates.load()
OWNER = Owner(user="test", host="here", pid=1, since="now", reason="a test")


class Told:
    """What people were told, a line each."""

    def __init__(self):
        self.lines = []

    def __call__(self, step, said, *, is_passing=False):
        del is_passing
        self.lines.append(f"{step}: {said}")


def ports(nginx: Nginx, host=None):
    clock = SystemClock()
    host = host or LocalHost(clock)
    prober = NetProber(host, clock)
    lock = FileLock(f"{nginx.state}/lock")
    interrupts = Interrupts()
    return Ports(
        host=host, prober=prober, through=ThroughProbe, clock=clock, lock=lock, interrupts=interrupts, tell=Told(), turn=Alone()
    )


def site_of(lab):
    return parse_site(Path(lab.site_file).read_text())

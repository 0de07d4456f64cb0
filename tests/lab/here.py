"""The ports of this machine, with real adapters: for tests of what stands between the command line and a host."""

from functools import partial
from pathlib import Path

from upswitch.basics.errors import Owner
from upswitch.generations import templates
from upswitch.health.prober import NetProber
from upswitch.hosts.clock import Interrupts, SystemClock
from upswitch.hosts.local.host import FileLock, LocalHost
from upswitch.site.model import Nginx
from upswitch.site.read import parse_site
from upswitch.switch.session import Alone, RunPorts
from upswitch.watch.through import ThroughProbe

TEMPLATES = templates.load()
OWNER = Owner(user="test", host="here", pid=1, since="now", reason="a test")


class Told:
    """What people were told, a line each."""

    def __init__(self):
        self.lines = []

    def __call__(self, step, said, *, is_passing=False, is_bad=False):
        del is_passing, is_bad
        self.lines.append(f"{step}: {said}")


def ports(nginx: Nginx, host=None):
    clock = SystemClock()
    host = host or LocalHost(clock)
    prober = NetProber(host, clock)
    lock = FileLock(f"{nginx.state}/lock")
    interrupts = Interrupts()
    return RunPorts(
        host=host,
        prober=prober,
        through=partial(ThroughProbe, host=host),
        clock=clock,
        lock=lock,
        interrupts=interrupts,
        tell=Told(),
        turn=Alone(),
        home=host,
    )


def site_of(lab):
    return parse_site(Path(lab.site_file).read_text())

"""A container that changes under a run: real programs and a real lock of this machine, behind an engine that is written by hand."""

import getpass
import json
from contextlib import closing

import pytest

from upswitch.basics.errors import HostError, Owner
from upswitch.basics.result import Why
from upswitch.hosts.container.host import ContainerHost
from upswitch.hosts.host import Ran
from upswitch.hosts.local import channel
from upswitch.hosts.ssh.streams import Pipe
from upswitch_lab.process import until

OWNER = Owner(user=getpass.getuser(), host="here", pid=1, since="now", reason="test")


class Machine:
    """The machine of one container. What is run in it is run here, as long as it is the present one and runs."""

    lost = ""

    def __init__(self, folder):
        self.ident, self.state, self.folder = "c1", "running", str(folder)
        self.source = "/srv/front"
        self.channels = []

    def run(self, argv, *, deadline):
        del deadline
        if argv[0] == "docker":
            return Ran(exit=127)
        mounts = [{"Source": self.source, "Destination": self.folder, "RW": True}]
        said = [{"Id": self.ident, "Name": "front", "State": {"Status": self.state}, "Mounts": mounts}]
        return Ran(exit=0, out=json.dumps(said).encode())

    def open_pipe(self, argv):
        is_here = self.ident in argv and self.state == "running"
        self.channels.append(channel.ProcessChannel(argv[argv.index(self.ident) + 1 :] if is_here else ("false",)))
        return Pipe(self.channels[-1], "run a program")

    def close(self):
        """Every program has seen the end of its input, and ends by itself."""
        until(lambda: all(each.closed and each._process.poll() is not None for each in self.channels), what="the programs' end")


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def host(machine):
    with closing(ContainerHost("front", "front", outer=machine, keeps={"nginx.state": machine.folder})) as host:
        yield host


def begin(host):
    """Start a further program: those that run already show nothing of a container that is frozen or gone."""
    host.open_pipe(("true",)).close()


def test_a_new_one_with_the_same_folder_takes_the_place_of_the_old_one(machine, host):
    begin(host)
    machine.ident = "c2"
    begin(host)


def test_a_new_one_with_another_folder_is_not_taken_for_the_old_one(machine, host):
    begin(host)
    machine.ident, machine.source = "c2", "/srv/stale"
    with pytest.raises(HostError, match="in another folder: /srv/stale, before /srv/front") as caught:
        begin(host)
    assert caught.value.why is Why.CONNECTION_LOST


def test_one_that_is_paused_takes_no_heartbeat_until_it_goes_on(machine, host):
    lock = host.lock_in(machine.folder)
    assert lock.acquire(OWNER) is None
    lock.beat()
    machine.state = "paused"
    with pytest.raises(HostError, match="`podman unpause front`"):
        begin(host)
    with pytest.raises(HostError, match="`podman unpause front`"):
        lock.beat()
    machine.state = "running"
    begin(host)
    lock.beat()
    lock.release()


def test_a_log_file_is_followed(tmp_path, host):
    log = tmp_path / "access.log"
    log.write_text("before\n")
    host.run(("true",), deadline=5)
    with closing(host.follow(str(log))) as follower:
        with log.open("a") as file:
            file.write("a request\n")
        seen = []
        until(lambda: seen.append(follower.read()) or b"".join(seen) == b"a request\n", what="the line")

"""The incidents of a fleet, made for real on hosts with an sshd each."""

import base64
import hashlib
import signal
from collections.abc import Callable

from command import DEADLINE, on_disk
from fleetlab import FleetLab
from incidentpages import Incident, put_on_path
from sshd import ADDRESS, Key, program, with_libraries
from upswitch_lab.conf import Layout
from upswitch_lab.process import until

SHORT = Layout(
    site={
        "rollout": {"waves": ["100%"]},
        "watch": {"duration": "1s"},
        "gate": {"interval": "50ms", "deadline": "500ms"},
    }
)
LONG = Layout(site={"watch": {"duration": "60s"}})
BY_ITSELF = 40.0  # seconds: the lease of 10, the dead-man's grace of 5, its proof, and a busy machine


class OnFleet(Incident):
    """Typed on a machine that reaches every host by ssh. NAME is the host that the page is about: the last one."""

    def __init__(self, fleet: FleetLab) -> None:
        folder = fleet.folder / "operator"
        self.fleet = fleet
        self.name = fleet.names[-1]
        self.lab, self.sshd = fleet.labs[self.name], fleet.sshds[self.name]
        super().__init__(folder, {"/etc/ssh/ssh_host_ed25519_key.pub": f"{folder}/console.pub"})
        if not folder.exists():
            folder.mkdir()
            (folder / "upswitch.toml").symlink_to(fleet.site_file)
            config = f"{fleet.folder}/home/.ssh/config"  # ssh takes its home from the user database, not from HOME
            put_on_path(folder, "ssh", *with_libraries(program("ssh")), "-F", config)
            for name in ("ssh-keygen", "ssh-keyscan"):
                put_on_path(folder, name, *with_libraries(program(name)))
        self.former = on_disk(self.lab)[-1]
        self.pool = "B" if self.former == "A" else "A"
        self.words = {"POOL": self.pool, "FORMER": self.former, "NAME": self.name, "TARGET": self.name}

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, **{key: self.fleet.env[key] for key in ("HOME", "SSH_AUTH_SOCK")}}


def desert(fleet: FleetLab) -> None:
    """The orchestrator is killed while it watches the first host."""
    command = fleet.command("switch", "--to", "B")
    command.wait_for("lb1 watch        t+")
    command.signal(signal.SIGKILL)
    command.process.communicate(timeout=DEADLINE)


def back_by_itself(at: OnFleet) -> None:
    """`desert` was done before: the hosts need 15 s."""
    journal = at.fleet.labs["lb1"].folder / "state" / "journal.jsonl"
    until(lambda: '"kind":"fired"' in journal.read_text(), deadline=BY_ITSELF, what="the host's own way back")


def one_host_back_alone(at: OnFleet) -> None:
    assert at.fleet.run("switch", "--to", at.pool, "--no-watch").exit == 0
    assert at.fleet.run("rollback", "--host", at.name).exit == 0
    assert set(at.fleet.served.values()) == {"A", "B"}


def sshd_down(at: OnFleet) -> None:
    at.sshd.end()
    at.after.callback(at.sshd.start)
    at.acts = [lambda: at.after.pop_all().close()]


def host_made_anew(at: OnFleet) -> None:
    """Its sshd shows another key, and so does its console."""
    at.sshd.change_host_key()
    _at_its_console(at, at.sshd.host_key)


def somebody_in_between(at: OnFleet) -> None:
    """Another key is shown; the host's own, by its console, is the recorded one."""
    _at_its_console(at, at.sshd.host_key)
    at.sshd.change_host_key()


def _at_its_console(at: OnFleet, key: Key) -> None:
    (at.folder / "console.pub").write_text(f"{key.public}\n")
    digest = hashlib.sha256(base64.b64decode(key.public.split()[1])).digest()
    at.words |= {
        "FINGERPRINT": f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}",
        "HOST": ADDRESS,
        "PORT": f"{at.sshd.port}",
        "RECORDED": f"[{ADDRESS}]:{at.sshd.port}",
        "FILE": f"{at.sshd.known_hosts}",
    }


FLEET_STATES: dict[str, Callable[[OnFleet], None]] = {
    "split": one_host_back_alone,
    "unreachable": sshd_down,
    "host-key": host_made_anew,
    "dead-man": back_by_itself,
}
"""The dead-man comes last: it needs its time."""

"""A fleet on loopback: hosts that each have an sshd and an nginx of their own, in front of the same two pools."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from command import DEADLINE, Answer
from sshd import Key, Sshd
from upswitch.demo.conf import Layout, site_toml
from upswitch.demo.lab import Lab
from upswitch.demo.process import until

_OWN = ("conf", "prefix", "dir", "state", "reload", "marker", "drain_flag")


class FleetLab:
    """`count` hosts, lb1 and so on, and a HOME whose ssh_config and known_hosts know them all. `layout.site` is the fleet's."""

    def __init__(self, binary: str, count: int, layout: Layout, *sshd_lines: str) -> None:
        self._binary = binary
        self._layout = layout
        self._sshd_lines = sshd_lines
        self.names = [f"lb{number + 1}" for number in range(count)]
        self.labs: dict[str, Lab] = {}
        self.sshds: dict[str, Sshd] = {}

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            for name in self.names:
                first = self.labs.get(self.names[0])
                self.labs[name] = undo.enter_context(Lab(self._binary, Layout(), beside=first))
            self.folder = self.labs[self.names[0]].folder
            (self.folder / "home/.ssh").mkdir(parents=True, mode=0o700)
            key = Key(self.folder / "client_key")
            for name in self.names:
                sshd = Sshd(self.labs[name].folder / "sshd", *self._sshd_lines, key=key)
                self.sshds[name] = undo.enter_context(sshd)
            self.write_files()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def site_file(self) -> Path:
        return self.folder / "fleet.toml"

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "HOME": f"{self.folder}/home", "SSH_AUTH_SOCK": ""}

    def write_files(self) -> None:
        """The site file, and what ssh needs to know of the hosts."""
        first = self.labs[self.names[0]]
        hosts = {}
        for name, lab in self.labs.items():
            nginx = lab.site.nginx
            own = {key: [*value] if isinstance(value := getattr(nginx, key), tuple) else value for key in _OWN}
            hosts[name] = {"ssh": name, "probe": f"http://{lab.place.public}/healthz", "nginx": own}
        site = {"rollout": {"waves": ["1", "100%"]}, **self._layout.site, "hosts": hosts}
        self.site_file.write_text(site_toml(Layout(site=site), first.place, first.addresses))
        ssh = self.folder / "home/.ssh"
        (ssh / "config").write_text("".join(sshd.stanza(name) for name, sshd in self.sshds.items()))

    def command(self, *words: str) -> "FleetCommand":
        return FleetCommand(self, *words)

    def run(self, *words: str) -> Answer:
        return self.command(*words).end()

    @property
    def served(self) -> dict[str, str]:
        """Which pool each host's nginx really answers from."""
        return {name: lab.get()[1][:1] for name, lab in self.labs.items()}

    @property
    def markers(self) -> dict[str, str]:
        return {name: lab.marker().rpartition("-")[2] for name, lab in self.labs.items()}


class FleetCommand:
    """A command under way; its stderr is in a file, so that a test can wait for a line of it."""

    def __init__(self, fleet: FleetLab, *words: str) -> None:
        self._told = fleet.folder / f"told-{len(list(fleet.folder.glob('told-*')))}"
        with self._told.open("wb") as told:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "upswitch", *words, "-c", f"{fleet.site_file}", "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
                start_new_session=True,
                env=fleet.env,
            )

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.told() or self.process.poll() is not None, deadline=DEADLINE, what=f"{text!r}")
        assert text in self.told(), self.told()

    def told(self) -> str:
        return self._told.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> Answer:
        out, _ = self.process.communicate(timeout=2 * DEADLINE)
        return Answer(self.process.returncode, out, self.told())

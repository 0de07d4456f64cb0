"""A fleet on loopback: hosts that each have an sshd and an nginx of their own, in front of the same two pools."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from command import Answer, Command
from sshd import Key, Sshd
from upswitch_lab.conf import Layout, site_toml
from upswitch_lab.lab import Lab

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

    def command(self, *words: str) -> Command:
        return Command(self, *words, env=self.env)

    def run(self, *words: str) -> Answer:
        return self.command(*words).end()

    @property
    def served(self) -> dict[str, str]:
        """Which pool each host's nginx really answers from."""
        return {name: lab.get()[1][:1] for name, lab in self.labs.items()}

    @property
    def markers(self) -> dict[str, str]:
        return {name: lab.marker().rpartition("-")[2] for name, lab in self.labs.items()}

"""The incidents of one host, made for real: what each does to the laboratory before its page is read.

A switch that is refused changes nothing, and test_switch.py proves that it is: such a one is not run here again.
"""

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from command import Command, on_disk, running, upswitch
from incidentpages import Incident
from upswitch_lab.lab import Lab, Server

SITE = {"watch": {"duration": "1s"}, "gate": {"interval": "50ms", "deadline": "500ms"}}
LONG = 'duration = "1s"', 'duration = "60s"'


class OnHost(Incident):
    """POOL is the pool that was to serve, FORMER the live one."""

    def __init__(self, lab: Lab) -> None:
        paths = {
            "/etc/nginx/nginx.conf": f"{lab.folder}/nginx.conf",
            "/etc/nginx/upswitch": lab.place.dir,
            "/var/lib/upswitch": f"{lab.folder}/state",
            "/var/log/nginx": str(lab.folder),
            "http://127.0.0.1/": lab.url,
        }
        super().__init__(lab.folder, paths)
        self.lab = lab
        self.former = on_disk(lab)[-1]
        self.pool = "B" if self.former == "A" else "A"
        self.words = {"POOL": self.pool, "FORMER": self.former}
        self.after.callback(self.start)
        self._dead: list[Server] = []

    def kill(self, *pools: str) -> None:
        """Every server of these pools, until `start`."""
        self._kill(server for pool in pools for server in self.lab.pool(pool))

    def kill_one(self) -> None:
        """One server of POOL: the gate, which stays armed, takes the release back for it."""
        self._kill((self.lab.backend(self.pool, 2),))

    def _kill(self, servers: Iterable[Server]) -> None:
        for server in servers:
            server.kill()
            self._dead.append(server)

    def start(self) -> None:
        while self._dead:
            self._dead.pop().restart()

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    @contextmanager
    def under_watch(self, *options: str) -> Iterator[Command]:
        """A switch to POOL in its watch, which lasts until the end of the context makes it end."""
        self.edit(self.lab.site_file, *LONG)
        command = Command(self.lab, "switch", "--to", self.pool, *options)
        self.after.callback(_kill, command)
        command.wait_for("confirm ")
        self.edit(self.lab.site_file, *LONG[::-1])
        yield command


def _kill(command: Command) -> None:
    """Of a test that failed: nothing stays behind."""
    with command.process as process:
        process.kill()


def bug(at: OnHost) -> None:
    """A host whose append raises what no adapter may raise: swapped and reloaded, not yet proved."""
    script = at.lab.folder / "buggy.py"
    script.write_text(
        "import sys\n"
        "from upswitch.hosts.local.host import LocalHost\n"
        "from upswitch.cli.main import main\n"
        "from upswitch.cli.open import Wiring\n"
        "class Buggy(LocalHost):\n"
        "    def append(self, path, data, **how):\n"
        '        if b\'"step":"confirm"\' in data and b"intent" in data:\n'
        '            raise ZeroDivisionError("a bug")\n'
        "        super().append(path, data, **how)\n"
        "main(sys.argv[1:], Wiring(host=Buggy))\n"
    )
    words = [sys.executable, str(script), "switch", "--to", at.pool, "-c", str(at.lab.site_file)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1, ran
    at.words["FILE"] = re.search(r"traceback in ([^)]+)", ran.stdout)[1]


def wrong_site_file(at: OnHost) -> None:
    at.edit(at.lab.site_file, "rise = 1", "rise = 0")
    at.acts = [lambda: at.edit(at.lab.site_file, "rise = 0", "rise = 1")]


def server_down(at: OnHost) -> None:
    at.kill_one()
    at.words["ADDRESS"] = at.lab.backend(at.pool, 2).address
    at.acts = [at.start]


def live_pool_dead(at: OnHost) -> None:
    at.kill(at.former)


def broken_conf(at: OnHost) -> None:
    conf = at.lab.folder / "nginx.conf"
    at.edit(conf, "http {", "http { nonsense on;")
    at.acts = [lambda: at.edit(conf, "http { nonsense on;", "http {")]


def edited_by_hand(at: OnHost) -> None:
    path = at.lab.folder / "upswitch" / "live" / "app.conf"
    path.write_text(path.read_text() + "# tuned by hand\n")


def disk_differs(at: OnHost) -> None:
    """Somebody moved the link by hand; nginx has not read it yet."""
    assert upswitch(at.lab, "switch", "--to", at.pool, "--no-watch").exit == 0
    serving = running(at.lab)
    live = at.lab.folder / "upswitch" / "live"
    other = next(path.name for path in sorted(live.parent.glob("generations/*")) if path.name[-1] == at.former)
    live.unlink()
    live.symlink_to(f"generations/{other}")
    at.words["N"] = str(int(serving.partition("-")[0]))


def killed_run(at: OnHost) -> None:
    with at.under_watch() as command:
        command.signal(signal.SIGKILL)
        assert command.process.wait(timeout=20) == -signal.SIGKILL


def nginx_down(at: OnHost) -> None:
    at.lab.stop_nginx()
    at.acts = [at.lab.start_nginx]


def journal_damaged(at: OnHost) -> None:
    journal = at.lab.folder / "state" / "journal.jsonl"
    with journal.open("a") as file:
        file.write("rubbish\n")


def taken_back(at: OnHost) -> None:
    """A release of POOL that serves well, then one that was rolled back: the release before it is the one to choose."""
    assert upswitch(at.lab, "switch", "--to", at.pool, "--no-watch").exit == 0
    at.words["N"] = str(int(on_disk(at.lab).partition("-")[0]))
    assert upswitch(at.lab, "rollback").exit == 0
    failed_release(at)
    at.start()
    assert upswitch(at.lab, "rollback").json["why"] == "taken_back"


def failed_release(at: OnHost) -> None:
    with at.under_watch() as command:
        at.kill_one()
        assert command.end().exit == 4


def link_moved(at: OnHost) -> None:
    live = at.lab.folder / "upswitch" / "live"
    with at.under_watch() as command:
        at.words["NAME"] = on_disk(at.lab)
        live.unlink()
        live.symlink_to("generations/000099-X")
        at.kill_one()
        assert command.end().exit == 5


def disk_read_only(at: OnHost) -> None:
    folder = at.lab.folder / "upswitch"
    mounted = subprocess.run(("mount", "--bind", folder, folder), capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode()}")
    at.after.callback(subprocess.run, ("umount", folder), check=True)
    with at.under_watch() as command:
        subprocess.run(("mount", "-o", "remount,bind,ro", folder), check=True)
        at.kill_one()
        assert command.end().exit == 5
    at.acts = [lambda: subprocess.run(("mount", "-o", "remount,bind,rw", folder), check=True)]


def master_gone(at: OnHost) -> None:
    with at.under_watch() as command:
        at.lab.stop_nginx()
        at.kill_one()
        assert command.end().exit == 5
    at.acts = [at.lab.start_nginx]


def outage(at: OnHost) -> None:
    conf, folder = at.lab.folder / "nginx.conf", at.lab.folder / "work"
    conf.write_text(f"working_directory {folder};\n{conf.read_text()}")
    assert upswitch(at.lab, "switch", "--to", at.pool).exit == 5
    at.acts = [folder.mkdir]


def rejected_way_back(at: OnHost) -> None:
    """The same port trouble, come up during the watch: nginx stays on the failing release."""
    conf, address = at.lab.folder / "nginx.conf", at.lab.backend(at.former, 1).address
    taken = f"server {{ listen {address}; }} server {{"
    with at.under_watch() as command:
        at.edit(conf, "    server {", f"    {taken}")
        at.kill_one()
        assert command.end().exit == 5
    at.acts = [lambda: at.edit(conf, taken, "server {")]


def no_reload(at: OnHost) -> None:
    """The reload command is refused: here it is another program, in life it is mostly sudo or polkit that says no."""
    site = at.lab.site_file
    reload = _reload_line(at)
    at.edit(site, reload, 'reload = ["false"]')
    assert upswitch(at.lab, "switch", "--to", at.pool).exit == 3
    at.acts = [lambda: at.edit(site, 'reload = ["false"]', reload)]


def no_reload_back(at: OnHost) -> None:
    """The same, but the right goes missing during the watch: nginx stays on the failing release."""
    reload, script, lost = _reload_line(at), at.lab.folder / "reload", at.lab.folder / "right-lost"
    script.write_text(f"#!/bin/sh\n[ ! -e {lost} ] && {shlex.join((*at.lab.place.argv, '-s', 'reload'))}\n")
    script.chmod(0o755)
    at.edit(at.lab.site_file, reload, f'reload = ["{script}"]')
    at.after.callback(at.edit, at.lab.site_file, f'reload = ["{script}"]', reload)
    with at.under_watch() as command:
        lost.touch()
        at.kill_one()
        assert command.end().exit == 5
    at.acts = [lost.unlink]


def _reload_line(at: OnHost) -> str:
    return next(line for line in at.lab.site_file.read_text().splitlines() if line.startswith("reload = "))


def locked(at: OnHost) -> None:
    with at.under_watch("--reason", "release 7") as command:
        pass
    at.words["PID"] = str(command.process.pid)
    at.acts = [command.end]


def held_as_asked(at: OnHost) -> None:
    with at.under_watch("--on-spike", "hold") as command:
        at.kill_one()
        assert command.end().exit == 7


def held_both_dead(at: OnHost) -> None:
    with at.under_watch() as command:
        at.kill("A", "B")
        assert command.end().exit == 7
    at.acts = [at.start]


def interrupted(at: OnHost) -> None:
    at.kill_one()
    at.edit(at.lab.site_file, 'deadline = "500ms"', 'deadline = "60s"')
    command = Command(at.lab, "switch", "--to", at.pool)
    at.after.callback(_kill, command)
    command.wait_for("gate ")
    command.signal(signal.SIGINT)
    assert command.end().exit == 130
    at.start()
    at.edit(at.lab.site_file, 'deadline = "60s"', 'deadline = "500ms"')


def way_back_removed(at: OnHost) -> None:
    """Somebody tidied up while the watch ran: all generations but the live one are gone."""
    with at.under_watch() as command:
        for folder in (at.lab.folder / "upswitch" / "generations").iterdir():
            if folder.name != on_disk(at.lab):
                shutil.rmtree(folder)
        at.kill_one()
        assert command.end().exit == 5


STATES: dict[str, Callable[[OnHost], None]] = {
    "bug": bug,
    "usage": wrong_site_file,
    "refused#gate": server_down,
    "refused#no-way-back": live_pool_dead,
    "refused#broken-configuration": broken_conf,
    "refused#edited": edited_by_hand,
    "refused#disagree": disk_differs,
    "refused#unfinished": killed_run,
    "refused#nginx-down": nginx_down,
    "refused#reload-refused": no_reload,
    "refused#journal": journal_damaged,
    "refused#taken-back": taken_back,
    "rolled-back#the-release": failed_release,
    "stuck#link-moved": link_moved,
    "stuck#disk": disk_read_only,
    "stuck#generation-gone": way_back_removed,
    "stuck#no-master": master_gone,
    "stuck#reload-refused": no_reload_back,
    "stuck#outage": outage,
    "stuck#rejected": rejected_way_back,
    "locked": locked,
    "held#asked-to-hold": held_as_asked,
    "held#former-pool-dead": held_both_dead,
    "interrupted": interrupted,
}

"""A reload that never reaches nginx: production was never touched, and the run says so instead of STUCK."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from command import Answer, on_disk, running, served_by, upswitch
from forked import run_upswitch
from upswitch.cli.open import Wiring
from upswitch.hosts.local.host import LocalHost
from upswitch_lab.lab import Lab
from upswitch_lab.process import until


def before(lab: Lab, step: str, deed) -> Answer:
    """A switch to B; `deed` happens once, just before `step` would begin."""
    left = [deed]

    class Meddled(LocalHost):
        def append(self, path, data, **how):
            if f'"step":"{step}"'.encode() in data and b"intent" in data and left:
                left.pop()()
            super().append(path, data, **how)

    words = ["switch", "--to", "B", "--no-watch", "-c", str(lab.site_file), "--json"]
    ran = run_upswitch(words, wiring=Wiring(host=Meddled))
    return Answer(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def reload_by(lab: Lab, command: str) -> None:
    """The site file's reload command is a script from now on."""
    script = lab.folder / "reload"
    script.write_text(f"#!/bin/sh\n{command}\n")
    script.chmod(0o755)
    text = lab.site_file.read_text()
    old = next(line for line in text.splitlines() if line.startswith("reload = "))
    lab.site_file.write_text(text.replace(old, f'reload = ["{script}"]'))


class Meddler:
    """What somebody else does to nginx, and how it is put right again."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.pid_file = lab.folder / "nginx.pid"
        self.conf = Path(lab.place.conf)
        self.text = self.conf.read_text()

    def breaks_the_configuration(self) -> None:
        self.conf.write_text(self.text.replace("http {", "http { nonsense on;"))

    def mends_the_configuration(self) -> None:
        self.conf.write_text(self.text)

    def stops_the_master(self) -> None:
        os.kill(self.lab.nginx_pid, signal.SIGSTOP)

    def continues_the_master(self) -> None:
        os.kill(self.lab.nginx_pid, signal.SIGCONT)

    def kills_the_master(self) -> None:
        os.kill(self.lab.nginx_pid, signal.SIGKILL)

    def starts_nginx(self) -> None:
        self.lab.start_nginx()

    def reuses_the_pid(self) -> None:
        self.pid_file.write_text(f"{os.getpid()}\n")

    def writes_the_pid(self) -> None:
        self.pid_file.write_text(f"{self.lab.nginx_pid}\n")

    @contextmanager
    def as_a_daemon(self) -> Iterator[None]:
        """An nginx whose parent is still there ignores the signal for an upgrade."""
        self.lab.stop_nginx()
        self.conf.write_text(self.text.replace("daemon off;", "daemon on;"))
        subprocess.run(self.lab.place.argv, check=True, capture_output=True)
        until(self.pid_file.exists, what="nginx")
        try:
            yield
        finally:
            os.kill(int(self.pid_file.read_text()), signal.SIGQUIT)
            until(lambda: not self.pid_file.exists(), what="nginx's end")

    def upgrades_the_binary(self) -> None:
        os.kill(int(self.pid_file.read_text()), signal.SIGUSR2)
        until(lambda: self.pid_file.with_name("nginx.pid.oldbin").exists() and self.pid_file.exists(), what="the new master")

    def undoes_the_upgrade(self) -> None:
        os.kill(int(self.pid_file.read_text()), signal.SIGQUIT)
        until(lambda: not self.pid_file.with_name("nginx.pid.oldbin").exists(), what="the end of the new master")


@pytest.mark.parametrize(
    ("deed", "cure", "why"),
    [
        ("breaks_the_configuration", "mends_the_configuration", "reload_refused"),
        ("stops_the_master", "continues_the_master", "no_master"),
        ("kills_the_master", "starts_nginx", "no_master"),
        ("reuses_the_pid", "writes_the_pid", "no_master"),
    ],
)
def test_where_the_reload_never_reached_nginx_the_link_goes_back_and_the_run_is_refused(lab, deed, cure, why):
    meddler = Meddler(lab)
    answer = before(lab, "reload", getattr(meddler, deed))
    assert (answer.exit, answer.json["outcome"], answer.json["why"]) == (3, "REFUSED", why), answer
    assert running(lab) == on_disk(lab) == "000001-A"
    assert {server[0] for server in served_by(lab)} == {"A"}
    getattr(meddler, cure)()
    again = upswitch(lab, "switch", "--to", "B", "--no-watch")
    assert (again.exit, running(lab)) == (0, on_disk(lab)), again


def test_a_binary_upgrade_is_refused_before_the_swap(lab):
    meddler = Meddler(lab)
    with meddler.as_a_daemon():
        answer = before(lab, "recheck", meddler.upgrades_the_binary)
        assert (answer.exit, answer.json["why"]) == (3, "no_master"), answer
        assert "binary upgrade" in answer.json["said"]
        assert running(lab) == on_disk(lab) == "000001-A"
        meddler.undoes_the_upgrade()


def test_a_binary_upgrade_after_the_swap_needs_a_person_because_the_new_master_may_serve_the_new_pool(lab):
    meddler = Meddler(lab)
    with meddler.as_a_daemon():
        answer = before(lab, "reload", meddler.upgrades_the_binary)
        assert (answer.exit, answer.json["outcome"]) == (5, "STUCK"), answer
        assert "binary upgrade" in answer.json["said"]
        meddler.undoes_the_upgrade()
        repaired = upswitch(lab, "repair")
        assert repaired.exit == 0, repaired
        assert running(lab) == on_disk(lab)
        assert {server[0] for server in served_by(lab)} == {"A"}


def test_a_master_that_stops_after_it_has_got_the_signal_loads_what_it_serves_when_it_goes_on(lab):
    reload_by(lab, f"kill -STOP {lab.nginx_pid}; kill -HUP {lab.nginx_pid}")
    old = lab.workers
    answer = upswitch(lab, "switch", "--to", "B", "--no-watch")
    os.kill(lab.nginx_pid, signal.SIGCONT)
    assert (answer.exit, answer.json["outcome"]) == (3, "REFUSED"), answer
    until(lambda: not old & lab.workers, what="the reload that waited")
    assert running(lab) == on_disk(lab) == "000001-A"


def test_a_reload_command_that_fails_after_it_has_sent_the_signal_is_proved_by_nginx(lab):
    reload_by(lab, f"{' '.join((*lab.place.argv, '-s', 'reload'))}; exit 1")
    answer = upswitch(lab, "switch", "--to", "B", "--no-watch")
    assert answer.exit in {3, 4}, answer
    assert answer.json["production"]["proved"], answer
    assert {server[0] for server in served_by(lab)} == {"A"}

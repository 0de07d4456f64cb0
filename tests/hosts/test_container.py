"""nginx in a real container, its two pools in two others."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import Command
from containers import Engine, engine, needs_podman
from forked import run_upswitch
from sshd import Sshd, needs_sshd
from upswitch_lab.lab import Load
from upswitch_lab.process import ask, free_port, is_listening, until

pytestmark = needs_podman

POOLS = ("blue", "green")
HEAD = "user nobody nogroup; pid /tmp/nginx-{name}.pid; error_log {errors}; events {{}}"
SERVER = HEAD + " http {{ access_log off; server {{ listen {address}; location / {{ return {answer}; }} }} }}"
FRONT = HEAD + " http {{ include /etc/nginx/conf.d/*.conf; access_log {log} main; server {{ listen {address}; {locations} }} }}"
LOCATIONS = "location / {{ proxy_pass http://app_blue; }}"


class Contained:
    """A host of containers. A context manager."""

    def __init__(self, podman: Engine, *, log: str = "/etc/nginx/access.log", errors: str = "/etc/nginx/error.log") -> None:
        self.podman = podman
        self.folder = podman.folder
        self.site_file = self.folder / "app.toml"
        self.servers = {name: f"127.0.0.1:{free_port('127.0.0.1')}" for name in POOLS}
        self.address = f"127.0.0.1:{free_port('127.0.0.1')}"
        for name, address in self.servers.items():
            self.write(name, SERVER.format(name=name, address=address, answer=f'200 "{name}\\n"', errors="/dev/stderr"))
            podman.run(name, self.folder / name)
        conf = self.write(
            "front", FRONT.format(name="front", address=self.address, log=log, errors=errors, locations=LOCATIONS.format())
        )
        (conf.parent / "conf.d").mkdir()
        blocks = "".join(f"upstream app_{name} {{ server {address}; }}\n" for name, address in self.servers.items())
        (conf.parent / "conf.d/app.conf").write_text(f"log_format main '$remote_addr $msec $status $upstream_addr';\n{blocks}")
        self.begin()

    def begin(self) -> None:
        self.podman.run("front", self.folder / "front")
        until(lambda: all(map(is_listening, (self.address, *self.servers.values()))), what="every nginx")

    def write(self, name: str, text: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        (folder / "nginx.conf").write_text(text)
        return folder / "nginx.conf"

    def init(self, *words: str):
        options = ("--container", "front", "--binary", "/usr/sbin/nginx", "-c", str(self.site_file))
        return run_upswitch(("init", *options, *words), env=self.podman.env, cwd=self.folder)

    def adopt(self) -> None:
        marker = f"127.0.85.1:{free_port('127.0.85.1')}"
        ran = self.init(
            "--upstream", "app_blue", "--pool", "blue", "--other", "app_green", "--marker", marker, "--drain-lines", "--apply"
        )
        assert ran.returncode == 0, ran
        text = self.site_file.read_text().replace('# duration = "60s"', 'duration = "4s"')
        self.site_file.write_text(text.replace("# probe = ", f'probe = "http://{self.address}/"\n# probe = '))

    def start(self, *words: str) -> Command:
        return Command(self, *words, env=self.podman.env)

    def run(self, *words: str):
        return self.start(*words).end()

    @property
    def answer(self) -> str:
        return ask(self.address, "/")[1].strip()


def answers(address: str) -> bool:
    try:
        return bool(ask(address, "/"))
    except OSError:
        return False


@pytest.fixture
def podman() -> Iterator[Engine]:
    with engine() as podman:
        yield podman


def test_it_is_found_and_adopted_by_its_name_switched_under_load_and_a_bad_release_is_taken_back(podman):
    """With its logs on stdout and stderr, as official images have them: only the engine keeps their lines."""
    host = Contained(podman, log="/dev/stdout", errors="/dev/stderr")
    listed = host.init()
    assert listed.returncode == 0, listed
    assert b"app_blue" in listed.stdout
    host.adopt()
    load = Load(f"http://{host.address}/", host.folder / "load", ("--connections", "8", "--rate", "100"))
    load.await_flowing()
    there = host.run("switch", "--to", "green")
    assert (there.exit, host.answer) == (0, "green"), there
    back = host.run("rollback")
    assert (back.exit, host.answer) == (0, "blue"), back
    load.finish()
    assert (load.summary.failed, load.summary.lost) == (0, 0), load.summary
    assert load.summary.bodies.keys() == {"blue", "green"}

    host.write("green", SERVER.format(name="green", address=host.servers["green"], answer="444", errors="/dev/stderr"))
    podman("kill", "-s", "HUP", "green")
    until(lambda: not answers(host.servers["green"]), what="the bad release")
    load = Load(f"http://{host.address}/", host.folder / "load", ("--connections", "8", "--rate", "100"))
    load.await_flowing()
    bad = host.run("switch", "--to", "green")
    load.finish()
    assert (bad.exit, bad.json["why"], host.answer) == (4, "spike", "blue"), bad
    assert "upstream_premature_close" in bad.out
    assert 0 < load.summary.failed < load.summary.requests / 2
    status = host.run("status")
    assert (status.exit, status.json["production"]["pool"]) == (0, "blue"), status


@pytest.mark.parametrize("is_new", [False, True])
def test_one_that_is_restarted_or_made_anew_in_the_watch_ends_with_the_truth(podman, is_new):
    host = Contained(podman)
    host.adopt()
    switch = host.start("switch", "--to", "green")
    switch.wait_for("t+1s")
    assert "requests to green failed" in switch.told()  # by the log that is a file in the container
    if is_new:
        podman("rm", "-f", "-t", "0", "front")
        host.begin()
    else:
        podman("restart", "-t", "0", "front")
    ended = switch.end()
    assert ended.exit in {0, 4, 7}, ended
    assert host.answer == ended.json["production"]["pool"]
    assert ended.json["production"]["proved"], ended
    assert "can't be followed" not in ended.out


def test_one_that_stops_in_the_watch_is_stuck_and_repair_finishes_when_it_runs_again(podman):
    host = Contained(podman)
    host.adopt()
    switch = host.start("switch", "--to", "green")
    switch.wait_for("t+1s")
    podman("stop", "-t", "0", "front")
    ended = switch.end()
    assert (ended.exit, ended.json["production"]["proved"]) == (5, False), ended
    assert "`podman start front` starts it" in ended.out
    away = host.run("status")
    assert (away.exit, "`podman start front` starts it" in away.out) == (3, True), away
    assert "fix the site file" not in away.out
    podman("start", "front")
    until(lambda: is_listening(host.address), what="nginx")
    repaired = host.run("repair")
    assert (repaired.exit, host.answer) == (0, repaired.json["production"]["pool"]), repaired


@needs_sshd
def test_one_on_a_machine_behind_ssh_is_switched_and_taken_back(podman):
    host = Contained(podman)
    host.adopt()
    with Sshd(host.folder / "sshd", f"SetEnv PATH={podman.env['PATH']}") as sshd:
        ssh = host.folder / "home/.ssh"
        ssh.mkdir(parents=True, mode=0o700)
        (ssh / "config").write_text(sshd.stanza("lb1"))
        with host.site_file.open("a") as site:
            site.write('\n[hosts.lb1]\nssh = "lb1"\n')
        podman.env |= {"HOME": f"{host.folder}/home", "SSH_AUTH_SOCK": "", "PATH": os.environ["PATH"]}
        there = host.run("switch", "--to", "green")
        assert (there.exit, host.answer) == (0, "green"), there
        back = host.run("rollback")
        assert (back.exit, host.answer) == (0, "blue"), back
        sshd.end()
        sshd.start()
        podman("stop", "-t", "0", "front")
        away = host.run("status")
        assert away.exit != 0, away
        assert "`podman start front` starts it" in away.out


def test_what_can_not_be_used_is_one_error_that_names_the_key_and_changes_nothing(podman):
    host = Contained(podman)
    host.adopt()
    good = host.site_file.read_text()
    kept = {path: path.read_bytes() for path in (host.folder / "front").rglob("*") if path.is_file() and path.suffix == ".conf"}

    def refused(old: str, new: str) -> str:
        host.site_file.write_text(good.replace(old, new))
        ended = host.run("switch", "--to", "green")
        assert ended.exit == 2, ended
        return ended.out

    ident = podman("inspect", "--format", "{{.Id}}", "front").strip()
    assert "is the id of the container front: write its name" in refused('container = "front"', f'container = "{ident}"')
    assert "nginx.state" in refused('state = "/etc/nginx/', 'state = "/var/lib/')
    with engine(named="docker") as docker:
        podman.bin.joinpath("docker").symlink_to(docker.bin / "docker")
        docker("create", "--name", "front", "lab", "true")
        assert "docker and podman each have" in refused("[nginx]", "[nginx]")
        podman.bin.joinpath("docker").unlink()
    podman.bin.joinpath("docker").symlink_to(podman.bin / "podman")  # as the package podman-docker has it: one container, two names
    host.site_file.write_text(good)
    assert host.run("plan", "--to", "green").exit == 0
    assert kept == {path: path.read_bytes() for path in kept}

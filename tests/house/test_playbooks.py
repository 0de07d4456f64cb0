"""The playbooks on a fleet that is really this machine: an nginx, an sshd and paths of its own for each host."""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from frontend import frontend
from sshd import ADDRESS, Key, Sshd, needs_root, needs_sshd, ordinary_user, program, with_libraries
from upswitch import __version__
from upswitch.nginx import conf_logs
from upswitch.site.model import Nginx
from upswitch_lab.find import ENV, find_nginx
from upswitch_lab.lab import Server
from upswitch_lab.process import ask, free_port

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = ROOT / "playbooks"
ROLE = PLAYBOOKS / "roles" / "upswitch"
NAMES = ("bootstrap", "switch", "rollback", "status")
TOOLS = Path(sys.executable).parent
SERVERS = ("A1", "B1")
HTTP = (
    "access_log FOLDER/access.log; include FOLDER/upstreamA.conf; include FOLDER/conf.d/*.conf; "
    "server { listen 127.0.0.1:PORT; location / { proxy_pass http://app; } }"
)

KEYED = '{{"upswitch_call": [], "ansible_ssh_args": "-o ControlPath=none", "ansible_ssh_private_key_file": "{}"}}'

pytestmark = [
    pytest.mark.skipif(not (TOOLS / "ansible-playbook").exists(), reason="no ansible here: run scripts/setup test"),
]
needs_fleet = pytest.mark.skipif(
    not find_nginx() or not shutil.which("sudo"), reason=f"no nginx or no sudo here: run scripts/setup test, or set {ENV}"
)


class Balancer:
    """One host of the fleet: what its inventory says of it, and what it does."""

    def __init__(self, folder: Path, nginx: tuple[str, int], servers: dict[str, Server], keys: tuple[Path, Path]) -> None:
        self.folder = folder
        self.marker = f"127.0.84.1:{free_port('127.0.84.1')}"
        self.binary, self.port = nginx
        self._servers = servers
        self.keys = keys[1]
        self.sshd = Sshd(folder / "sshd", f"AuthorizedKeysFile {keys[0]} {keys[1]}", key=Key(folder.parent / "unused"))

    @property
    def command(self) -> str:
        return f"{self.folder}/upswitch-restricted"

    @property
    def sudoers(self) -> Path:
        return Path(f"/etc/sudoers.d/upswitch-{self.folder.parent.name}-{self.folder.name}")

    @property
    def generation(self) -> str:
        return ask(self.marker, "/")[1].split(" ")[0]

    @property
    def answer(self) -> str:
        return ask(f"127.0.0.1:{self.port}", "/")[1].strip()

    def site(self) -> dict[str, object]:
        where = (self.binary, "-p", f"{self.folder}", "-c", f"{self.folder}/nginx.conf", "-e", f"{self.folder}/error.log")
        check = {"type": "http", "interval": 1000, "rise": 1, "fall": 2, "http_send": "GET /healthz HTTP/1.0\r\n\r\n"}
        return {
            "nginx": {
                "binary": self.binary,
                "conf": f"{self.folder}/nginx.conf",
                "prefix": f"{self.folder}",
                "dir": f"{self.folder}/upswitch",
                "state": f"{self.folder}/state",
                "reload": [*where, "-s", "reload"],
                "marker": self.marker,
                "drain_flag": f"{self.folder}/run/drain",
                "access_log": f"{self.folder}/upswitch.log",
            },
            "upstreams": {"app": {**{name[0]: [each.address] for name, each in self._servers.items()}, "check": check}},
            "gate": {"interval": "100ms", "timeout": "1s", "deadline": "2s"},
            "watch": {"duration": "1s", "probe": f"http://127.0.0.1:{self.port}/healthz"},
        }

    def variables(self, user: str, public: str) -> dict[str, object]:
        return {
            "ansible_host": ADDRESS,
            "ansible_port": self.sshd.port,
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.sshd.known_hosts} -o IdentitiesOnly=yes",
            "ansible_python_interpreter": sys.executable,
            "upswitch_install": False,
            "upswitch_python": sys.executable,
            "upswitch_site": self.site(),
            "upswitch_from": f"{self.folder}/upstreamA.conf",
            "upswitch_etc": f"{self.folder}/etc",
            "upswitch_command": self.command,
            "upswitch_user": user,
            "upswitch_sudoers": f"{self.sudoers}",
            "upswitch_key": f"{public} pipeline",
            "upswitch_keys_file": f"{self.keys}",
            "upswitch_log_conf": f"{self.folder}/conf.d/upswitch-log.conf",
            "upswitch_log": f"{self.folder}/upswitch.log",
        }


class Fleet:
    """Two hosts in front of the same servers, a user who may do nothing yet, and the keys of either."""

    def __init__(self, folder: Path, user: str) -> None:
        self.folder = folder
        self.user = user
        self.key, self.pipeline = Key(folder / "key"), Key(folder / "pipeline_key")
        self.servers = {name: Server(name, free_port("127.0.0.1"), folder / f"{name}.out") for name in SERVERS}
        self.hosts: dict[str, Balancer] = {}
        ssh = folder / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {" ".join(with_libraries(program("ssh")))} "$@"\n')
        ssh.chmod(0o755)

    @property
    def answers(self) -> set[str]:
        """What clients of the hosts get."""
        return {each.answer for each in self.hosts.values()}

    def add(self, name: str, binary: str, closing: ExitStack) -> None:
        folder = self.folder / name
        (folder / "conf.d").mkdir(parents=True)
        (folder / "upstreamA.conf").write_text(f"upstream app {{ server {self.servers['A1'].address}; }}\n")
        keys = (folder / "keys", folder / "pipeline_keys")
        keys[0].write_text(f"{self.key.public}\n")
        closing.callback(Path(f"/etc/sudoers.d/upswitch-{self.folder.name}-{name}").unlink, missing_ok=True)
        nginx = closing.enter_context(frontend(binary, folder, HTTP))
        self.hosts[name] = Balancer(folder, (binary, nginx.port), self.servers, keys)
        closing.enter_context(self.hosts[name].sshd)

    def write_inventory(self) -> None:
        ssh = {"ansible_ssh_executable": f"{self.folder}/ssh", "ansible_ssh_private_key_file": f"{self.key.path}"}
        hosts = {name: each.variables(self.user, self.pipeline.public) for name, each in self.hosts.items()}
        inventory = {"upswitch": {"hosts": hosts, "vars": {**ssh, "ansible_remote_tmp": "/tmp/.upswitch-ansible"}}}
        (self.folder / "inventory.yml").write_text(json.dumps(inventory))

    def play(self, name: str, *words: str, user: str = "") -> "Played":
        """As the pipeline's user, who has no rights but those that bootstrap.yml gave."""
        login = ("-e", f"ansible_user={user or self.user}")
        argv = (f"{TOOLS}/ansible-playbook", "-i", f"{self.folder}/inventory.yml", *login, *words, f"{PLAYBOOKS}/{name}.yml")
        ran = subprocess.run(argv, capture_output=True, check=False, text=True, timeout=300, env=environment(self.folder), cwd="/")
        return Played(ran.returncode, ran.stdout + ran.stderr)

    def sudo(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """As the pipeline's user on this machine."""
        user = pwd.getpwnam(self.user)
        argv = ("sudo", "-n", *words)
        return subprocess.run(
            argv, capture_output=True, check=False, text=True, timeout=30, cwd=cwd, user=user.pw_uid, group=user.pw_gid
        )

    def ssh(self, host: str, *words: str) -> subprocess.CompletedProcess[str]:
        """With the pipeline's own key."""
        sshd = self.hosts[host].sshd
        options = ("-o", f"UserKnownHostsFile={sshd.known_hosts}", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes")
        argv = (f"{self.folder}/ssh", "-F", "none", *options, "-i", f"{self.pipeline.path}", "-p", f"{sshd.port}")
        where = f"{self.user}@{ADDRESS}"
        return subprocess.run((*argv, where, *words), capture_output=True, check=False, text=True, timeout=30)


class Played:
    """An ended playbook."""

    def __init__(self, code: int, out: str) -> None:
        self.exit, self.out = code, out

    def recap(self, count: str) -> list[int]:
        """changed, failed, ... of each host, in the order of their names."""
        return [int(found) for found in re.findall(rf"^lb\d +:.* {count}=(\d+)", self.out, re.MULTILINE)]

    def row(self, host: str) -> list[str]:
        """Its outcome, live pool, proof and exit code in the table."""
        cells = re.findall(rf"^ *- ['\"]?{host}  +(.*)$", self.out, re.MULTILINE)[-1]
        return re.split(r"  +", cells)[:4]

    def __repr__(self) -> str:
        return f"exit {self.exit}\n{self.out}"


def environment(folder: Path) -> dict[str, str]:
    ours = {
        "ANSIBLE_CONFIG": f"{PLAYBOOKS}/ansible.cfg",
        "ANSIBLE_HOME": f"{folder}/ansible",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{folder}/cp",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_TIMEOUT": "5",
        "LC_ALL": "C.UTF-8",
        "PATH": f"{TOOLS}:{os.environ['PATH']}:/usr/sbin",
    }
    return {**os.environ, **ours}


@contextmanager
def fleet() -> Iterator[Fleet]:
    """Each nginx of this machine in turn, on two hosts."""
    binaries = [path for _, path in find_nginx()]
    with ExitStack() as closing:
        folder = Path(tempfile.mkdtemp(prefix="upsw-"))
        closing.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        made = Fleet(folder, closing.enter_context(ordinary_user("")))
        for server in made.servers.values():
            closing.callback(server.end)
            server.await_listening()
        for name, binary in zip(("lb1", "lb2"), (binaries[0], binaries[-1]), strict=True):
            made.add(name, binary, closing)
        made.write_inventory()
        yield made


def test_the_playbooks_pass_ansible_lint(tmp_path):
    files = [f"{PLAYBOOKS}/{name}.yml" for name in NAMES]
    argv = (f"{TOOLS}/ansible-lint", "--offline", "--profile", "production", "-c", f"{PLAYBOOKS}/.ansible-lint", *files)
    ran = subprocess.run(argv, capture_output=True, check=False, text=True, env=environment(tmp_path), cwd=PLAYBOOKS)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_the_role_knows_of_the_program_is_so():
    known = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["upswitch_nginx_defaults"]
    nameless = {"dir": "{{ upswitch_suffix }}", "state": "{{ upswitch_suffix }}", "marker": known["marker"]}
    known = {name: value.replace(nameless.get(name, "\0"), "") for name, value in known.items()}
    assert {**known, "marker": Nginx().marker} == {name: getattr(Nginx(), name) for name in known}
    assert Nginx().marker in nameless["marker"]
    template = (ROLE / "templates" / "upswitch-log.conf.j2").read_text().replace("{{ upswitch_variables }}", "upswitch")
    assert conf_logs.log_format_line() in template.splitlines()


def test_the_role_is_a_collection_that_is_built_and_installed_without_a_network(tmp_path):
    entries = [path.name.removesuffix(".yml") for path in (ROLE / "tasks").glob("*.yml") if path.name != "main.yml"]
    tasks = [{"ansible.builtin.import_role": {"name": "upswitch.nginx.upswitch", "tasks_from": entry}} for entry in entries]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "HOME": str(tmp_path)}
    galaxy = f"{TOOLS}/ansible-galaxy"
    for argv in (
        (galaxy, "collection", "build", str(PLAYBOOKS), "--output-path", str(tmp_path)),
        (galaxy, "collection", "install", "--offline", "-p", str(tmp_path), f"{tmp_path}/upswitch-nginx-{__version__}.tar.gz"),
        (f"{TOOLS}/ansible-playbook", "--syntax-check", "-i", "localhost,", str(tmp_path / "play.yml")),
    ):
        ran = subprocess.run(argv, capture_output=True, check=False, text=True, cwd=tmp_path, env=env, timeout=60)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    installed = tmp_path / "ansible_collections" / "upswitch" / "nginx" / "roles" / "upswitch"
    assert {path.relative_to(installed) for path in installed.rglob("*")} >= {path.relative_to(ROLE) for path in ROLE.rglob("*")}


@needs_root
@needs_sshd
@needs_fleet
def test_a_fleet_is_put_under_upswitch_and_switched_by_a_user_who_may_do_nothing_else():
    with fleet() as hosts:
        first = hosts.play("bootstrap", user="root")
        assert (first.exit, first.recap("failed")) == (0, [0, 0]), first
        assert {each.generation for each in hosts.hosts.values()} == {"000001-A"}
        again = hosts.play("bootstrap", "--limit", "lb1", user="root")
        assert (again.exit, again.recap("changed")) == (0, [0]), again
        _refuses_everything_else(hosts)
        _goes_there(hosts)
        _goes_back_past_a_dead_host(hosts)
        _takes_all_back_when_one_fails(hosts)


def _refuses_everything_else(hosts: Fleet) -> None:
    """A user with a site file and a python module of his own in the folder he stands in (docs/reliability.md, S16)."""
    command, home = hosts.hosts["lb1"].command, hosts.folder / "home"
    home.mkdir()
    (home / "upswitch.toml").write_text(
        "[nginx]\nbinary = '/bin/false'\n[upstreams.app]\nA = ['127.0.0.1:1']\nB = ['127.0.0.1:2']\n"
    )
    (home / "upswitch.py").write_text("print('taken over')\n")
    for path in (home, *home.iterdir()):
        shutil.chown(path, hosts.user)
    for words in (("switch", "C"), ("switch", "A", "-c", "/tmp/evil.toml"), ("status", "-c", "upswitch.toml"), ("init",), ()):
        assert hosts.sudo(command, *words, cwd=home).returncode == 1, words
        assert hosts.ssh("lb1", *words).returncode == 1, words
    assert hosts.sudo(command, "switch A", cwd=home).returncode == 2  # two words, to sudo
    assert hosts.sudo(f"PYTHONPATH={home}", command, "status").returncode == 1
    assert hosts.sudo(sys.executable, "-m", "upswitch", "status").returncode == 1
    for allowed in (hosts.sudo(command, "status", cwd=home), hosts.ssh("lb1", "status")):
        assert json.loads(allowed.stdout)["production"]["running"] == "000001-A", allowed


def _goes_there(hosts: Fleet) -> None:
    seen = hosts.play("switch", "-e", "upswitch_to=B", "--check")
    assert (seen.exit, seen.recap("changed"), seen.row("lb2")) == (0, [0, 0], ["READY", "A", "yes", "0"]), seen
    there = hosts.play("switch", "-e", "upswitch_to=B")
    assert (there.exit, there.recap("changed")) == (0, [1, 1]), there
    assert hosts.answers == {"B1"}
    again = hosts.play("switch", "-e", "upswitch_to=B")
    assert (again.exit, again.recap("changed"), again.row("lb1")) == (0, [0, 0], ["UNCHANGED", "B", "yes", "0"]), again


def _goes_back_past_a_dead_host(hosts: Fleet) -> None:
    lb2 = hosts.hosts["lb2"].sshd
    lb2.end()
    back = hosts.play("rollback", "-e", "upswitch_to=A")
    assert (back.exit, back.recap("changed")) == (2, [1, 0]), back
    assert (back.row("lb1")[:2], back.row("lb2")[:2]) == (["BACK", "A"], ["UNREACHABLE", "?"]), back
    lb2.start()
    split = hosts.play("status")
    assert (split.exit, split.recap("changed")) == (2, [0, 0]), split
    assert "THE FLEET IS SPLIT: it serves A and B" in split.out
    later = hosts.play("rollback", "-e", "upswitch_to=A", "-e", KEYED.format(hosts.pipeline.path))
    assert (later.exit, later.recap("changed"), later.row("lb1")) == (0, [0, 1], ["BACK", "A", "yes", "0"]), later
    assert hosts.answers == {"A1"}


def _takes_all_back_when_one_fails(hosts: Fleet) -> None:
    hosts.servers["B1"].kill()
    dead = hosts.play("switch", "-e", "upswitch_to=B")
    assert dead.exit == 2, dead
    assert (dead.row("lb1")[:2], dead.row("lb2")[:2]) == (["REFUSED", "A"], ["REFUSED", "A"]), dead
    hosts.servers["B1"].restart()
    deadman = hosts.hosts["lb2"].folder / "state" / "deadman"
    aside = deadman.rename(deadman.with_name("aside"))
    deadman.touch()  # a plan does not see that the dead-man can't be armed
    failed = hosts.play("switch", "-e", "upswitch_to=B")
    deadman.unlink()
    aside.rename(deadman)
    assert failed.exit == 2, failed
    assert (failed.row("lb1"), failed.row("lb2")) == (["TAKEN BACK", "A", "yes", "0"], ["REFUSED", "A", "yes", "3"]), failed
    assert hosts.answers == {"A1"}

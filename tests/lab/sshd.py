"""A real sshd on a free loopback port, with keys and configuration of its own. The login user is ours, or one that a test makes.

OpenSSH is Debian's, in .lab (scripts/setup test), else this machine's.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from servers import NOT_IN_LAB
from upswitch.basics.errors import Owner
from upswitch.hosts.ssh.host import SshHost
from upswitch.hosts.ssh.keys import Keyring
from upswitch.hosts.ssh.login import load, login
from upswitch_lab.process import Process, free_port, until

_LAB = Path(__file__).parents[2] / ".lab/debian"
ADDRESS = "127.0.0.1"


def program(name: str) -> str:
    """sshd, ssh, ssh-keygen, ssh-agent or ssh-add; "" where there is none."""
    found = [path for path in (_LAB / f"usr/sbin/{name}", _LAB / f"usr/bin/{name}") if path.exists()]
    return f"{found[0]}" if found else shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""


def with_libraries(*argv: str) -> tuple[str, ...]:
    """Debian's libraries that this machine lacks lie in .lab too."""
    folders = ":".join(map(str, _LAB.glob("**/lib/*-linux-gnu*")))
    return ("env", f"LD_LIBRARY_PATH={folders}", *argv)


needs_sshd = pytest.mark.skipif(not program("sshd"), reason=f"OpenSSH {NOT_IN_LAB}")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="users and sudo rights are made by root only")


class Key:
    """An ed25519 key pair in OpenSSH's files: `path` and `path`.pub. Made in a millisecond."""

    def __init__(self, path: Path, *, passphrase: str = "") -> None:
        self.path = path
        key = Ed25519PrivateKey.generate()
        how = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, how)
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(private)
        self.public = public.decode()
        """Type and key, as known_hosts and authorized_keys want it."""
        path.with_name(f"{path.name}.pub").write_text(f"{self.public} a test\n")


class Sshd:
    """A context manager. `lines` are added to its sshd_config before our own: the first of a keyword counts.

    key: the client's, made here unless another server's is given, so that one key opens many.
    user: the login that `stanza` and `host` name; ours by default.
    """

    def __init__(self, folder: Path, *lines: str, key: Key | None = None, user: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port(ADDRESS)
        self.user = user or getpass.getuser()
        self.key = key or Key(folder / "client_key")
        self.host_key = Key(folder / "host_key")
        self.known_hosts = folder / "known_hosts"
        self.log_path = folder / "sshd.log"
        self._config = folder / "sshd_config"
        self._lines = lines
        self._process: Process | None = None

    @property
    def address(self) -> str:
        return f"{ADDRESS}:{self.port}"

    @property
    def host(self) -> str:
        """As a site file names it."""
        return f"{self.user}@{self.address}"

    @property
    def host_key_line(self) -> str:
        """Its line of known_hosts."""
        return f"[{ADDRESS}]:{self.port} {self.host_key.public}\n"

    @property
    def pid(self) -> int:
        """The listener's."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "backslashreplace")

    def stanza(self, alias: str, *lines: str) -> str:
        """A Host of ssh_config; `lines` come first, and the first of a keyword counts."""
        ours = (
            f"HostName {ADDRESS}",
            f"Port {self.port}",
            f"User {self.user}",
            f"IdentityFile {self.key.path}",
            "IdentitiesOnly yes",
            f"UserKnownHostsFile {self.known_hosts}",
        )
        return "".join((f"Host {alias}\n", *(f"  {line}\n" for line in (*lines, *ours))))

    def write_config(self, alias: str = "*", *lines: str) -> Path:
        """An ssh_config with one stanza: by default for whatever name, so that `host` works with it."""
        path = self.folder / "ssh_config"
        path.write_text(self.stanza(alias, *lines))
        return path

    def __enter__(self) -> Self:
        self.known_hosts.write_text(self.host_key_line)
        self._open = Path(tempfile.mkdtemp(prefix="upswitch-sshd-"))
        self._open.chmod(0o755)  # read with the rights of the user who logs in, who may not enter pytest's folders
        (self._open / "authorized_keys").write_text(f"{self.key.public}\n")
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()
        shutil.rmtree(self._open)

    def start(self) -> None:
        self._config.write_text(self._text())
        with self.log_path.open("ab") as out:
            began = out.tell()
            self._process = Process(with_libraries(program("sshd"), "-D", "-e", "-f", f"{self._config}"), out=out)

        def is_ready() -> bool:
            return b"Server listening" in self.log_path.read_bytes()[began:] or not self._process.is_alive

        until(is_ready, what="sshd")
        assert self._process.is_alive, self.log

    def end(self) -> None:
        """The listener, its sessions, and what those have started that is still below them."""
        if self._process is not None:
            self.cont()
            below = _below(self.pid)
            _signal(below, signal.SIGKILL)
            self._process.end()
            self._process = None

    def change_host_key(self) -> None:
        """Another machine seems to answer; known_hosts still has the old key. Sessions live on."""
        assert self._process is not None
        self._process.end()
        self.host_key = Key(self.folder / "host_key")
        self.start()

    @property
    def sessions(self) -> list[int]:
        """Its per-session sshd processes; the commands they run are not among them."""
        return [pid for pid in _below(self.pid) if _name(pid) == "sshd"]

    def stop(self) -> None:
        """Silence without an end: SIGSTOP to the listener and every session's sshd. Commands run on."""
        _signal([self.pid, *self.sessions], signal.SIGSTOP)

    def cont(self) -> None:
        _signal([self.pid, *self.sessions], signal.SIGCONT)

    def kill_sessions(self) -> None:
        """kill -9 to every session's sshd: the connections are cut, new ones are taken."""
        _signal(self.sessions, signal.SIGKILL)

    def _text(self) -> str:
        ours = (
            f"Port {self.port}",
            f"ListenAddress {ADDRESS}",
            f"HostKey {self.host_key.path}",
            f"AuthorizedKeysFile {self._open}/authorized_keys",
            f"PidFile {self.folder}/sshd.pid",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "PrintMotd no",
            "PrintLastLog no",
            f"SetEnv HOME={self.folder}",  # bash reads our own .bashrc even for a command: pyenv's takes a lock of a minute
            "LogLevel VERBOSE",
            "MaxStartups 200:100:200",
            "Subsystem sftp internal-sftp",
        )
        return "".join(f"{line}\n" for line in (*self._lines, *ours))


@contextmanager
def ordinary_user(rights: str = "ALL=(ALL:ALL) NOPASSWD: ALL", *, password: str = "") -> Iterator[str]:
    """A user of this machine for a while, with a line of its own in sudoers.d. Needs root and sudo. Its name.

    Its password is unusable (not locked: sshd without PAM would refuse it) unless one is given.
    """
    name = f"upsw{secrets.token_hex(3)}"
    rule = Path(f"/etc/sudoers.d/{name}")
    subprocess.run(("useradd", "--no-create-home", "--home-dir", "/", "--shell", "/bin/sh", "--password", "*", name), check=True)
    try:
        if password:
            subprocess.run(("chpasswd",), input=f"{name}:{password}\n".encode(), check=True)
        if rights:
            rule.write_text(f"{name} {rights}\n")
            rule.chmod(0o440)
        yield name
    finally:
        rule.unlink(missing_ok=True)
        subprocess.run(("userdel", "--force", name), check=True, capture_output=True)


def _below(pid: int) -> list[int]:
    """Every process below this one, parents first."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (words := _stat(int(entry))):
            children.setdefault(int(words[1]), []).append(int(entry))
    found = [*children.get(pid, ())]
    for each in found:
        found += children.get(each, ())
    return found


def _stat(pid: int) -> list[str]:
    """The words of /proc/PID/stat after the name; none where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def nobody(prompt):
    raise AssertionError(f"asked for: {prompt}")


def host_of(sshd, *, user="root", ask=nobody, tell=None):
    """A host behind this sshd. Commands run as `user`."""
    return SshHost("lb1", login(sshd.host, load(f"{sshd.write_config()}")), keyring=Keyring(ask), user=user, tell=tell)


def owner(user, reason="a release"):
    """Who holds a lock."""
    return Owner(user=user, host="here", pid=os.getpid(), since="2024-01-01T00:00:00Z", reason=reason)


ME, OTHER = owner("me"), owner("other", 'with "quotes", ü and\nlines')

"""Real containers: podman and runc, from .lab or this machine, with an image of a few of this machine's own programs and an nginx.

Each engine has a store of its own, so that a test sees nothing of the machine's containers, and they nothing of it.
"""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from servers import NOT_IN_LAB
from sshd import program
from upswitch_lab.find import find_nginx
from upswitch_lab.process import until

_LAB = Path(__file__).parents[2] / ".lab/debian"
_INSIDE = "/usr/sbin/nginx"
_PROGRAMS = (
    *("sh", "bash", "awk", "basename", "cat", "chmod", "chown", "cmp", "cp", "cut", "date", "dd", "dirname", "env", "expr"),
    *("fallocate", "find", "flock", "getconf", "grep", "head", "id", "ln", "ls", "mkdir", "mkfifo", "mktemp", "mv", "od"),
    *("cksum", "readlink", "rm", "rmdir", "sed", "setsid", "sha256sum", "sleep", "sort", "stat", "sync", "tail", "tar", "timeout"),
    *("touch", "tr", "true", "truncate", "uname", "unshare", "wc", "xargs"),
)
_FILES = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_FOLDERS = ("tmp", "run", "var/log/nginx", "var/lib/nginx", "etc/nginx", "proc", "sys", "dev")
# These limits are below any machine's own: an engine may not raise them where it is itself in a container.
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
_CONF = """
[engine]
conmon_path = ["{conmon}"]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[engine.runtimes]
runc = ["{runc}"]
[network]
network_backend = "cni"
"""

needs_podman = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(program, ("podman", "runc"))) or not find_nginx(),
    reason=f"podman, runc {NOT_IN_LAB}, or no root",
)


class Engine:
    """podman with a store of its own, as a program named `podman` or `docker` in `bin`."""

    def __init__(self, folder: Path, *, named: str = "podman") -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / "containers.conf").write_text(_CONF.format(conmon=program("conmon"), runc=program("runc")))
        (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        libraries = ":".join(map(str, _LAB.glob("**/lib/*-linux-gnu*")))
        self.env = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}
        """What a command needs to find it."""
        self._program = self.bin / named
        store = f"--root {folder}/store --runroot {folder}/run --storage-driver vfs"
        self._program.write_text(
            f"#!/bin/sh\nexport LD_LIBRARY_PATH={libraries} CONTAINERS_CONF={folder}/containers.conf\n"
            f'exec {program("podman")} {store} "$@"\n'
        )
        self._program.chmod(0o755)

    def __call__(self, *words: str) -> str:
        ran = subprocess.run((self._program, *words), capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, (words, ran.stderr)
        return ran.stdout

    def run(self, name: str, mounted: Path, *options: str) -> None:
        """A container whose nginx reads /etc/nginx/nginx.conf, which is in the folder `mounted`."""
        nginx = (_INSIDE, "-c", "/etc/nginx/nginx.conf", "-g", "daemon off;")
        where = ("-v", f"{mounted}:/etc/nginx", "--network", "host")
        self("run", "-d", "--name", name, *_LIMITS, *where, *options, "lab", *nginx)

    def close(self) -> None:
        with suppress(AssertionError):
            self("rm", "-f", "-a", "-t", "0")


@contextmanager
def engine(*, named: str = "podman") -> Iterator[Engine]:
    folder = Path(tempfile.mkdtemp(prefix="upsw-pod-"))  # a short path: conmon's sockets are in it
    folder.chmod(0o755)
    made = Engine(folder, named=named)
    try:
        made("import", "--signature-policy", f"{folder}/policy.json", _image(folder / "image.tar"), "lab")
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def _image(path: Path) -> str:
    with tarfile.open(path, "w") as image:
        for name in (*_LINKS.values(), *_FOLDERS):
            _add(image, name, tarfile.DIRTYPE)
        for name, target in _LINKS.items():
            _add(image, name, tarfile.SYMTYPE, target)
        for name, text in _FILES.items():
            _add(image, name, tarfile.REGTYPE, text)
        programs = {f"/usr/bin/{name}": shutil.which(name, path="/usr/bin:/bin:/usr/sbin") for name in _PROGRAMS}
        inside = {name: path for name, path in {**programs, _INSIDE: find_nginx()[0][1]}.items() if path}
        libraries = {_merged(found): found for path in inside.values() for found in _libraries(path)}
        for name, source in {**inside, **libraries}.items():
            image.add(os.path.realpath(source), name.lstrip("/"), recursive=False)
    return str(path)


def _add(image: tarfile.TarFile, name: str, kind: bytes, text: str = "") -> None:
    """A folder, a link to `text`, or a file of it."""
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, 0o1777 if name == "tmp" else 0o755
    data = text.encode() if kind == tarfile.REGTYPE else b""
    member.size, member.linkname = len(data), text if kind == tarfile.SYMTYPE else ""
    image.addfile(member, io.BytesIO(data))


def _libraries(path: str) -> list[str]:
    said = subprocess.run(("ldd", path), capture_output=True, text=True, check=False).stdout
    return [word for line in said.splitlines() for word in line.split() if word.startswith("/")]


def _merged(path: str) -> str:
    """/lib is a link to /usr/lib, and a file can't be put behind a link."""
    return f"/usr{path}" if path.startswith(("/lib/", "/lib64/")) else path


def await_state(engine: Engine, name: str, state: str) -> None:
    until(lambda: engine("inspect", "--format", "{{.State.Status}}", name).strip() == state, what=f"{name} is {state}")

"""A private nginx, pools of real servers and a real load on loopback, all in one folder, all ended with it.

It serves the demo, the tests and the benchmarks. Only what was started here is ever signalled.
"""

import http.client
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar, Self

import msgspec

from upswitch.generations import generation, templates
from upswitch.generations.generation import Manifest, Rendering
from upswitch.generations.render import render
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.nginx import running
from upswitch.nginx.dump import NginxConf
from upswitch.site.model import Dialect, Generation, Site
from upswitch.site.read import parse_site
from upswitch_lab.conf import UPSTREAM, Layout, Place, nginx_conf, site_toml
from upswitch_lab.find import read_build
from upswitch_lab.load import Progress, Summary
from upswitch_lab.process import LabError, Process, ask, free_port, is_listening, until

MARKER_HOST = "127.0.84.1"
DEFAULT_LAYOUT = Layout()


class Lab:
    """A context: entering starts the servers, lays down generation 1 of the first pool and starts nginx.

    `binary` is a path to nginx; with `beside` the servers are another lab's, as behind a fleet. The folder is
    world-traversable, because a root's nginx looks for the drain flag as nobody.
    """

    keeps_failed: ClassVar[bool] = False
    """Tests set it: a laboratory that ends by an exception, or while `has_failed`, leaves its folder, and `kept` names it."""
    has_failed: ClassVar[bool] = False
    kept: ClassVar[list[Path]] = []

    def __init__(self, binary: str, layout: Layout = DEFAULT_LAYOUT, *, beside: "Lab | None" = None) -> None:
        build = read_build(binary)
        if build is None:
            raise LabError(f"{binary} does not run as an nginx")
        self.layout = layout
        self.folder = Path(tempfile.mkdtemp(prefix="upswitch-lab-"))
        self.place = Place(
            folder=str(self.folder),
            binary=binary,
            build=build,
            public=f"127.0.0.1:{free_port('127.0.0.1')}",
            marker=f"{MARKER_HOST}:{free_port(MARKER_HOST)}",
        )
        self.servers: dict[str, Server] = beside.servers if beside else {}
        self._is_beside = beside is not None
        self._nginx: Process | None = None
        self._loads: list[Load] = []

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.push(self.__exit__)
            self._make_folders()
            if not self._is_beside:
                self._start_servers()
            self.site_file.write_text(site_toml(self.layout, self.place, self.addresses))
            (self.folder / "nginx.conf").write_text(nginx_conf(self.layout, self.place))
            self.first_generation(self.layout.pools[0])
            self.start_nginx()
            if self.dialect is not Dialect.NONE:  # a start has the check module's blackout too
                until(lambda: self.get()[0] == http.client.OK, deadline=60.0, what="nginx's own check to call a server up")
            undo.pop_all()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for load in self._loads:
            load.end()
        self.stop_nginx()
        for server in () if self._is_beside else self.servers.values():
            server.end()
        if self.keeps_failed and (error or self.has_failed):
            self.kept.append(self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def site_file(self) -> Path:
        return self.folder / "upswitch.toml"

    @property
    def site(self) -> Site:
        return parse_site(self.site_file.read_text())

    @property
    def url(self) -> str:
        return f"http://{self.place.public}/"

    @property
    def access_log(self) -> Path:
        return self.folder / "access.log"

    @property
    def error_log(self) -> Path:
        return self.folder / "error.log"

    @property
    def addresses(self) -> dict[str, tuple[str, ...]]:
        """The servers' addresses by pool."""
        return {pool: tuple(server.address for server in self.pool(pool)) for pool in self.layout.pools}

    @property
    def nginx_pid(self) -> int:
        """The master's id. It is our child: killed with -9 it stays a zombie until `start_nginx` or the end."""
        if self._nginx is None:
            raise LabError("nginx was not started")
        return self._nginx.pid

    def pool(self, pool: str) -> tuple["Server", ...]:
        return tuple(self.backend(pool, number) for number in range(1, self.layout.servers_per_pool + 1))

    def backend(self, pool: str, number: int) -> "Server":
        """Counted from 1, as its name says: backend("A", 1) answers "A1"."""
        return self.servers[f"{pool}{number}"]

    def start_nginx(self) -> None:
        """Returns when it answers; after a kill -9 of the master the workers it left are ended first."""
        self.stop_nginx()
        with (self.folder / "nginx.out").open("ab") as out:
            self._nginx = nginx = Process(self.place.argv, out=out)
        until(lambda: is_listening(self.place.public) or not nginx.is_alive, what=f"nginx on {self.place.public}")
        if not nginx.is_alive:
            said = [path.read_text() for path in (self.folder / "nginx.out", self.error_log) if path.exists()]
            raise LabError(f"nginx did not start: {''.join(said)}")

    def stop_nginx(self) -> None:
        """Returns when nobody listens any more: a killed worker that was orphaned goes on listening for a moment."""
        if self._nginx is not None:
            self._nginx.end()
            self._nginx = None
            until(lambda: not is_listening(self.place.public), what="the end of the listening sockets")

    def reload(self) -> None:
        """What a person would type. It returns when the signal is sent, not when the new workers serve."""
        subprocess.run((*self.place.argv, "-s", "reload"), check=True, capture_output=True, timeout=30)

    @property
    def workers(self) -> set[int]:
        """The ids of nginx's workers, those that drain too."""
        return set(map(int, Path(f"/proc/{self.nginx_pid}/task/{self.nginx_pid}/children").read_text().split()))

    def renew(self) -> None:
        """A reload, and no worker is left that was there before: until then one of them may take a request."""
        before = self.workers
        self.reload()
        until(lambda: bool(self.workers - before) and not before & self.workers, what="new workers alone")

    def get(self, path: str = "/") -> tuple[int, str]:
        """Status and body of one request through nginx, on a connection of its own."""
        return ask(self.place.public, path)

    def marker(self) -> str:
        """The generation that nginx answers with; empty where it does not answer."""
        try:
            return ask(self.place.marker, "/")[1].split(" ")[0]
        except OSError:
            return ""

    @contextmanager
    def load(self, *options: str) -> Iterator["Load"]:
        """Run upswitch_lab.load against nginx for as long as the context; it is flowing when the context begins."""
        load = Load(self.url, self.folder / f"load-{len(self._loads) + 1}.jsonl", options)
        self._loads.append(load)
        load.await_flowing()
        yield load
        load.finish()

    @property
    def dialect(self) -> Dialect:
        """Whose `check` this nginx takes."""
        return running.read_dialect(LocalHost(SystemClock()), self.site.nginx, NginxConf(files=(), tree=()))

    def first_generation(self, pool: str) -> None:
        """Lay down generation 1 and the link to it, before nginx has ever run; `upswitch init` does it on one that runs."""
        name = Generation(number=1, pool=pool)
        build = self.place.build
        rendering = Rendering(
            generation=name.name,
            pool=pool,
            min_timeout="500ms" if self.layout.cure and build.has_min_timeout else "",
            drain_flag=self.place.drain_flag if build.needs_drain_flag else "",
            stub_status=build.has_stub_status,
            dialect=self.dialect,
        )
        manifest = Manifest(
            name=name.name,
            pool=pool,
            sha256={},
            servers={UPSTREAM: self.addresses[pool]},
            marker=self.place.marker,
            pid_file=f"{self.folder}/nginx.pid",
            error_log=self.place.error_log,
        )
        files = generation.encoded(render(self.site, rendering, templates.load()))
        folder = Path(self.place.dir, "generations", name.name)
        folder.mkdir(parents=True)
        for file, data in generation.with_manifest(files, manifest).items():
            (folder / file).write_bytes(data)
        Path(self.place.dir, "live").symlink_to(f"generations/{name.name}")

    def _make_folders(self) -> None:
        self.folder.chmod(0o755)
        for name in ("run", "state", "temp", "upswitch"):
            (self.folder / name).mkdir(mode=0o755)

    def _start_servers(self) -> None:
        names = [f"{pool}{number + 1}" for pool in self.layout.pools for number in range(self.layout.servers_per_pool)]
        for name in names:
            self.servers[name] = Server(name, free_port("127.0.0.1"), self.folder / f"{name}.out")
        for server in self.servers.values():
            server.await_listening()


class Server:
    """One server of a pool, a process of its own. `name` is what it answers with."""

    def __init__(self, name: str, port: int, log: Path) -> None:
        self.name, self.port, self._log = name, port, log
        self._process = self._start(())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def mode(self, mode: str, *, lying: bool = False) -> None:
        """ok, reset, close, hang, error or sick from the next request on; `lying` leaves /healthz saying ok."""
        status, text = ask(self.address, "/__mode", body=f"{mode} lying" if lying else mode)
        if status != http.client.OK:
            raise LabError(f"{self.name} refused the mode {mode}: {text}")

    def kill(self) -> None:
        """SIGKILL; its port refuses from the return on."""
        self._process.signal(signal.SIGKILL)
        self._process.end()

    def restart(self, *options: str) -> None:
        """A new process on the same port; `options` are further arguments of upswitch_lab.backend."""
        self._process.end()
        self._process = self._start(options)
        self.await_listening()

    def await_listening(self) -> None:
        until(lambda: is_listening(self.address) or not self._process.is_alive, what=f"{self.name} on {self.address}")
        if not self._process.is_alive:
            raise LabError(f"{self.name} ended: {self._log.read_text()}")

    def end(self) -> None:
        self._process.end()

    def _start(self, options: Sequence[str]) -> Process:
        module = (sys.executable, "-m", "upswitch_lab.backend")
        with self._log.open("ab") as out:
            return Process((*module, "--name", self.name, "--ports", str(self.port), *options), out=out)


class Load:
    """A load under way. `summary` is there once the context it was made for has ended."""

    def __init__(self, url: str, log: Path, options: Sequence[str]) -> None:
        self._log = log
        self._summary: Summary | None = None
        module = (sys.executable, "-m", "upswitch_lab.load")
        with log.open("wb") as out:
            self._process = Process((*module, "--url", url, *options), out=out)

    @property
    def summary(self) -> Summary:
        if self._summary is None:
            raise LabError("the load is still running")
        return self._summary

    @property
    def progress(self) -> tuple[Progress, ...]:
        """A line a second so far, the first as soon as one request had its end."""
        whole = self._log.read_bytes().rpartition(b"\n")[0].splitlines()
        return tuple(msgspec.json.decode(line, type=Progress) for line in whole if line.startswith(b'{"at_s"'))

    def await_flowing(self) -> None:
        until(lambda: bool(self.progress) or not self._process.is_alive, what="the load's first request")

    def finish(self) -> None:
        """Let every request that was sent have its end, then read the summary."""
        self._process.close_stdin()
        try:
            until(lambda: not self._process.is_alive, deadline=40.0, what="the load's end")
        finally:
            self._process.end()
        lines = self._log.read_bytes().splitlines()
        try:
            self._summary = msgspec.json.decode(lines[-1] if lines else b"", type=Summary)
        except msgspec.MsgspecError as exc:
            raise LabError(f"the load gave no summary: {self._log.read_text()}") from exc

    def end(self) -> None:
        self._process.end()

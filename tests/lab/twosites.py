"""One nginx in front of two applications, shop and blog, each with two pools of one server. upswitch manages neither yet."""

import hashlib
import json
import os
import pwd
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from command import Answer
from forked import popen_upswitch
from upswitch.nginx.drain_compare import advice
from upswitch.nginx.drain_lines import with_lines
from upswitch.nginx.dump import parse_dump
from upswitch_lab.find import read_build
from upswitch_lab.lab import Server
from upswitch_lab.process import Process, ask, free_port, is_listening, until

_TEMPS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class App:
    """One application: its upstream, its servers and the address that clients use. Its name is nobody else's on this machine."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.name = f"{kind}-{secrets.token_hex(3)}"
        self.folder = folder
        self.public = f"127.0.0.1:{free_port('127.0.0.1')}"
        self.servers = {pool: Server(f"{pool}1", free_port("127.0.0.1"), folder / f"{kind}{pool}.out") for pool in "AB"}
        for pool, server in self.servers.items():
            server.await_listening()
            (folder / f"{kind}{pool}.conf").write_text(f"upstream {self.name} {{ server {server.address}; }}\n")
        self.source = folder / f"{kind}A.conf"
        self.include = f"include {self.source.name};"

    @property
    def site_file(self) -> Path:
        return self.folder / "etc" / f"{self.name}.toml"

    @property
    def dir(self) -> Path:
        return self.folder / f"upswitch-{self.name}"

    @property
    def live(self) -> str:
        """The generation on disk."""
        return Path(os.readlink(self.dir / "live")).name

    @property
    def marker(self) -> str:
        """The address where nginx reports this site's generation."""
        return re.search(r"listen (127\.\S+);", (self.dir / "live/marker.conf").read_text())[1]

    @property
    def answers(self) -> str:
        """What the site's marker answers."""
        return ask(self.marker, "/")[1].split(" ")[0]

    @property
    def serves(self) -> str:
        return ask(self.public, "/")[1].strip()[:1]


class TwoSites:
    def __init__(self, binary: str, folder: Path) -> None:
        self.binary, self.folder = binary, folder
        self.drain_flag = f"{folder}/run/drain"
        (folder / "temp").mkdir()
        (folder / "etc").mkdir()
        self.shop, self.blog = self.apps = [App(kind, folder) for kind in ("shop", "blog")]
        temps = "".join(f"    {kind}_temp_path temp/{kind};\n" for kind in _TEMPS)
        servers = "".join(map(self._server, self.apps))
        includes = "\n    ".join(app.include for app in self.apps)
        user = "user root root;\n" if os.geteuid() == 0 else ""
        main = f"{user}daemon off;\nworker_processes 2;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        self.conf = folder / "nginx.conf"
        http = f"http {{\n    access_log access.log;\n{temps}    {includes}\n    # more\n{servers}}}\n"
        self.conf.write_text(self._with_drain_lines(main + http))
        self.start()

    def _server(self, app: App) -> str:
        return f"    server {{ listen {app.public} backlog=1024; location / {{ proxy_pass http://{app.name}; }} }}\n"

    def _with_drain_lines(self, text: str) -> str:
        """Where nginx needs the drain flag, both applications test the same one."""
        build = read_build(self.binary)
        assert build is not None
        conf = parse_dump(f"# configuration file {self.conf}:\n{text}\n")
        return with_lines(text, advice(conf, build, [app.name for app in self.apps], flag=self.drain_flag))

    @property
    def argv(self) -> tuple[str, ...]:
        return (self.binary, "-p", f"{self.folder}", "-c", f"{self.conf}", "-e", f"{self.folder}/error.log")

    def start(self) -> None:
        with (self.folder / "out").open("ab") as out:
            self.nginx = Process(self.argv, out=out)
        until(lambda: is_listening(self.shop.public) or not self.nginx.is_alive, what="nginx")
        assert self.nginx.is_alive, (self.folder / "error.log").read_text() + (self.folder / "out").read_text()

    def reload(self) -> None:
        subprocess.run((*self.argv, "-s", "reload"), check=True, capture_output=True, timeout=30)

    def test(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run((*self.argv, "-t"), check=False, capture_output=True, text=True, timeout=30)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """A command of upswitch under way, with the site files of this folder."""
        environment = {**os.environ, "UPSWITCH_CONFIG": f"{self.folder}/etc"}
        pipe = subprocess.PIPE
        return popen_upswitch((*words, "--json"), stdout=pipe, stderr=pipe, text=True, cwd=self.folder / "temp", env=environment)

    def end(self, command: subprocess.Popen[str]) -> Answer:
        out, err = command.communicate(timeout=120)
        return Answer(command.returncode, out, err)

    def upswitch(self, *words: str) -> Answer:
        return self.end(self.begin(*words))

    def on(self, app: App, *words: str) -> Answer:
        return self.upswitch(*words, "-s", app.name)

    def init(self, app: App, *words: str) -> Answer:
        """`upswitch init --apply` with the places of this folder; the address of the marker is the one made from the name."""
        me = pwd.getpwuid(os.geteuid()).pw_name
        places = (f"--dir={app.dir}", f"--state={self.folder}/state-{app.name}", f"--user={me}", f"--drain-flag={self.drain_flag}")
        nginx = (f"--nginx-conf={self.conf}", f"--binary={self.binary}", f"--prefix={self.folder}")
        return self.upswitch("init", f"--from={app.source}", "--pool=A", *nginx, *places, "--apply", "--no-log", *words)

    def adopt(self, *, watch: str = "1s") -> None:
        """Both, one after the other."""
        for app in self.apps:
            self.adopt_one(app, watch=watch)

    def adopt_one(self, app: App, *, watch: str = "1s") -> None:
        """With quick health checks."""
        done = self.init(app)
        assert done.exit == 0, done
        self.set(app, '# interval = "1s"', 'interval = "100ms"')
        self.set(app, '# duration = "60s"', f'duration = "{watch}"')

    def set(self, app: App, old: str, new: str) -> None:
        text = app.site_file.read_text()
        assert old in text, text
        app.site_file.write_text(text.replace(old, new))

    def make_old(self, app: App) -> None:
        """As a version of upswitch from before sites had names would have adopted it."""
        marker, manifest = app.dir / "live/marker.conf", app.dir / "live/manifest.json"
        prefix = re.search(r"\$(upswitch_\w+)_generation", marker.read_text())[1]
        text = marker.read_text().replace(f"${prefix}_", "$upswitch_")
        marker.write_text(text.replace(f'return 200 "{app.live} $pid', 'return 200 "$upswitch_generation $pid'))
        known = json.loads(manifest.read_text())
        del known["prefix"]
        known["sha256"]["marker.conf"] = hashlib.sha256(marker.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(known))
        named = re.sub(r"(?m)^name = .*\n", "", app.site_file.read_text())
        app.site_file.write_text(named.replace("\n[nginx]\n", f'\n[nginx]\nmarker = "{app.marker}"\n'))

    def close(self) -> None:
        self.nginx.end()
        for app in self.apps:
            for server in app.servers.values():
                server.end()


@contextmanager
def two_sites(binary: str, folder: Path) -> Iterator[TwoSites]:
    for parent in (folder, *folder.parents[:2]):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/tmp"):
            parent.chmod(0o755)
    sites = TwoSites(binary, folder)
    try:
        yield sites
    finally:
        sites.close()

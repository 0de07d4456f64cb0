"""Run the commands of docs/tour.md anew, and write their outputs into it.

    sudo .venv/bin/python scripts/record_tour.py

It needs root and Debian's nginx in .lab (scripts/setup test). It goes on in namespaces of its own for mounts, network and
processes: /etc there is a copy in memory, /var/lib, /var/log and /run are empty, so nothing of this
machine is changed or left running. Each block of the page that begins with `$ ` is a command; `<!-- tour: WORD -->` says what
happens between two of them.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path

from upswitch.nginx import conf_logs
from upswitch.site.names import prefix_of
from upswitch_lab.lab import Load, Server
from upswitch_lab.process import Process, is_listening, until

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tour.md"
NGINX = ROOT / ".lab/debian/usr/sbin/nginx"
PARTS = re.compile(r"```\n\$ (.*)\n(?:.*\n)*?```|<!-- tour: (.*) -->")
DATE = re.compile(r"^\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)\.\d+Z ", re.MULTILINE)
SWAP = re.compile(r"^(\d\S+)\.\d+Z swap ", re.MULTILINE)
LOG_FORMAT = re.compile(r"(log_format \S+ escape=json ').*?(';)")
REPEATED = 6  # lines: a longer stretch is not shown twice
PUBLIC = "127.0.0.1:8080"
POOLS = {"A": ((1, 29100), (2, 29101)), "B": ((1, 29110), (2, 29111))}
CONF = """worker_processes 2;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events { worker_connections 1024; }
http {
    access_log /var/log/nginx/access.log;
    include upstreamA.conf;
    server {
        listen 127.0.0.1:8080;
        location / {
            proxy_pass http://tornado_servers;
        }
    }
}
"""
PREFIX = prefix_of("tornado_servers")
CHECK = 'check = { type = "http", http_send = "GET /healthz HTTP/1.0\\r\\n\\r\\n", interval = 1000, rise = 3 }'


def main() -> None:
    if "--inside" not in sys.argv:
        unshare = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
        os.execvp(unshare[0], (*unshare, sys.executable, __file__, "--inside"))
    page = PAGE.read_text("utf-8")
    make_private_machine()
    tour = Tour()
    recorded = PARTS.sub(tour.play, page)
    tour.end()
    PAGE.write_text(recorded, "utf-8")
    print(f"{PAGE} is made")


def make_private_machine() -> None:
    """Copies of /etc, empty ones of the rest, and a loopback interface; what is written there ends with this process."""
    run("mount", "--make-rprivate", "/")
    run("ip", "link", "set", "lo", "up")
    etc = Path("/tmp/upswitch-tour-etc")
    etc.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "none", str(etc))
    run("cp", "-a", "/etc/.", str(etc))
    run("mount", "--bind", str(etc), "/etc")
    for path in ("/var/lib", "/var/log", "/run"):
        run("mount", "-t", "tmpfs", "none", path)
    for path in ("/etc/nginx", "/var/log/nginx", "/var/lib/nginx", "/run/upswitch", "/run/bin"):
        Path(path).mkdir(exist_ok=True)
    shutil.copy(NGINX, "/run/bin/nginx")
    os.environ["PATH"] = f"/run/bin:{ROOT}/.venv/bin:{os.environ['PATH']}"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def replace(path: Path, pattern: str, text: str) -> None:
    path.write_text(re.sub(pattern, text, path.read_text(), count=1, flags=re.MULTILINE))


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)


class Tour:
    """The machine of the page: nginx, two pools of two servers, and a load."""

    def __init__(self) -> None:
        etc = Path("/etc/nginx")
        self.servers = {
            name: [Server(f"{name}{n}", port, Path(f"/run/{port}.out")) for n, port in each] for name, each in POOLS.items()
        }
        for name, ports in POOLS.items():
            lines = "".join(f"    server 127.0.0.1:{port} weight=100;\n" for _, port in ports)
            (etc / f"upstream{name}.conf").write_text(f"upstream tornado_servers {{\n{lines}}}\n")
        (etc / "nginx.conf").write_text(CONF if os.geteuid() else f"user root root;\n{CONF}")
        for server in (each for pool in self.servers.values() for each in pool):
            server.await_listening()
        with Path("/run/nginx.out").open("wb") as out:
            self.nginx = Process(("/run/bin/nginx", "-g", "daemon off;"), out=out)
        until(lambda: is_listening(PUBLIC) or not self.nginx.is_alive, what="nginx")
        self.load: Load | None = None
        self.seen = set[str]()
        self.swapped_at = "TIME"  # of the switch that was rolled back

    def play(self, part: re.Match[str]) -> str:
        command, event = part[1], part[2]
        if event:
            self.change(*event.split())
            return part[0]
        command = re.sub(r"(?<=--at )\S+", self.swapped_at, command)
        print(f"$ {command}", flush=True)
        out = subprocess.PIPE
        ran = subprocess.run(shlex.split(command), stdout=out, stderr=subprocess.STDOUT, text=True, check=False, cwd="/etc/nginx")
        if "\nROLLED BACK" in ran.stdout and (swap := SWAP.search(ran.stdout)):
            self.swapped_at = f"{swap[1]}Z"
        return f"```\n$ {command}\n{self.shown(ran.stdout)}\n```"

    def shown(self, text: str) -> str:
        """Without dates, without stretches that an earlier command has printed, and without most of a log format."""
        text = text.replace(sys.executable, "/srv/app/bin/python")  # what runs the servers of the tour
        lines = LOG_FORMAT.sub(r"\1…\2", DATE.sub(r"\1 ", text)).rstrip().splitlines()
        kept: list[str] = []
        for is_old, stretch in groupby(lines, self.seen.__contains__):
            some = [*stretch]
            kept += ["…"] if is_old and len(some) >= REPEATED else some
        self.seen |= {*lines}
        return "\n".join(kept)

    def change(self, word: str, pool: str = "") -> None:
        match word:
            case "edit":
                self.edit()
            case "bad":
                for server in self.servers[pool]:
                    server.mode("close", lying=True)
            case "fix":
                for server in self.servers[pool]:
                    server.restart()
            case _:
                sys.exit(f"docs/tour.md: no such change: {word}")

    def edit(self) -> None:
        """What the page asks for, as an operator would do it; then the traffic begins."""
        site = Path("/etc/upswitch/tornado_servers.toml")
        replace(site, r"^\[watch\].*", f'[watch]\nduration = "20s"\nprobe = "http://{PUBLIC}/healthz"')
        replace(site, r"^\[upstreams\.tornado_servers\].*", "\\g<0>\n" + CHECK.replace("\\", "\\\\"))
        conf = Path("/etc/nginx/nginx.conf")
        replace(conf, r"^    access_log (.*);", f"    {conf_logs.log_format_line(PREFIX)}\n    access_log \\1 {PREFIX};")
        run("nginx", "-q", "-s", "reload")
        self.load = Load(f"http://{PUBLIC}/", Path("/run/load.jsonl"), ("--connections", "16", "--rate", "400"))
        self.load.await_flowing()

    def end(self) -> None:
        if self.load:
            self.load.finish()
        self.nginx.end()
        for server in (each for pool in self.servers.values() for each in pool):
            server.end()


if __name__ == "__main__":
    main()

"""What the log of our own costs nginx, beside the owner's combined log.

    python bench/own_log.py [--rounds 8] [--nginx PATH]

One nginx has two servers that pass to the same upstream: one writes the combined log alone, one also ours, as `init --apply` adds
it. They are asked in turn, in the same run. At saturation: requests in flight on 32 connections, sent in bursts of 16, answers of 3
bytes from another nginx over kept connections, so that as little as possible is not logging. "CPU" is the processor time of the
nginx that logs, a request. At 2,000 requests/s on 32 connections: latency as the load of the laboratory sees it, and the same time.
Goals: at most 10 % fewer requests/s at saturation, and nothing measurable at 2,000 requests/s.
"""

import argparse
import os
import selectors
import socket
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import checkout  # noqa: F401

from upswitch.nginx.conf_logs import own_format_line, own_format_name
from upswitch_lab.find import find_nginx, read_build
from upswitch_lab.lab import Load
from upswitch_lab.process import Process, free_port, is_listening, until

SIDES = ("combined", "combined and ours")
CONNECTIONS, BURST = 32, 16
SECONDS = 3.0
REQUEST = b"GET /some/page?of=an&application=1 HTTP/1.1\r\nHost: example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux)\r\n\r\n"
TEMPS = " ".join(f"{kind}_temp_path temp/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
MAIN = "daemon off; worker_processes 1; pid FOLDER/NAME.pid; error_log FOLDER/error.log; events { worker_connections 1024; }"
KEPT = 'proxy_http_version 1.1; proxy_set_header Connection "";'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--nginx", default=find_nginx()[0][1])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        bench = Bench(given.nginx, folder, stack)
        print(f"load average before: {os.getloadavg()[0]:.1f}")
        show("at saturation, requests/s", bench.rounds(bench.saturated, given.rounds), digits=0)
        show("at 2,000 requests/s, p50 ms", bench.rounds(bench.steady, given.rounds), digits=2)
        print(f"load average after: {os.getloadavg()[0]:.1f}")


def show(what: str, found: dict[str, list[tuple[float, float]]], *, digits: int) -> None:
    """The median of each side, and what ours adds: the median over the rounds, with the middle half of them."""
    pairs = list(zip(found[SIDES[0]], found[SIDES[1]], strict=True))
    for number, title in enumerate((what, "    CPU of nginx, us a request")):
        plain, ours = (statistics.median(each[side][number] for each in pairs) for side in (0, 1))
        ratios = [each[1][number] / each[0][number] * 100 - 100 for each in pairs]
        low, middle, high = statistics.quantiles(ratios, n=4)
        places = 1 if number else digits
        print(f"{title}: {plain:.{places}f} -> {ours:.{places}f} ({middle:+.1f} %, half of the rounds {low:+.1f} to {high:+.1f} %)")


class Bench:
    """Two nginx: the one that logs, with a server for each side, and the upstream's."""

    def __init__(self, binary: str, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        build = read_build(binary)
        assert build is not None
        (folder / "temp").mkdir()
        app, *ports = (free_port("127.0.0.1") for _ in range(1 + len(SIDES)))
        self._servers = dict(zip(SIDES, (f"127.0.0.1:{port}" for port in ports), strict=True))
        name = own_format_name("upswitch")
        logs = (f"access_log {folder}/a.log;", f"access_log {folder}/b.log; access_log {folder}/own {name} buffer=32k flush=500ms;")
        servers = " ".join(
            f"server {{ listen {self._servers[side]}; {log} location / {{ proxy_pass http://app; {KEPT} }} }}"
            for side, log in zip(SIDES, logs, strict=True)
        )
        variables = 'map "" $upswitch_generation { default "000017-A"; }'
        app_http = f'server {{ listen 127.0.0.1:{app}; access_log off; keepalive_requests 10000000; return 200 "ok\\n"; }}'
        front_http = (
            f"{own_format_line('upswitch', build)} {variables} upstream app {{ server 127.0.0.1:{app}; keepalive 64; }} {servers}"
        )
        self._start(stack, binary, "app", app_http, port=app)
        front = self._start(stack, binary, "front", f"keepalive_requests 10000000; {front_http}", port=ports[-1])
        self._worker = int(Path(f"/proc/{front.pid}/task/{front.pid}/children").read_text().split()[0])

    def _start(self, stack: ExitStack, binary: str, name: str, http: str, *, port: int) -> Process:
        conf = self._folder / f"{name}.conf"
        main = MAIN.replace("FOLDER", str(self._folder)).replace("NAME", name)
        conf.write_text(f"{main} http {{ {TEMPS} {http} }}\n")
        argv = (binary, "-p", str(self._folder), "-c", str(conf), "-e", f"{self._folder}/error.log")
        with (self._folder / f"{name}.out").open("ab") as out:
            process = Process(argv, out=out)
        stack.callback(process.end)
        until(lambda: is_listening(f"127.0.0.1:{port}"), what=name)
        return process

    def rounds(self, measure: Callable[[str], tuple[float, float]], count: int) -> dict[str, list[tuple[float, float]]]:
        """One warm-up, then so many rounds, each side first in every second one. Logs are emptied in between."""
        found = defaultdict[str, list[tuple[float, float]]](list)
        for number in range(count + 1):
            for side in SIDES[:: -1 if number % 2 else 1]:
                seen = measure(self._servers[side])
                found[side] += [seen] if number else []
                for path in (*self._folder.glob("*.log"), self._folder / "own"):
                    os.truncate(path, 0)
        return found

    def saturated(self, server: str) -> tuple[float, float]:
        """Requests a second, and microseconds of processor time a request."""
        host, _, port = server.partition(":")
        with ExitStack() as stack, selectors.DefaultSelector() as selector:
            for _ in range(CONNECTIONS):
                stream = stack.enter_context(closing(socket.create_connection((host, int(port)))))
                stream.sendall(REQUEST * BURST)
                selector.register(stream, selectors.EVENT_READ, [0])
            return self._counted(selector)

    def _counted(self, selector: selectors.BaseSelector) -> tuple[float, float]:
        requests, began, used = 0, time.monotonic(), self._used()
        while time.monotonic() - began < SECONDS:
            for key, _ in selector.select(1.0):
                data = key.fileobj.recv(1 << 16)
                assert data, "nginx closed a connection"
                key.data[0] += data.count(b"\r\n\r\nok\n")
                if key.data[0] >= BURST:
                    key.data[0] -= BURST
                    requests += BURST
                    key.fileobj.sendall(REQUEST * BURST)
        return requests / (time.monotonic() - began), (self._used() - used) / requests * 1e6

    def steady(self, server: str) -> tuple[float, float]:
        """Milliseconds that half of the requests take at most, and microseconds of processor time a request."""
        used = self._used()
        load = Load(f"http://{server}/some/page", self._folder / "load.out", ("--connections", "32", "--rate", "2000"))
        try:
            load.await_flowing()
            began = time.monotonic()
            until(lambda: time.monotonic() - began > SECONDS, what="the load")
            load.finish()
        finally:
            load.end()
        summary = load.summary
        assert not summary.failed, summary
        return summary.p50_ms, (self._used() - used) / summary.requests * 1e6

    def _used(self) -> float:
        """Seconds of processor time that the logging worker has used: user's and system's."""
        fields = Path(f"/proc/{self._worker}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()

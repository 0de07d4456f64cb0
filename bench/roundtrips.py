"""Round trips and bytes of one switch, for fleet/__init__.py.

Two figures that check each other. What is counted: requests that were waited for, several at a time where threads ask, the
handshakes not among them; and the bytes of the wire. And what a person waits for: one host is switched directly and through
a relay that holds everything back for 25 ms each way; the difference of the minima divided by 50 ms is the number of round trips
that follow each other (minima, as what else runs here only ever adds). The relay holds back the TCP handshake as well. Connecting
alone is measured in the same way.
"""

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from sides import ENV

from fleetlab import FleetLab
from sshd import ADDRESS

DELAY = 0.025
"""Seconds, each way."""

# argv: a file for the counts of each host, then upswitch's own words.
COUNTED = """
import json, sys
from upswitch.hosts.ssh import host
from upswitch.cli.main import main

class Counted(host.SshHost):
    trips = 0

    def close(self):
        super().close()
        meter = self._streams.wire.meter
        with open(sys.argv[1], "a") as file:
            print(json.dumps([self.trips, meter.sent, meter.received]), file=file)

    def connect(self, *args, **options):
        self.trips += 1
        return super().connect(*args, **options)

    def follow(self, *args, **options):
        self.trips += 1
        return super().follow(*args, **options)

    def _open_shell(self, lease):
        self.trips += 1
        shell = super()._open_shell(lease)
        ask = shell._ask

        def counted(*args, **options):
            self.trips += 1
            return ask(*args, **options)

        shell._ask = counted
        return shell

host.SshHost = Counted
main(sys.argv[2:])
"""

# argv: a host of ssh_config, how often. Prints seconds from nothing to a session that may be asked.
CONNECTED = """
import sys, time
from upswitch.hosts.ssh.login import load
from upswitch.hosts.ssh.connection import TIMEOUT, connected
from upswitch.hosts.ssh.keys import Keyring
from upswitch.hosts.ssh.login import login

for _ in range(int(sys.argv[2])):
    found = login(sys.argv[1], load())
    began = time.perf_counter()
    _, hops = connected(found, Keyring(ask=lambda prompt: None), timeout=TIMEOUT)
    print(time.perf_counter() - began)
    hops.close()
"""


class Relay:
    """A port of loopback whose connections come out at `port`, as from `DELAY` away."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server((ADDRESS, 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        _begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the end
            while True:
                _begin(self._join, self._listener.accept()[0])

    def _join(self, near: socket.socket) -> None:
        there, back = SimpleQueue[tuple[float, bytes]](), SimpleQueue[tuple[float, bytes]]()
        _begin(_read, near, there)
        time.sleep(3 * DELAY)  # SYN, SYN and ACK, ACK: only then a server far away would have had its connection
        far = socket.create_connection((ADDRESS, self._to))
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _begin(_read, far, back)
        _begin(_write, far, there)
        _write(near, back)


def _begin(act: object, *args: object) -> None:
    threading.Thread(target=act, args=args, daemon=True).start()


def _read(sock: socket.socket, queue: "SimpleQueue[tuple[float, bytes]]") -> None:
    data = b"-"
    while data:
        try:
            data = sock.recv(1 << 16)
        except OSError:
            data = b""
        queue.put((time.monotonic() + DELAY, data))


def _write(sock: socket.socket, queue: "SimpleQueue[tuple[float, bytes]]") -> None:
    """Until the other side's end, which is passed on."""
    with contextlib.suppress(OSError):
        while True:
            due, data = queue.get()
            time.sleep(max(0.0, due - time.monotonic()))
            if not data:
                return sock.shutdown(socket.SHUT_WR)
            sock.sendall(data)


# ---- what is measured and told ----


def tell(fleet: FleetLab, runs: int) -> None:
    """All hosts must serve pool A, and do so afterwards."""
    counts = counted(fleet)
    print(f"\n{'one switch, per host':32} {'min':>9} {'median':>9} {'max':>9}")
    for name, each in zip(("round trips counted", "bytes sent", "bytes received"), zip(*counts, strict=True), strict=True):
        print(f"{name:32} {min(each):9} {statistics.median(each):9.0f} {max(each):9}")
    name = fleet.names[0]
    with Relay(fleet.sshds[name].port) as relay:
        homes = {"direct": fleet.folder / "home", "50 ms away": home_beyond(fleet, name, relay.port)}
        connects = {place: connect_times(fleet, home, max(5, runs)) for place, home in homes.items()}
        switches = {place: [] for place in homes}
        for _ in range(max(3, runs)):
            for place, home in homes.items():
                switches[place] += [switch_time(fleet, home, pool) for pool in "BA"]
    print(f"\n{'s, one host, minima':32} {'direct':>9} {'50 ms':>9} {'trips':>9}")
    for what, seconds in (("connect", connects), ("switch --no-watch", switches)):
        print(f"{what:32} {''.join(f'{min(each):10.3f}' for each in seconds.values())[1:]} {trips(seconds):9.1f}")
    print(f"switch without the connect {trips(switches) - trips(connects):.1f} round trips; goal: under 15")


def env(home: Path) -> dict[str, str]:
    """What ssh knows is in `home`."""
    return {**ENV, "HOME": f"{home}", "SSH_AUTH_SOCK": ""}


def trips(seconds: dict[str, list[float]]) -> float:
    near, far = (min(each) for each in seconds.values())
    return (far - near) / (2 * DELAY)


def counted(fleet: FleetLab) -> list[list[int]]:
    """Round trips, bytes sent and bytes received of each host."""
    path = fleet.folder / "counts"
    path.unlink(missing_ok=True)
    for pool in "BA":
        words = ("switch", "--to", pool, "--no-watch", "-c", f"{fleet.site_file}")
        ran([sys.executable, "-c", COUNTED, f"{path}", *words], env(fleet.folder / "home"))
    return [json.loads(line) for line in path.read_text().splitlines()]


def home_beyond(fleet: FleetLab, name: str, port: int) -> Path:
    """A HOME from which the host `name` is reached at another port."""
    home, sshd = fleet.folder / "home-beyond", fleet.sshds[name]
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    known = home / ".ssh/known_hosts"
    known.write_text(f"[{ADDRESS}]:{port} {sshd.host_key.public}\n")
    (home / ".ssh/config").write_text(sshd.stanza(name, f"Port {port}", f"UserKnownHostsFile {known}"))
    return home


def connect_times(fleet: FleetLab, home: Path, times: int) -> list[float]:
    argv = [sys.executable, "-c", CONNECTED, fleet.names[0], f"{times}"]
    return [float(line) for line in ran(argv, env(home)).split()]


def switch_time(fleet: FleetLab, home: Path, pool: str) -> float:
    words = ("switch", "--to", pool, "--no-watch", "--host", fleet.names[0], "-c", f"{fleet.site_file}")
    began = time.perf_counter()
    ran([sys.executable, "-m", "upswitch", *words], env(home))
    return time.perf_counter() - began


def ran(argv: Sequence[str], env: dict[str, str]) -> str:
    """stdout of a command that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        sys.exit(f"{' '.join(argv[:3])}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout

"""One round of the gate over 200 servers, against httpx with one shared client and 32 threads.

    python bench/gate.py [--servers 200] [--rounds 15]

Real listening sockets, all of one backend process on loopback (so its one processor is in both figures). Interleaved in the
same run; "first" is the round that starts the threads and, for httpx, fills the pool. Goal: under 0.3 s a round.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import checkout  # noqa: F401
import httpx
from sides import HEAD, line

from upswitch.health.prober import NetProber
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.site.model import Check, CheckType, Gate, Pool, Server, Target, Upstream, effective_check
from upswitch_lab.process import Process, free_port, is_listening, until

CHECK = Check(type=CheckType.HTTP, http_send="GET /healthz HTTP/1.0\r\n\r\n", http_expect_alive=("http_2xx",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    ports = [free_port("127.0.0.1") for _ in range(options.servers)]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    argv = (sys.executable, "-m", "upswitch_lab.backend", "--name", "A", "--ports")
    with tempfile.TemporaryFile() as out:
        backend = Process((*argv, ",".join(map(str, ports))), out=out)
        try:
            until(lambda: is_listening(addresses[-1]), what="the servers")
            compare(addresses, options.rounds)
        finally:
            backend.end()


def compare(addresses: list[str], rounds: int) -> None:
    rule = effective_check(upstream(addresses), Gate())
    targets = [Target(upstream="app", server=each, address=each, rule=rule) for each in addresses]
    clock = SystemClock()
    prober = NetProber(LocalHost(clock), clock)
    ours, theirs = list[float](), list[float]()
    with httpx.Client(trust_env=False) as client, ThreadPoolExecutor(32) as pool:

        def ask(address: str) -> bool:
            return client.get(f"http://{address}/healthz").is_success

        for _ in range(rounds + 1):
            ours.append(seconds(lambda: all(probe.ok for probe in prober.round(targets))))
            theirs.append(seconds(lambda: all(pool.map(ask, addresses))))
    prober.close()
    print(f"{len(addresses)} servers, one probe of each\n{HEAD}")
    print(line("httpx, 1 client, 32 threads", theirs[1:], theirs[1:]))
    print(line("upswitch", ours[1:], theirs[1:]))
    print(f"first round: upswitch {ours[0] * 1000:.1f} ms, httpx {theirs[0] * 1000:.1f} ms")


def upstream(addresses: list[str]) -> Upstream:
    servers = tuple(Server(address=address) for address in addresses)
    return Upstream(name="app", pools=(Pool(name="A", servers=servers),), check=CHECK)


def seconds(act: Callable[[], bool]) -> float:
    began = time.perf_counter()
    if not act():
        sys.exit("a server did not answer")
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

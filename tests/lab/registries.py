"""Real name servers and real registries of servers: Debian's dnsmasq and etcd, in .lab (scripts/setup test)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import NOT_IN_LAB, runs, started
from upswitch_lab.process import free_port

_DEBIAN = Path(__file__).parents[2] / ".lab/debian"
DNSMASQ = _DEBIAN / "usr/sbin/dnsmasq"
ETCD = _DEBIAN / "usr/bin/etcd"


def missing(program: Path) -> str:
    """Why a test that needs it can't run; "" where it can."""
    return "" if program.exists() and runs(program) else f"{program.name} {NOT_IN_LAB}"


@contextmanager
def dnsmasq(folder: Path, *records: str, port: int = 0) -> Iterator[str]:
    """A name server that knows these records only (its own options, such as `host-record=app.test,127.0.0.1`). The address."""
    port = port or free_port("127.0.0.1")
    options = ("keep-in-foreground", "no-resolv", "no-hosts", "bind-interfaces", "local=/test/", "pid-file=", "user=root", *records)
    argv = (
        f"{DNSMASQ}",
        "--conf-file=/dev/null",
        f"--port={port}",
        "--listen-address=127.0.0.1",
        *(f"--{each}" for each in options),
    )
    yield from started(argv, folder, port)


@contextmanager
def etcd(folder: Path, *options: str, scheme: str = "http") -> Iterator[str]:
    """An etcd of one member. Its URL."""
    client, peer = free_port("127.0.0.1"), free_port("127.0.0.1")
    url, peers = f"{scheme}://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    urls = (f"--listen-client-urls={url}", f"--advertise-client-urls={url}", f"--listen-peer-urls={peers}")
    own = (
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        f"--data-dir={folder}/etcd",
        "--unsafe-no-fsync",
    )
    for _ in started((f"{ETCD}", *urls, *own, *options), folder, client):
        yield url

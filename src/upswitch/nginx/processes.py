"""nginx's processes and the machine's connections, as /proc shows them, and the programs that read the processes on a host.

A worker takes the title `nginx: worker process` only after `ngx_worker_process_init` has returned for every module
(ngx_process_cycle.c, ngx_worker_process_cycle). Until then it has the master's title. So a child with that title has survived its
start, and one that still calls itself master has not.

An address in /proc/net is hexadecimal, in 32-bit words of the machine's byte order (little-endian on everything we run on), then a
colon and the port (proc_pid_net(5)). An IPv4 peer of an IPv6 socket has a mapped address; here it is the IPv4 one.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from upswitch.basics.value import Value
from upswitch.hosts.sh import script

_STAT = re.compile(r"(?P<pid>\d+) \(.*\) (?P<state>\S) (?P<ppid>\d+) (?:\S+ ){17}(?P<start>\d+)")
_RESIDENT = re.compile(r"^/proc/(\d+)/stat:.*\) \S (?:\S+ ){20}(\d+)", re.MULTILINE)
_ESTABLISHED = b"01"
_UNIX_CONNECTED = b"03"  # SS_CONNECTED, linux/net.h
_UNIX_FIELDS = 8
_LISTEN = b"0A"
_OWN = re.compile(rb"\|-- (\S+)\n\s+/32 host LOCAL")
_WILDCARDS = ("0.0.0.0", "[::]")  # noqa: S104  (what is read, not what is bound)

SCRIPT = script("upswitch.nginx", "family.sh")
LOOK = f"family() (\n{SCRIPT})\n{script('upswitch.nginx', 'look.sh')}"


class Process(Value):
    """One process. `start` (clock ticks since boot) tells a reused pid from the old one; `state` is /proc's letter."""

    pid: int
    parent: int
    start: int
    state: str
    title: str

    @property
    def key(self) -> tuple[int, int]:
        return (self.pid, self.start)

    @property
    def is_master(self) -> bool:
        return self.title.startswith("nginx: master process")

    @property
    def is_stopped(self) -> bool:
        return self.state in "Tt"

    @property
    def is_shutting_down(self) -> bool:
        return "is shutting down" in self.title

    @property
    def is_worker(self) -> bool:
        """A worker that has finished its start and still accepts connections."""
        return self.title.startswith("nginx: worker process") and not self.is_shutting_down and self.state != "Z"


class Family(Value):
    """A master (None where the pid is not there) and its children, at one moment."""

    master: Process | None
    children: tuple[Process, ...] = ()

    @property
    def workers(self) -> tuple[Process, ...]:
        return tuple(child for child in self.children if child.is_worker)

    @property
    def draining(self) -> tuple[Process, ...]:
        return tuple(child for child in self.children if child.is_shutting_down)


class OldWorkers(Value):
    """Workers that finish what they hold. Those of one reload began together; `seconds` is how long the first of them have done so.

    `memory`: bytes, at most, as workers share some.
    """

    pids: tuple[int, ...] = ()
    reloads: int = 0
    seconds: float = 0.0
    memory: int = 0

    @property
    def are_piling_up(self) -> bool:
        return self.reloads >= PILE

    @property
    def text(self) -> str:
        many = f"{len(self.pids)} of {self.reloads} reload{'s' if self.reloads > 1 else ''}"
        size = f"{self.memory / (1 << 20):.0f} MiB"
        return f"old workers still hold connections: {many}, the first for {self.seconds:.0f} s, with up to {size} of memory"


PILE = 3
"""Old workers of so many reloads are a finding: two switches in a row are normal."""
_HZ = 100  # clock ticks a second, in /proc of every Linux that we run on
_TOGETHER = 10  # ticks between two workers of one start, at most


def old_workers(family: Family, *, up: float, resident: Mapping[int, int]) -> OldWorkers:
    """`up` is seconds since boot; `resident` has bytes of memory by pid. The workers of one start finish from the next start on."""
    starts: list[list[Process]] = []
    for each in sorted((*family.workers, *family.draining), key=lambda each: each.start):
        if not starts or each.start - starts[-1][-1].start > _TOGETHER:
            starts.append([])
        starts[-1].append(each)
    old = family.draining
    if not old:
        return OldWorkers()
    are_old = [any(each in old for each in group) for group in starts]
    later = starts[are_old.index(True) + 1 :]
    return OldWorkers(
        pids=tuple(each.pid for each in old),
        reloads=sum(are_old),
        seconds=max(0.0, up - later[0][0].start / _HZ) if later else 0.0,
        memory=sum(resident.get(each.pid, 0) for each in old),
    )


class Sighting(Value):
    """What `look` saw. `pid` is 0 where the pid file names none, and `fault` says why. `upgrade` is the old master's pid, or 0.

    `old` are the workers of former reloads. `reply` and `checks` are the marker's whole answers: the generation, its health checks.
    """

    pid_file: str = ""
    pid: int = 0
    fault: str = ""
    family: Family | None = None
    upgrade: int = 0
    old: OldWorkers = OldWorkers()
    reply: bytes = b""
    checks: bytes = b""


_FAULTS = {"none": "does not exist", "odd": "holds no pid"}


def look(folder: str, marker: str, *, pid_file: str = "") -> tuple[str, ...]:
    """The program for a Sighting. `pid_file` "" is the one that the live manifest in `folder` names. `marker` is IP:PORT."""
    ip, _, port = marker.rpartition(":")
    return ("sh", "-c", LOOK, "glance", pid_file, folder, ip.strip("[]"), port)


def parse_look(output: bytes) -> Sighting:
    head, _, answers = output.partition(b"\nmarker\n")
    reply, _, checks = answers.partition(b"\nchecks\n")
    said: dict[str, str] = {}
    for line in head.decode("utf-8", "backslashreplace").split("\n"):
        word, _, rest = line.partition(" ")
        said.setdefault(word, rest)
    pid = _number(said.get("pid", ""))
    family = parse_family(head, master=pid) if pid else None
    up, page = said.get("up", ""), _number(said.get("page", ""))
    resident = {int(each): int(pages) * page for each, pages in _RESIDENT.findall(head.decode("utf-8", "backslashreplace"))}
    return Sighting(
        pid_file=said.get("file", ""),
        pid=pid,
        fault=_FAULTS.get(said.get("pid", "none"), ""),
        family=family,
        upgrade=_number(said.get("old", "")) if "upgrade" in said else 0,
        old=old_workers(family, up=float(up), resident=resident) if family and up else OldWorkers(),
        reply=reply,
        checks=checks,
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def parse_family(output: bytes, *, master: int) -> Family:
    """What family.sh printed. A process that ended while it was read is left out."""
    stats: dict[int, re.Match[str]] = {}
    titles: dict[int, str] = {}
    for line in output.decode("utf-8", "backslashreplace").split("\n"):  # only grep's lines begin with a path
        path, _, text = line.partition(":")
        pid = path.removeprefix("/proc/").partition("/")[0]
        if not pid.isdigit():
            continue
        if path.endswith("/stat") and (match := _STAT.match(text)):
            stats[int(pid)] = match
        elif path.endswith("/cmdline"):
            titles.setdefault(int(pid), text.strip())  # the first line is the title, as an argument may hold line breaks
    found = [
        Process(pid=pid, parent=int(stat["ppid"]), start=int(stat["start"]), state=stat["state"], title=titles.get(pid, ""))
        for pid, stat in stats.items()
    ]
    return Family(
        master=next((process for process in found if process.pid == master), None),
        children=tuple(process for process in found if process.parent == master),
    )


def problem(seen: Sighting) -> str:
    """Why the master may not be signalled. "" where it is an nginx master that can act on a signal, or where there is no pid.

    A pid file may be stale: SIGHUP to the pid in one killed another process (seen). A stopped master ignores the signal. An old
    master does not reload on a HUP while a new binary takes over (ngx_process_cycle.c).
    """
    if seen.family is not None:
        pid, process = seen.pid, seen.family.master
        if process is None:
            return f"no process {pid}"
        if process.state in "ZX":  # /proc has no title for a dead process
            return f"process {pid} is dead (state {process.state})"
        if not process.is_master:
            return f'process {pid} is "{process.title or "?"}", not an nginx master'
        if process.is_stopped:
            return f"the nginx master {pid} is stopped (state {process.state}; kill -CONT {pid})"
    if seen.upgrade:
        return f"a binary upgrade is under way ({seen.pid_file}.oldbin names the live process {seen.upgrade})"
    return ""


def keys(processes: Iterable[Process]) -> frozenset[tuple[int, int]]:
    return frozenset(process.key for process in processes)


# ---- connections ----


def peers(table: bytes) -> Iterator[str]:
    """The far end of every established connection in /proc/net/tcp or tcp6, as nginx logs it: `IP:PORT` or `[IP6]:PORT`."""
    return (address(remote) for _, remote, state in _sockets(table) if state == _ESTABLISHED)


def listening(table: bytes) -> Iterator[str]:
    """The address of every listening socket in /proc/net/tcp or tcp6."""
    return (address(local) for local, _, state in _sockets(table) if state == _LISTEN)


def _sockets(table: bytes) -> Iterator[list[bytes]]:
    """local_address, rem_address and st of each row."""
    rows = (line.split()[1:4] for line in table.splitlines()[1:])
    return (row for row in rows if len(row) == 3)  # noqa: PLR2004  (a row that was cut off)


def unix_peers(table: bytes) -> Iterator[str]:
    """`unix:/path` of every connected socket in /proc/net/unix that has a name: those are the servers' ends."""
    for line in table.splitlines()[1:]:
        fields = line.split(maxsplit=_UNIX_FIELDS - 1)
        if len(fields) == _UNIX_FIELDS and fields[5] == _UNIX_CONNECTED:
            yield f"unix:{fields[7].decode('utf-8', 'replace')}"


def address(text: bytes) -> str:
    """`IP:PORT` of an address in /proc/net."""
    digits, _, port = text.decode("ascii").partition(":")
    words = bytes.fromhex(digits)
    packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    ip = ipaddress.ip_address(packed)
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    host = f"[{ip}]" if isinstance(ip, ipaddress.IPv6Address) else str(ip)
    return f"{host}:{int(port, 16)}"


def own_addresses(trie: bytes) -> frozenset[str]:
    """The machine's IPv4 addresses, from /proc/net/fib_trie."""
    return frozenset(found.decode() for found in _OWN.findall(trie))


def nearby(address: str, listeners: Collection[str], own: Collection[str]) -> str:
    """What listens instead of `address` (IP:PORT) on this machine; "" where it is not this machine's, or that can't be known."""
    host, _, port = address.rpartition(":")
    if host not in own and host != "[::1]":
        return ""
    same_port = sorted(each for each in set(listeners) if each.rpartition(":")[2] == port)
    if not same_port:
        return f"no program listens on port {port} of this machine"
    if any(each in same_port for each in (address, *(f"{any_host}:{port}" for any_host in _WILDCARDS))):
        return ""
    return f"{' and '.join(same_port)} listens, not {address}"

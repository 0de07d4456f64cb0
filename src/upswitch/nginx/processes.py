"""nginx's processes as /proc shows them, and the script that reads them on a host.

An nginx worker takes the title `nginx: worker process` only after `ngx_worker_process_init` has returned for every module
(ngx_process_cycle.c, ngx_worker_process_cycle); until then it carries the master's. So a child with that title has survived
its start, and one that still calls itself master has not.
"""

import re
from collections.abc import Iterable

from upswitch.basics.value import Value
from upswitch.hosts.sh import script

_STAT = re.compile(r"(?P<pid>\d+) \(.*\) (?P<state>\S) (?P<ppid>\d+) (?:\S+ ){17}(?P<start>\d+)")

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
    def is_shutting_down(self) -> bool:
        return "is shutting down" in self.title

    @property
    def is_worker(self) -> bool:
        """A worker that finished its start and still accepts."""
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


class Sighting(Value):
    """What LOOK saw. `pid` is 0, and `fault` says why, where the pid file names none; `upgrade` is the old master's pid, or 0.

    `reply` is the marker's whole answer.
    """

    pid_file: str = ""
    pid: int = 0
    fault: str = ""
    family: Family | None = None
    upgrade: int = 0
    reply: bytes = b""


_FAULTS = {"none": "does not exist", "odd": "holds no pid"}


def look(folder: str, marker: str, *, pid_file: str = "") -> tuple[str, ...]:
    """`pid_file`: "" for the one that the live manifest in `folder` names. `marker`: IP:PORT."""
    ip, _, port = marker.rpartition(":")
    return ("sh", "-c", LOOK, "glance", pid_file, folder, ip.strip("[]"), port)


def parse_look(output: bytes) -> Sighting:
    head, _, reply = output.partition(b"\nmarker\n")
    said: dict[str, str] = {}
    for line in head.decode("utf-8", "backslashreplace").split("\n"):
        word, _, rest = line.partition(" ")
        said.setdefault(word, rest)
    pid = _number(said.get("pid", ""))
    return Sighting(
        pid_file=said.get("file", ""),
        pid=pid,
        fault=_FAULTS.get(said.get("pid", "none"), ""),
        family=parse_family(head, master=pid) if pid else None,
        upgrade=_number(said.get("old", "")) if "upgrade" in said else 0,
        reply=reply,
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def parse_family(output: bytes, *, master: int) -> Family:
    """What SCRIPT printed, as values. A process that vanished while it was read is left out."""
    stats: dict[int, re.Match[str]] = {}
    titles: dict[int, str] = {}
    for line in output.decode("utf-8", "backslashreplace").split("\n"):  # grep named the file on these lines, on no others
        path, _, text = line.partition(":")
        pid = path.removeprefix("/proc/").partition("/")[0]
        if not pid.isdigit():
            continue
        if path.endswith("/stat") and (match := _STAT.match(text)):
            stats[int(pid)] = match
        elif path.endswith("/cmdline"):
            titles.setdefault(int(pid), text.strip())  # a title is its first line: an argument may hold line breaks
    found = [_process(match, titles.get(pid, "")) for pid, match in stats.items()]
    return Family(
        master=next((process for process in found if process.pid == master), None),
        children=tuple(process for process in found if process.parent == master),
    )


def _process(match: re.Match[str], title: str) -> Process:
    return Process(
        pid=int(match["pid"]),
        parent=int(match["ppid"]),
        start=int(match["start"]),
        state=match["state"],
        title=title,
    )


def master_problem(pid: int, family: Family) -> str | None:
    """Why this pid may not be signalled; None where it is an nginx master that can act on a signal.

    A pid file is a claim, not a fact: SIGHUP to a stale one killed an innocent process (seen). A stopped master takes the
    signal and does nothing.
    """
    process = family.master
    if process is None:
        return f"no process {pid}"
    if process.state in "ZX":  # /proc has no title for a dead process: nobody can tell what it was
        return f"process {pid} is dead (state {process.state})"
    if not process.is_master:
        return f'process {pid} is "{process.title or "?"}", not an nginx master'
    if process.state in "Tt":
        return f"the nginx master {pid} is stopped (state {process.state}; kill -CONT {pid})"
    return None


def problem(seen: Sighting) -> str | None:
    """The same of what the pid file names. While a new binary takes over (USR2), a HUP to the old master does not read the
    configuration (ngx_process_cycle.c).
    """
    found = master_problem(seen.pid, seen.family) if seen.family else None
    upgrade = f"a binary upgrade is under way ({seen.pid_file}.oldbin names the live process {seen.upgrade})"
    return found or (upgrade if seen.upgrade else None)


def keys(processes: Iterable[Process]) -> frozenset[tuple[int, int]]:
    return frozenset(process.key for process in processes)

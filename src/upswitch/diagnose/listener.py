"""The process behind an address of this machine: what it is, since when it runs, and what its unit, its journal and the kernel say.

Theory. The kernel lists sockets that listen in /proc/net/tcp, tcp6 and unix, each with an inode; the process that has this inode
among its files listens there (proc_pid_net(5), proc_pid_fd(5)). Workers inherit the socket, so the one whose parent has it not is
the master. A process began `starttime` ticks after boot (proc_pid_stat(5)); its cgroup names its unit of systemd.

Arguments may be secrets. So of a command only the program and its script are shown.
"""

import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property

from upswitch.basics.text import plain, printable
from upswitch.basics.value import Value
from upswitch.diagnose.evidence import shown
from upswitch.hosts import sh
from upswitch.hosts.host import Host
from upswitch.logs.line import seconds_of
from upswitch.nginx import processes

_LOOK_S = 30.0  # each program in it has a deadline of its own

MOST = 8
"""Addresses that are looked up."""

_WORDS = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d")
_STAT = re.compile(r"(\d+) \((.*)\) \S (\d+) (?:\S+ ){17}(\d+)")
_INTERPRETER = re.compile(r"(?:python|ruby|php|perl|node|java|dotnet|deno|bun|bash|sh)[\d.]*")
_SCRIPT = re.compile(r"[\w./@+-]+\.(?:py|[cm]?js|ts|rb|ru|php|jar|dll|pl|sh)")
_PATH, _MODULE = re.compile(r"/[\w./@+-]+"), re.compile(r"\w+(?:\.\w+)*")
_KERNEL = r"\[ *(?P<at>\d+\.\d+)\] (?:\S+ kernel: )?"
_KILLED = re.compile(_KERNEL + r"(?:.*: )?Killed process (?P<pid>\d+),? (?:UID \d+,? )?\((?P<name>.*?)\)")
_CRASHED = re.compile(_KERNEL + r"(?:traps: )?(?P<name>.+)\[(?P<pid>\d+)\]:? (?:segfault at|general protection|trap )")
_OF_UNIT = re.compile(r"oom-kill:.*task_memcg=\S*?/([^/,\s]+\.service)\S*,task=.*?,pid=(\d+),")
_LOGGED = re.compile(r"(\d{1,12})\.\d+ \S+ (.*)", re.DOTALL)
_TROUBLE = re.compile(
    r"(?i)err(?:or|no)|fail|fatal|exception|traceback|panic|kill|signal|segfault|abort|timed? ?out|refused|denied|memory"
    r"|max_children|exit|stopp|start|shut|terminat|restart"
)
_WORKERS_NAMED = 2
_MOST_LINES = 8
_MOST_KILLS = 3
_IN_CONTAINER = {"docker-proxy", "rootlessport"}


class Failing(Value):
    """An address at which requests failed. `first` and `last` are times as a log writes them, "" for now."""

    server: str
    first: str = ""
    last: str = ""


class Listener(Value):
    """The process at one address. `pid` is 0 where nobody listens, or where that can't be read.

    `since` is `YYYY/MM/DD hh:mm:ss` in the host's zone, or "". `said` are sentences; `journal` are lines of its unit's, escaped.
    `next` is a command to type, or "".
    """

    server: str
    pid: int = 0
    program: str = ""
    since: str = ""
    is_restarted: bool = False
    unit: str = ""
    said: tuple[str, ...] = ()
    journal: tuple[str, ...] = ()
    next: str = ""


Heard = tuple[tuple[Listener, ...], tuple[str, ...]]
"""The listeners, and what could not be read, a sentence each."""


def look(host: Host, failing: Sequence[Failing], *, pid: int) -> Heard:
    """Those at the first of these addresses, as the network of process `pid` (0: ours) shows them; in one round trip."""
    failing = failing[:MOST]
    if not failing:
        return (), ()
    words = [word for each in failing for word in (_key(each.server), _date(each.first), _date(each.last))]
    ran = host.run(sh.argv("upswitch.diagnose", "listener.sh", str(pid or ""), *words), deadline=_LOOK_S)
    return listeners(ran.out, failing) if ran.exit == 0 else ((), (f"Who listens there can't be read: {ran.words}",))


def listeners(output: bytes, failing: Sequence[Failing]) -> Heard:
    """Those at addresses of this machine. Nothing where /proc says nothing."""
    seen = _Seen(output)
    if not seen.of("network"):
        return (), ()
    found = tuple(seen.listener(each) for each in failing if seen.is_own(each.server))
    return found, tuple(seen.unread()) if found else ()


def _key(server: str) -> str:
    """The socket's path, or the port as /proc/net writes it."""
    port = server.rpartition(":")[2]
    return server.removeprefix("unix:") if server.startswith("unix:") else f"{int(port):04X}"


def _date(time: str) -> str:
    """For `date -d`, which knows the host's zone."""
    seconds = seconds_of(time)
    return time if _WORDS.fullmatch(time) else "now" if seconds is None else f"@{seconds:.0f}"


class _Process(Value):
    pid: int
    parent: int
    name: str
    start: float


class _Seen:
    """What the program printed: by its first word, the rest of each line."""

    def __init__(self, output: bytes) -> None:
        self._lines: dict[str, list[str]] = {}
        for line in output.split(b"\n"):
            word, _, rest = line.partition(b" ")
            self._lines.setdefault(printable(word), []).append(rest.decode("utf-8", "replace"))
        now, up, ticks, zone, self._user = (*self._first("clock").split(" "), *("",) * 5)[:5]
        self._boot = float(now or 0) - float(up or 0)
        self._ticks = int(ticks or 1)
        self._zone = datetime.strptime(zone, "%z").tzinfo if zone else UTC

    def of(self, word: str) -> Sequence[str]:
        return self._lines.get(word, ())

    def is_own(self, server: str) -> bool:
        host = server.rpartition(":")[0].strip("[]")
        return server.startswith("unix:") or ipaddress.ip_address(host).is_loopback or host in self._own

    def unread(self) -> Iterator[str]:
        for each in self.of("unread"):
            yield f"The user {self._user} can't read the kernel's log, so its kills are not seen: {plain(each) or 'no dmesg'}"

    def listener(self, failing: Failing) -> Listener:
        inodes = self._inodes(failing.server)
        holders = {pid for each in self.of("holds") for inode, pid in [each.split(" ")] if inode in inodes}
        began = dict(each.rsplit(" ", 1) for each in self.of("began")).get(_key(failing.server), "0")
        group = sorted((each for pid, each in self._processes.items() if pid in holders), key=lambda each: each.start)
        if not inodes or not group:
            return self._without(failing.server, is_there=bool(inodes))
        master = next((each for each in group if str(each.parent) not in holders and each.pid != 1), group[0])
        unit, is_later = self._units.get(str(master.pid), ""), master.start > float(began) + 1
        others = [each for each in group if each is not master]
        program = self._program(master)
        return Listener(
            server=failing.server,
            pid=master.pid,
            program=program,
            since=self._clock(master.start),
            is_restarted=is_later,
            unit=unit,
            said=(
                *self._about(master, program, others, began=float(began), port=failing.server.rpartition(":")[2]),
                *self._unit_said(unit),
                *self._kills(unit, {each.name for each in group}),
            ),
            journal=self._journal(unit),
            next=self._next(unit, float(began)) or _containers(master.name, failing.server),
        )

    def _without(self, server: str, *, is_there: bool) -> Listener:
        """Nobody listens; or the process is another user's, and only root may see whose a socket is."""
        if is_there:
            return Listener(
                server=server, said=(f"A program listens at {server}. The user {self._user} may not see which: run this as root.",)
            )
        failed = self.of("failed")
        unit = failed[0] if len(failed) == 1 else ""
        said = (
            f"No program of this machine listens at {server} now.",
            *(text for each in failed for text in self._unit_said(each)),
        )
        return Listener(
            server=server,
            said=(*said, *self._kills("", None)),
            journal=self._journal(unit),
            next=self._next(unit, 0),
        )

    def _about(self, master: _Process, program: str, others: Sequence[_Process], *, began: float, port: str) -> Iterator[str]:
        if master.pid == 1:
            yield "systemd itself holds this socket (a .socket unit). The program behind it is not running."
            return
        many = f", and {len(others)} more process{'es' if len(others) > 1 else ''} of it" if others else ""
        yield f"{program} (pid {master.pid}{many}) listens there."
        if master.name in _IN_CONTAINER:
            yield f"It only forwards port {port} into a container, where the program runs."
        if master.start > began + 1:
            yield f"It was restarted at {self._clock(master.start)}, after the failures began ({self._clock(began)})."
        else:
            yield f"It has run since {self._clock(master.start)}, from before the failures."
        late = [each for each in others if each.start > max(began, master.start) + 1]
        for each in late[-_WORKERS_NAMED:]:
            yield f"Its worker {each.pid} was started at {self._clock(each.start)}, after the failures began."

    def _unit_said(self, unit: str) -> Iterator[str]:
        rows = [each.partition(" ")[2].partition("=") for each in self.of("show") if each.startswith(f"{unit} ")]
        told = {name: plain(value) for name, _, value in rows}
        if not unit or not told:
            return
        state = f"{told.get('ActiveState')} ({told.get('SubState')})"
        restarts, result = told.get("NRestarts", "0"), told.get("Result", "success")
        again = f" and has restarted it {restarts} time{'' if restarts == '1' else 's'}" if restarts != "0" else ""
        yield f"systemd calls {unit} {state}{again}."
        if result != "success":
            yield f"Its last run ended with {result}, status {told.get('ExecMainStatus')}."

    def _kills(self, unit: str, names: Collection[str] | None) -> Iterator[str]:
        """What the kernel killed of this unit or of processes of these names; None: of any."""
        lines = [printable(each.encode()) for each in self.of("kernel")]
        units = {oom[2]: oom[1] for each in lines if (oom := _OF_UNIT.search(each))}
        found = list[str]()
        for each in lines:
            death = _KILLED.match(each) or _CRASHED.match(each)
            its = units.get(death["pid"], "") if death else ""
            if death and (names is None or (its == unit if unit and its else death["name"] in names)):
                at = f"process {death['pid']} ({death['name']}) at {self._clock(self._boot + float(death['at']))}"
                memory = f"The kernel killed {at} for lack of memory. Give it more memory, or let it use less."
                found.append(memory if death.re is _KILLED else f"The kernel reports a crash of {at}.")
        yield from found[-_MOST_KILLS:]

    def _journal(self, unit: str) -> tuple[str, ...]:
        """The lines that tell of trouble, else the last ones."""
        rows = [each.partition(" ")[2] for each in self.of("line") if unit and each.startswith(f"{unit} ")]
        lines = [self._logged(each) for each in rows]
        return tuple(([each for each in lines if _TROUBLE.search(each)] or lines)[-_MOST_LINES:])

    def _logged(self, line: str) -> str:
        found = _LOGGED.fullmatch(line)
        text = f"{self._clock(float(found[1]))} {found[2]}" if found else line
        return shown(text.encode())

    def _next(self, unit: str, began: float) -> str:
        since = f' --since "{self._clock(began)}"'.replace("/", "-") if began else ""
        return f"journalctl -u {unit} --no-pager{since}" if unit else ""

    def _program(self, process: _Process) -> str:
        words = next((each.partition(" ")[2] for each in self.of("command") if each.startswith(f"{process.pid} ")), "")
        return shown(command(words.split("\037")).encode()) or plain(process.name)

    def _clock(self, at: float) -> str:
        return f"{datetime.fromtimestamp(at, UTC).astimezone(self._zone):%Y/%m/%d %H:%M:%S}"

    def _first(self, word: str) -> str:
        return next(iter(self.of(word)), "")

    def _inodes(self, server: str) -> frozenset[str]:
        if server.startswith("unix:"):
            return frozenset(each.split(" ")[0] for each in self.of("unix") if each.split(" ", 1)[1] == _key(server))
        port = server.rpartition(":")[2]
        wanted = {server, f"0.0.0.0:{port}", f"[::]:{port}"}
        return frozenset(
            inode for each in self.of("tcp") for inode, at in [each.split(" ")] if processes.address(at.encode()) in wanted
        )

    @cached_property
    def _own(self) -> frozenset[str]:
        six = (f"{ipaddress.IPv6Address(bytes.fromhex(each))}" for each in self.of("own6"))
        return frozenset((*self.of("own"), *six))

    @cached_property
    def _units(self) -> Mapping[str, str]:
        return dict(each.split(" ", 1) for each in self.of("unit"))

    @cached_property
    def _processes(self) -> Mapping[str, _Process]:
        found = filter(None, map(_STAT.match, self.of("stat")))
        return {
            pid: _Process(pid=int(pid), parent=int(parent), name=name, start=self._boot + int(start) / self._ticks)
            for pid, name, parent, start in (each.groups() for each in found)
        }


def command(words: Sequence[str]) -> str:
    """The program and its script. No other argument is shown: it may be a secret."""
    title, *rest = words
    title = re.split(r" -| \S*[=?]| \S+://", title, maxsplit=1)[0]  # a process may write all of its command into its title
    if not _INTERPRETER.fullmatch(title.rpartition("/")[2]):
        return title
    script = next((each for each in rest[:6] if _SCRIPT.fullmatch(each)), "")
    if not script and rest and _PATH.fullmatch(rest[0]):
        script = rest[0]
    if rest[:1] == ["-m"] and _MODULE.fullmatch((*rest, "")[1]):
        script = f"-m {rest[1]}"
    return f"{title} {script}".strip()


def _containers(name: str, server: str) -> str:
    return f"docker ps --filter publish={server.rpartition(':')[2]}" if name == "docker-proxy" else ""

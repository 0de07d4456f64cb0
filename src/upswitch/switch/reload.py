"""Draining idle clients, reloading, and the proof of the reload."""

import contextlib
from itertools import takewhile

from upswitch.basics.errors import HostError, NotAppendedError
from upswitch.basics.result import Result, Took, Why
from upswitch.basics.text import told
from upswitch.basics.value import Value
from upswitch.generations.survey import Facts
from upswitch.hosts.host import Chunk, Host, Ports, Ran
from upswitch.hosts.sh import SH, Exit, script
from upswitch.hosts.wait import until
from upswitch.logs import error_line
from upswitch.nginx import commands, configuration, processes
from upswitch.nginx.marker import parse_marker
from upswitch.nginx.processes import Family, Process
from upswitch.nginx.running import ask, ask_marker, read_family, read_running
from upswitch.site.model import Nginx
from upswitch.switch import proof
from upswitch.switch.proof import Finding, Proof, Sample

_RELOAD = 30.0  # seconds for the reload command; it parses the whole configuration first
_LOOK_EVERY = 0.02
_SCRIPT = 5.0  # seconds for what is around it
_ROUND = 10.0  # seconds for several looks in one go: 0.3, and what a stranger in the marker's place may draw out
_MARKS_AT_ONCE = 5
_LOWER = 10.0  # seconds to raise or lower it: another run may be doing that
_FLAG_SEEN = 6.0  # seconds for nginx to see the flag; it looks at every request, and a busy container is slow to be asked
_DRAINING = b"draining\n"
_FLAG_LEFT = 45.0  # seconds beyond the drain after which a flag lowers itself: enough for a reload and its proof
_QUIET_LOOKS = 3
_DIGITS = 10  # a stranger may answer in nginx's place
_PACKAGE = "upswitch.switch"
KILLED = 137
"""The exit of a reload command that did not end in time."""


class Before(Value):
    """The state just before a reload: who the children were, where the error log ended, and when it was (see above)."""

    family: Family
    inode: int = 0
    size: int = 0
    at: float = 0.0


class Reloader:
    """One host's reloads. `reload` remembers what was before; `confirm` proves what came of it."""

    def __init__(self, ports: Ports, nginx: Nginx, facts: Facts) -> None:
        self._ports = ports
        self._host: Host = ports.host
        self._nginx = nginx
        self._facts = facts
        self._master = facts.running.family.master if facts.running.family and not facts.running.problem else None
        self._before: Before | None = None
        self._asked_at = 0.0
        self._can_sample = True
        self.may_act = True  # whether a reload may have reached nginx; also one that a killed run began
        self.is_refused = False  # whether the last one failed
        self._raised = 0  # a token of its own for each raise: an older watcher must not lower a younger flag

    # ---- drain: nginx before 1.27.4 ----

    def drain(self, limit: float, token: str) -> Took:
        """Raise the flag, wait until nginx itself says that it drains, then until no client is idle, at most `limit` seconds."""
        self._raised += 1
        if limit <= 0:
            return Took(result=Result.OK, said="off (nginx.drain = 0)")
        ran = self._host.run(
            commands.raise_flag(self._nginx.drain_flag, f"{token}.{self._raised}.", tenths=round((limit + _FLAG_LEFT) * 10)),
            deadline=_LOWER,
        )
        if ran.exit != 0:
            return Took(result=Result.FAILED, said=f"can't create {self._nginx.drain_flag}: {ran.words}", why=ran.why)
        answer = until(
            lambda said: said == _DRAINING,
            lambda: ask(self._host, self._nginx, path="/drain"),
            every=_LOOK_EVERY,
            clock=self._ports.clock,
            within=_FLAG_SEEN,
        )
        if answer != _DRAINING:
            self.lower(token)
            said = f"nginx does not see {self._nginx.drain_flag}: the user of nginx's workers must be able to enter that folder"
            if answer is None:  # a slow host: that says nothing of the flag
                said = f"nginx did not say within {_FLAG_SEEN:g} s whether it sees {self._nginx.drain_flag}"
            return Took(result=Result.FAILED, said=said, why=Why.NO_ANSWER if answer is None else Why.DRAIN_FLAG)
        return Took(result=Result.OK, said=self._wait_idle(limit))

    def lower(self, token: str) -> None:
        """Lower the flag for this run; where that fails it lowers itself. A host that is gone must not hide how the run ended."""
        with contextlib.suppress(HostError):
            self._host.run(commands.lower_flag(self._nginx.drain_flag, f"{token}."), deadline=_LOWER)

    def _wait_idle(self, limit: float) -> str:
        """Wait until no connection is idle. Without stub_status that can't be seen, and the whole limit passes."""
        clock = self._ports.clock
        began = clock.monotonic()
        quiet = 0

        def look() -> int | None:
            nonlocal quiet
            waiting = _waiting(ask(self._host, self._nginx, path="/connections"))
            quiet = quiet + 1 if waiting == 0 else 0
            return waiting

        left = until(lambda _: quiet >= _QUIET_LOOKS, look, every=_LOOK_EVERY, clock=clock, within=limit)
        idle = "" if left is None else f", {left} are left"
        return f"idle clients were asked to close their connections for {clock.monotonic() - began:.1f} s{idle}"

    # ---- reload and proof ----

    def reload(self) -> Took:
        """Reload a master that was verified just now. An exit code of 0 only says that the command ran."""
        argv = commands.reload(self._nginx, self._facts.build)
        took = self._asked(argv)
        # `nginx -s reload` sends no signal where it fails. Another command may have failed after that.
        is_nginx = argv[0] == self._nginx.binary and argv[-2:] == ("-s", "reload")
        if is_nginx and took.why is Why.RELOAD_REFUSED:
            # Another site of this nginx may have swapped between its look into a folder and its reading of a file there: seen.
            took = self._asked(argv)
        self.is_refused = took.result is Result.FAILED
        is_unasked = self.is_refused and (took.why is Why.NO_MASTER or is_nginx)
        self.may_act = self.may_act or not is_unasked
        return took

    def _asked(self, argv: tuple[str, ...]) -> Took:
        ran = self._reloaded(argv) if self._master else None
        if ran is None:  # never verified, or nginx has been restarted since
            running = read_running(self._host, self._nginx, self._facts.pid_file)
            if running.problem or running.family is None:
                return Took(result=Result.FAILED, said=f"nginx was not reloaded: {running.problem}", why=Why.NO_MASTER)
            self._master = running.family.master
            ran = self._reloaded(argv)
        if ran is None:
            return Took(
                result=Result.FAILED, said="nginx was not reloaded: its master process changes again and again", why=Why.NO_MASTER
            )
        if ran.exit is None:
            return Took(result=Result.UNKNOWN, said=f"{argv[0]}: {ran.words}", why=ran.why)
        if ran.exit == KILLED:
            return Took(result=Result.UNKNOWN, said=f"{argv[0]} did not end within {_RELOAD:g} s")
        if ran.exit != 0:
            said = f"{' '.join(argv)}: exit {ran.exit}: {told(ran.err)}"
            return Took(result=Result.FAILED, said=said, why=Why.RELOAD_REFUSED)
        return Took(result=Result.OK, said=f"asked master process {self._pid} to reload")

    def _reloaded(self, argv: tuple[str, ...]) -> Ran | None:
        """None where the master is not the one that was verified: nothing was done."""
        master = self._master
        if master is None:
            return None
        self._asked_at = self._ports.clock.monotonic()
        command = reload_argv(argv, master, pid_file=self._facts.pid_file, log=self._facts.error_log, seconds=_RELOAD)
        ran = self._host.run(command, deadline=_RELOAD + _SCRIPT)
        mark = parse_reload(ran.out, master)
        if mark is None and ran.exit == Exit.CHANGED:
            return None
        self._before = mark
        return ran

    @property
    def _pid(self) -> int:
        return self._master.pid if self._master else 0

    def confirm(self, want: str) -> Finding:
        """What the reload came to for generation `want`. A run that lost its `before` in a crash reloads once more."""
        if self._before is None:
            again = self.reload()
            if again.result is Result.FAILED or self._before is None:
                return Finding(proof=Proof.UNKNOWN, said=again.said, why=again.why)
        before = self._before
        samples: list[Sample] = []
        is_slow = not self._facts.is_conf_read or configuration.named_servers(self._facts.conf)
        deadline = proof.DEADLINE_NAMES if is_slow else proof.DEADLINE
        clock = self._ports.clock

        def look() -> Finding:
            found = Finding(proof=Proof.WAITING, said="nothing was seen")
            try:
                for sample in self._samples(before):
                    samples.append(sample)
                    found = proof.judge(before.family, samples, want=want, deadline=deadline)
                    if found.proof is not Proof.WAITING:
                        break
            except NotAppendedError:
                raise
            except HostError as exc:  # a look that was cut off shows nothing, neither a dead master nor a live one
                is_late = clock.monotonic() - self._asked_at >= deadline
                return Finding(proof=Proof.UNKNOWN if is_late else Proof.WAITING, said=str(exc), why=exc.why)
            return found

        return until(lambda seen: seen.proof is not Proof.WAITING, look, every=_LOOK_EVERY, clock=clock)

    def _samples(self, before: Before) -> tuple[Sample, ...]:
        """What came next: several moments at once where the host has bash, else one."""
        if self._can_sample:
            ran = self._host.run(sample_argv(before, self._nginx.marker, self._facts.error_log), deadline=_ROUND)
            if ran.exit is None:
                raise HostError("watch nginx reload", ran.words, why=ran.why)
            found = parse_samples(ran.out, before) if ran.exit == 0 else ()
            if found:
                return found
            self._can_sample = False
        return (self._sample(before),)

    def _sample(self, before: Before) -> Sample:
        family = read_family(self._host, self._pid)
        asked = (ask_marker(self._host, self._nginx) for _ in range(_MARKS_AT_ONCE))
        marks = takewhile(lambda mark: mark is not None, asked)  # a stranger who never answers is asked once
        emerg, fatal = self._complaints(before)
        return Sample(
            at=self._ports.clock.monotonic() - self._asked_at,
            family=family,
            marks=tuple(mark for mark in marks if mark is not None),
            emerg=emerg,
            fatal=fatal,
        )

    def _complaints(self, before: Before) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The master's own [emerg] lines since the mark, and those about workers that can't be started."""
        chunk = self._log(offset=before.size)
        if chunk is not None and (chunk.inode != before.inode or chunk.size < before.size):
            chunk = self._log()  # rotated since: all of the new file is news
        lines = chunk.data.splitlines() if chunk else []
        return (
            error_line.emerg_lines(lines, self._pid),
            error_line.fatal_lines(lines, self._pid),
        )

    def _log(self, *, offset: int = 0, limit: int = 1 << 24) -> Chunk | None:
        """The error log only explains: one that can't be read must not stop a reload, least of all a way back."""
        try:
            return self._host.read(self._facts.error_log, offset=offset, limit=limit) if self._facts.error_log else None
        except HostError:
            return None


def _waiting(status: bytes | None) -> int | None:
    """Idle client connections of a stub_status answer; None where it says nothing."""
    words = status.split() if status else []
    return int(words[-1]) if b"Waiting:" in words and words[-1].isdigit() and len(words[-1]) < _DIGITS else None


# ---- two programs, each for one round trip; proof.py judges what they print ----


def reload_argv(command: tuple[str, ...], master: Process, *, pid_file: str, log: str, seconds: float) -> tuple[str, ...]:
    place = (pid_file, str(master.pid), str(master.start), log)
    return (*SH, script(_PACKAGE, "reload.sh"), "reload", *place, processes.SCRIPT, f"{seconds:g}", *command)


def parse_reload(output: bytes, master: Process) -> Before | None:
    """None where the command was not begun."""
    head, begun, _ = output.partition(b"\nreload\n")
    if not begun:
        return None
    said = {word: rest for word, _, rest in (line.partition(" ") for line in head.decode("utf-8", "replace").split("\n"))}
    inode, _, size = said.get("log", "").partition(" ")
    family = processes.parse_family(head, master=master.pid)
    return Before(family=family, inode=int(inode or 0), size=int(size or 0), at=float(said["up"]))


def sample_argv(before: Before, marker: str, log: str) -> tuple[str, ...]:
    """Needs bash; `marker` is IP:PORT."""
    master = before.family.master
    ip, _, port = marker.rpartition(":")
    pids = "".join(f" {child.pid} " for child in before.family.children)
    place = (str(before.inode), str(before.size))
    return (
        "bash",
        "-c",
        script(_PACKAGE, "sample.bash"),
        "sample",
        str(master.pid if master else 0),
        ip.strip("[]"),
        port,
        log,
        *place,
        pids,
    )


def parse_samples(output: bytes, before: Before) -> tuple[Sample, ...]:
    """In their order. A last one that is not complete is one of them: what it lacks it does not show."""
    lines: list[bytes] = []
    found = []
    for text in (b"\n" + output).split(b"\nsample ")[1:]:
        at, _, rest = text.partition(b"\n")
        lines += [line[4:] for line in rest.split(b"\n") if line.startswith(b"log ")]
        found.append(_sample(float(at), rest, lines, before))
    return tuple(found)


def _sample(at: float, text: bytes, lines: list[bytes], before: Before) -> Sample:
    pid = before.family.master.pid if before.family.master else 0
    answers = (parse_marker(line[5:]) for line in text.split(b"\n") if line.startswith(b"mark "))
    marks = takewhile(lambda mark: mark is not None, answers)
    return Sample(
        at=at - before.at,
        family=processes.parse_family(text, master=pid),
        marks=tuple(mark for mark in marks if mark is not None),
        emerg=error_line.emerg_lines(lines, pid),
        fatal=error_line.fatal_lines(lines, pid),
    )

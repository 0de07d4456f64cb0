"""Draining idle clients, reloading, and the proof of the reload."""

from itertools import takewhile

from upswitch import survey
from upswitch.core import confirm, errorlog, nginxconf, scripts
from upswitch.core.confirm import Finding, Proof, Sample
from upswitch.core.errors import HostError
from upswitch.core.foreign import told
from upswitch.core.processes import Family
from upswitch.core.run import Took
from upswitch.core.site import Nginx
from upswitch.core.words import Result, Value
from upswitch.marker import ask, ask_marker
from upswitch.ports import Chunk, Host, Ports
from upswitch.survey import Facts
from upswitch.waiting import Pace

_RELOAD = 30.0  # seconds for the reload command; it parses the whole configuration first
_LOOK_EVERY = 0.02
_MARKS_AT_ONCE = 5
_FLAG_SEEN = 2.0  # seconds for nginx to see the flag; it looks at every request
_FLAG_LEFT = 45.0  # seconds beyond the drain after which a flag that nobody lowered lowers itself: a reload and its proof
_QUIET_LOOKS = 3
_DIGITS = 10  # a stranger may answer in nginx's place


class _Mark(Value):
    """The state just before a reload: who the children were, where the error log ended, when it was."""

    family: Family
    inode: int
    size: int
    at: float


class Reloader:
    """One host's reloads. `reload` remembers what was before; `confirm` proves what came of it."""

    def __init__(self, ports: Ports, nginx: Nginx, facts: Facts) -> None:
        self._ports = ports
        self._host: Host = ports.host
        self._nginx = nginx
        self._facts = facts
        self._pid = facts.running.pid
        self._before: _Mark | None = None
        self._raised = 0  # a token of its own for each raise: an older watcher must not lower a younger flag

    # ---- drain: nginx before 1.27.4 ----

    def drain(self, limit: float, token: str) -> Took:
        """Raise the flag, wait until nginx itself says that it drains, then until no client is idle, at most `limit` seconds."""
        self._raised += 1
        if limit <= 0:
            return Took(result=Result.OK, said="not wanted (nginx.drain = 0)")
        ran = self._host.run(
            scripts.raise_flag(self._nginx.drain_flag, f"{token}.{self._raised}", tenths=round((limit + _FLAG_LEFT) * 10)),
            deadline=5.0,
        )
        if ran.exit != 0:
            return Took(result=Result.FAILED, said=f"can't raise {self._nginx.drain_flag}: {told(ran.err)}")
        if not self._says_draining():
            self.lower()
            said = f"nginx does not see {self._nginx.drain_flag}: can its worker user enter that folder? (nginx.drain_flag)"
            return Took(result=Result.FAILED, said=said)
        return Took(result=Result.OK, said=self._wait_idle(limit))

    def lower(self) -> None:
        """Lower the flag; where that fails it lowers itself."""
        self._host.run(scripts.lower_flag(self._nginx.drain_flag), deadline=5.0)

    def _says_draining(self) -> bool:
        clock = self._ports.clock
        until = clock.monotonic() + _FLAG_SEEN
        pace = Pace(_LOOK_EVERY, monotonic=clock.monotonic, sleep=clock.sleep)
        answer = pace.until(
            lambda said: said == b"draining\n" or clock.monotonic() >= until,
            lambda: ask(self._host, self._nginx, path="/drain"),
        )
        return answer == b"draining\n"

    def _wait_idle(self, limit: float) -> str:
        """Until no connection waits for its next request; without stub_status nobody can tell, and the whole limit passes."""
        clock = self._ports.clock
        began = clock.monotonic()
        quiet = 0

        def look() -> int | None:
            nonlocal quiet
            waiting = _waiting(ask(self._host, self._nginx, path="/connections"))
            quiet = quiet + 1 if waiting == 0 else 0
            return waiting

        pace = Pace(_LOOK_EVERY, monotonic=clock.monotonic, sleep=clock.sleep)
        left = pace.until(lambda _: quiet >= _QUIET_LOOKS or clock.monotonic() - began >= limit, look)
        idle = "" if left is None else f", {left} idle client connections left"
        return f"clients were told to close for {clock.monotonic() - began:.1f} s{idle}"

    # ---- reload and proof ----

    def reload(self) -> Took:
        """Reload a master that was verified just now. An exit code of 0 only says that the command ran."""
        running = survey.read_running(self._host, self._nginx, self._facts.pid_file)  # nginx may have been restarted since
        if running.problem or running.family is None:
            return Took(result=Result.FAILED, said=f"no signal was sent: {running.problem}")
        family, self._pid = running.family, running.pid
        log = self._log(limit=0)
        self._before = _Mark(
            family=family,
            inode=log.inode if log else 0,
            size=log.size if log else 0,
            at=self._ports.clock.monotonic(),
        )
        argv = scripts.reload(self._nginx, self._facts.build)
        ran = self._host.run(argv, deadline=_RELOAD)
        if ran.exit is None:
            return Took(result=Result.UNKNOWN, said=f"{argv[0]} did not end within {_RELOAD:g} s")
        if ran.exit != 0:
            return Took(result=Result.FAILED, said=f"{' '.join(argv)}: exit {ran.exit}: {told(ran.err)}")
        return Took(result=Result.OK, said=f"asked the master {self._pid}")

    def confirm(self, want: str) -> Finding:
        """What the reload came to for generation `want`. A run that lost its `before` in a crash reloads once more."""
        if self._before is None:
            again = self.reload()
            if again.result is Result.FAILED:
                return Finding(proof=Proof.UNKNOWN, said=again.said)
        before = self._before
        if before is None:
            raise RuntimeError("a reload that did not fail left no mark")
        samples: list[Sample] = []
        is_slow = not self._facts.is_conf_read or nginxconf.named_servers(self._facts.conf)
        deadline = confirm.DEADLINE_NAMES if is_slow else confirm.DEADLINE

        clock = self._ports.clock

        def look() -> Finding:
            try:
                samples.append(self._sample(before))
            except HostError as exc:  # a look that was cut off shows nothing, neither a dead master nor a live one
                is_late = clock.monotonic() - before.at >= deadline
                return Finding(proof=Proof.UNKNOWN if is_late else Proof.WAITING, said=str(exc))
            return confirm.judge(before.family, samples, want=want, deadline=deadline)

        pace = Pace(_LOOK_EVERY, monotonic=clock.monotonic, sleep=clock.sleep)
        return pace.until(lambda seen: seen.proof is not Proof.WAITING, look)

    def _sample(self, before: _Mark) -> Sample:
        family = survey.read_family(self._host, self._pid)
        asked = (ask_marker(self._host, self._nginx) for _ in range(_MARKS_AT_ONCE))
        marks = takewhile(lambda mark: mark is not None, asked)  # a stranger who never answers is asked once
        emerg, fatal = self._complaints(before)
        return Sample(
            at=self._ports.clock.monotonic() - before.at,
            family=family,
            marks=tuple(mark for mark in marks if mark is not None),
            emerg=emerg,
            fatal=fatal,
        )

    def _complaints(self, before: _Mark) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The master's own [emerg] lines since the mark, and those about workers that can't be started."""
        chunk = self._log(offset=before.size)
        if chunk is not None and (chunk.inode != before.inode or chunk.size < before.size):
            chunk = self._log()  # rotated since: all of the new file is news
        lines = chunk.data.splitlines() if chunk else []
        return (
            errorlog.emerg_lines(lines, self._pid),
            errorlog.fatal_lines(lines, self._pid),
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

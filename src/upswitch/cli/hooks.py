"""Hooks: commands of the owner that run on this machine before a switch and after a result ([hooks], docs/notices.md).

A hook after a result never changes it. Of its output only the end is kept, and its input is a file: a hook that reads nothing, or
prints without end, holds nobody.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from typing import IO

import msgspec

from upswitch.basics.errors import HostError, Refusal, RefusedError, UntrustedError
from upswitch.basics.result import Why
from upswitch.basics.text import told
from upswitch.basics.value import Value
from upswitch.cli import journald
from upswitch.cli.views import View
from upswitch.cli.views.acted import Acted
from upswitch.cli.views.fleet import FleetView
from upswitch.cli.views.keys import encoded
from upswitch.hosts.local import trusted
from upswitch.site.model import Site

_KEPT = 4096  # bytes of the end of a hook's output
_LAST = 3  # lines of it in a refusal
_LINGER_S = 0.2  # for the rest of the output, which a child that the hook leaves behind may hold open for ever


class HookRan(Value):
    """How a hook ended. `problem` is "" where it exited with 0."""

    problem: str
    output: bytes = b""

    @property
    def last_lines(self) -> str:
        return told(b"\n".join(self.output.splitlines()[-_LAST:]))


def before(site: Site, command: str, pool: str, journal: str) -> None:
    """RefusedError where the hook before_switch does not exit with 0."""
    if command != "switch" or not site.hooks.before_switch:
        return
    ran = run(
        site.hooks.before_switch, msgspec.json.encode({"command": command, "site": site.name, "pool": pool}), site.hooks.timeout
    )
    journald.hook("before_switch", ran.problem, ran.last_lines, journal)
    if ran.problem:
        said = ": ".join(filter(None, (f"the hook before_switch refused the switch ({ran.problem})", ran.last_lines)))
        raise RefusedError(Refusal(what=said, hint="do what the hook says, or change [hooks] in the site file", why=Why.HOOK))


def after(site: Site, view: View, journal: str) -> tuple[str, ...]:
    """Run the hook of this result. A line where it failed."""
    name, argv = site.hooks.after(view.outcome) if isinstance(view, Acted | FleetView) else ("", ())
    if not argv:
        return ()
    ran = run(argv, msgspec.json.encode(encoded(view)), site.hooks.timeout)
    journald.hook(name, ran.problem, ran.last_lines, journal)
    return (": ".join(filter(None, (f"HOOK FAILED: {name}: {ran.problem}", ran.last_lines))),) if ran.problem else ()


def run(argv: Sequence[str], stdin: bytes, timeout: float) -> HookRan:
    """Run a hook in a session of its own, and kill that at its timeout. Nobody else may write the program."""
    try:
        trusted.check(argv[0])
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            process = subprocess.Popen(
                argv, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, cwd="/"
            )
    except UntrustedError as exc:
        return HookRan(problem=f"it was not run: {exc}")
    except (OSError, HostError) as exc:
        return HookRan(problem=f"it can't be run: {exc}")
    tail = _Tail(process.stdout)
    try:
        code = process.wait(timeout)
        problem = f"exit {code}" if code > 0 else f"killed by signal {-code}" if code else ""
    except subprocess.TimeoutExpired:
        problem = f"no end within {timeout:g} s"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return HookRan(problem=problem, output=tail.end())


class _Tail:
    """Reads a pipe to its end, and keeps the last of it."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._pipe = pipe
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def end(self) -> bytes:
        self._thread.join(_LINGER_S)
        return self._kept

    def _read(self) -> None:
        if self._pipe is None:
            return
        with self._pipe as pipe:
            while data := os.read(pipe.fileno(), 1 << 16):
                self._kept = (self._kept + data)[-_KEPT:]

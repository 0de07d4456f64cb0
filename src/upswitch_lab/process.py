"""Real processes of the laboratory, in their own session and ended by their id; and the loopback addresses that they listen on.

Addresses are HOST:PORT.
"""

import atexit
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import cycle
from typing import IO, ClassVar

from upswitch.basics.value import Value

_COMMAND_S = 30.0
_WAY_BACK_S = 15.0  # after a Ctrl-C
_PORTS = range(10000, 32400)  # below the kernel's ephemeral range: there an outgoing connection of a load could take one
_BLOCK = 400


class LabError(Exception):
    """The laboratory could not do it; the text says what it was and shows what the process said."""


def until(condition: Callable[[], bool], *, deadline: float = 10.0, what: str = "a condition") -> None:
    """Return as soon as `condition` holds; LabError after `deadline` seconds. What takes long is looked at less often."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        if waited > deadline:
            raise LabError(f"waited {deadline:g} s for {what}, and it did not come")
        time.sleep(min(0.1, max(0.01, waited / 20)))


def free_port(host: str) -> int:
    """A port that nobody listens on, and that no other process of a laboratory is given while this one lives."""
    ports = _own_ports(os.getpid())
    for port in (next(ports) for _ in range(_BLOCK)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((host, port))
                return port
    raise LabError(f"all {_BLOCK - 1} ports of this process are in use")


@cache
def _own_ports(pid: int) -> Iterator[int]:
    """One after the other and round again: a port that was given a moment ago may not be bound yet. A fork has its own."""
    del pid
    for first in _PORTS[::_BLOCK]:
        lock = socket.socket()
        try:
            lock.bind(("127.0.0.1", first))
        except OSError:
            lock.close()
            continue
        atexit.register(lock.close)  # nobody else has the block until the process ends, however it ends
        return cycle(range(first + 1, first + _BLOCK))
    raise LabError(f"every block of ports from {_PORTS.start} to {_PORTS.stop} is another process's")


def is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, int(port))) == 0


def ask(address: str, path: str, *, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET" if body is None else "POST", path, body, {"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Process:
    """One child in its own session, so that Ctrl-C at the terminal reaches us alone. Its stdin is our pipe."""

    popen: ClassVar[Callable[..., "subprocess.Popen[bytes]"]] = subprocess.Popen
    """Tests set it: they start our own programs as forks, which is cheaper."""

    def __init__(self, argv: tuple[str, ...], *, out: IO[bytes]) -> None:
        self._popen = Process.popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        """Not yet ended. The dead child is left unreaped: until `end` its number can be nobody else's."""
        if self._popen.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None

    def signal(self, number: signal.Signals) -> None:
        if self.is_alive:
            os.kill(self.pid, number)

    def close_stdin(self) -> None:
        if self._popen.stdin is not None:
            self._popen.stdin.close()

    def end(self, *, patience: float = 5.0) -> None:
        """SIGTERM, after `patience` seconds SIGKILL; then SIGKILL to what is left of its group (orphaned workers)."""
        if self._popen.returncode is not None:
            return
        self.close_stdin()
        self.signal(signal.SIGTERM)
        with suppress(LabError):
            until(lambda: not self.is_alive, deadline=patience)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


class Typed(Value):
    """One command and what came of it. `exit` is as the shell would see it, `output` its stdout."""

    command: str
    exit: int
    seconds: float
    output: str


class Prompt:
    """Runs commands in `folder` and shows each with its output through `say`. Their stderr is ours."""

    def __init__(self, folder: str, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say

    def type(self, command: str) -> Typed:
        """`switch ...` or `upswitch ...`. LabError where it does not end."""
        self._say(f"\n$ {command}")
        typed = self.run(command)
        self._say(f"{typed.output.rstrip()}\n(exit {typed.exit}, {typed.seconds:.1f} s)")
        return typed

    def run(self, command: str) -> Typed:
        """The same, unshown."""
        words = shlex.split(command)
        arguments = words[1:] if words[0] == "upswitch" else words  # the `switch` script is `upswitch switch`
        began = time.monotonic()
        # -P and absolute paths: the folder holds one named upswitch, which must not be taken for the package
        paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        child = subprocess.Popen(
            (sys.executable, "-P", "-m", "upswitch", *arguments),
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = child.communicate(timeout=_COMMAND_S)
        except subprocess.TimeoutExpired as exc:
            raise LabError(f"`{command}` did not end within {_COMMAND_S:g} s") from exc
        finally:
            _end(child)
        return Typed(command=command, exit=child.returncode, seconds=round(time.monotonic() - began, 3), output=output)


def _end(child: subprocess.Popen[str]) -> None:
    """Cut short, it is asked to end as by Ctrl-C and gets the time for it: it may be on its way back."""
    if child.returncode is not None:
        return
    child.terminate()
    try:
        child.communicate(timeout=_WAY_BACK_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()

"""What runs around a laboratory's nginx: the servers of its pools and the load, each a process of its own."""

import http.client
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from upswitch_lab.load import Progress, Summary
from upswitch_lab.net import ask, is_listening
from upswitch_lab.process import LabError, Process, until


class Server:
    """One server of a pool, a process of its own. `name` is what it answers with."""

    def __init__(self, name: str, port: int, log: Path) -> None:
        self.name, self.port, self._log = name, port, log
        self._process = self._start(())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def mode(self, mode: str, *, lying: bool = False) -> None:
        """ok, reset, close, hang, error or sick from the next request on; `lying` leaves /healthz saying ok."""
        status, text = ask(self.address, "/__mode", body=f"{mode} lying" if lying else mode)
        if status != http.client.OK:
            raise LabError(f"{self.name} refused the mode {mode}: {text}")

    def kill(self) -> None:
        """SIGKILL; its port refuses from the return on."""
        self._process.signal(signal.SIGKILL)
        self._process.end()

    def restart(self, *options: str) -> None:
        """A new process on the same port; `options` are further arguments of upswitch_lab.backend."""
        self._process.end()
        self._process = self._start(options)
        self.await_listening()

    def await_listening(self) -> None:
        until(lambda: is_listening(self.address) or not self._process.is_alive, what=f"{self.name} on {self.address}")
        if not self._process.is_alive:
            raise LabError(f"{self.name} ended: {self._log.read_text()}")

    def end(self) -> None:
        self._process.end()

    def _start(self, options: Sequence[str]) -> Process:
        module = (sys.executable, "-m", "upswitch_lab.backend", "--until-stdin-closes")
        with self._log.open("ab") as out:
            return Process((*module, "--name", self.name, "--port", str(self.port), *options), out=out)


class Load:
    """A load under way. `summary` is there once the context it was made for has ended."""

    def __init__(self, url: str, log: Path, options: Sequence[str]) -> None:
        self._log = log
        self._summary: Summary | None = None
        module = (sys.executable, "-m", "upswitch_lab.load", "--until-stdin-closes", "--progress")
        with log.open("wb") as out:
            self._process = Process((*module, "--url", url, *options), out=out)

    @property
    def summary(self) -> Summary:
        if self._summary is None:
            raise LabError("the load is still running")
        return self._summary

    @property
    def progress(self) -> tuple[Progress, ...]:
        """A line a second so far, the first as soon as one request had its end."""
        whole = self._log.read_bytes().rpartition(b"\n")[0].splitlines()
        return tuple(msgspec.json.decode(line, type=Progress) for line in whole if line.startswith(b'{"at_s"'))

    def await_flowing(self) -> None:
        until(lambda: bool(self.progress) or not self._process.is_alive, what="the load's first request")

    def finish(self) -> None:
        """Let every request that was sent have its end, then read the summary."""
        self._process.close_stdin()
        try:
            until(lambda: not self._process.is_alive, deadline=40.0, what="the load's end")
        finally:
            self._process.end()
        lines = self._log.read_bytes().splitlines()
        try:
            self._summary = msgspec.json.decode(lines[-1] if lines else b"", type=Summary)
        except msgspec.MsgspecError as exc:
            raise LabError(f"the load gave no summary: {self._log.read_text()}") from exc

    def end(self) -> None:
        self._process.end()

"""A container as a Host: every program of ours runs in it, by the engine's `exec`. So paths, processes and addresses are its own.

The container needs what a machine behind SSH needs: sh, coreutils, util-linux, and bash for addresses. What must outlive it, the
generations and the state, stands in folders of the machine that are mounted into it.
"""

import contextlib
from collections.abc import Sequence
from typing import Protocol

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.container import engine
from upswitch.hosts.host import Chunk, Follower, Ran, Tell
from upswitch.hosts.kept_log import Commands, KeptLogs
from upswitch.hosts.local import channel
from upswitch.hosts.local.host import LocalHost
from upswitch.hosts.ssh.host import FarHost
from upswitch.hosts.ssh.streams import NotBegunError, Pipe, Relays, marked

STREAMS = ("/dev/stdout", "/dev/stderr")
_NO_BASH = "no program in the container can connect ({said}): install bash in its image"


class Outer(Protocol):
    """The machine that the container runs on."""

    @property
    def lost(self) -> str: ...

    def run(self, argv: Sequence[str], *, deadline: float) -> Ran: ...

    def open_pipe(self, argv: Sequence[str]) -> Pipe: ...

    def close(self) -> None: ...


class Here:
    """This machine as the container's."""

    lost = ""

    def __init__(self) -> None:
        self._host = LocalHost(SystemClock())
        self.open_pipe = channel.open_pipe

    def run(self, argv: Sequence[str], *, deadline: float) -> Ran:
        return self._host.run(argv, deadline=deadline)

    def close(self) -> None:
        """Nothing is held open here."""


class ContainerHost(FarHost):
    """`keeps` are the folders that must outlive the container, by the keys of the site file."""

    streams = STREAMS

    def __init__(self, name: str, container: str, *, outer: Outer, keeps: dict[str, str], tell: Tell | None = None) -> None:
        self._outer = outer
        self._container = container

        def connect(timeout: float) -> _Inside:
            del timeout  # the engine is on the outer machine, which has a timeout of its own
            found = engine.find(outer.run, container)
            _check_kept(found, keeps)
            return _Inside(found, outer)

        super().__init__(name, connect, shown=f"the container {container}", tell=tell)
        self._engine_logs = KeptLogs(outer.run, outer.open_pipe)

    def run_outside(self, argv: Sequence[str], *, deadline: float) -> Ran:
        return self._outer.run(argv, deadline=deadline)

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 24) -> Chunk | None:
        if path not in STREAMS:
            return super().read(path, offset=offset, limit=limit)
        return self._engine_logs.read(self._log(path), offset=offset, limit=limit)

    def _log(self, path: str) -> Commands:
        return engine.find(self._outer.run, self._container).log(is_err=path == STREAMS[1])

    def follow(self, path: str) -> Follower:
        if path in STREAMS:
            return self._engine_logs.follow(self._log(path))
        return super().follow(path)

    def close(self) -> None:
        super().close()
        self._outer.close()


class _Inside:
    """The programs of one container."""

    def __init__(self, container: engine.Container, outer: Outer) -> None:
        self._container = container
        self._outer = outer
        self._relays = Relays(self.run, shown=f"the container {container.name}", why_bash=_NO_BASH)

    @property
    def lost(self) -> str:
        return self._outer.lost

    def run(self, argv: Sequence[str]) -> Pipe:
        mark, command = marked(argv)
        pipe = self._outer.open_pipe(self._container.inside(command))
        with contextlib.ExitStack() as failed:
            failed.callback(pipe.close)
            try:
                pipe.await_mark(mark)
            except NotBegunError as exc:
                raise self._not_begun(exc) from exc
            failed.pop_all()
        return pipe

    def _not_begun(self, exc: NotBegunError) -> HostError:
        """An engine says least where the container does not run."""
        try:
            engine.find(self._outer.run, self._container.name)
        except HostError as found:
            return HostError(found.what, found.reason, why=Why.CONNECTION_LOST)
        return HostError(f"run a program in the container {self._container.name}", str(exc), why=Why.CONNECTION_LOST)

    def open(self, address: str, *, timeout: float) -> Pipe:
        return self._relays.open(address, timeout=timeout)

    def close(self) -> None:
        """Whoever has a program's streams closes them."""


def _check_kept(container: engine.Container, keeps: dict[str, str]) -> None:
    for key, folder in keeps.items():
        if container.lasting(folder) is None:
            mounts = container.shown_mounts
            why = f"{key} = {folder!r} is in no writable mount, so a new container would lose it. The mounts: {mounts}"
            raise HostError(f"use the container {container.name}", why)

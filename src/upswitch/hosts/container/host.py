"""A container as a Host: every program of ours runs in it, by the engine's `exec`. So paths, processes and addresses are its own.

The container needs what a machine behind SSH needs: sh, coreutils, util-linux, and bash for addresses. What must outlive it, the
generations and the state, stands in folders of the machine that are mounted into it.
"""

import contextlib
from collections.abc import Sequence
from typing import Protocol
from weakref import WeakSet

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
        self._inside: _Inside | None = None

        def connect(timeout: float) -> _Inside:
            del timeout  # the engine is on the outer machine, which has a timeout of its own
            self._inside = _Inside(container, outer, keeps=keeps)
            return self._inside

        super().__init__(name, connect, shown=f"the container {container}", tell=tell)
        self._engine_logs = KeptLogs(outer.run, outer.open_pipe)

    def run_outside(self, argv: Sequence[str], *, deadline: float) -> Ran:
        return self._outer.run(argv, deadline=deadline)

    def _check_reach(self) -> None:
        if self._inside and self._inside.gone:
            raise self._inside.gone

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
    """The programs of the container of one name. A new one takes the old one's place where it has the same folders mounted."""

    def __init__(self, name: str, outer: Outer, *, keeps: dict[str, str]) -> None:
        """HostError where it can't be used."""
        self._name = name
        self._outer = outer
        self._keeps = keeps
        self._container = engine.find(outer.run, name)
        self._sources = _kept(self._container, keeps)
        self.gone: HostError | None = None
        """Why the last program could not begin: the container did not run, or was another one. None: it could."""
        self._pipes = WeakSet[Pipe]()
        self._relays = Relays(self.run, shown=f"the container {name}", why_bash=_NO_BASH)

    @property
    def lost(self) -> str:
        return self._outer.lost

    def run(self, argv: Sequence[str]) -> Pipe:
        try:
            return self._begun(argv)
        except NotBegunError as exc:
            self._find_again(exc)
        try:
            return self._begun(argv)
        except NotBegunError as exc:
            raise self._failure(str(exc)) from exc

    def _begun(self, argv: Sequence[str]) -> Pipe:
        mark, command = marked(argv)
        pipe = self._outer.open_pipe(self._container.inside(command))
        with contextlib.ExitStack() as failed:
            failed.callback(pipe.close)
            pipe.await_mark(mark)
            failed.pop_all()
        self._pipes.add(pipe)
        self.gone = None
        return pipe

    def _find_again(self, exc: NotBegunError) -> None:
        """An engine says least where the container does not run, or is another one now. HostError: there is none to go on with."""
        try:
            found = engine.find(self._outer.run, self._name)
            sources = _kept(found, self._keeps)
        except HostError as lost:
            raise self._is_gone(lost.reason) from exc
        if found.id == self._container.id:
            raise self._failure(str(exc)) from exc
        for key, source in sources.items():
            if source != (before := self._sources[key]):
                moved = f"it was made anew with {key} = {self._keeps[key]!r} in another folder: {source}, before {before}"
                raise self._is_gone(moved) from exc
        self._container = found

    def _is_gone(self, reason: str) -> HostError:
        self.gone = HostError(f"use the container {self._name}", reason, why=Why.CONNECTION_LOST)
        return self.gone

    def _failure(self, said: str) -> HostError:
        return HostError(f"run a program in the container {self._name}", said, why=Why.CONNECTION_LOST)

    def open(self, address: str, *, timeout: float) -> Pipe:
        return self._relays.open(address, timeout=timeout)

    def close(self) -> None:
        """Every program sees the end of its input, as at the end of an SSH connection."""
        for pipe in tuple(self._pipes):
            pipe.close()


def _kept(container: engine.Container, keeps: dict[str, str]) -> dict[str, str]:
    """The folder of the machine that holds each of `keeps`. HostError where one would be lost with the container."""
    found = {key: container.lasting(folder) for key, folder in keeps.items()}
    for key, mount in found.items():
        if mount is None:
            mounts = container.shown_mounts
            why = f"{key} = {keeps[key]!r} is in no writable mount that a new container gets too. The mounts: {mounts}"
            raise HostError(f"use the container {container.name}", why)
    return {key: mount.source for key, mount in found.items() if mount}

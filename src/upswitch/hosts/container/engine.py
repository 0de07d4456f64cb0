"""The engine that has a container, docker or podman, and what it says of that container.

Both answer `container inspect` alike: `State.Status`, and `Mounts` with `Source`, `Destination` and `RW`.
"""

import posixpath
from collections.abc import Sequence
from typing import Protocol

import msgspec

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.hosts.host import Ran
from upswitch.hosts.kept_log import Commands

ENGINES = ("docker", "podman")
_INSPECT_S = 15.0
_NO_SUCH_PROGRAM = 127


class Run(Protocol):
    """As `Host.run`."""

    def __call__(self, argv: Sequence[str], *, deadline: float) -> Ran: ...


class Mount(Value, rename="pascal"):
    """A folder or a file of the machine (`source`) that the container sees as `destination`."""

    source: str
    destination: str
    rw: bool = msgspec.field(name="RW", default=True)

    def holds(self, path: str) -> bool:
        return posixpath.normpath(path) == self.destination or path.startswith(f"{self.destination.rstrip('/')}/")


class _State(Value, rename="pascal"):
    status: str


class _Inspected(Value, rename="pascal"):
    id: str
    state: _State
    mounts: tuple[Mount, ...] = ()


class Container(Value):
    """A container that runs. It is named and not held by its id: a new one of this name takes its place."""

    engine: str
    name: str
    mounts: tuple[Mount, ...]

    def inside(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that runs `argv` in it as root."""
        return (self.engine, "exec", "-i", "-u", "0", self.name, *argv)

    def log(self, *, is_err: bool) -> Commands:
        """The commands that print what it writes to stdout or stderr."""
        return Commands(argv=(self.engine, "logs"), words=(self.name,), is_err=is_err)

    def lasting(self, path: str) -> Mount | None:
        """The mount that keeps `path` when the container is made anew; None where it would be lost, or can't be written."""
        found = [mount for mount in self.mounts if mount.holds(path)]
        deepest = max(found, key=lambda mount: len(mount.destination), default=None)
        return deepest if deepest and deepest.rw else None

    def folder_for(self, conf: str) -> str:
        """The mounted folder that takes generations and state: where nginx's configuration stands, or another; "" for none."""
        beside = self.lasting(posixpath.dirname(conf))
        others = (mount for mount in self.mounts if mount.rw and mount.destination != conf)
        found = beside or next(others, None)
        return found.destination if found else ""

    @property
    def shown_mounts(self) -> str:
        shown = (f"{each.destination} ({each.source}{'' if each.rw else ', read-only'})" for each in self.mounts)
        return ", ".join(shown) or "it has none"


def find(run: Run, name: str) -> Container:
    """HostError where no engine has it, where it does not run, and where two engines have different ones of this name."""
    what = f"use the container {name}"
    answers = {engine: run((engine, "container", "inspect", name), deadline=_INSPECT_S) for engine in ENGINES}
    found = {engine: _parse(ran.out) for engine, ran in answers.items() if ran.exit == 0}
    if len({each.id for each in found.values()}) > 1:
        raise HostError(what, "docker and podman each have a container of this name: rename one", why=Why.UNREACHABLE)
    if not found:
        raise HostError(what, _none(name, answers), why=Why.UNREACHABLE)
    engine, inspected = found.popitem()  # where docker is podman by another name, podman is asked
    if inspected.state.status != "running":
        verb = "unpause" if inspected.state.status == "paused" else "start"
        start = f"`{engine} {verb} {name}` {verb}s it"
        raise HostError(what, f"it does not run, its state is {plain(inspected.state.status)}; {start}", why=Why.UNREACHABLE)
    return Container(engine=engine, name=name, mounts=inspected.mounts)


def _parse(out: bytes) -> _Inspected:
    try:
        return msgspec.json.decode(out, type=tuple[_Inspected, ...])[0]
    except (msgspec.MsgspecError, IndexError) as exc:
        raise HostError("read what the container engine says", plain(str(exc))) from exc


def _none(name: str, answers: dict[str, Ran]) -> str:
    there = {engine: ran for engine, ran in answers.items() if ran.exit != _NO_SUCH_PROGRAM}
    if not there:
        return "neither docker nor podman is installed there"
    said = "; ".join(f"{engine}: {ran.words}" for engine, ran in there.items())
    return f"no container has the name {name} ({said}); `{next(iter(there))} ps` lists those that run"

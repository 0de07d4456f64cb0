"""The engine that has a container, docker or podman, and what it says of that container.

Both answer `container inspect` alike: `State.Status`, and `Mounts` with `Source`, `Destination` and `RW`.
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
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
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_STARTS = {"paused": "unpause", "restarting": "logs"}
"""What to type for a container in such a state, instead of `start`: one that restarts again and again says why in its logs."""


class Run(Protocol):
    """As `Host.run`."""

    def __call__(self, argv: Sequence[str], *, deadline: float) -> Ran: ...


class Mount(Value, rename="pascal"):
    """A folder or a file of the machine (`source`) that the container sees as `destination`. `name` is a volume's."""

    source: str
    destination: str
    rw: bool = msgspec.field(name="RW", default=True)
    type: str = "bind"
    name: str = ""

    @property
    def fault(self) -> str:
        """Why it keeps nothing for a new container, or takes nothing; "" where it does both."""
        if self.type == "tmpfs":
            return "tmpfs"
        if self.type == "volume" and _ANONYMOUS.fullmatch(self.name):
            return "a volume without a name, which a new container does not get"
        return "" if self.rw else "read-only"

    def holds(self, path: str) -> bool:
        return posixpath.normpath(path) == self.destination or path.startswith(f"{self.destination.rstrip('/')}/")


class _State(Value, rename="pascal"):
    status: str


class _HostConfig(Value, rename="pascal"):
    """`tmpfs`: those of the option `--tmpfs`, which are in no list of mounts."""

    tmpfs: Mapping[str, str] | None = None


class _Inspected(Value, rename="pascal"):
    id: str
    name: str
    state: _State
    mounts: tuple[Mount, ...] | None = None
    host_config: _HostConfig = _HostConfig()

    @property
    def all_mounts(self) -> tuple[Mount, ...]:
        tmpfs = (Mount(source="", destination=posixpath.normpath(path), type="tmpfs") for path in self.host_config.tmpfs or ())
        return (*(self.mounts or ()), *tmpfs)


class Container(Value):
    """A container that runs. Programs go to this very one: its `id` is no longer there once another one has its name."""

    engine: str
    name: str
    id: str
    mounts: tuple[Mount, ...]

    def inside(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that runs `argv` in it as root."""
        return (self.engine, "exec", "-i", "-u", "0", self.id, *argv)

    def log(self, *, is_err: bool) -> Commands:
        """The commands that print what it writes to stdout or stderr."""
        return Commands(argv=(self.engine, "logs"), words=(self.name,), is_err=is_err)

    def lasting(self, path: str) -> Mount | None:
        """The mount that keeps `path` when the container is made anew; None where it would be lost, or can't be written."""
        found = [mount for mount in self.mounts if mount.holds(path)]
        deepest = max(found, key=lambda mount: len(mount.destination), default=None)
        return deepest if deepest and not deepest.fault else None

    def folder_for(self, conf: str, *, is_file: Callable[[str], bool]) -> str:
        """The mounted folder that takes generations and state: where nginx's configuration stands, or another; "" for none.

        `is_file` looks at a path of the machine: an engine does not say which mounts are single files.
        """
        beside = self.lasting(posixpath.dirname(conf))
        others = (mount for mount in self.mounts if not mount.fault and not is_file(mount.source))
        found = beside or next(others, None)
        return found.destination if found else ""

    @property
    def shown_mounts(self) -> str:
        shown = (f"{each.destination} ({', '.join(filter(None, (each.source, each.fault)))})" for each in self.mounts)
        return ", ".join(shown) or "it has none"


def find(run: Run, name: str) -> Container:
    """HostError where no engine has it, and where two have different ones of this name.

    It is UNREACHABLE where the container does not run, and where its engine can't be asked.
    """
    what = f"use the container {name}"
    answers = {engine: run((engine, "container", "inspect", name), deadline=_INSPECT_S) for engine in ENGINES}
    found = {engine: _parse(ran.out) for engine, ran in answers.items() if ran.exit == 0}
    if len({each.id for each in found.values()}) > 1:
        raise HostError(what, "docker and podman each have a container of this name: rename one")
    if not found:
        raise _none(run, name, answers)
    engine, inspected = found.popitem()  # where docker is podman by another name, podman is asked
    if inspected.name.removeprefix("/") != name:
        said = (
            f"{name} is the id of the container {plain(inspected.name.removeprefix('/'))}: write its name, which a new one has too"
        )
        raise HostError(what, said)
    if inspected.state.status != "running":
        raise HostError(what, _stands(engine, name, inspected.state.status), why=Why.UNREACHABLE)
    return Container(engine=engine, name=name, id=inspected.id, mounts=inspected.all_mounts)


def _stands(engine: str, name: str, state: str) -> str:
    verb = _STARTS.get(state, "start")
    does = "shows why" if verb == "logs" else f"{verb}s it"
    return f"it does not run, its state is {plain(state)}; `{engine} {verb} {name}` {does}"


def _parse(out: bytes) -> _Inspected:
    try:
        return msgspec.json.decode(out, type=tuple[_Inspected, ...])[0]
    except (msgspec.MsgspecError, IndexError) as exc:
        raise HostError("read what the container engine says", plain(str(exc))) from exc


def _none(run: Run, name: str, answers: Mapping[str, Ran]) -> HostError:
    """An engine that lists its containers has none of this name. Nothing is known of the containers of another one."""
    what = f"use the container {name}"
    there = [engine for engine, ran in answers.items() if ran.exit != _NO_SUCH_PROGRAM]
    if not there:
        return HostError(what, "neither docker nor podman is installed there")
    listed = {engine: run((engine, "ps", "-q"), deadline=_INSPECT_S) for engine in there}
    having = [engine for engine, ran in listed.items() if ran.exit == 0]
    none = [f"no container of {' or '.join(having)} has the name {name}; `{having[0]} ps -a` lists all"] if having else []
    mute = [f"{engine} can't be asked: {ran.words}" for engine, ran in listed.items() if ran.exit != 0]
    return HostError(what, "; ".join((*none, *mute)), why=Why.UNREACHABLE if mute else Why.NONE)

"""Containers as servers: those that match a filter, run and are healthy, by docker or podman on the machine that nginx runs on."""

from collections.abc import Iterator, Mapping
from typing import Protocol

import msgspec

from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.hosts.host import Contained, Host, Ran
from upswitch.site.model import Server
from upswitch.site.source import ContainersSource
from upswitch.sources import listed
from upswitch.sources.listed import SourceError

_ENGINES = ("docker", "podman")
_ANSWER_S = 15.0
_NO_SUCH_PROGRAM = 127
_HEALTHY = {"", "none", "healthy"}  # "" of a container without a health check


class _Run(Protocol):
    def __call__(self, argv: tuple[str, ...], *, deadline: float) -> Ran: ...


class _Health(Value, rename="pascal"):
    status: str = ""


class _State(Value, rename="pascal"):
    status: str
    health: _Health | None = None
    healthcheck: _Health | None = None  # its name in podman before 4.4


class _Network(Value):
    ip4: str = msgspec.field(name="IPAddress", default="")
    ip6: str = msgspec.field(name="GlobalIPv6Address", default="")


class _Networks(Value, rename="pascal"):
    networks: dict[str, _Network] | None = None
    ip_address: str = msgspec.field(name="IPAddress", default="")


class _HostConfig(Value, rename="pascal"):
    network_mode: str = ""


class Inspected(Value, rename="pascal"):
    """What `docker container inspect` says of a container, and podman alike."""

    id: str
    name: str
    state: _State
    host_config: _HostConfig = _HostConfig()
    network_settings: _Networks = _Networks()

    @property
    def serves(self) -> bool:
        """Whether it runs, and its own health check, if it has one, passes."""
        health = self.state.health or self.state.healthcheck or _Health()
        return self.state.status == "running" and health.status in _HEALTHY


def read(host: Host, source: ContainersSource) -> tuple[Server, ...]:
    """SourceError where no engine can be asked, and where a container's address is not clear."""
    run = host.run_outside if isinstance(host, Contained) else host.run
    answers = {engine: _found(run, engine, source.filter) for engine in _ENGINES}
    found = {each.id: each for answer in answers.values() if isinstance(answer, tuple) for each in answer}
    failed = [f"{engine}: {said}" for engine, said in answers.items() if isinstance(said, str) and said]
    if not found and failed:
        raise SourceError("; ".join(failed))
    if not found and all(answer == "" for answer in answers.values()):
        raise SourceError("neither docker nor podman is installed on the host of nginx")
    return servers(found, source)


def servers(found: Mapping[str, Inspected], source: ContainersSource) -> tuple[Server, ...]:
    """The servers of these containers. SourceError where none of them serves."""
    serving = sorted((each for each in found.values() if each.serves), key=lambda each: each.name)
    if not serving:
        raise SourceError(f"it has no server: {len(found)} containers match, and none of them is running and healthy")
    return listed.parsed(_lines(serving, source))


def _lines(serving: list[Inspected], source: ContainersSource) -> Iterator[tuple[str, str]]:
    for each in serving:
        name = plain(each.name.removeprefix("/"))
        yield f"container {name}", f"{_address(each, name, source.network)}:{source.port}"


def _address(container: Inspected, name: str, wanted: str) -> str:
    """Its IP address in the network `wanted`, or in its only one; that of loopback where it has the machine's own network."""
    if container.host_config.network_mode == "host" and not wanted:
        return "127.0.0.1"
    networks = container.network_settings.networks or {"": _Network(ip4=container.network_settings.ip_address)}
    known = {network: each.ip4 or (f"[{each.ip6}]" if each.ip6 else "") for network, each in networks.items()}
    chosen = {network: address for network, address in known.items() if address and wanted in {"", network}}
    if len(chosen) != 1:
        has = ", ".join(plain(network) for network, address in known.items() if address) or "none"
        raise SourceError(f"container {name} has the networks {has}: name one of them as `network`")
    return next(iter(chosen.values()))


def _found(run: _Run, engine: str, wanted: str) -> tuple[Inspected, ...] | str:
    """The containers that match. As text, why the engine can't be asked; "" where it is not installed."""
    listed_ids = run((engine, "ps", "-q", "--no-trunc", "--filter", wanted), deadline=_ANSWER_S)
    if listed_ids.exit != 0:
        return "" if listed_ids.exit == _NO_SUCH_PROGRAM else listed_ids.words
    ids = tuple(listed_ids.out.decode("ascii", "replace").split())
    ran = run((engine, "container", "inspect", *ids), deadline=_ANSWER_S) if ids else None
    if ran is None:
        return ()
    if ran.exit != 0:
        return ran.words
    try:
        return msgspec.json.decode(ran.out, type=tuple[Inspected, ...])
    except (msgspec.MsgspecError, RecursionError) as exc:
        return f"its answer can't be read: {plain(str(exc))}"

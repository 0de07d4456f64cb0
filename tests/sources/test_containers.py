"""Containers as servers: a real podman with the machine's network, and what docker and podman say of other networks."""

import json
import os

import msgspec
import pytest

from containers import engine, needs_podman
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.site.source import ContainersSource
from upswitch.sources.containers import Inspected, read, servers
from upswitch.sources.listed import SourceError
from upswitch_lab.process import free_port

BLUE = ContainersSource(filter="label=app.pool=blue", port=8080)


class Pathed(LocalHost):
    """This machine with a PATH of its own: only the programs of a test's engine are found first."""

    def __init__(self, path):
        super().__init__(SystemClock())
        self._path = path

    def run(self, argv, **options):
        return super().run(("env", f"PATH={self._path}", *argv), **options)


def inspected(name, status="running", *, health=None, networks=(("web", "172.18.0.2", ""),), mode="web"):
    """As docker 27 and podman 4 write it, cut down to what is read."""
    state = {"Status": status, **({"Health": {"Status": health, "Log": []}} if health else {})}
    known = {network: {"IPAddress": ip4, "GlobalIPv6Address": ip6, "Gateway": "172.18.0.1"} for network, ip4, ip6 in networks}
    whole = {"Id": name, "Name": f"/{name}", "State": state, "HostConfig": {"NetworkMode": mode}}
    return {**whole, "NetworkSettings": {"IPAddress": "", "Networks": known}}


def found(*each, source=BLUE):
    containers = msgspec.json.decode(json.dumps(each).encode(), type=tuple[Inspected, ...])
    return [server.text for server in servers({one.id: one for one in containers}, source)]


def test_only_those_that_run_and_are_healthy_are_servers():
    assert found(
        inspected("b", health="healthy", networks=(("web", "172.18.0.3", ""),)),
        inspected("a"),
        inspected("c", "paused", networks=(("web", "172.18.0.4", ""),)),
        inspected("d", health="starting", networks=(("web", "172.18.0.5", ""),)),
        inspected("e", health="unhealthy", networks=(("web", "172.18.0.6", ""),)),
    ) == ["172.18.0.2:8080", "172.18.0.3:8080"]


def test_an_address_is_that_of_the_only_or_the_named_network():
    two = inspected("a", networks=(("web", "172.18.0.2", ""), ("db", "172.19.0.2", "")))
    assert found(two, source=ContainersSource(filter="label=x", port=80, network="db")) == ["172.19.0.2:80"]
    assert found(inspected("a", networks=(("web", "", "fd00::2"),))) == ["[fd00::2]:8080"]
    assert found(inspected("a", networks=(("host", "", ""),), mode="host")) == ["127.0.0.1:8080"]
    with pytest.raises(SourceError, match="container a has the networks web, db: name one of them"):
        found(two)
    with pytest.raises(SourceError, match="container a has the networks none"):
        found(inspected("a", networks=(("none", "", ""),), mode="none"))


def test_two_on_the_machines_network_with_one_port_are_refused():
    with pytest.raises(SourceError, match=r"container b: .* only once"):
        found(*(inspected(name, networks=(), mode="host") for name in "ab"))


def test_no_healthy_container_says_how_many_match():
    with pytest.raises(SourceError, match="it has no server: 1 containers match, and none of them is running and healthy"):
        found(inspected("a", health="unhealthy"))


def test_a_machine_without_an_engine_and_one_whose_engine_fails_are_named(tmp_path):
    env = tmp_path / "env"
    env.symlink_to("/usr/bin/env")
    with pytest.raises(SourceError, match="neither docker nor podman is installed"):
        read(Pathed(str(tmp_path)), BLUE)
    broken = tmp_path / "docker"
    broken.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(SourceError, match="docker: Cannot connect to the Docker daemon"):
        read(Pathed(str(tmp_path)), BLUE)
    broken.write_text('#!/bin/sh\nif [ "$1" = ps ]; then echo 1; else echo "{}"; fi\n')
    with pytest.raises(SourceError, match="docker: its answer can't be read"):
        read(Pathed(str(tmp_path)), BLUE)


@needs_podman
def test_a_real_engine_gives_the_containers_with_the_label(tmp_path):
    with engine() as podman:
        for pool in ("blue", "green"):
            folder = tmp_path / pool
            folder.mkdir()
            port = free_port("127.0.0.1")
            conf = f"events {{}}\nhttp {{ access_log off; server {{ listen 127.0.0.1:{port}; }} }}\n"
            (folder / "nginx.conf").write_text(conf)
            podman.run(pool, folder, "--label", f"app.pool={pool}")
        host = Pathed(f"{podman.bin}:{os.environ['PATH']}")
        assert [each.text for each in read(host, BLUE)] == ["127.0.0.1:8080"]
        podman("stop", "-t", "0", "blue")
        with pytest.raises(SourceError, match=r"it has no server|docker: "):
            read(host, BLUE)

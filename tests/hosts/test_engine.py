"""What a container engine says, and what upswitch makes of it: docker's and podman's words, no engine."""

import json

import pytest

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.hosts.container import engine
from upswitch.hosts.host import Ran

BIND = {"Type": "bind", "Source": "/srv/front", "Destination": "/etc/nginx", "RW": True}
ANONYMOUS = {"Type": "volume", "Name": "ab" * 32, "Source": "/vol/x", "Destination": "/etc/nginx/state", "RW": True}
NAMED = ANONYMOUS | {"Name": "state"}
FILE = {"Type": "bind", "Source": "/srv/mime.types", "Destination": "/etc/nginx/mime.types", "RW": True}
NOT_INSTALLED = Ran(exit=127, err=b"not found")
NONE = Ran(exit=1, out=b"[]", err=b"Error: No such container: front")
DENIED = Ran(exit=1, err=b"permission denied while trying to connect to the Docker daemon socket")
HANGS = Ran(exit=None, reason="killed, after at most 15 s")
ANSWERS = Ran(exit=0)


def inspected(*mounts, state="running", name="/front", ident="c0ffee", **more):
    return Ran(exit=0, out=json.dumps([{"Id": ident, "Name": name, "State": {"Status": state}, "Mounts": mounts, **more}]).encode())


def find(*, docker=NOT_INSTALLED, podman=NOT_INSTALLED, lists=ANSWERS, name="front"):
    """`docker` and `podman` are what they say of the container; `lists` is what either says to `ps`."""

    def run(argv, *, deadline):
        del deadline
        said = {"docker": docker, "podman": podman}[argv[0]]
        return lists if argv[1] == "ps" and said is not NOT_INSTALLED else said

    return engine.find(run, name)


@pytest.mark.parametrize(
    ("state", "command"),
    [("exited", "docker start front"), ("paused", "docker unpause front"), ("restarting", "docker logs front")],
)
def test_one_that_does_not_run_can_not_be_reached_and_the_error_has_the_command_for_its_state(state, command):
    with pytest.raises(HostError, match=f"state is {state}; `{command}`") as caught:
        find(docker=inspected(state=state))
    assert caught.value.why is Why.UNREACHABLE


@pytest.mark.parametrize("said", [DENIED, HANGS])
def test_an_engine_that_can_not_be_asked_is_not_one_that_has_no_such_container(said):
    with pytest.raises(HostError, match=f"docker can't be asked: {said.words}") as caught:
        find(docker=said, lists=said)
    assert "no container" not in str(caught.value)
    assert caught.value.why is Why.UNREACHABLE


def test_a_name_that_no_engine_knows_is_an_error_of_the_site_file():
    with pytest.raises(HostError, match="no container of docker or podman has the name front; `docker ps -a`") as caught:
        find(docker=NONE, podman=NONE)
    assert caught.value.why is Why.NONE


def test_an_id_is_refused_with_the_name_to_write_as_a_new_container_has_another_id():
    with pytest.raises(HostError, match="c0ff is the id of the container front: write its name"):
        find(podman=inspected(name="front"), name="c0ff")


def test_programs_go_to_the_very_container_that_was_looked_at():
    assert "c0ffee" in find(docker=inspected(BIND)).inside(("true",))


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (inspected(BIND, ANONYMOUS), "a volume without a name"),
        (inspected(BIND, NAMED), ""),
        (inspected(BIND, NAMED | {"RW": False}), "read-only"),
        (inspected(BIND, {"Type": "tmpfs", "Source": "", "Destination": "/etc/nginx/state", "RW": True}), "tmpfs"),
        (inspected(BIND, HostConfig={"Tmpfs": {"/etc/nginx/state/": "size=1m"}}), "tmpfs"),
        (inspected(BIND, HostConfig={"Tmpfs": None}), ""),
    ],
)
def test_a_folder_lasts_where_its_deepest_mount_is_writable_and_a_new_container_gets_it_too(said, fault):
    found = find(docker=said)
    assert bool(found.lasting("/etc/nginx/state/app")) is not bool(fault)
    assert fault in found.shown_mounts


def test_a_single_file_that_is_mounted_is_no_folder_for_the_generations():
    found = find(docker=inspected(FILE))
    assert found.folder_for("/etc/nginx/nginx.conf", is_file=lambda path: path == FILE["Source"]) == ""
    found = find(docker=inspected(FILE, NAMED))
    assert found.folder_for("/etc/nginx/nginx.conf", is_file=lambda path: path == FILE["Source"]) == NAMED["Destination"]

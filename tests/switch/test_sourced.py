"""Servers that are given at the switch, and pools with a source: read once, shown, frozen; a doubtful list is refused."""

import json

import pytest

from command import agree, on_disk, upswitch
from upswitch.generations.generation import Manifest
from upswitch.switch.sourced import shrunk
from upswitch_lab.conf import Layout
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab

LAYOUT = Layout(servers_per_pool=3, site={"watch": {"duration": "0s"}})


@pytest.fixture(scope="module")
def lab():
    found = find_nginx()
    if not found:
        pytest.skip("no nginx here")
    with Lab(found[-1][1], LAYOUT) as lab:
        lines = lab.site_file.read_text().splitlines()
        assert sum(line.startswith("B =") for line in lines) == 1
        source = f'B = {{ file = "{lab.folder}/blue.txt" }}'
        lab.site_file.write_text("\n".join(source if line.startswith("B =") else line for line in lines))
        yield lab


def write(lab, *lines):
    path = lab.folder / "blue.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o644)


def address(lab, name):
    return lab.servers[name].address


def manifest(lab):
    return json.loads((lab.folder / "upswitch" / "live" / "manifest.json").read_text())


def test_a_pool_is_planned_switched_to_shrunk_and_left_again(lab):
    write(lab, *(f"{address(lab, name)} max_fails=0" for name in ("B1", "B2", "B3")))
    planned = upswitch(lab, "plan", "B")
    assert (planned.exit, f"+    server {address(lab, 'B3')} max_fails=0;" in planned.json["diff"]) == (0, True), planned
    assert f"app.B has 3 servers, read just now from file {lab.folder}/blue.txt" in planned.json["notes"]
    switched = upswitch(lab, "switch", "B")
    assert switched.exit == 0, switched
    agree(lab, switched, "B")
    assert manifest(lab)["sources"] == {"app": f"file {lab.folder}/blue.txt"}

    write(lab, address(lab, "B1"))
    live = on_disk(lab)
    for command in ("plan", "switch"):
        refused = upswitch(lab, command, "B")
        assert refused.exit == 3, refused
        assert f"file {lab.folder}/blue.txt gives 1 servers for app.B, which had 3 the last time" in refused.out
    assert (refused.json["why"], on_disk(lab)) == ("shrunk", live)
    fewer = upswitch(lab, "switch", "B", "--accept-shrink")
    assert fewer.exit == 0, fewer
    assert manifest(lab)["servers"] == {"app": [address(lab, "B1")]}

    (lab.folder / "blue.txt").unlink()  # a way back needs no source
    back = upswitch(lab, "rollback")
    assert back.exit == 0, back
    assert len(manifest(lab)["servers"]["app"]) == 3
    assert manifest(lab)["sources"] == {"app": f"file {lab.folder}/blue.txt"}
    assert upswitch(lab, "status").exit == 0
    assert upswitch(lab, "switch", "A").exit == 0


def test_given_servers_replace_those_of_the_site_file_for_one_switch(lab):
    names = [word for name in ("B1", "B2") for word in ("--server", address(lab, name))]
    switched = upswitch(lab, "switch", "B", "--accept-shrink", *names)
    assert switched.exit == 0, switched
    assert (manifest(lab)["sources"], len(manifest(lab)["servers"]["app"])) == ({"app": "--server"}, 2)
    assert upswitch(lab, "switch", "A").exit == 0


def test_each_wrong_list_is_one_refusal_and_changes_nothing(lab):
    live = on_disk(lab)
    for lines, said in {
        (): "it has no server",
        ("127.0.0.1:1; } server { listen 1; } upstream x { server 127.0.0.1:2",): "line 1: ",
        (
            address(lab, "A1"),
            address(lab, "B1"),
        ): f"{address(lab, 'A1')} of app.B (file {lab.folder}/blue.txt) is a server of pool A",
    }.items():
        write(lab, *lines)
        refused = upswitch(lab, "switch", "B")
        assert (refused.exit, refused.json["why"]) == (3, "source"), refused
        assert said in refused.json["said"]
        assert refused.json["production"]["disk"] == on_disk(lab) == live
    (lab.folder / "blue.txt").unlink()
    assert "No such file" in upswitch(lab, "plan", "B").json["said"]
    assert upswitch(lab, "status").exit == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--server", "1.2.3.4:0"), "port"),
        (("--server", "10.0.0.1:80", "--server", "10.0.0.1"), "only once"),
        (("--server", "10.0.0.1:80", "--upstream", "web"), "web: the site has app"),
        (("--upstream", "app"), "only for --server"),
    ],
)
def test_wrong_options_are_usage_errors(lab, words, said):
    refused = upswitch(lab, "plan", "B", *words)
    assert (refused.exit, said in refused.out) == (2, True), refused


def test_a_pool_shrinks_against_its_last_generation_and_not_against_an_older_one():
    def generation(name, count):
        return Manifest(name=name, pool=name[-1], sha256={}, servers={"app": tuple(map(str, range(count)))}, sources={"app": "x"})

    known = [generation("000001-B", 10), generation("000002-B", 4), generation("000003-A", 10)]
    known = {each.name: each for each in known}
    assert [*shrunk(generation("000004-B", 2), known)] == []
    assert len([*shrunk(generation("000004-B", 1), known)]) == 1
    assert [*shrunk(generation("000004-C", 1), known)] == []

"""From what was found to a plan, and the bytes that it needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.generations.generation import File, Manifest, copied, decode_manifest, digest, encoded, is_same, with_manifest
from upswitch.site.model import Generation, parse_name
from upswitch.switch.job import ROLLBACK_SKIPS, next_number, planned
from upswitch.switch.machine import Step
from upswitch.switch.run import Plan, Run
from upswitch.switch.session import Ask

LIVE = Generation(number=41, pool="A")
ASK = Ask(run="r1", command="switch", pool="B")
MARKER = b'map "" $upswitch_generation { default "000041-A"; }\nmap "" $upswitch_pool { default "A"; }\n'
APP = b"upstream app { server 10.0.0.1:80; } # as of 000041-A\n"


def past(to, back, warm=""):
    planned = Plan(run="r", command="switch", pool="B", former_pool="A", former="000001-A", to=to, back=back, warm=warm)
    return Run(plan=planned, started="t")


def test_a_run_gets_two_new_names_and_the_way_back_is_the_former_pools():
    found = planned(ASK, LIVE, next_number([LIVE], []))
    assert (found.former, found.former_pool, found.to, found.back) == ("000041-A", "A", "000042-B", "000043-A")
    assert (found.warm, found.base) == ("", found.former)


def test_a_warm_generation_is_the_former_pools_and_has_the_first_of_three_names():
    found = planned(ASK, LIVE, 42, has_warm=True)
    assert (found.warm, found.to, found.back, found.base) == ("000042-A", "000043-B", "000044-A", "000042-A")


def test_a_number_that_was_pruned_is_not_used_again():
    runs = [past("000050-B", "000051-A", "000052-A"), past("000044-B", "000045-A")]
    assert next_number([LIVE], runs) == 53


@given(st.lists(st.integers(1, 99999), max_size=5), st.lists(st.tuples(st.integers(1, 99999), st.integers(1, 99999)), max_size=5))
def test_no_number_is_ever_used_twice(present, runs):
    on_disk = [LIVE, *(Generation(number=number, pool="A") for number in present)]
    found = planned(ASK, LIVE, next_number(on_disk, [past(f"{to:06d}-B", f"{back:06d}-A") for to, back in runs]))
    to, back = parse_name(found.to).number, parse_name(found.back).number
    assert 41 < to < back
    assert to > max([41, *present, *(number for pair in runs for number in pair)])


def test_a_plan_leaves_out_each_step_once_and_those_that_have_no_effect():
    ask = Ask(run="r1", command="rollback", pool="B", reason="because", user="me", skips=(*ROLLBACK_SKIPS, Step.WATCH))
    assert planned(ask, LIVE, 42).skips == ROLLBACK_SKIPS
    assert planned(ask, LIVE, 42, copy_of="000040-B", skips=(Step.DRAIN,)) == Plan(
        run="r1",
        command="rollback",
        pool="B",
        former_pool="A",
        former="000041-A",
        to="000042-B",
        back="000043-A",
        copy_of="000040-B",
        skips=(*ROLLBACK_SKIPS, Step.DRAIN),
        reason="because",
        user="me",
    )


def test_a_copy_is_the_same_bytes_but_for_the_name_in_the_marker():
    files = {"marker.conf": MARKER, "app.conf": APP, "manifest.json": b"{}"}
    copy = copied(files, of="000041-A", name="000043-A")
    assert copy == {"marker.conf": MARKER.replace(b"41", b"43"), "app.conf": APP}
    assert is_same(copy, files, names=("000043-A", "000041-A"))


def test_a_folder_is_complete_with_a_manifest_that_holds_every_sum():
    files = encoded([File(name="app.conf", text="upstream ü {}"), File(name="marker.conf", text="")])
    manifest = Manifest(name="000042-B", pool="B", sha256={"stale": "x"}, replaces="000041-A", copy_of="000040-B", made_by="r1")
    whole = with_manifest(files, manifest)
    assert whole.keys() == {"app.conf", "marker.conf", "manifest.json"}
    written = decode_manifest(whole["manifest.json"])
    assert written.sha256 == {name: digest(data) for name, data in files.items()}
    assert (written.name, written.pool, written.replaces, written.copy_of) == ("000042-B", "B", "000041-A", "000040-B")


@pytest.mark.parametrize(
    ("live", "same"),
    [
        ({"marker.conf": MARKER, "app.conf": APP}, True),
        ({"marker.conf": MARKER, "app.conf": APP, "manifest.json": b"{}"}, True),
        ({"marker.conf": MARKER, "app.conf": b"upstream  app\n{\n  server 10.0.0.1:80;\n}"}, True),
        ({"marker.conf": MARKER, "app.conf": b"upstream app { server 10.0.0.2:80; }"}, False),
        ({"marker.conf": MARKER, "app.conf": APP, "extra.conf": b""}, False),
        ({"marker.conf": MARKER}, False),
        ({"marker.conf": MARKER, "app.conf": b'upstream app { server "10.0.0.1:80; }'}, False),
        ({"marker.conf": MARKER, "app.conf": b"\xff\xfe"}, False),
        ({"marker.conf": MARKER.replace(b'"A"', b'"B"'), "app.conf": APP}, False),
    ],
)
def test_a_switch_would_change_nothing_when_every_token_is_the_same(live, same):
    new = {"marker.conf": MARKER.replace(b"000041-A", b"000042-A"), "app.conf": APP.replace(b"000041-A", b"000042-A")}
    assert is_same(new, live, names=("000042-A", "000041-A")) is same

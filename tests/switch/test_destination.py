"""Where a rollback leads: by pool, by number, and never without --force to what failed or never served."""

import json
import signal

import pytest
from msgspec.structs import replace

from command import Command, agree, upswitch
from upswitch.basics.errors import RefusedError
from upswitch.basics.result import Why
from upswitch.generations.generation import Manifest
from upswitch.switch.destination import destination
from upswitch.switch.machine import Outcome, Phase
from upswitch.switch.run import Closed, Plan, Run
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab


def manifest(name, *, replaces="", copy_of=""):
    return Manifest(name=name, pool=name[-1], sha256={}, replaces=replaces, copy_of=copy_of)


def run(former, to, back, phase, *, closed=None):
    plan = Plan(run=to, command="switch", pool=to[-1], former_pool=former[-1], former=former, to=to, back=back)
    return Run(plan=plan, started="2026-12-01T10:00:00Z", phase=phase, closed=closed)


LIVE = "000009-A"
ON_DISK = {
    each.name: each
    for each in (
        manifest("000001-A"),
        manifest("000002-B", replaces="000001-A"),
        manifest("000003-A", replaces="000002-B", copy_of="000001-A"),
        manifest("000004-B", replaces="000003-A"),
        manifest("000005-A", replaces="000004-B", copy_of="000003-A"),
        manifest("000006-B", replaces="000005-A"),
        manifest("000007-C", replaces="000005-A"),
        manifest("000009-A", replaces="000005-A"),
    )
}
RUNS = (
    run("000001-A", "000002-B", "000003-A", Phase.DONE),
    run("000003-A", "000004-B", "000005-A", Phase.ROLLED_BACK),
    run("000005-A", "000006-B", "000008-A", Phase.REFUSED),
    run("000005-A", "000007-C", "000008-A", Phase.HELD),
    run("000005-A", "000009-A", "000010-A", Phase.DONE),
)


def led(to, *, is_forced=False, runs=RUNS):
    return destination(to, live=LIVE, manifests=ON_DISK, runs=runs, is_forced=is_forced)


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("", "000005-A"),
        ("1", "000001-A"),
        ("000002-B", "000002-B"),
        ("3", "000003-A"),
        ("7", "000007-C"),  # it served: a person who names it means it
        ("B", "000002-B"),  # neither 6, which never served, nor 4, which was rolled back
        ("A", "000009-A"),
    ],
)
def test_a_rollback_leads_to_the_newest_good_generation_of_a_pool_or_to_a_number(to, name):
    assert led(to) == name
    assert led(to, is_forced=True) == name


@pytest.mark.parametrize(
    ("to", "why", "named", "forced"),
    [
        ("4", Why.TAKEN_BACK, "000004-B of pool B was rolled back by the run of 2026", "000004-B"),
        ("6", Why.NEVER_SERVED, "000006-B of pool B ever served", "000006-B"),
        ("C", Why.TAKEN_BACK, "no generation of pool C is known good: generation 000007-C of pool C failed", "000007-C"),
        ("D", Why.NO_GENERATION, "no generation of pool D is on disk", None),
        ("99", Why.NO_GENERATION, "--to 99: no such generation", None),
    ],
)
def test_what_never_served_or_failed_is_refused_by_name_and_force_goes_there(to, why, named, forced):
    with pytest.raises(RefusedError) as refused:
        led(to)
    assert refused.value.refusals[0].why is why
    assert named in refused.value.refusals[0].what
    if forced:
        assert led(to, is_forced=True) == forced


def test_what_the_live_generation_replaced_is_known_to_have_served_where_the_journal_was_lost():
    assert led("4", runs=()) == "000004-B"
    with pytest.raises(RefusedError):
        led("6", runs=())


def test_a_pool_whose_requests_failed_after_a_rollback_is_not_known_good():
    closed = Closed(run="000011-B", outcome=Outcome.HELD, said="", at="2026-12-01T11:00:00Z")
    gone_back = run("000009-A", "000011-B", "000012-A", Phase.DONE, closed=closed)
    held = replace(gone_back, plan=replace(gone_back.plan, copy_of="000002-B"))
    with pytest.raises(RefusedError):
        led("B", runs=(*RUNS, held))


def original(lab, name):
    """What a generation is a copy of a copy of."""
    folder = lab.folder / "upswitch" / (name if name == "live" else f"generations/{name}")
    copied = json.loads((folder / "manifest.json").read_bytes())["copy_of"]
    return original(lab, copied) if copied else name


def test_rollback_to_a_pool_on_a_real_nginx(any_nginx):
    with Lab(any_nginx, Layout(site={"watch": {"duration": "30s"}}, servers_per_pool=1)) as lab:
        assert upswitch(lab, "switch", "B", "--no-watch").json["generation"] == "000002-B"
        assert upswitch(lab, "rollback").exit == 0
        command = Command(lab, "switch", "B")
        command.wait_for("t+1s")
        command.signal(signal.SIGINT)
        failed = command.end()
        assert (failed.exit, failed.json["outcome"]) == (4, "ROLLED_BACK"), failed
        taken_back = upswitch(lab, "history").json["runs"][0]["generation"]
        refused = upswitch(lab, "rollback", "--to", taken_back)
        assert (refused.exit, refused.json["why"]) == (3, "taken_back"), refused
        assert taken_back in refused.json["said"]
        back = upswitch(lab, "rollback", "--to", "B")
        agree(lab, back, "B")
        assert original(lab, "live") == "000002-B"
        again = upswitch(lab, "rollback", "--to", "B")
        assert (again.exit, again.json["outcome"]) == (0, "UNCHANGED"), again
        assert upswitch(lab, "rollback", "--to", "C").json["why"] == "no_generation"
        assert upswitch(lab, "rollback", "--to", "A B").exit == 2

"""What a run keeps for its report: beside the journal, bounded, and never in the way of the run."""

import os

import msgspec
import pytest

from command import upswitch
from reportparts import NAME, record
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.switch.record import Record, keep, kept
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab

HOST = LocalHost(SystemClock())


def test_a_record_comes_back_as_it_was_and_only_its_owner_may_read_it(tmp_path):
    assert keep(HOST, f"{tmp_path}", record(failed=9)) == ""
    assert kept(HOST, f"{tmp_path}", NAME) == record(failed=9)
    assert (os.stat(tmp_path / "runs").st_mode & 0o777, os.stat(tmp_path / "runs" / f"{NAME}.json").st_mode & 0o777) == (
        0o700,
        0o600,
    )


def test_the_oldest_records_make_room(tmp_path):
    for number in range(6):
        assert keep(HOST, f"{tmp_path}", Record(run=f"2026120{number}T000000-aa"), most=3) == ""
    assert sorted(path.name[:8] for path in (tmp_path / "runs").iterdir()) == ["20261203", "20261204", "20261205"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"run": 7}', b'{"run": "x", "gate": [{"pool": "B"}]}', b"\xff"])
def test_a_record_that_cannot_be_read_is_a_reason_and_no_error(tmp_path, data):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{NAME}.json").write_bytes(data)
    assert "can't be read" in kept(HOST, f"{tmp_path}", NAME)


def test_a_record_of_a_later_version_with_more_in_it_is_read(tmp_path):
    (tmp_path / "runs").mkdir()
    later = msgspec.json.decode(msgspec.json.encode(record())) | {"version": 9, "weather": "fine"}
    (tmp_path / "runs" / f"{NAME}.json").write_bytes(msgspec.json.encode(later))
    assert isinstance(kept(HOST, f"{tmp_path}", NAME), Record)


def test_a_run_without_a_record_says_what_may_be_the_reason(tmp_path):
    assert "cut off" in kept(HOST, f"{tmp_path}", NAME)


def test_a_record_that_cannot_be_written_changes_nothing_of_the_run(any_nginx):
    with Lab(any_nginx, Layout(site={"watch": {"duration": "1s"}})) as lab:
        (lab.folder / "state").mkdir(mode=0o700, exist_ok=True)
        (lab.folder / "state" / "runs").write_text("in the way")
        answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["outcome"]) == (0, "SWITCHED"), answer
        assert "could not be kept" in answer.err
        told = upswitch(lab, "report")
        assert told.exit == 0
        assert "can't be read" in told.json["lacks"][0] or "cut off" in told.json["lacks"][0]

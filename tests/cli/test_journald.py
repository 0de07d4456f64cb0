"""The line in systemd's journal, read from a real datagram socket."""

import socket

import pytest

from upswitch.basics.errors import HostError, LockedError, Owner, StuckError
from upswitch.cli.open import Wiring
from upswitch.cli.program import Program
from upswitch.cli.views import fleet
from upswitch.cli.views.acted import ended

OWNER = Owner(user="ann", host="ci", pid=7, since="now", reason="release 7")


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.settimeout(0)
        yield listening


def shown(listener, view):
    """The exit code, and the fields of every line that came."""
    code = Program(Wiring(journald=listener.getsockname())).show(view, as_json=False)
    lines = []
    while True:
        try:
            lines.append(fields(listener.recv(1 << 20)))
        except BlockingIOError:
            return code, lines


def fields(data):
    found = {}
    while data:
        key, _, rest = data.partition(b"\n")
        size = int.from_bytes(rest[:8], "little")
        found[key.decode()], data = rest[8 : 8 + size].decode(), rest[8 + size + 1 :]
    return found


def test_a_run_is_one_line_whose_fields_a_newline_cannot_add_to(listener):
    code, (line,) = shown(listener, ended("rollback", StuckError("nginx says\nPRIORITY=7\nUPSWITCH_POOL=evil", undone="no"), None))
    assert code == 5
    assert line["MESSAGE"].startswith("STUCK: nginx says\nPRIORITY=7\nUPSWITCH_POOL=evil; ")
    assert (line["PRIORITY"], line["SYSLOG_IDENTIFIER"], line["UPSWITCH_WHY"]) == ("2", "upswitch", "init")
    assert (line["UPSWITCH_COMMAND"], line["UPSWITCH_OUTCOME"], line["UPSWITCH_EXIT"]) == ("rollback", "STUCK", "5")
    assert "UPSWITCH_POOL" not in line
    assert "UPSWITCH_HOST" not in line


def test_a_fleet_is_one_line_for_each_host(listener):
    views = {
        "web1": ended("switch", LockedError(OWNER), None),
        "web2": fleet.unreachable("switch", HostError("connect", "no route")),
    }
    _, lines = shown(listener, fleet.together("switch", views))
    assert [(line["UPSWITCH_HOST"], line["UPSWITCH_OUTCOME"], line["PRIORITY"]) for line in lines] == [
        ("web1", "LOCKED", "4"),
        ("web2", "UNREACHABLE", "4"),
    ]
    assert lines[1]["MESSAGE"].startswith("web2: UNREACHABLE: ")


def test_a_command_that_only_reads_writes_no_line(listener):
    assert shown(listener, ended("status", StuckError("x", undone="no"), None)) == (5, [])


def test_a_text_of_a_megabyte_is_cut_and_still_arrives(listener):
    _, (line,) = shown(listener, ended("switch", StuckError("é" * (1 << 20), undone="no"), None))
    assert len(line["MESSAGE"]) == 4096


def test_a_journal_that_is_missing_or_full_changes_nothing_and_is_not_waited_for(listener, tmp_path):
    view = ended("switch", StuckError("x", undone="no"), None)
    assert Program(Wiring(journald=str(tmp_path / "none"))).show(view, as_json=False) == 5
    program = Program(Wiring(journald=listener.getsockname()))
    assert {program.show(view, as_json=True) for _ in range(1000)} == {5}  # nobody reads: the queue is full long before

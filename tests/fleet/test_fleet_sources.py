"""A pool of a fleet with a source: every host gets the one list that was read, or none is changed."""

import pytest

from fleetlab import FleetLab
from sshd import needs_sshd
from upswitch_lab.conf import Layout

pytestmark = needs_sshd


@pytest.fixture
def pair(one_nginx):
    with FleetLab(one_nginx, 2, Layout(site={"watch": {"duration": "0s"}})) as fleet:
        yield fleet


def test_a_source_is_read_once_for_all_hosts_and_its_failure_is_each_hosts_refusal(pair):
    runs, script = pair.folder / "runs", pair.folder / "list.sh"
    servers = " ".join(pair.labs["lb1"].addresses["B"])
    script.write_text(f"echo run >>{runs}\nprintf '%s\\n' {servers}\n")
    text = pair.site_file.read_text()
    (before,) = [line for line in text.splitlines() if line.startswith("B =")]
    pair.site_file.write_text(text.replace(before, f'B = {{ command = ["sh", "{script}"] }}'))
    switched = pair.run("switch", "B")
    assert (switched.exit, runs.read_text()) == (0, "run\n"), switched
    assert pair.served == {"lb1": "B", "lb2": "B"}
    script.write_text("echo no registry >&2; exit 1\n")
    refused = pair.run("switch", "B")
    assert refused.exit == 3, refused
    assert refused.out.count("no registry") >= 2
    assert pair.served == {"lb1": "B", "lb2": "B"}

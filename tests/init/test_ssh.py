"""`leave` of a fleet over SSH, and `init` in an SSH session on the host itself, where its place is (docs/fleet.md)."""

import json
import re
import subprocess
import sys
from pathlib import Path

from fleetlab import FleetLab
from sshd import needs_sshd, program, with_libraries
from upswitch_lab.conf import Layout

pytestmark = needs_sshd


def test_leave_takes_every_host_of_a_fleet_out_and_init_in_a_session_takes_one_in_again(any_nginx):
    with FleetLab(any_nginx, 2, Layout()) as fleet:
        refused = fleet.run("leave", "--apply").json
        assert "nginx uses variables of upswitch" in refused["hosts"]["lb1"]["said"]
        for lab in fleet.labs.values():
            conf = Path(lab.place.conf)
            conf.write_text(re.sub(r'"[^"]*":"\$upswitch\w*",?', "", conf.read_text()))
            lab.reload()
        left = fleet.run("leave", "--apply")
        assert left.exit == 0, left
        assert {view["production"]["proved"] for view in left.json["hosts"].values()} == {False}
        assert fleet.served == {"lb1": "A", "lb2": "A"}
        lab = fleet.labs["lb1"]
        places = ("--binary", any_nginx, "--nginx-conf", lab.place.conf, "--prefix", lab.place.folder, "--dir", lab.place.dir)
        own = ("--marker", lab.place.marker, "--drain-flag", lab.place.drain_flag, "--state", f"{lab.place.folder}/state2")
        words = ("init", *places, *own, "--upstream", "app", "--pool", "A", "--no-log", "-c", f"{lab.place.folder}/new.toml")
        answer = _in_a_session(fleet, "lb1", sys.executable, "-m", "upswitch", *words, "--apply", "--json")
        assert answer["exit"] == 0, answer
        assert answer["production"]["pool"] == "A"
        assert fleet.served["lb1"] == "A"


def _in_a_session(fleet, name, *argv):
    ssh = with_libraries(program("ssh"), "-F", f"{fleet.folder}/home/.ssh/config", name, *argv)
    ran = subprocess.run(ssh, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert ran.stdout, ran
    return json.loads(ran.stdout)

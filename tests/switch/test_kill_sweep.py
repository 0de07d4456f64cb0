"""Kill -9 after every journal write; then repair, killed in the same way; and what the tool says is what nginx serves."""

import json
import subprocess
import sys

import pytest

from command import on_disk, running
from killing import killed_after, settle
from upswitch_lab.conf import Layout
from upswitch_lab.find import ENV, find_nginx
from upswitch_lab.lab import Lab

SITE = {"watch": {"duration": "1s"}, "gate": {"interval": "20ms", "type": "tcp"}}

# A watch that sees nothing and may not keep what it did not see: the shortest real way back.
SILENT = {"watch": {"duration": "1s", "probe": None, "on_silence": "rollback"}, "gate": {"interval": "20ms", "type": "tcp"}}
ALL = find_nginx()


@pytest.mark.skipif(not ALL, reason=f"no nginx here: run scripts/setup, or set {ENV}")
@pytest.mark.parametrize(
    ("binary", "site", "first", "end"),
    [(ALL[0][1], SITE, 1, 0), (ALL[-1][1], SILENT, 10, 4)] if ALL else [],  # up to the watch both are the same
    ids=["a switch that succeeds", "a switch that is taken back"],
)
def test_killed_after_any_journal_write_repair_ends_where_nginx_really_is(binary, site, first, end):
    with Lab(binary, Layout(site=site)) as lab:
        sweep = []
        while not sweep or sweep[-1][0] == -9:
            live = on_disk(lab)[-1]
            writes = first + len(sweep)
            code = killed_after(lab, writes, "switch", "--to", "B" if live == "A" else "A")
            sweep.append((code, live, settle(lab, 1 + writes % 8)))
        assert sweep[-1][0] == end, sweep
        assert writes >= 12, sweep
        is_back = [before == after for _, before, after in sweep]
        # Killed before the watch has passed its verdict: an unconfirmed switch always goes back. After it: it stays.
        kept = {0: 3, 4: 0}[end]
        assert is_back == [True] * (len(sweep) - kept) + [False] * kept, sweep


def test_killed_while_nginx_t_runs_on_the_swapped_tree_repair_puts_the_link_back(any_nginx):
    """Only where no mount namespace is allowed; forced here by a host that refuses `unshare`."""
    script = """
import os, signal, sys
from upswitch.hosts.local.host import LocalHost
from upswitch.cli.main import main
from upswitch.cli.open import Wiring

class Bare(LocalHost):
    def run(self, argv, *, deadline, stdin=b"", holds_lock=False):
        argv = tuple("false" if word == "unshare" else word for word in argv)
        is_test = argv[3:4] == ("test_swapped",)
        if sys.argv[1] == "kill" and is_test:
            os.symlink("generations/" + argv[6], argv[4] + "/.half"); os.rename(argv[4] + "/.half", argv[4] + "/live")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(argv, deadline=deadline, stdin=stdin, holds_lock=holds_lock)

main(sys.argv[2:], Wiring(host=Bare))
"""
    with Lab(any_nginx, Layout(site=SITE)) as lab:
        path = lab.folder / "bare.py"
        path.write_text(script)
        words = ["switch", "--to", "B", "-c", str(lab.site_file), "--json"]
        died = subprocess.run([sys.executable, str(path), "kill", *words], capture_output=True, timeout=60, check=False)
        assert died.returncode == -9, died
        assert on_disk(lab) == "000002-B"
        assert running(lab) == "000001-A"
        assert settle(lab, 2) == "A"
        ran = subprocess.run([sys.executable, str(path), "live", *words], capture_output=True, timeout=60, check=False)
        view = json.loads(ran.stdout)
        assert ran.returncode == 0, view
        assert any("was changed for the test and put back" in step["said"] for step in view["steps"])

"""A pool whose four servers crash 5 s after the switch, under 200 requests/s: how long until the former pool serves again.

    python bench/spike.py [--runs 5]

Seconds from the first failed request to the last one, both by the client's clock; for upswitch also to the end of the command,
which has then proved that the former pool serves. Peer, in the same run: a shell loop that counts 502s in the last lines of the
access log once a second and flips link and nginx back at more than five: no history, no proof. It takes good releases back too
(bench/rule.py says how often). Goal: confirmed within 4 s.
"""

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import checkout  # noqa: F401
from sides import HEAD, line, prepare_shell, shell

from upswitch_lab.conf import Layout
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab, Load
from upswitch_lab.process import until

LAYOUT = Layout(servers_per_pool=4, site={"watch": {"duration": "60s"}})
SIDES = ("shell loop, until the last failure", "upswitch, until the last failure", "upswitch, until confirmed")
# $1 access log, $2 live link; then nginx as it is run
LOOP = r"""
log=$1 link=$2; shift 2
until [ "$(tail -n 2000 "$log" | grep -c '"status":"502"')" -gt 5 ]; do sleep 1; done
ln -sfn generations/000001-A "$link" && "$@" -s reload
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    print(HEAD)
    for version, binary in find_nginx():
        seconds = defaultdict[str, list[float]](list)
        for _ in range(runs):
            for side, taken in zip(SIDES, (by_shell(binary), *by_upswitch(binary)), strict=True):
                seconds[side].append(taken)
        for side in SIDES:
            print(line(f"{version} {side}", seconds[side], seconds[SIDES[0]]), flush=True)


def by_upswitch(binary: str) -> tuple[float, float]:
    with Lab(binary, LAYOUT) as lab:
        words = (sys.executable, "-m", "upswitch", "switch", "--to", "B", "-c", str(lab.site_file))
        with lab.load("--connections", "8", "--rate", "200") as load:
            command = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            crash(lab, load)
            code = command.wait(timeout=60)
            ended = time.monotonic()
        if code != 4:
            sys.exit(f"upswitch ended with {code}, not with ROLLED_BACK")
        first = load.summary.started + (load.summary.first_failure_s or 0.0)
        return failing(load), ended - first


def by_shell(binary: str) -> float:
    with Lab(binary, LAYOUT) as lab:
        prepare_shell(lab)
        with lab.load("--connections", "8", "--rate", "200") as load:
            shell(lab, "B", then="")
            live = str(Path(lab.place.dir, "live"))
            loop = subprocess.Popen(("bash", "-c", LOOP, "loop", str(lab.access_log), live, *lab.place.argv))
            crash(lab, load)
            loop.wait(timeout=60)
            at_end = len(load.progress)
            until(lambda: len(load.progress) > at_end + 2, what="what clients get after it")
        return failing(load)


def crash(lab: Lab, load: Load) -> None:
    """Kill every server of B once it has served for 5 s."""
    until(
        lambda: sum(any(name.startswith("B") for name in each.bodies) for each in load.progress) > 5, deadline=60, what="5 s of B"
    )
    for server in lab.pool("B"):
        server.kill()


def failing(load: Load) -> float:
    return (load.summary.last_failure_s or 0.0) - (load.summary.first_failure_s or 0.0)


if __name__ == "__main__":
    main()

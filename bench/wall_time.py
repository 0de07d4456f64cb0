"""Wall time of a switch and of a rollback, against the usual shell line that also waits until the new generation serves.

    python bench/wall_time.py [--runs 15]

Ours: `upswitch switch --to X --no-watch` with a gate of one passing probe (rise = 1), then `upswitch rollback`; both start
Python, test, reload and prove. Peer: one bash script, `ln -sfn ... && nginx -t && nginx -s reload`, then a poll of bash's own
/dev/tcp until nginx answers with the new generation: no gate, no journal, no way back prepared, one answer as the proof. The
second peer also waits until no old worker accepts, as ours does; nginx itself takes 100 ms over that (ngx_msleep after a reload).
Interleaved in the same run, on every nginx of find_nginx(), idle and under 1000 requests a second on 32 connections. Before
nginx 1.27.4 ours includes the drain (at most 0.5 s here), which the peer goes without and loses requests for it. "python":
the interpreter's own start, for scale. Ratios are to the shell's median. Goal: at most 3x.
"""

import argparse
import contextlib
import sys
from collections import defaultdict
from contextlib import AbstractContextManager

import checkout  # noqa: F401
from sides import GONE, HEAD, POLL, line, prepare_shell, settle, shell, timed, upswitch

from upswitch_lab.conf import Layout
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab

SIDES = ("shell", "shell, old workers gone", "switch --no-watch", "rollback", "python -c pass")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    print(HEAD)
    for version, binary in find_nginx():
        for is_busy in (False, True):
            seconds = measure(binary, runs, is_busy=is_busy)
            for side in SIDES:
                print(line(f"{version} {'load' if is_busy else 'idle'} {side}", seconds[side], seconds["shell"]), flush=True)


def measure(binary: str, runs: int, *, is_busy: bool) -> dict[str, list[float]]:
    """One warm-up, then `runs` rounds; both laboratories are left to settle after each act."""
    seconds = defaultdict[str, list[float]](list)
    with Lab(binary) as ours, Lab(binary, Layout(cure=False)) as theirs:
        prepare_shell(theirs)
        for number in range(runs + 1):
            taken = turn(ours, theirs, is_busy=is_busy)
            for side in SIDES if number else ():
                seconds[side].append(taken[side])
    return seconds


def turn(ours: Lab, theirs: Lab, *, is_busy: bool) -> dict[str, float]:
    taken = {"python -c pass": timed((sys.executable, "-c", "pass"))}
    with traffic(theirs, is_busy=is_busy):
        taken["shell"] = shell(theirs, "B", then=POLL)
        settle(theirs, "B")
        taken["shell, old workers gone"] = shell(theirs, "A", then=POLL + GONE)
        settle(theirs, "A")
    with traffic(ours, is_busy=is_busy):
        taken["switch --no-watch"] = upswitch(ours, "switch", "--no-watch", "--to", "B")
        settle(ours, "B")
        taken["rollback"] = upswitch(ours, "rollback")
        settle(ours, "A")
    return taken


def traffic(lab: Lab, *, is_busy: bool) -> AbstractContextManager[object]:
    return lab.load("--connections", "32", "--rate", "1000") if is_busy else contextlib.nullcontext()


if __name__ == "__main__":
    main()

"""Requests lost per switch under busy keep-alive connections: upswitch against the usual shell line.

    python bench/lost_requests.py [--switches 50] [--connections 32]

Peer: `ln -sfn ... && nginx -t && nginx -s reload` in a laboratory without a cure (no drain flag, no keepalive_min_timeout).
Ours: `upswitch switch --to X --no-watch` with the cure that fits the nginx. On every nginx of find_nginx(), in the same run,
ten switches of the one, ten of the other, and so on. The load sends as fast as answers come and never retries; lost: sent,
and no complete answer; failed: lost, refused, or an answer of 500 or more. Goal: ours loses and fails none.
"""

import argparse
from collections import Counter
from collections.abc import Callable

import checkout  # noqa: F401
from sides import prepare_shell, settle, shell, upswitch

from upswitch_lab.conf import Layout
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab
from upswitch_lab.load import Summary

BLOCK = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switches", type=int, default=50)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    print(f"{'nginx':8} {'side':9} {'switches':>8} {'requests':>9} {'lost':>6} {'failed':>6} {'lost/switch':>11}  reasons")
    for version, binary in find_nginx():
        compare(version, binary, options)


def compare(version: str, binary: str, options: argparse.Namespace) -> None:
    totals = {"upswitch": Counter[str](), "shell": Counter[str]()}
    with Lab(binary) as ours, Lab(binary, Layout(cure=False)) as theirs:
        prepare_shell(theirs)
        for done in range(0, options.switches, BLOCK):
            count = min(BLOCK, options.switches - done)
            totals["upswitch"] += block(ours, lambda pool: upswitch(ours, "switch", "--no-watch", "--to", pool), count, options)
            totals["shell"] += block(theirs, lambda pool: shell(theirs, pool), count, options)
    for side, total in totals.items():
        reasons = {name.removeprefix("by "): times for name, times in total.items() if name.startswith("by ")}
        print(
            f"{version:8} {side:9} {options.switches:8} {total['requests']:9} {total['lost']:6} {total['failed']:6} "
            f"{total['lost'] / options.switches:11.2f}  {reasons or 'none'}",
            flush=True,
        )


def block(lab: Lab, switch: Callable[[str], float], count: int, options: argparse.Namespace) -> Counter[str]:
    """`count` switches to and fro under one load, each after the one before has settled."""
    with lab.load("--connections", str(options.connections)) as load:
        pool = lab.marker().rpartition("-")[2]
        for _ in range(count):
            pool = "B" if pool == "A" else "A"
            switch(pool)
            settle(lab, pool)
    return counted(load.summary)


def counted(load: Summary) -> Counter[str]:
    reasons = {f"by {reason}": times for reason, times in load.reasons.items()}
    return Counter({"requests": load.requests, "lost": load.lost, "failed": load.failed, **reasons})


if __name__ == "__main__":
    main()

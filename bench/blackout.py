"""Requests lost to the check module at a switch: upswitch against the usual shell line.

    UPSWITCH_CHECK_NGINX=/path/to/nginx[:/path/to/tengine] python bench/blackout.py [--switches 20] [--interval 1000] [--rise 3]

Both sides check `type=http default_down=true`, under one load of 200 requests a second on kept connections. Peer: the
other generation linked in, `nginx -t && nginx -s reload`, each after the pool before it answers again. Ours: `upswitch switch
--to X --no-watch`, one after the other, the first from a generation without a standby. Goal: ours fails none.
"""

import argparse
import statistics
import sys

import checkout  # noqa: F401
from sides import prepare_shell, settle, shell, upswitch

from upswitch.health import nginx_check
from upswitch.site.model import Check
from upswitch_lab.conf import Layout
from upswitch_lab.find import CHECK_ENV, find_check_nginx
from upswitch_lab.lab import Lab
from upswitch_lab.load import Summary
from upswitch_lab.process import until

RATE = 200
OK = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--interval", type=int, default=1000, help="ms")
    parser.add_argument("--rise", type=int, default=3)
    options = parser.parse_args()
    builds = find_check_nginx()
    if not builds:
        sys.exit(f"set {CHECK_ENV} to an nginx with a check module")
    expected = nginx_check.blackout_of(Check(interval_ms=options.interval, rise=options.rise), servers=2, workers=2)
    print(f"interval={options.interval} rise={options.rise}: likely {expected.likely:.1f} s, worst {expected.worst:.1f} s a reload")
    print(f"{'nginx':8} {'side':9} {'switches':>8} {'requests':>9} {'failed':>7} {'s of 502 a switch':>18}  seconds a switch")
    for name, binary in builds:
        show(name, "upswitch", options.switches, *ours(binary, options))
        show(name, "shell", options.switches, *theirs(binary, options))


def layout(options: argparse.Namespace, *, cure: bool) -> Layout:
    check = {"interval": options.interval, "rise": options.rise, "default_down": True}
    return Layout(cure=cure, site={"upstreams": {"app": {"check": check}}})


def ours(binary: str, options: argparse.Namespace) -> tuple[Summary, list[float]]:
    with Lab(binary, layout(options, cure=True)) as lab:
        with lab.load("--rate", str(RATE)) as load:
            took = [upswitch(lab, "switch", "--no-watch", "--to", "BA"[number % 2]) for number in range(options.switches)]
        return load.summary, took


def theirs(binary: str, options: argparse.Namespace) -> tuple[Summary, list[float]]:
    with Lab(binary, layout(options, cure=False)) as lab:
        prepare_shell(lab)
        with lab.load("--rate", str(RATE)) as load:
            took = [flip(lab, "BA"[number % 2]) for number in range(options.switches)]
        return load.summary, took


def flip(lab: Lab, pool: str) -> float:
    seconds = shell(lab, pool)
    settle(lab, pool)
    until(lambda: lab.get()[0] == OK, deadline=120.0, what=f"a server of {pool} to be up")
    return seconds


def show(name: str, side: str, switches: int, load: Summary, took: list[float]) -> None:
    first, later = took[0], statistics.median(took[1:] or took)
    print(
        f"{name:8} {side:9} {switches:8} {load.requests:9} {load.failed:7} {load.failed / RATE / switches:18.2f}  "
        f"{first:.1f} the first, {later:.2f} the median of the others; {load.reasons or 'none failed'}",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""How long upswitch takes to start, against the interpreter alone.

    python bench/start.py [--runs 20] [--why]

`upswitch status` on a real laboratory and `upswitch --help`, against `python -c pass`, interleaved in the same run; sources
compiled once, as installed. `--why` adds the ten most expensive imports of `status` (their own time, in microseconds).
Goals: `status` at most 120 ms more than the interpreter, `--help` at most 6 times its time.
"""

import argparse
import re
import statistics
import subprocess
import sys
from collections import defaultdict

import checkout  # noqa: F401
from sides import ENV, HEAD, line, timed

from upswitch_lab.conf import Layout
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab

TIMED = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| (.*)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--why", action="store_true")
    options = parser.parse_args()
    with Lab(find_nginx()[0][1], Layout(servers_per_pool=1)) as lab:
        status = (sys.executable, "-m", "upswitch", "status", "-c", str(lab.site_file))
        report(status, options.runs)
        if options.why:
            explain(status)


def report(status: tuple[str, ...], runs: int) -> None:
    sides = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "upswitch --help": (sys.executable, "-m", "upswitch", "--help"),
        "upswitch status": status,
    }
    seconds = defaultdict[str, list[float]](list)
    for number in range(runs + 1):
        for name, argv in sides.items():
            taken = timed(argv)
            if number:  # the first compiles
                seconds[name].append(taken)
    alone = seconds["python -c pass"]
    print(HEAD)
    for name, each in seconds.items():
        more = statistics.median(each) - statistics.median(alone)
        print(f"{line(name, each, alone)}  {more * 1000:+7.1f} ms")


def explain(status: tuple[str, ...]) -> None:
    ran = subprocess.run((sys.executable, "-X", "importtime", *status[1:]), capture_output=True, text=True, check=True, env=ENV)
    rows = [(int(own), int(whole), name) for own, whole, name in TIMED.findall(ran.stderr)]
    print(f"\n{'own us':>8} {'all us':>8} import ({len(rows)} in all)")
    for own, whole, name in sorted(rows, reverse=True)[:10]:
        print(f"{own:8} {whole:8} {name.strip()}")
    print("\nwith what each imports in turn:")
    for own, whole, name in sorted(rows, key=lambda row: -row[1])[:10]:
        print(f"{own:8} {whole:8} {name.strip()}")


if __name__ == "__main__":
    main()

"""Can a client steer the watch? Attacks on the rule, over real log lines: to force a good release back, and to hide a bad one.

    python bench/attack.py [--runs 10] [--seed 1] [--only TEXT] [--against CHECKOUT]

Made: the lines that nginx would write in the advised format, of ten minutes before a switch and of 60 s since. The site has 200
clients, some busier than others (Zipf), and 0.1 % of its requests fail. Read and judged: by the real counters, attribution and
rule, second by second, as a watch does. With --against the same is done with the code of another checkout, and printed beside it.

Printed: how many of the runs ended right, and the median second of the rollbacks. Right is `keep` (also `keep_elevated`) for a good
release, `rollback` for a bad one; HELD counts apart: a person decides. `open` marks what can't be closed (docs/watch.md).
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from pathlib import Path

import checkout  # noqa: F401

from upswitch.logs.line import compile_format
from upswitch.nginx import conf_logs
from upswitch.watch.attribution import Attribution, Timeline, counter_for, counts_of
from upswitch.watch.probation import Probation

try:
    from upswitch.watch import clients
except ImportError:  # the code of a checkout from before clients were known
    clients = None

HISTORY_S, WATCH_S = 600, 60
FIRST = 1_795_262_400
CLIENTS, BASE = 200, 0.001
NEW, FORMER = "000002-B", "000001-A"
ADDRESSES = {NEW: "10.9.0.2:80", FORMER: "10.9.0.1:80"}
TEXT = conf_logs.log_format_line().partition("'")[2].rpartition("'")[0]
READER = compile_format(TEXT, "json")
OURS = Attribution(
    generation=NEW,
    addresses=frozenset({ADDRESSES[NEW]}),
    former_generation=FORMER,
    former_addresses=frozenset({ADDRESSES[FORMER]}),
)
GOOD, BAD, APP, HUNG, LEFT = (
    ("200", "200", "0.010"),
    ("502", "502", "0.010"),
    ("500", "500", "0.010"),
    ("499", "-", "1.200"),
    ("499", "-", "0.020"),
)
"""Status, upstream status and seconds of a request."""

Answer = tuple[str, str, str]


@dataclass(frozen=True)
class Flow:
    """Requests of somebody: so many a second, in these seconds (0 is the switch), so answered. `{}` in a client is a number."""

    client: str
    rate: float
    answer: Answer
    seconds: range = range(-HISTORY_S, WATCH_S)
    clients: int = 1


@dataclass(frozen=True)
class Scenario:
    """`fails` is the share that the release fails, `kind` how. `right` is how the watch should end."""

    name: str
    right: str
    flows: tuple[Flow, ...] = ()
    fails: float = 0.0
    rates: tuple[int, ...] = (10, 100)
    client: str = "10.0.{}.1"
    fails_for: Callable[[int], bool] = field(default=lambda _: True)
    is_open: bool = False


SINCE, BEFORE = range(WATCH_S), range(-HISTORY_S, 0)
ONE, SITE_60, ALL = "6.6.6.6", (60,), (10, 60, 1000)
SCENARIOS = (
    Scenario("force: an endpoint that answers 502, 5/s", "keep", (Flow(ONE, 5, BAD, SINCE),), rates=ALL),
    Scenario("force: a slow endpoint left after 1.2 s, 5/s", "keep", (Flow(ONE, 5, HUNG, SINCE),)),
    Scenario("force: an endpoint that answers 500, 5/s", "keep", (Flow(ONE, 5, APP, SINCE),)),
    Scenario("force: 502s among good requests, begun long before", "keep", (Flow(ONE, 4, GOOD), Flow(ONE, 4, BAD, SINCE))),
    Scenario("force: 502s before and since, from an endpoint", "keep", (Flow(ONE, 1, BAD, BEFORE), Flow(ONE, 5, BAD, SINCE))),
    Scenario(
        "force: bursts of 30 x 502 every 15 s", "keep", tuple(Flow(ONE, 30, BAD, range(at, at + 1)) for at in range(5, 60, 15))
    ),
    Scenario("force: IPv6, a new address for each request", "keep", (Flow("2001:db8:0:1::{}", 5, BAD, SINCE, 9999),)),
    Scenario("force: 2 clients", "keep", (Flow("6.6.6.{}", 5, BAD, SINCE, 2),)),
    Scenario("force: 3 clients", "keep", (Flow("6.6.6.{}", 5, BAD, SINCE, 3),)),
    Scenario("force: as much as the whole site, 502", "keep", (Flow(ONE, 60, BAD, SINCE),), rates=SITE_60, is_open=True),
    Scenario("force: 10 clients", "keep", (Flow("6.6.6.{}", 5, BAD, SINCE, 10),), is_open=True),
    Scenario(
        "force: behind a proxy that hides all clients", "keep", (Flow("10.0.0.1", 5, BAD, SINCE),), client="10.0.0.1", is_open=True
    ),
    Scenario(
        "hide: 104 x 502 in 5 s before, fails 20 %", "rollback", (Flow(ONE, 21, BAD, range(-100, -95)),), fails=0.2, rates=ALL
    ),
    Scenario("hide: 5/s of 502 all the time before, fails 10 %", "rollback", (Flow(ONE, 5, BAD, BEFORE),), fails=0.1),
    Scenario("hide: 60/s of 502 in the last minute, fails 100 %", "rollback", (Flow(ONE, 60, BAD, range(-60, 0)),), fails=1.0),
    Scenario(
        "hide: 3 clients, bursts of 502 before, fails 20 %",
        "rollback",
        tuple(Flow("6.6.6.{}", 40, BAD, range(at, at + 4), 3) for at in range(-590, 0, 60)),
        fails=0.2,
    ),
    Scenario(
        "hide: 90 good requests/s by one client, fails 20 %", "rollback", (Flow(ONE, 90, GOOD, SINCE),), fails=0.2, rates=(3, 10)
    ),
    Scenario(
        "hide: 900 good requests/s by one client, fails 20 %", "rollback", (Flow(ONE, 900, GOOD, SINCE),), fails=0.2, rates=(3, 10)
    ),
    Scenario("hide: 90 aborted at once/s, fails 20 %", "rollback", (Flow(ONE, 90, LEFT, SINCE),), fails=0.2, rates=(3, 10)),
    Scenario(
        "hide: 90 aborted at once/s by 10 clients, fails 20 %",
        "rollback",
        (Flow("6.6.6.{}", 90, LEFT, SINCE, 10),),
        fails=0.2,
        rates=(3, 10),
    ),
    Scenario("hide: 502s by one client since, fails 10 % for all", "rollback", (Flow(ONE, 5, BAD, SINCE),), fails=0.1),
    Scenario(
        "hide: 90 good requests/s by 10 clients, fails 20 %",
        "rollback",
        (Flow("6.6.6.{}", 90, GOOD, SINCE, 10),),
        fails=0.2,
        rates=(3, 10),
        is_open=True,
    ),
    Scenario("none: a good release", "keep", rates=ALL),
    Scenario("none: it fails 100 %", "rollback", fails=1.0),
    Scenario("none: it fails 10 %", "rollback", fails=0.1, rates=ALL),
    Scenario("none: it fails for every fourth client (ip_hash)", "rollback", fails=1.0, fails_for=lambda number: number % 4 == 1),
    Scenario("none: behind a proxy, it fails 20 %", "rollback", fails=0.2, client="10.0.0.1"),
    Scenario(
        "none: it fails for one client, a twentieth", "rollback", fails=1.0, fails_for=lambda number: number == 3, is_open=True
    ),
)


# ---- lines ----


@cache
def line_after_its_second(client: str, answer: Answer, generation: str) -> str:
    """A line from behind the second that it begins with."""
    status, upstream, took = answer
    values = {
        "request_method": "GET",
        "request_uri": "/a",
        "host": "shop.example",
        "upstream_bytes_sent": "400",
        "pid": "7",
        "msec": ".500",
        "remote_addr": client,
        "upswitch_generation": generation,
        "upstream_addr": ADDRESSES[generation],
        "status": status,
        "upstream_status": upstream,
        "request_time": took,
        "upstream_header_time": "-" if upstream == "-" else "0.009",
        "request_completion": "OK" if upstream != "-" else "",
    }
    return re.sub(r"\$(\w+)", lambda found: values.get(found[1], "0.001"), TEXT).removeprefix(BEGIN) + "\n"


BEGIN = TEXT.partition("$msec")[0]
WEIGHTS = list(accumulate(1 / (number + 3) for number in range(CLIENTS)))


def second_of(dice: random.Random, scenario: Scenario, rate: int, at: int) -> bytes:
    lines, generation = [], NEW if at >= 0 else FORMER
    for number in dice.choices(range(CLIENTS), cum_weights=WEIGHTS, k=poisson(dice, rate)):
        has_failed = at >= 0 and scenario.fails_for(number) and dice.random() < scenario.fails
        answer = BAD if has_failed or dice.random() < BASE else GOOD
        lines.append(line_after_its_second(scenario.client.format(number), answer, generation))
    for flow in scenario.flows:
        if at in flow.seconds:
            clients = (flow.client.format(dice.randrange(flow.clients)) for _ in range(poisson(dice, flow.rate)))
            lines += [line_after_its_second(client, flow.answer, generation) for client in clients]
    dice.shuffle(lines)
    return "".join(f"{BEGIN}{FIRST + at}{each}" for each in lines).encode()


def poisson(dice: random.Random, mean: float) -> int:
    count, left = 0, mean
    while (left := left - dice.expovariate(1)) > 0:
        count += 1
    return count


# ---- the watch ----


def watched(dice: random.Random, scenario: Scenario, rate: int) -> tuple[str, int]:
    """How it ends, and when."""
    before = OURS.before(READER)
    timeline, counter = Timeline(), counter_for(before, READER, is_timed=True)
    for start in range(-HISTORY_S, 0, 10):
        block = b"".join(second_of(dice, scenario, rate, at) for at in range(start, start + 10))
        timeline.add(counter.count(block), before)
    probation = begun(timeline)
    counter = counter_for(OURS, READER, is_for_diagnosis=True)
    for at in range(WATCH_S):
        counts = counts_of(counter.count(second_of(dice, scenario, rate, at)), OURS)
        also = {"clients": counts.clients} if clients else {}
        probation = probation.after(new=counts.new, **also)
        look = probation.look()
        if probation.failure(look):
            return "rollback", at + 1
    return str(probation.final(look)).partition("_")[0], WATCH_S


def begun(timeline: Timeline) -> Probation:
    """Also with the code from before clients were known."""
    history, also = timeline.history(), {}
    if clients:
        named = timeline.clients()
        history, also = clients.usual(history, named), {"known": clients.merged(named)}
    return Probation(pool="B", history=history, servers=(), log_mode="generation", silent_after=10.0, **also)


# ---- what is printed ----


def results(runs: int, seed: int, only: str) -> Iterator[tuple[str, int, Counter[str], list[int]]]:
    for scenario in (each for each in SCENARIOS if only in each.name):
        for rate in scenario.rates:
            endings, seconds = Counter[str](), list[int]()
            for run in range(max(2, runs // 5) if rate >= 1000 else runs):
                ending, at = watched(random.Random(f"{seed} {scenario.name} {rate} {run}"), scenario, rate)
                endings[ending] += 1
                seconds += [at] if ending == "rollback" else []
            yield scenario.name, rate, endings, seconds


def said(endings: Counter[str], seconds: Sequence[int]) -> str:
    parts = [f"{count} {ending}" for ending, count in endings.most_common()]
    return ", ".join(parts) + (f" (t+{statistics.median(seconds):.0f}s)" if seconds else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--against", type=Path, help="another checkout of upswitch")
    parser.add_argument("--only", default="", help="scenarios with this in their names")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    if options.json:
        for name, rate, endings, seconds in results(options.runs, options.seed, options.only):
            print(json.dumps([name, rate, endings, seconds]), flush=True)
        return
    other = {}
    if options.against:
        argv = (
            sys.executable,
            __file__,
            "--json",
            "--runs",
            str(options.runs),
            "--seed",
            str(options.seed),
            "--only",
            options.only,
        )
        environment = {**os.environ, "PYTHONPATH": str(options.against / "src")}
        ran = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
        other = {
            (name, rate): said(Counter(endings), seconds)
            for name, rate, endings, seconds in map(json.loads, ran.stdout.splitlines())
        }
    wanted = {each.name: each for each in SCENARIOS}
    for name, rate, endings, seconds in results(options.runs, options.seed, options.only):
        scenario = wanted[name]
        right = endings[scenario.right] / endings.total()
        mark = "open" if scenario.is_open else "ok" if right == 1 else "NO"
        print(f"{name:55} {rate:5}/s {mark:5} {other.get((name, rate), ''):34} {said(endings, seconds)}", flush=True)
    print(f"{time.monotonic() - began:.0f} s, {options.runs} runs each, seed {options.seed}")


if __name__ == "__main__":
    main()

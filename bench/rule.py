"""The watch rule by simulation: how often it takes a good release back, and how soon a bad one.

    python bench/rule.py [--runs 600] [--seed 1] [--processes 2] [--alone] [--pasts] [--given-up]

Drawn: arrivals are Poisson, and a request fails with the share of its second, so passed and failed are Poisson each, with
exact tables. Judged: the real `rule.judge`, once a second over a watch of 60 s. It is not asked where no window has five
failures and 1 % (then ENOUGH or BIG says no); every 50th run it is asked every second, and a difference ends the bench.
A bad release is drawn in a fifth of the runs of a good one. What fired before the fault began (late) did not find it.
"held" are watches that end HELD (watch/ending.py). About 5 minutes on two processors; --alone leaves the peers out, --pasts all
but the pasts, --given-up all but answers that clients give up.

Noise, before the switch and after it:
    steady      every second the base share
    bursts      besides, bursts of 1 to 5 s in which 5 to 50 % fail, 30 s apart on average (Poisson)
    rare        the same, 180 s apart: the history may have none of them
    correlated  calm (60 s on average) and storm (10 s), the storm's share 15 times the calm one's, on average the base share

Pasts, that mislead a comparison with what was before (base 0.1 %, steady):
    incident    the former pool failed 60 % in the last 12 s
    earlier     it failed 60 % for 30 s, 3 minutes ago
    own         two releases were taken back 7 and 4 minutes ago: 3 s of 100 %, 10 s of 50 %, in a log that can't tell pools apart
    known       the same, left out by the journal
    poison      one client added 104 failures within 5 s, 2 minutes ago
    recurring   6 s of 30 % every 100 s, before and after
    dead        the former pool failed everything in the last minute

Given up: the same noise, of answers that clients leave in the middle (downloads, streams). They are judged once, at the end.

Peers, on the same draws, with the odds of ours (1 in 1,000,000) where they have odds:
    5 in 10 s   five failures within ten seconds, whatever there was before
    CUSUM       Page, Continuous inspection schemes, 1954; for Poisson counts: Lucas, Counted data CUSUM's, 1985;
                tuned to the change that we call NEW and BIG: 3 times the share before, at least 1 %
    mSPRT       Robbins' mixture, 1970; Johari and others, Always valid inference, 2022; Bernoulli with a Beta(1, 9) prior
"""

import argparse
import os
import random
import sys
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate, product
from math import ceil, exp, inf, lgamma, log, log1p, sqrt
from operator import add

import checkout  # noqa: F401

from upswitch.logs.line import BIG_PERCENT, ENOUGH_FAILED, HISTORY_S
from upswitch.watch import ending, rule
from upswitch.watch.history import History, Second
from upswitch.watch.rule import LUCK, NEW_TIMES, judge

WATCH_S = 60
BASES = (0.0, 0.0001, 0.001, 0.005, 0.01)
RATES = (0.1, 1, 10, 100, 1000, 10_000, 50_000)
NOISES = ("steady", "bursts", "rare", "correlated")
FAULTS = {"dead": 1.0, "10 %": 0.1, "2 %": 0.02, "1 of 4": 0.25, "slow": inf, "late": 1.0, "hung": 1.0}
APP_FAULTS = {"500s": 1.0, "500s 10%": 0.1, "500s 2%": 0.02, "009": 1.0}
PASTS = ("incident", "earlier", "own", "known", "poison", "recurring", "dead")
PAST_FAULTS = {"": 0.0, "dead": 1.0, "95 %": 0.95, "50 %": 0.5, "20 %": 0.2, "1 %": 0.01}
LATE_S, CHUNK = 30, 100
BURST_SHARES, BURST_SECONDS, BURST_GAPS_S = (0.05, 0.1, 0.2, 0.5), (1, 2, 3, 4, 5), {"bursts": 30, "rare": 180}
CALM_S, STORM_S, STORM_TIMES = 60, 10, 15
LEFT_AFTER_S, PATIENCE_S = 1.0, 4.0  # a client of a hung pool leaves after 1 s and an exponential 4 s
Seconds = Sequence[Second]


@dataclass(frozen=True)
class Cell:
    noise: str = "steady"
    base: float = 0.001
    rate: float = 100
    fault: str = ""
    has_probes: bool = False
    history_s: int = HISTORY_S
    past: str = ""


# ---- what is drawn ----


class Draws:
    """One stream of chance and its Poisson tables (means are few: shares come from short lists)."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)
        self._tables: dict[float, tuple[range, list[float]]] = {}

    def run(self, cell: Cell) -> tuple[Seconds, Seconds]:
        """The seconds before the switch and those after it."""
        noise = self._noise(cell, cell.history_s + WATCH_S)
        bad = [fault_share(cell.fault, at) for at in range(WATCH_S)]
        shares = noise[: cell.history_s] + [either(*both) for both in zip(noise[cell.history_s :], bad, strict=True)]
        seconds = self._seconds(cell.rate, shares)
        after = self._hung(cell.rate) if cell.fault == "hung" else seconds[cell.history_s :]
        if cell.fault in APP_FAULTS:
            after = [Second(total=each.total, app=each.gateway) for each in after]
        probes = [self._probed(cell, at, share) for at, share in enumerate(bad)] if cell.has_probes else []
        before = seconds[: cell.history_s]
        if cell.past == "poison":
            at = cell.history_s - 120
            before[at : at + 5] = [each + Second(total=21, gateway=21) for each in before[at : at + 5]]
        if cell.past == "known":
            before = before[: _OWN_AT[0]] + before[_OWN_AT[0] + 3 : _OWN_AT[1]] + before[_OWN_AT[1] + 10 :]
        return before, list(map(add, after, probes)) if probes else after

    def _noise(self, cell: Cell, length: int) -> list[float]:
        if cell.past:
            return past_shares(cell, length)
        if cell.noise == "correlated":
            return list(self._stormy(cell.base, length))
        shares = [cell.base] * length
        gap = BURST_GAPS_S.get(cell.noise)
        at = self.chance.expovariate(1 / gap) if gap else length
        while at < length:
            end = int(at) + self.chance.choice(BURST_SECONDS)
            share = either(cell.base, self.chance.choice(BURST_SHARES))
            shares[int(at) : end] = [share] * (min(end, length) - int(at))
            at = end + self.chance.expovariate(1 / gap)
        return shares

    def _stormy(self, base: float, length: int) -> Iterator[float]:
        calm = base * (CALM_S + STORM_S) / (CALM_S + STORM_S * STORM_TIMES)
        is_storm = self.chance.random() < STORM_S / (CALM_S + STORM_S)
        for _ in range(length):
            yield min(1.0, calm * STORM_TIMES) if is_storm else calm
            is_storm ^= self.chance.random() < 1 / (STORM_S if is_storm else CALM_S)

    def _seconds(self, rate: float, shares: list[float]) -> list[Second]:
        places = defaultdict[float, list[int]](list)
        for at, share in enumerate(shares):
            places[share].append(at)
        seconds = [Second()] * len(shares)
        for share, ats in places.items():
            failed, passed = self._poisson(rate * share, len(ats)), self._poisson(rate * (1 - share), len(ats))
            for at, lost, served in zip(ats, failed, passed, strict=True):
                seconds[at] = Second(total=lost + served, gateway=lost)
        return seconds

    def _hung(self, rate: float) -> list[Second]:
        """Clients that leave: the lines that each second of a hung pool gets are Poisson (the output of M/G/infinity)."""
        left = [rate * (waited(at + 1) - waited(at)) for at in range(WATCH_S)]
        return [Second(total=count, hung=count) for mean in left for count in self._poisson(mean, 1)]

    def _probed(self, cell: Cell, at: int, share: float) -> Second:
        """Two a second; a hung one takes 2 s, and the next waits for it (watch/through.py, hosts/wait.py)."""
        if cell.fault == "hung":
            return Second(total=at % 2, hung=at % 2)
        return Second(total=2, gateway=sum(self.chance.random() < either(share, cell.base) for _ in range(2)))

    def _poisson(self, mean: float, times: int) -> list[int]:
        if mean not in self._tables:
            low, high = max(0, int(mean - 10 * sqrt(mean) - 10)), int(mean + 10 * sqrt(mean) + 25)
            odds = (exp(k * log(mean) - mean - lgamma(k + 1)) if mean else float(k == 0) for k in range(low, high))
            self._tables[mean] = (range(low, high), list(accumulate(odds)))
        values, cumulated = self._tables[mean]
        return self.chance.choices(values, cum_weights=cumulated, k=times)


_OWN_AT = (HISTORY_S - 420, HISTORY_S - 240)


def past_shares(cell: Cell, length: int) -> list[float]:
    shares = [cell.base] * length
    spans: dict[str, list[tuple[int, int, float]]] = {
        "incident": [(HISTORY_S - 12, 12, 0.6)],
        "earlier": [(HISTORY_S - 180, 30, 0.6)],
        "own": [(_OWN_AT[0], 3, 1.0), (_OWN_AT[1], 10, 0.5)],
        "recurring": [(at, 6, 0.3) for at in range(30, length, 100)],
        "dead": [(HISTORY_S - 60, 60, 1.0)],
    }
    for at, seconds, share in spans.get("own" if cell.past == "known" else cell.past, []):
        shares[at : at + seconds] = [share] * seconds
    return shares


def fault_share(fault: str, at: int) -> float:
    """The share that the new pool fails of the requests of second `at`; slow: from nothing to all within the minute."""
    match fault:
        case "slow":
            return (at + 1) / WATCH_S
        case "late":
            return float(at >= LATE_S)
        case _:
            return (FAULTS | APP_FAULTS | PAST_FAULTS).get(fault, 0.0)


def either(one: float, other: float) -> float:
    return 1 - (1 - one) * (1 - other) if one and other else one + other


def waited(until: float) -> float:
    """Clients gone `until` seconds after the switch, for one that comes a second: the integral of the share that has left."""
    spent = max(0.0, until - LEFT_AFTER_S)
    return spent - PATIENCE_S * (1 - exp(-spent / PATIENCE_S))


# ---- who judges: each gives the second of the watch after which it fires; inf: never ----


def ours(before: Seconds, after: Seconds) -> float:
    history = History(seconds=tuple(before))
    return first(at for at in may_spike(after) if judge(history, after[:at]).is_spike)


def ours_asked_always(before: Seconds, after: Seconds) -> float:
    history = History(seconds=tuple(before))
    return first(at for at in range(1, len(after) + 1) if judge(history, after[:at]).is_spike)


def may_spike(after: Seconds) -> Iterator[int]:
    failed, total = list(accumulate(map(failures, after), initial=0)), list(accumulate((each.total for each in after), initial=0))
    for at in range(1, len(after) + 1):
        windows = [(failed[at] - failed[start], total[at] - total[start]) for start in {0, max(0, at - 10)}]
        if any(some >= ENOUGH_FAILED and some * 100 >= of * BIG_PERCENT for some, of in windows):
            yield at


def five_in_ten(_: Seconds, after: Seconds) -> float:
    counts = [0] * 10 + list(accumulate(map(failures, after), initial=0))
    return first(at for at in range(1, len(after) + 1) if counts[at + 10] - counts[at] >= 5)


def cusum(before: Seconds, after: Seconds) -> float:
    usual = usual_share(before)
    worse = max(NEW_TIMES * usual, BIG_PERCENT / 100)
    gains = (failures(each) * log(worse / usual) - each.total * (worse - usual) for each in after)
    sums = accumulate(gains, lambda height, gain: max(0.0, height + gain), initial=0.0)
    return first(at for at, height in enumerate(sums) if height > -log(LUCK))


def msprt(before: Seconds, after: Seconds) -> float:
    usual = usual_share(before)
    sums = accumulate(((failures(each), each.total) for each in after), lambda one, two: (one[0] + two[0], one[1] + two[1]))
    return first(at for at, (failed, total) in enumerate(sums, 1) if evidence(failed, total, usual) > -log(LUCK))


def evidence(failed: int, total: int, usual: float) -> float:
    """Log of the likelihood under Beta(1, 9) over that under the usual share; one-sided."""
    if failed <= usual * total:
        return -inf
    mixed = log_beta(1 + failed, 9 + total - failed) - log_beta(1, 9)
    return mixed - failed * log(usual) - (total - failed) * log1p(-usual)


def log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def usual_share(before: Seconds) -> float:
    """What failed before the switch, with 1 of 1,000 assumed besides."""
    return (sum(map(failures, before)) + 1) / (sum(each.total for each in before) + 1000)


def is_held(before: Seconds, after: Seconds) -> bool:
    end = ending.last(History(seconds=tuple(before)), after, after)
    return ending.fails_half(end) or ending.fails_more(end)


def failures(second: Second) -> int:
    return second.failures


def first(fired: Iterable[int]) -> float:
    return next(iter(fired), inf)


OURS, HELD = "upswitch", "held"
JUDGES: dict[str, Callable[[Seconds, Seconds], float]] = {
    "upswitch": ours,
    "5 in 10 s": five_in_ten,
    "CUSUM": cusum,
    "mSPRT": msprt,
}
Delays = dict[str, list[float]]
Done = dict[Cell, Delays]


# ---- the runs ----


def chunk(cell: Cell, seed: str, runs: int, *, is_alone: bool) -> Delays:
    """Seconds from the fault (without one: from the switch) to each judge's firing, a run each."""
    draws = Draws(f"{seed} {cell}")
    onset = LATE_S if cell.fault == "late" else 0
    judges = {name: judged for name, judged in JUDGES.items() if name == OURS or not is_alone}
    delays: Delays = {name: [] for name in (*judges, HELD)}
    for run in range(runs):
        before, after = draws.run(cell)
        for name, judged in judges.items():
            at = judged(before, after)
            delays[name].append(at - onset if at > onset else inf)
        is_end_held = delays[OURS][-1] == inf and is_held(before, after)
        delays[HELD].append(WATCH_S if is_end_held else inf)
        if run % 50 == 0 and ours(before, after) != ours_asked_always(before, after):
            sys.exit(f"the short way misses a spike: {cell}, seed {seed}")
    return delays


def simulate(pool: ProcessPoolExecutor, cells: Iterable[Cell], options: argparse.Namespace) -> Iterator[tuple[Cell, Delays]]:
    """Every cell with its runs, in order, as the processes get through them."""
    futures = {}
    for cell in cells:
        runs = max(1, options.runs // 5) if cell.fault else options.runs
        starts = range(0, runs, CHUNK)
        futures[cell] = [
            pool.submit(chunk, cell, f"{options.seed} {start}", min(CHUNK, runs - start), is_alone=options.alone)
            for start in starts
        ]
    for cell, parts in futures.items():
        results = [part.result() for part in parts]
        yield cell, {name: [delay for result in results for delay in result[name]] for name in results[0]}


# ---- what is printed ----


def fired(delays: list[float]) -> int:
    return sum(delay < inf for delay in delays)


def upper(count: int, runs: int) -> float:
    """95 % upper bound of a share (Clopper and Pearson, one-sided)."""

    def at_most(share: float) -> float:
        terms = (lgamma(runs + 1) - lgamma(k + 1) - lgamma(runs - k + 1) + k * log(share) for k in range(count + 1))
        return sum(exp(term + (runs - k) * log1p(-share)) for k, term in enumerate(terms))

    grid = range(1, 100_000)
    return (bisect_left(grid, -0.05, key=lambda share: -at_most(share / 100_000)) + 1) / 100_000 if count < runs else 1.0


def share_line(delays: Delays) -> str:
    mine, *peers, held = delays.values()
    count, runs = fired(mine), len(mine)
    of_ours = f"{count:6} of {runs:6} = {count / runs:.4f} (<= {upper(count, runs):.4f}) {fired(held) / runs:7.4f}"
    return of_ours + "".join(f" {fired(peer) / runs:11.4f}" for peer in peers)


def delay_line(delays: Delays) -> str:
    mine, *peers, held = delays.values()
    found = f"{fired(mine) / len(mine):7.3f} {said(quantile(mine, 0.5)):>6} {said(quantile(mine, 0.95)):>6}"
    of_ours = f"{found} {fired(held) / len(held):6.3f}"
    return of_ours + "".join(f" {fired(peer) / len(peer):7.3f} {said(quantile(peer, 0.5)):>5}" for peer in peers)


def said(delay: float) -> str:
    return "-" if delay == inf else f"{delay:.0f}"


def quantile(delays: list[float], share: float) -> float:
    """Of all runs; infinite where so many were never found."""
    return sorted(delays)[max(0, ceil(share * len(delays)) - 1)]


def merged(done: Done, chosen: Callable[[Cell], bool]) -> Delays:
    names = next(iter(done.values()))
    return {name: [delay for cell, delays in done.items() if chosen(cell) for delay in delays[name]] for name in names}


def good_releases(pool: ProcessPoolExecutor, options: argparse.Namespace) -> Done:
    print(f"\nGood releases taken back, {HISTORY_S} s of history (95 % upper bound)\n{FALSE_HEAD}")
    every = (Cell(noise, base, rate) for noise, base, rate in product(NOISES, BASES, RATES))
    cells = [cell for cell in every if cell.base or cell.noise != "correlated"]
    done = told(simulate(pool, cells, options))
    for noise in NOISES:
        print(f"{noise + ', all cells':33} {share_line(merged(done, lambda cell, noise=noise: cell.noise == noise))}")
    return done


def histories(pool: ProcessPoolExecutor, options: argparse.Namespace) -> Done:
    print(f"\nGood releases taken back, by the length of the history (base 0.1 %)\n{FALSE_HEAD}")
    lengths = (HISTORY_S, 300, 60, 0)
    cells = [Cell(noise, rate=rate, history_s=length) for noise, length, rate in product(NOISES, lengths, (10, 100, 1000))]
    return told(simulate(pool, cells, options))


def told(results: Iterator[tuple[Cell, Delays]]) -> Done:
    done = {}
    for cell, delays in results:
        done[cell] = delays
        print(f"{cell.noise:10} {cell.base:8.2%} {cell.rate:8,} {cell.history_s:4} {share_line(delays)}", flush=True)
    return done


def bad_releases(pool: ProcessPoolExecutor, options: argparse.Namespace) -> Done:
    print("\nBad releases found within 60 s: share, median and 95th percentile of seconds (late: since it began)")
    print(
        f"{'noise':10} {'base':>8} {'fault':8} {'req/s':>8} {'probes':6} {'upswitch':>21} {HELD:>6} "
        + "".join(f"{name:>14}" for name in PEERS)
    )
    backgrounds = (
        ("steady", 0.001, RATES, (False, True)),
        ("steady", 0.01, (10, 1000), (True,)),
        ("rare", 0.001, (10, 1000), (True,)),
    )
    cells = [
        replace(Cell(noise, base, rate), fault=fault, has_probes=has_probes)
        for noise, base, rates, probes in backgrounds
        for fault, rate, has_probes in product(FAULTS, rates, probes)
    ]
    cells += [Cell(rate=rate, fault=fault) for fault, rate in product(APP_FAULTS, (1, 10, 100, 1000))]
    done = {}
    for cell, delays in simulate(pool, cells, options):
        done[cell] = delays
        what = f"{cell.noise:10} {cell.base:8.2%} {cell.fault:8} {cell.rate:8,} {'2/s' if cell.has_probes else '-':6}"
        print(f"{what} {delay_line(delays)}", flush=True)
    return done


def pasts(pool: ProcessPoolExecutor, options: argparse.Namespace) -> None:
    print("\nAfter pasts that mislead: shares taken back, held and kept; seconds to find it")
    print(f"{'past':10} {'fault':6} {'req/s':>8} {'back':>6} {HELD:>6} {'kept':>6} {'median':>6}")
    cells = [Cell(rate=rate, fault=fault, past=past) for past, fault, rate in product(PASTS, PAST_FAULTS, (7, 100, 1000))]
    for cell, delays in simulate(pool, cells, options):
        runs = len(delays[OURS])
        back, held = fired(delays[OURS]) / runs, fired(delays[HELD]) / runs
        found = f"{back:6.3f} {held:6.3f} {1 - back - held:6.3f} {said(quantile(delays[OURS], 0.5)):>6}"
        print(f"{cell.past:10} {cell.fault or 'none':6} {cell.rate:8,} {found}", flush=True)


def given_up(pool: ProcessPoolExecutor, options: argparse.Namespace) -> None:
    print("\nReleases held because clients give up answers, of those that have no more of them than before, and of bad ones")
    print(f"{'noise':10} {'base':>8} {'fault':8} {'req/s':>8} {'held':>6} of {'runs':>6}")
    faults = {"": (0.0, 0.01, 0.05, 0.15, 0.3), "dead": (0.0, 0.05, 0.15, 0.3), "1 of 4": (0.0, 0.05), "10 %": (0.0, 0.05)}
    cells = [
        Cell(noise, base, rate, fault=fault)
        for fault, bases in faults.items()
        for noise, base, rate in product(NOISES if not fault else ("steady",), bases, (1, 10, 100, 1000))
        if base or noise != "correlated"
    ]
    runs = [max(1, options.runs // 5) if cell.fault else options.runs for cell in cells]
    futures = [pool.submit(held_given_up, cell, f"{options.seed}", each) for cell, each in zip(cells, runs, strict=True)]
    good: dict[str, list[int]] = {noise: [0, 0] for noise in NOISES}
    for cell, each, future in zip(cells, runs, futures, strict=True):
        held = future.result()
        print(f"{cell.noise:10} {cell.base:8.2%} {cell.fault or 'none':8} {cell.rate:8,} {held:6} of {each:6}", flush=True)
        if not cell.fault:
            good[cell.noise] = [good[cell.noise][0] + held, good[cell.noise][1] + each]
    for noise, (held, of) in good.items():
        print(f"{noise}, all good: {held} of {of} = {held / of:.4f} (<= {upper(held, of):.4f})")


def held_given_up(cell: Cell, seed: str, runs: int) -> int:
    draws, held = Draws(f"{seed} {cell}"), 0
    for _ in range(runs):
        before, after = (tuple(Second(total=each.total, given_up=each.gateway) for each in part) for part in draws.run(cell))
        held += rule.given_up(History(seconds=before), after).is_spike
    return held


def compare(done: Done) -> None:
    """The figures of docs/design.md, beside those of this run."""

    def worst(what: str, chosen: Callable[[Cell], bool]) -> None:
        cell = max(filter(chosen, done), key=lambda cell: fired(done[cell]["upswitch"]))
        print(f"  {what}: worst {cell.noise} {cell.base:.2%} {cell.rate:,}/s: {share_line(done[cell])}")

    def slowest(what: str, chosen: Callable[[Cell], bool]) -> None:
        cell = max(filter(chosen, done), key=lambda cell: quantile(done[cell]["upswitch"], 0.95))
        print(f"  {what}: slowest {cell.noise} {cell.base:.2%} {cell.rate:,}/s: {delay_line(done[cell])}")

    good = {cell for cell in done if not cell.fault}
    print("\nThe goals of the design (columns as above)")
    worst("steady, at most 0.0002", lambda cell: cell in good and cell.noise == "steady" and cell.history_s == HISTORY_S)
    worst("bursty, 0.006 to 0.04 ", lambda cell: cell in good and cell.noise != "steady" and cell.history_s == HISTORY_S)
    worst("60 s known, up to 0.4 ", lambda cell: cell in good and cell.noise != "steady" and cell.history_s == 60)
    slowest("dead, 10/s or more, 2 s", lambda cell: cell.fault == "dead" and cell.rate >= 10)
    slowest("dead, 0.1/s, probes, 3 s", lambda cell: cell.fault == "dead" and cell.rate < 1 and cell.has_probes)


PEERS = [name for name in JUDGES if name != OURS]
FALSE_HEAD = f"{'noise':10} {'base':>8} {'req/s':>8} {'hist':>4} {'upswitch':>37} {HELD:>7}" + "".join(
    f"{name:>12}" for name in PEERS
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--pasts", action="store_true")
    parser.add_argument("--given-up", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        if not options.pasts:
            given_up(pool, options)
        if not options.given_up:
            pasts(pool, options)
        if options.pasts or options.given_up:
            return
        compare(good_releases(pool, options) | histories(pool, options) | bad_releases(pool, options))
    print(f"{time.monotonic() - began:.0f} s, {options.runs} runs a cell, seed {options.seed}")


if __name__ == "__main__":
    main()

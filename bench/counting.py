"""Counting an access log for the watch, against grep -c, mawk and a parser of one line at a time; and reading its last ten minutes.

    python bench/counting.py [--rounds 3] [--rate 50000] [--seconds 10] [--gigabytes 2]

Logs are made here (in --folder, by default /tmp) and removed; all reading is from the page cache. Four parts, in one run:

- speed: 200 MB of nginx's usual format with upstream fields (330 bytes a line, escape=default), and of the advised JSON format
  (480 bytes). 1 line in 500 is a 502, 1 in 1000 a 499. All sides give the number of 502s, and must agree. grep only searches for
  it; mawk splits at quotes and counts by address and upstream status; "a parser" is what scripts do: a match with named groups of
  each line, or json.loads. Seconds are processor time, user and system, best of the rounds; the rounds are interleaved.
- share: another process appends --rate lines a second; the real follower and counter read once a second. Processor time by wall.
- history: --gigabytes of log of which the last ten minutes are a tenth, then all of it. grep and mawk have to read it all.
- memory: the highest resident size before and after that.

Goals: 250 MB/s on one core, under 6 % of a core at 50,000 lines/s, 2 GB of history in 10 s, constant memory.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import checkout  # noqa: F401

from upswitch.basics.value import Value
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.follow import LogFollower
from upswitch.hosts.local.host import LocalHost
from upswitch.logs import source
from upswitch.logs.line import LineReader, compile_format
from upswitch.nginx import conf_logs
from upswitch.nginx.conf_logs import COMBINED
from upswitch.watch.attribution import Attribution, Counts, Timeline, counter_for, counts_of

USUAL = (
    f'{COMBINED} rt=$request_time ua="$upstream_addr" us="$upstream_status" uct="$upstream_connect_time"'
    ' uht="$upstream_header_time" urt="$upstream_response_time" gen=$upswitch_generation'
)
ADVISED = conf_logs.log_format_line().partition("'")[2].rpartition("'")[0]
OURS = Attribution(
    generation="000042-B",
    addresses=frozenset({"127.0.0.1:29110", "127.0.0.1:29111"}),
    former_addresses=frozenset({"127.0.0.1:29100"}),
)
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
NAMED = re.compile(
    r'(?P<addr>\S+) - (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" (?P<status>\d+) (?P<bytes>\d+) "(?P<referer>[^"]*)"'
    r' "(?P<agent>[^"]*)" rt=(?P<rt>\S+) ua="(?P<upstream_addr>[^"]*)" us="(?P<upstream_status>[^"]*)" uct="(?P<uct>[^"]*)"'
    r' uht="(?P<uht>[^"]*)" urt="(?P<urt>[^"]*)" gen=(?P<gen>\S+)'
)
FIRST = 1_795_262_400  # Unix time of the first line
LINES = 20_000  # different ones; a log is made of them over and over
APPEND = """
import os, sys, time
lines, rate, seconds = open(sys.argv[2], "rb").read().splitlines(keepends=True), int(sys.argv[3]), int(sys.argv[4])
log, slices = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND), 50
began = time.monotonic()
for number in range(seconds * slices):
    time.sleep(max(0.0, began + number / slices - time.monotonic()))
    os.write(log, b"".join(lines[number * rate // slices % 10_000 :][: rate // slices]))
"""


class Kind(Value):
    """One format: how a line of it is made, and how others count it."""

    name: str
    reader: LineReader
    line: Callable[[int, float], str]
    grep: str
    mawk: str
    upstream_status: Callable[[str], str]


def usual_line(number: int, at: float) -> str:
    status, upstream = fate(number)
    time_local = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at))
    return (
        f'10.0.{number % 256}.{number % 251} - - [{time_local}] "GET /api/v1/items/{number}?session={number * 7919:016x} HTTP/1.1"'
        f' {status} {number % 9000} "https://shop.example/a/list" "{AGENT}" rt=0.0{number % 90 + 10}'
        f' ua="127.0.0.1:{29110 + number % 2}" us="{upstream}" uct="0.001" uht="0.0{number % 90 + 10}" urt="0.012" gen=000042-B\n'
    )


def advised_line(number: int, at: float) -> str:
    status, upstream = fate(number)
    values = {
        **dict.fromkeys(re.findall(r"\$(\w+)", ADVISED), "0.012"),
        "msec": f"{at:.3f}",
        "remote_addr": f"10.0.{number % 256}.{number % 251}",
        "request_method": "GET",
        "request_uri": f"/api/v1/items/{number}?session={number * 7919:016x}",
        "host": "shop.example",
        "status": status,
        "upstream_addr": f"127.0.0.1:{29110 + number % 2}",
        "upstream_status": upstream,
        "upstream_bytes_sent": "412",
        "upstream_bytes_received": str(number % 9000),
        "upswitch_generation": "000042-B",
        "upswitch_pool": "B",
        "pid": "1234",
        "connection": str(number),
        "connection_requests": "3",
        "request_completion": "OK",
    }
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], ADVISED) + "\n"


def fate(number: int) -> tuple[str, str]:
    """Client's status and upstream's."""
    if number % 500 == 0:
        return "502", "502"
    return ("499", "-") if number % 1000 == 1 else ("200", "200")


KINDS = (
    Kind(
        name="usual format",
        reader=compile_format(USUAL),
        line=usual_line,
        grep='us="502"',
        mawk='-F" {n[$8,$10]++} END {for (k in n) {split(k,a,SUBSEP); if (a[2]==502) f+=n[k]} print f}',
        upstream_status=lambda line: found["upstream_status"] if (found := NAMED.match(line)) else "",
    ),
    Kind(
        name="advised JSON",
        reader=compile_format(ADVISED, "json"),
        line=advised_line,
        grep='"upstream_status":"502"',
        mawk='-F" {n[$32,$36]++} END {for (k in n) {split(k,a,SUBSEP); if (a[2]==502) f+=n[k]} print f}',
        upstream_status=lambda line: json.loads(line)["upstream_status"],
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=50_000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="upswitch-bench-") as folder:
        path = Path(folder, "access.log")
        for kind in KINDS:
            speed(kind, path, options.rounds)
            share(kind, path, options.rate, options.seconds)
        for kind in KINDS:
            for seconds in (6000, 600):
                history(kind, path, seconds=seconds, size=int(options.gigabytes * 1e9))


# ---- the four parts ----


def speed(kind: Kind, path: Path, rounds: int) -> None:
    size = make(kind, path, seconds=60, size=200_000_000)
    sides: dict[str, Callable[[], int]] = {
        "upswitch": lambda: ours(kind, path).new.gateway,
        "grep -c": lambda: grep(kind, path),
        "mawk by field": lambda: mawk(kind, path),
        "a parser": lambda: parser_of_lines(kind, path),
    }
    lines = ours(kind, path).lines
    print(f"\n{kind.name}: {size / lines:.0f} bytes a line, {size / 1e6:.0f} MB\n{'':24}    MB/s   lines/s  ns a line")
    taken = {side: list[float]() for side in sides}
    found = {side: count() for side, count in sides.items()}
    for _ in range(rounds):
        for side, count in sides.items():
            taken[side].append(cpu_seconds(count))
    for side, seconds in taken.items():
        best = min(seconds)
        print(f"{side:24}{size / best / 1e6:8.0f}{lines / best:10,.0f}{best / lines * 1e9:11.0f}", flush=True)
    if len(set(found.values())) > 1:
        sys.exit(f"they do not agree: {found}")


def share(kind: Kind, path: Path, rate: int, seconds: int) -> None:
    """Of one core, while the log grows."""
    source = path.with_name("lines")
    source.write_text("".join(kind.line(number, FIRST) for number in range(LINES)))
    path.write_bytes(b"")
    follower = LogFollower(str(path), clock=SystemClock())
    counter, found, looks = counter_for(OURS, kind.reader), Counts(), list[float]()
    writer = subprocess.Popen((sys.executable, "-c", APPEND, str(path), str(source), str(rate), str(seconds)))
    began, busy = time.monotonic(), time.process_time()
    for second in range(1, seconds + 2):
        time.sleep(max(0.0, began + second - time.monotonic()))
        looked = time.process_time()
        while block := follower.read():
            found += counts_of(counter.count(block), OURS)
        looks.append(time.process_time() - looked)
    spent = time.process_time() - busy
    writer.wait()
    follower.close()
    wrong = "" if found.new.total == rate * seconds else f", but {rate * seconds:,} were written"
    print(
        f"follow and count {rate:,} lines/s for {seconds} s: {spent / seconds:.1%} of a core, worst second {max(looks):.1%};"
        f" {found.new.total:,} lines seen{wrong}",
        flush=True,
    )


def history(kind: Kind, path: Path, *, seconds: int, size: int) -> None:
    """As the watch reads it before the swap."""
    path.unlink(missing_ok=True)
    size = make(kind, path, seconds=seconds, size=size)
    before = highest_kib()
    began, busy = time.perf_counter(), time.process_time()
    timeline = Timeline()
    counter = counter_for(OURS, kind.reader, is_timed=True)
    for block in source.last_minutes(LocalHost(SystemClock()), str(path), kind.reader):
        timeline.add(counter.count(block), OURS)
    found = timeline.history()
    wall, busy = time.perf_counter() - began, time.process_time() - busy
    total = sum(each.total for each in found.seconds)
    print(f"\nhistory of {kind.name}, {size / 1e9:.1f} GB, the last ten minutes are {600 / seconds:.0%} of it")
    print(f"{'upswitch':24}{wall:6.2f} s ({busy:.2f} s processor): {len(found.seconds)} s, {total:,} requests")
    for side, count in (("grep -c", grep), ("mawk by field", mawk)):
        began = time.perf_counter()
        count(kind, path)
        print(f"{side:24}{time.perf_counter() - began:6.2f} s for all of it")
    print(f"highest memory: {before // 1024} MiB before, {highest_kib() // 1024} MiB after", flush=True)


# ---- the sides ----


def ours(kind: Kind, path: Path) -> Counts:
    counter, found = counter_for(OURS, kind.reader), Counts()
    for block in source.blocks(LocalHost(SystemClock()), str(path), range(path.stat().st_size)):
        found += counts_of(counter.count(block), OURS)
    return found


def grep(kind: Kind, path: Path) -> int:
    return int(output(("grep", "-c", kind.grep, str(path))))


def mawk(kind: Kind, path: Path) -> int:
    separator, program = kind.mawk.split(" ", 1)
    return int(output(("mawk", separator, program, str(path))))


def output(argv: tuple[str, ...]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout


def parser_of_lines(kind: Kind, path: Path) -> int:
    with path.open(encoding="utf-8", errors="replace") as file:
        return Counter(map(kind.upstream_status, file))["502"]


# ---- what they are measured with ----


def make(kind: Kind, path: Path, *, seconds: int, size: int) -> int:
    """A log over so many seconds; returns its size in bytes, within a percent of `size`."""
    with path.open("wb") as file:
        for block in blocks_of(kind, seconds=seconds, size=size):
            file.write(block)
    return path.stat().st_size


def blocks_of(kind: Kind, *, seconds: int, size: int) -> Iterator[bytes]:
    """The same lines in each second, but for their time."""
    lines = [kind.line(number, FIRST) for number in range(LINES)]
    a_second = round(size / seconds / (sum(map(len, lines)) / LINES))
    block = "".join(lines[number % LINES] for number in range(a_second)).encode()
    written = time_as_written(kind, FIRST)
    for second in range(seconds):
        yield block.replace(written, time_as_written(kind, FIRST + second))


def time_as_written(kind: Kind, at: int) -> bytes:
    is_local = "time_local" in kind.reader.variables
    return (time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at)) if is_local else f"{at:.3f}").encode()


def cpu_seconds(act: Callable[[], object]) -> float:
    """Of this process and of those that it started and that have ended."""
    before = os.times()
    act()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def highest_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()

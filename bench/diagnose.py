"""How fast `diagnose` counts logs: lines a second, beside what people use instead, on the same files in the same run.

    python bench/diagnose.py [--lines 500000] [--times 3]

Processor time (ours, or the program's with its start), best of `--times`, files in the page cache:
    grep -c     counts the lines that have one text
    mawk        counts by server: the error log by cause and upstream, the access log by upstream and status
    by line     reads each line with what `diagnose` uses for a line that is not plain (errorlog.parse_error and the rules,
                LineReader.read), and counts by cause, or by upstream and status

By the path of the program: blocks of 1 MiB, and with `--since` before the first line, as the live command has it.

Drawn: an outage of ten minutes. Error log: four causes at eight servers, and, in "mixed", three of four lines of what busy sites
write besides (missing files, limits, buffered answers), each different. Access log, of the format that docs/ recommends as text:
1 in 100 requests failed, or all of them.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import checkout  # noqa: F401

from upswitch.diagnose.causes import cause_of
from upswitch.diagnose.count_access import AccessCounter
from upswitch.diagnose.count_errors import ErrorCounter
from upswitch.logs.error_line import parse_error
from upswitch.logs.line import ALWAYS, compile_format

FORMAT = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
    '$request_time "$upstream_addr" "$upstream_status" "$upstream_connect_time" "$upstream_header_time" '
    '"$upstream_bytes_sent" "$request_completion"'
)
READER = compile_format(FORMAT)
BLOCK = 1 << 20  # bytes, as logs/source.py reads them
SINCE = "2026/11/20 16:59:00"
SPAN = range(1795193940, ALWAYS.stop)  # the same, in UTC
SECONDS = 600
FROM = "connecting to upstream", "reading response header from upstream"
CAUSES = (
    f"connect() failed (111: Connection refused) while {FROM[0]}",
    f"upstream timed out (110: Connection timed out) while {FROM[1]}",
    f"upstream prematurely closed connection while {FROM[1]}",
    f"no live upstreams while {FROM[0]}",
)
BESIDES: tuple[Callable[[int], str], ...] = (
    lambda n: f'open() "/srv/www/wp-{n}.php" failed (2: No such file or directory)',
    lambda n: f'limiting requests, excess: {n % 20}.{n % 1000:03} by zone "one"',
    lambda n: f"an upstream response is buffered to a temporary file /var/cache/nginx/{n % 10}/{n:010} while reading upstream",
)
MAWK_ERRORS = r"""
{ split($0, half, ", client: "); sub(/^[^*]*\*[0-9]+ /, "", half[1])
  server = match(half[2], /upstream: "[^"]*/) ? substr(half[2], RSTART, RLENGTH) : ""; count[half[1] server]++ }
END { for (each in count) print count[each], each }
"""
MAWK_ACCESS = r"""
{ split($0, quoted, "\""); count[quoted[8] " " quoted[10]]++ }
END { for (each in count) print count[each], each }
"""


def error_line(number: int, lines: int, *, is_mixed: bool) -> str:
    cause = random.choice(CAUSES) if not is_mixed or number % 4 == 0 else random.choice(BESIDES)(number)
    server = "pool" if cause.startswith("no live") else f"10.0.0.{random.randrange(8)}:8080"
    at = number * SECONDS // lines
    return (
        f"2026/11/20 17:{at // 60:02}:{at % 60:02} [error] 1234#1234: *{number} {cause}, client: 203.0.113.{number % 256}, "
        f'server: example.com, request: "GET /api/v1/items/{number} HTTP/1.1", upstream: "http://{server}/api/v1/items/{number}", '
        f'host: "example.com", referrer: "https://example.com/x/{number}"\n'
    )


def access_line(number: int, lines: int, share: float) -> str:
    server, milliseconds = f"10.0.0.{random.randrange(8)}:8080", number % 700
    good = (200, server, "200", "0.000", f"0.{milliseconds:03}", "312")
    bad = (
        (502, server, "502", "-", "-", "0"),
        (200, f"{server}, 10.0.0.9:8080", "502, 200", "-, 0.001", f"-, 0.{milliseconds:03}", "0, 312"),
        (502, server, "502", "0.001", f"0.{milliseconds:03}", "312"),
    )
    status, addr, answers, connect, header, sent = random.choice(bad) if random.random() < share else good
    at = number * SECONDS // lines
    return (
        f"203.0.113.{number % 256} - - [20/Nov/2026:17:{at // 60:02}:{at % 60:02} +0000] "
        f'"GET /api/v1/items/{number} HTTP/1.1" {status} 5316 "https://example.com/x" '
        f'"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0" 0.{milliseconds:03} '
        f'"{addr}" "{answers}" "{connect}" "{header}" "{sent}" "OK"\n'
    )


def blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block + file.readline()


def count_errors(path: Path) -> int:
    counter = ErrorCounter(since=SINCE)
    for block in blocks(path):
        counter.count(block)
    return counter.found().lines


def count_access(path: Path) -> int:
    counter = AccessCounter(READER, span=SPAN)
    for block in blocks(path):
        counter.count(block)
    return counter.found().requests


def errors_by_line(path: Path) -> int:
    counts = Counter[tuple[str | None, str]]()
    with path.open("rb") as file:
        for line in file:
            parsed = parse_error(line[:-1])
            if parsed:
                counts[cause_of(parsed), parsed.upstream] += 1
    return counts.total()


def access_by_line(path: Path) -> int:
    counts = Counter[tuple[str | None, str | None]]()
    with path.open("rb") as file:
        for line in file:
            entry = READER.read(line[:-1])
            if entry:
                counts[entry.upstream_addr, entry.upstream_status] += 1
    return counts.total()


def run(*argv: str) -> Callable[[Path], int]:
    """A program on a file; 1 is what grep says where a small file has no such line."""

    def ran(path: Path) -> int:
        ran = subprocess.run((*argv, f"{path}"), check=False, capture_output=True)
        if ran.returncode not in ((0, 1) if argv[0] == "grep" else (0,)):
            ran.check_returncode()
        return 0

    return ran


def best(what: Callable[[Path], int], path: Path, options: argparse.Namespace) -> float:
    """Lines a second."""
    seconds = []
    for _ in range(options.times):
        began = sum(os.times()[:4])  # user and system, of us and of children that ended
        counted = what(path)
        seconds.append(sum(os.times()[:4]) - began)
        if counted not in {0, options.lines}:
            sys.exit(f"counted {counted} of {options.lines} lines of {path.name}")
    return float(options.lines / max(min(seconds), 0.01))  # the clock ticks every 10 ms


def compare(path: Path, peers: dict[str, Callable[[Path], int]], options: argparse.Namespace) -> None:
    rates = {name: best(what, path, options) for name, what in peers.items()}
    print(f"{path.name:14}" + "".join(f"{rate:14,.0f}" for rate in rates.values()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=500_000)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    random.seed(1)
    awk = shutil.which("mawk") or sys.exit("no mawk here")
    of_errors = {"upswitch": count_errors, "grep -c": run("grep", "-c", "refused"), "mawk": run(awk, MAWK_ERRORS)}
    of_access = {"upswitch": count_access, "grep -c": run("grep", "-c", '" 502 '), "mawk": run(awk, MAWK_ACCESS)}
    print(f"lines a second, {options.lines:,} lines\n{'':14}" + "".join(f"{name:>14}" for name in (*of_errors, "by line")))
    with tempfile.TemporaryDirectory() as folder:
        for name, is_mixed in (("errors", False), ("errors mixed", True)):
            path = Path(folder, name)
            path.write_text("".join(error_line(number, options.lines, is_mixed=is_mixed) for number in range(options.lines)))
            compare(path, of_errors | {"by line": errors_by_line}, options)
        for name, share in (("access 1 %", 0.01), ("access 100 %", 1.0)):
            path = Path(folder, name)
            path.write_text("".join(access_line(number, options.lines, share) for number in range(options.lines)))
            compare(path, of_access | {"by line": access_by_line}, options)


if __name__ == "__main__":
    main()

"""Runs `upswitch watch` and `upswitch diagnose` on log files, and the log lines that these tests are about."""

import os
from pathlib import Path

from command import Answer
from forked import run_upswitch
from upswitch.site.model import Gate, Target, Upstream, effective_check

AT = 1_795_168_800  # 2026-11-20T10:00:00Z
WHEN = "2026-11-20T10:00:00Z"
FORMAT = '$msec $status $request_time "$upstream_addr" "$upstream_status" $upswitch_generation "$request_uri"'
BY_ADDRESS = '[$time_local] $status $request_time "$upstream_addr" "$upstream_status"'
COMBINED = "combined"
A, B = "10.0.0.1:8080", "10.0.0.2:8080"
TARGET = Target(upstream="app", server=A, address=A, rule=effective_check(Upstream(name="app", pools=()), Gate()))
SITE = f"""
[upstreams.app]
A = ["{A}"]
B = ["{B}"]
"""


def line(second: int, generation: str, *, status: int = 200, took: str = "0.010", answer: str = "", uri: str = "/") -> str:
    address = A if generation.endswith("A") else B
    return f'{second}.123 {status} {took} "{address}" "{answer or status}" {generation} "{uri}"\n'


def by_address(second: int, pool: str, status: int = 200) -> str:
    address = {"A": A, "B": B, "": "-"}[pool]
    minute, clock = divmod(second, 60)
    return f'[20/Nov/2026:10:{minute:02}:{clock:02} +0000] {status} 0.010 "{address}" "{status if pool else "-"}"\n'


def watch(folder: Path, *words: str, stdin: bytes = b"") -> Answer:
    ran = run_upswitch(("watch", *words), cwd=folder, stdin=stdin)
    return Answer(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def replay(folder: Path, *words: str, text: str = FORMAT, log: str = "access.log") -> dict:
    answer = watch(folder, "--replay", log, "--log-format", text, "--json", *words)
    assert "verdict" in answer.out, answer
    assert answer.json["exit"] == answer.exit
    return answer.json


def diagnose(*words: str, folder: Path | str = "/", stdin: bytes = b"", path: str | None = None, zone: str = "UTC") -> Answer:
    """From a folder without a site file."""
    environment = {**os.environ, "TZ": zone} | ({"PATH": path} if path is not None else {})
    ran = run_upswitch(("diagnose", *words), cwd=folder, stdin=stdin, env=environment)
    return Answer(ran.returncode, ran.stdout.decode(), ran.stderr.decode())

"""Telling must never stop or change what happens, whatever stderr is."""

import os
import pty
import re
import subprocess
import sys
import termios

import msgspec
import pytest

from terminal import terminal
from upswitch_lab.process import until

TELLER = """
import sys
import termios
from upswitch.hosts.clock import SystemClock
from upswitch.cli import streams
from upswitch.cli.progress import Teller
streams.make_safe()
clock = SystemClock()
events = open(sys.argv[1], "ab")
tell = Teller(now=clock.now, monotonic=clock.monotonic, events=events)
for at in range(int(sys.argv[2])):
    tell("gate", f"line {at} " + "x" * 200, is_passing=at % 2 == 1)
print("told", flush=True)
tell.close()
print("closed", flush=True)
sys.exit(7)
"""
TELLING = (sys.executable, "-c", TELLER)


def told(path):
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def test_each_line_is_told_with_its_time_and_passing_ones_are_thinned_out(tmp_path):
    ran = subprocess.run((*TELLING, tmp_path / "events", "20"), capture_output=True, text=True, check=False, timeout=30)
    assert (ran.returncode, ran.stdout) == (7, "told\nclosed\n")
    lines = ran.stderr.splitlines()
    assert [int(line.split()[3]) for line in lines] == sorted([1, *range(0, 20, 2)])
    assert all(line[10] == "T" and line[23:38] == "Z gate         " for line in lines)
    events = told(tmp_path / "events")
    assert [(event["step"], int(event["said"].split()[1])) for event in events] == [
        ("gate", at) for at in sorted([1, *range(0, 20, 2)])
    ]
    assert [event["passing"] for event in events].count(True) == 1


def test_a_stderr_that_nobody_reads_changes_neither_the_ending_nor_the_events(tmp_path):
    reading, writing = os.pipe()
    try:
        argv = (*TELLING, tmp_path / "events", "800")  # 160 KB into a pipe of 64
        ran = subprocess.run(argv, stdout=subprocess.PIPE, stderr=writing, text=True, check=False, timeout=30)
    finally:
        os.close(writing)
        os.close(reading)
    assert (ran.returncode, ran.stdout) == (7, "told\nclosed\n")
    assert [event["said"].split()[1] for event in told(tmp_path / "events")][:100] == ["0", "1", *map(str, range(2, 198, 2))]


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"])
def test_a_stderr_that_cannot_be_written_changes_nothing(tmp_path, redirect):
    argv = ("sh", "-c", f'exec "$@" {redirect}', "sh", *TELLING, tmp_path / "events", "20")
    ran = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False, timeout=30)
    assert (ran.returncode, ran.stdout) == (7, "told\nclosed\n")
    assert len(told(tmp_path / "events")) == 11


def test_a_pipe_whose_reader_is_gone_changes_nothing(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    argv = (*TELLING, tmp_path / "events", "20")
    try:
        ran = subprocess.run(argv, stdout=subprocess.PIPE, stderr=writing, text=True, check=False, timeout=30)
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stdout) == (7, "told\nclosed\n")
    assert len(told(tmp_path / "events")) == 11


def test_an_events_file_that_cannot_be_written_changes_nothing():
    ran = subprocess.run((*TELLING, "/dev/full", "20"), capture_output=True, text=True, check=False, timeout=30)
    assert (ran.returncode, ran.stdout) == (7, "told\nclosed\n")
    assert len(ran.stderr.splitlines()) == 11


def test_a_terminal_that_is_not_read_changes_nothing(tmp_path):
    master, slave = pty.openpty()  # as with Ctrl-S
    try:
        argv = (*TELLING, tmp_path / "events", "800")
        ran = subprocess.run(argv, stdout=subprocess.PIPE, stderr=slave, text=True, check=False, timeout=30)
    finally:
        os.close(slave)
        os.close(master)
    assert (ran.returncode, ran.stdout) == (7, "told\nclosed\n")


def test_a_terminal_gets_every_lasting_line(tmp_path):
    argv = (*TELLING, tmp_path / "events", "20")
    with terminal() as (slave, seen):
        ran = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=slave, check=False, timeout=30, env=os.environ | {"TERM": "xterm"}
        )
        until(lambda: b"line 18" in seen, what="the last line")
    assert (ran.returncode, ran.stdout) == (7, b"told\nclosed\n")  # the result is never drawn on the terminal's side
    assert all(b"line %d " % at in seen for at in range(0, 20, 2))


HOSTILE = """
from upswitch.hosts.clock import SystemClock
from upswitch.cli.progress import Teller
clock = SystemClock()
tell = Teller(now=clock.now, monotonic=clock.monotonic)
tell("stage", "\\x1b[31m [bold] \\u202e \\udcff \\n end")
tell.close()
"""


def test_what_others_wrote_is_escaped_and_nothing_raises():
    ran = subprocess.run((sys.executable, "-c", HOSTILE), capture_output=True, text=True, check=True, timeout=30)
    (line,) = ran.stderr.splitlines()
    assert line.endswith(r"\x1b[31m [bold] \xe2\x80\xae \udcff \x0a end")


FLEET = """
import sys
import termios
from upswitch.hosts.clock import SystemClock
from upswitch_lab.process import until
from upswitch.cli.progress import Teller
clock = SystemClock()
names = tuple(f"a-rather-long-name-{at}" for at in range(int(sys.argv[1])))
tell = Teller(now=clock.now, monotonic=clock.monotonic, hosts=names)
for name in names:
    tell.of(name)("confirm_back", "x" * 200, is_passing=True)
tell.of(names[-1])("swap", "FAILED here", is_bad=True)
tell.of(names[0])("swap", "and on")
until(tell._queue.empty)  # at its end it would wait a second at most, and a busy machine takes longer to load rich
tell.close()
"""


def on_terminal(*, hosts: int, lines: int, columns: int) -> str:
    """What a terminal of that size was sent."""
    argv = (sys.executable, "-c", FLEET, str(hosts))
    env = {name: value for name, value in os.environ.items() if name not in {"LINES", "COLUMNS"}}  # xdist's: not this terminal's
    with terminal() as (slave, seen):
        termios.tcsetwinsize(slave, (lines, columns))
        subprocess.run(argv, stdin=slave, stdout=slave, stderr=slave, check=True, timeout=30, env=env | {"TERM": "xterm"})
    return seen.decode()


def test_a_narrow_terminal_cuts_what_was_said_and_neither_the_host_nor_the_step():
    text = on_terminal(hosts=3, lines=24, columns=50)
    assert re.search(r"a-rather-long-name-1 +confirm_back +x+…", text)


def test_a_low_terminal_shows_the_hosts_that_fail_and_how_many_others_there_are():
    frames = on_terminal(hosts=30, lines=10, columns=100).split("HOST")
    assert any("FAILED here" in frame and "and 22 more hosts" in frame for frame in frames)

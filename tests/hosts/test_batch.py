"""Several commands as one script: each as if it had been run alone."""

import pytest

from upswitch.hosts import batch
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.host import Ran
from upswitch.hosts.local.host import LocalHost

HOST = LocalHost(SystemClock())
ODD = "a b'c\"d$e`f\n*;"


def sh(script, *args):
    return ("sh", "-c", script, "sh", *args)


COMMANDS = [
    sh("printf out; printf err >&2; exit 3"),
    sh("true"),
    ("printf", "%s", ODD),
    sh('printf %s "$1"', ODD),
    sh("head -c 100000 /dev/zero"),
    sh("cat"),  # nobody's input is left over for it
    ("/nowhere/at/all",),
]


@pytest.mark.parametrize("many", [1, 2, len(COMMANDS)])
def test_every_command_ends_as_it_would_alone(many):
    alone = [HOST.run(command, deadline=10) for command in COMMANDS[:many]]
    found = batch.run(HOST, COMMANDS[:many], deadline=20)
    for command, one, ran in zip(COMMANDS, alone, found, strict=False):
        assert ran.exit == one.exit, command
        assert ran.out == one.out, command
    assert found[0] == Ran(exit=3, out=b"out", err=b"err")


def test_a_command_that_prints_our_own_arguments_prints_no_end():
    """/proc shows every argument to everybody: the word that ends an output is none of them."""
    spying = sh("cat /proc/$PPID/cmdline /proc/$$/cmdline")
    assert [ran.exit for ran in batch.run(HOST, [spying, sh("exit 4")], deadline=10)] == [0, 4]


def test_a_command_that_is_killed_or_takes_too_long_has_no_exit_and_the_next_one_runs():
    found = batch.run(HOST, [sh("kill -9 $$"), sh("sleep 9"), sh("echo on")], deadline=10, each=0.2)
    assert [(ran.exit, ran.out) for ran in found] == [(None, b""), (None, b""), (0, b"on\n")]


def test_no_command_has_an_exit_where_the_whole_script_was_cut_off():
    assert [ran.exit for ran in batch.run(HOST, [sh("true"), sh("sleep 9")], deadline=0.3)] == [None, None]


def test_an_output_that_was_cut_off_ends_with_the_last_whole_command():
    assert batch.apart(b"one\nE 000\ntw", b"E\n", end=b"E") == [Ran(exit=0, out=b"one\n")]
    assert batch.apart(b"", b"", end=b"E") == []

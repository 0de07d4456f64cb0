"""Signals in the middle of a run: each one asks it to stop, or does nothing."""

import signal
import subprocess
import sys

import pytest

from upswitch.hosts.clock import STOPPING

RUN = """
import signal, sys
from upswitch.hosts.clock import Interrupts, ignore_signals
interrupts = Interrupts()
interrupts.install()
print("runs", flush=True)
sys.stdin.readline()
print(interrupts.count, interrupts.name or "-", flush=True)
ignore_signals()
print("over", flush=True)
sys.stdin.readline()
sys.exit(7)
"""
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS}
ALL = signal.valid_signals() - FAULTS - {signal.SIGKILL, signal.SIGSTOP}


@pytest.mark.parametrize("numbers", [{*STOPPING}, ALL - {*STOPPING}], ids=["stopping", "others"])
def test_no_signal_ends_or_stops_a_run_or_costs_its_exit_code(numbers):
    pipe = subprocess.PIPE
    with subprocess.Popen((sys.executable, "-c", RUN), stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        for line in ("runs", f"{len(numbers)} SIG" if numbers == {*STOPPING} else "0 -"):
            assert process.stdout.readline().startswith(line)
            for number in numbers:
                process.send_signal(number)
            process.stdin.write("\n")
        assert process.stdout.readline() == "over\n"
        for number in numbers:
            process.send_signal(number)
        process.stdin.write("\n")
        assert process.wait(20) == 7


def test_a_program_that_a_run_starts_inherits_no_ignored_signal():
    script = RUN.partition("print")[0] + "import subprocess; subprocess.run(['sh', '-c', 'kill -USR1 $$; echo alive'])"
    ran = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, timeout=20, check=False)
    assert ran.stdout == ""

"""What becomes of standard input, output and error must neither stop a command nor change its exit code."""

import itertools
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest

from upswitch.cli import streams
from upswitch_lab.process import until

UPSWITCH = (sys.executable, "-m", "upswitch")
CLOSED = [set(some) for count in (1, 2, 3) for some in itertools.combinations((0, 1, 2), count)]


def run_without(closed, *words, cwd):
    redirects = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in sorted(closed))
    argv = ("sh", "-c", f'exec "$@" {redirects}', "sh", *UPSWITCH, *words)
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


@contextmanager
def pipe_that_nobody_reads():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        with suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(4096))
        os.set_blocking(writing, True)
        yield writing
    finally:
        os.close(writing)
        os.close(reading)


@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_a_command_that_can_do_nothing_says_so_whichever_streams_are_closed(tmp_path, closed):
    ran = run_without(closed, "drain", cwd=tmp_path)
    assert ran.returncode == 2, ran  # there is no site file
    assert 1 in closed or "No such file or directory" in ran.stdout


def test_a_closed_stdin_is_no_empty_log(tmp_path):
    ran = run_without({0}, "diagnose", "--error-log", "-", cwd=tmp_path)
    assert ran.returncode not in {0, 1}, ran
    assert "Bad file descriptor" in ran.stdout + ran.stderr


def test_an_error_that_nobody_expected_is_no_success(tmp_path):
    script = "from upswitch.cli import main\ndef fail(**_): raise OSError('no room')\nmain.group.main = fail\nmain.main(['status'])"
    ran = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert ran.returncode == 1
    assert "no room" in ran.stderr


@pytest.mark.parametrize("unread", ["stdout", "stderr", "both"])
def test_output_that_nobody_reads_is_dropped_after_a_while_and_the_exit_code_stands(tmp_path, unread):
    with pipe_that_nobody_reads() as full:
        out, err = (full if unread in {name, "both"} else subprocess.PIPE for name in ("stdout", "stderr"))
        argv = (*UPSWITCH, "history", "-c", "nowhere.toml")
        ran = subprocess.run(argv, stdout=out, stderr=err, text=True, timeout=50, check=False, cwd=tmp_path)
    assert ran.returncode == 2
    if unread == "stdout":
        assert f"nobody read standard output for {streams.DEADLINE_S:g} s" in ran.stderr


def test_what_is_read_slowly_is_not_dropped():
    script = "from upswitch.cli import streams\nimport sys\nstreams.make_safe()\nsys.stdout.write('x' * 300_000)\nsys.exit(7)"
    with subprocess.Popen((sys.executable, "-c", script), stdout=subprocess.PIPE) as process:
        pieces = iter(lambda: process.stdout.read1(1000), b"")
        assert sum(map(len, pieces)) == 300_000
        assert process.wait(20) == 7


def test_text_that_a_terminal_can_not_show_does_not_end_a_command():
    env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    script = "from upswitch.cli import streams\nimport sys\nstreams.make_safe()\nprint('\\u2026 \\udcff')\nsys.exit(7)"
    ran = subprocess.run((sys.executable, "-c", script), capture_output=True, timeout=20, check=False, env=env)
    assert (ran.returncode, ran.stdout) == (7, "\u2026 \\udcff\n".encode())


def test_output_goes_on_when_somebody_reads_again():
    script = "import sys\nfrom upswitch.cli import streams\nstreams.DEADLINE_S = 0.2\nstreams.make_safe()\n"
    script += "sys.stdout.write('x' * 100_000)\nprint('lost', file=sys.stderr)\nsys.stdin.readline()\n"
    script += "while streams.is_lost(): pass\nsys.stdout.write('again')"
    pipe = subprocess.PIPE
    with subprocess.Popen((sys.executable, "-c", script), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        until(lambda: "lost" in process.stderr.readline(), what="the loss")
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.read().endswith("again")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM], ids=lambda number: number.name)
def test_a_signal_while_the_result_is_printed_does_not_cost_the_exit_code(tmp_path, number):
    with pipe_that_nobody_reads() as full:
        argv = (*UPSWITCH, "history", "-c", "nowhere.toml")
        with subprocess.Popen(argv, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
            task = f"/proc/{process.pid}/task"
            until(lambda: len(os.listdir(task)) > 1, what="the thread that writes")
            process.send_signal(number)
            assert process.wait(40) in {2, -number}

"""A log followed by the program that runs on its host: here in a process of our own, as a channel would run it."""

import os
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from hostcontract import FollowContract
from test_counting import ALL
from upswitch.adapters.ssh.follower import FarFollower
from upswitch.core.errors import HostError
from upswitch.core.farcount import count_program
from upswitch.core.logformat import compile_format
from upswitch.demo.process import until

WRITE = """
import os, sys, time
path, rate, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
log, began, slices = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), time.monotonic(), 50
for number in range(seconds * slices):
    time.sleep(max(0.0, began + number / slices - time.monotonic()))
    lines = range(number * rate // slices, (number + 1) * rate // slices)
    os.write(log, b"".join(b"200 %09d %s\\n" % (line, b"x" * 180) for line in lines))
    if number % slices == slices // 2:
        os.rename(path, f"{path}.{number}")
        os.write(log, b"200 late %d\\n" % number)
        old, log = log, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.close(old)
"""


class ProcessPipe:
    """The program as a process."""

    def __init__(self, argv) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.received = 0

    def receive(self, limit, *, timeout):
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            raise TimeoutError
        data = os.read(self.process.stdout.fileno(), limit)
        self.received += len(data)
        return data

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)


class Far:
    """What opens pipes, and cuts them."""

    def __init__(self) -> None:
        self.pipes = []
        self.is_down = False
        self.refused = 0

    def __call__(self, argv):
        if self.is_down:
            self.refused += 1
            raise HostError("connect", "no route to host")
        self.pipes.append(ProcessPipe(argv))
        return self.pipes[-1]

    def cut(self) -> None:
        """As a lost connection does: its streams end."""
        self.pipes[-1].process.kill()

    def follow(self, path, **options):
        return FarFollower(f"{path}", open_pipe=self, **options)


class FarHost:
    """As much of a host as FollowContract asks for."""

    def follow(self, path):
        return Far().follow(path)


class TestFarFollower(FollowContract):
    @pytest.fixture
    def host(self):
        return FarHost()


class Log:
    """A log file, its writer, and a follower of it."""

    def __init__(self, path) -> None:
        self.path = path
        self.far = Far()
        self.file = path.open("ab", buffering=0)
        self.file.write(b"before\n")
        self.follower = self.far.follow(path)

    def write(self, data) -> None:
        self.file.write(data)

    def gives(self, *lines) -> None:
        """Exactly these, in any order of files."""
        assert sorted(self.take(len(lines))) == sorted(lines)

    def take(self, count):
        found = []

        def is_enough():
            found.extend(self.follower.read().split(b"\n")[:-1])
            return len(found) >= count

        until(is_enough, what=f"{count} lines")
        return found

    def reopen(self):
        old, self.file = self.file, self.path.open("ab", buffering=0)
        return old

    def is_told(self, what) -> None:
        def is_raised():
            try:
                self.follower.read()
            except HostError as exc:
                return what in str(exc)
            return False

        until(is_raised, what=what)


@pytest.fixture
def log(tmp_path):
    log = Log(tmp_path / "access.log")
    yield log
    log.follower.close()
    log.file.close()


def test_half_a_line_waits_for_its_other_half(log):
    log.write(b"one\ntw")
    log.gives(b"one")
    log.write(b"o\n\n\tthree\n")
    log.gives(b"two", b"", b"\tthree")


def test_a_line_that_was_half_written_at_the_start_is_given_whole(log):
    log.write(b"one\nha")
    log.gives(b"one")
    with closing(log.far.follow(log.path)) as second:
        log.write(b"lf\n")
        until(lambda: second.read() == b"half\n", what="the line")


def test_a_truncated_file_is_read_from_its_start(log):
    log.write(b"one\n")
    log.gives(b"one")
    os.truncate(log.path, 0)
    log.write(b"two\n")
    log.gives(b"two")


@pytest.mark.parametrize("longer", [0, 500])
def test_a_truncated_file_that_has_grown_past_our_place_again_is_seen_by_its_first_line(log, longer):
    log.write(b"one\n")
    log.gives(b"one")
    other = b"x" * (10 + longer)
    log.path.write_bytes(other + b"\n")  # truncates: of the same size, or longer
    log.gives(other)


def test_a_rename_that_nobody_told_nginx_of_loses_nothing(log):
    log.path.rename(log.path.with_suffix(".1"))
    log.path.touch()
    for at in range(3):
        log.write(b"still here %d\n" % at)
        log.gives(b"still here %d" % at)


def test_renames_in_a_row_lose_nothing_and_the_old_files_are_left_in_the_end(log):
    olds = []
    for number in range(2):
        log.path.rename(log.path.with_suffix(f".{number}"))
        olds.append(log.reopen())
        log.write(b"new %d\n" % number)
        log.gives(b"new %d" % number)
    for file in (*olds, log.file):
        file.write(b"line\n")
    log.gives(b"line", b"line", b"line")
    for file in olds:
        file.close()
    until(lambda: open_files(log.far.pipes[0].process.pid) == {"access.log"}, what="the old files to be left")


def open_files(pid):
    folder = Path(f"/proc/{pid}/fd")
    return {Path(os.readlink(each)).name for each in folder.iterdir() if "access" in os.readlink(each)}


def test_a_huge_line_is_dropped_and_the_next_one_given(log):
    for _ in range(3):
        log.write(b"x" * 3_000_000)
        until(lambda: log.follower._places[log.path.stat().st_ino] == log.path.stat().st_size, what="its end")
    log.write(b"\nnext\n")
    log.gives(b"next")


def test_what_cannot_be_followed_is_a_host_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for name, why in (("", "no regular file"), ("pipe", "no regular file"), ("file/log", "Not a directory")):
        far = Far()
        with pytest.raises(HostError, match=why):
            far.follow(tmp_path / name)
        assert far.pipes[0].process.returncode is not None


def test_odd_names_are_followed(tmp_path):
    path = tmp_path / 'it\'s $HOME `id` "q" -n *\n.log'
    with closing(Far().follow(path)) as follower:
        path.write_bytes(b"one\n")
        until(lambda: follower.read() == b"one\n", what="the line")


def test_after_a_cut_it_is_told_once_and_no_line_is_lost_or_given_twice(log):
    log.write(b"one\n")
    log.gives(b"one")
    log.far.is_down = True
    log.far.cut()
    log.is_told("connection was lost")
    log.write(b"two\nthr")
    until(lambda: log.far.refused >= 2, what="vain attempts")
    assert log.follower.read() == b""
    log.far.is_down = False
    log.gives(b"two")
    log.write(b"ee\n")
    log.gives(b"three")


def test_after_a_cut_the_file_that_was_renamed_meanwhile_is_read_to_its_end(log):
    log.write(b"one\n")
    log.gives(b"one")
    log.far.is_down = True
    log.far.cut()
    log.is_told("connection was lost")
    log.write(b"two\n")
    log.path.rename(log.path.with_name("access.log-20261121"))
    log.write(b"three\n")
    log.reopen().close()
    log.write(b"four\n")
    log.far.is_down = False
    log.gives(b"two", b"three", b"four")


def test_after_a_cut_a_file_that_is_gone_is_told(log):
    log.far.is_down = True
    log.far.cut()
    log.is_told("connection was lost")
    log.write(b"lost\n")
    log.path.unlink()
    log.reopen().close()
    log.write(b"kept\n")
    log.far.is_down = False
    log.is_told("some lines are missing")
    log.gives(b"kept")


def test_a_file_that_appeared_during_the_cut_is_read_from_its_start(tmp_path):
    far = Far()
    with closing(far.follow(tmp_path / "late.log")) as follower:
        far.cut()
        (tmp_path / "late.log").write_bytes(b"first\n")
        found = []

        def has_it():
            try:
                found.append(follower.read())
            except HostError:
                return False
            return found[-1] == b"first\n"

        until(has_it, what="the line")


def test_no_process_is_left_when_its_input_ends_or_nobody_reads_it(tmp_path):
    (tmp_path / "log").touch()
    for stream in ("stdin", "stdout"):
        far = Far()
        follower = far.follow(tmp_path / "log")
        process = far.pipes[0].process
        follower._is_closed = True
        getattr(process, stream).close() if stream == "stdin" else None
        follower._thread.join(10) if stream == "stdin" else None
        if stream == "stdout":
            os.close(os.dup(process.stdout.fileno()))
            follower._thread.join(10)
            process.stdout.close()
        until(lambda: not group_of(process.pid), deadline=10, what="the end of all of them")
        process.wait(10)


def group_of(leader):
    """The living processes of its session."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                fields = (each / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(each.name)
    return found


def test_when_we_are_slow_the_far_side_waits_and_nothing_is_dropped(log):
    line = b"x" * 999 + b"\n"
    log.write(line * 40_000)
    until(lambda: log.follower._held > 8 << 20, what="a full buffer")
    assert log.follower._held < 16 << 20
    assert log.take(40_000) == [line[:-1]] * 40_000


def test_no_line_is_lost_at_fifty_thousand_a_second_over_renames(tmp_path):
    path, rate, seconds = tmp_path / "access.log", 50_000, 2
    path.touch()
    with closing(Far().follow(path)) as follower:
        writer = subprocess.Popen((sys.executable, "-c", WRITE, f"{path}", f"{rate}", f"{seconds}"))
        found = []

        def is_all():
            found.extend(follower.read().split(b"\n")[:-1])
            return len(found) >= rate * seconds + seconds

        until(is_all, deadline=40, what="all lines")
        writer.wait()
    assert sorted(int(line.split()[1]) for line in found if b"late" not in line) == [*range(rate * seconds)]
    assert sum(b"late" in line for line in found) == seconds


def test_counted_over_renames_each_line_counts_once_and_hardly_a_byte_is_sent(tmp_path):
    path, rate, seconds = tmp_path / "access.log", 50_000, 2
    path.touch()
    far, found = Far(), Counter()
    program = count_program(compile_format("$status $request_uri"))
    with closing(far.follow(path, count=program)) as follower:
        writer = subprocess.Popen((sys.executable, "-c", WRITE, f"{path}", f"{rate}", f"{seconds}"))

        def is_all():
            found["lines"] += follower.read().count(b"\n")
            found.update({each.line: each.times for each in follower.counts()})
            return found.total() >= rate * seconds + seconds

        until(is_all, deadline=40, what="all lines")
        writer.wait()
    assert found == Counter({"lines": 0, b"200 \n": rate * seconds + seconds})
    assert far.pipes[0].received < 10_000

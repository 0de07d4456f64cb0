"""Real files that grow, are renamed and are truncated."""

import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.basics.errors import HostError
from upswitch.hosts.local.follow import MAX_HALF, LogFollower


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> str:
        return ""

    def sleep(self, seconds: float) -> None:
        self.at += seconds


class Log:
    """A log file, its writer, and a follower of it."""

    def __init__(self, path) -> None:
        self.path = path
        self.clock = HandClock()
        self.file = path.open("ab", buffering=0)
        self.file.write(b"before\n")
        self.follower = LogFollower(str(path), clock=self.clock)

    def write(self, data: bytes) -> None:
        self.file.write(data)

    def lines(self) -> list[bytes]:
        return self.follower.read().split(b"\n")[:-1]

    def reopen(self):
        """As nginx does at USR1; returns the old file."""
        old, self.file = self.file, self.path.open("ab", buffering=0)
        return old


@pytest.fixture
def log(tmp_path):
    log = Log(tmp_path / "access.log")
    yield log
    log.follower.close()
    log.file.close()


def test_it_starts_at_the_end_and_gives_whole_lines_once(log):
    assert log.lines() == []
    log.write(b"one\ntwo\n")
    assert log.lines() == [b"one", b"two"]
    assert log.lines() == []


def test_half_a_line_waits_for_its_other_half(log):
    log.write(b"on")
    assert log.lines() == []
    log.write(b"e\n\ntw")
    assert log.lines() == [b"one", b""]
    log.write(b"o\n")
    assert log.lines() == [b"two"]


def test_a_line_that_was_half_written_at_the_start_is_given_whole(log):
    log.write(b"ha")
    second = LogFollower(str(log.path), clock=log.clock)
    log.write(b"lf\n")
    assert second.read() == b"half\n"
    second.close()


def test_over_a_rename_the_old_file_is_read_beside_the_new_until_it_was_silent_for_a_second(log):
    os.rename(log.path, log.path.with_suffix(".1"))
    log.write(b"old 1\n")
    assert log.lines() == [b"old 1"]
    old = log.reopen()
    log.write(b"new 1\n")
    old.write(b"old 2\n")
    assert sorted(log.lines()) == [b"new 1", b"old 2"]
    log.clock.at += 0.9
    old.write(b"old 3\n")
    assert log.lines() == [b"old 3"]
    log.clock.at += 0.9
    assert log.lines() == []
    old.write(b"old 4\n")
    assert log.lines() == [b"old 4"]
    log.clock.at += 1.1
    assert log.lines() == []
    old.write(b"too late\n")
    log.write(b"new 2\n")
    assert log.lines() == [b"new 2"]
    old.close()


def test_a_rename_without_a_reopen_loses_no_line_however_long_nginx_writes_to_the_old_file(log):
    os.rename(log.path, log.path.with_suffix(".1"))
    log.path.touch()
    for at in range(5):
        log.clock.at += 10.0
        assert log.lines() == []
        log.write(b"still here %d\n" % at)
        assert log.lines() == [b"still here %d" % at]


def test_two_renames_within_a_second_lose_nothing(log):
    olds = []
    for number in range(2):
        os.rename(log.path, log.path.with_suffix(f".{number}"))
        olds.append(log.reopen())
        log.lines()
    for file in (*olds, log.file):
        file.write(b"line\n")
    assert log.lines() == [b"line"] * 3
    for file in olds:
        file.close()


def test_a_truncated_file_is_read_from_its_start(log):
    log.write(b"one\n")
    log.lines()
    shutil.copy(log.path, log.path.with_suffix(".1"))
    os.truncate(log.path, 0)
    log.write(b"two\n")
    assert log.lines() == [b"two"]


def test_a_truncated_file_that_has_grown_past_our_place_again_is_seen_by_its_first_line(log):
    log.write(b"one\n")
    log.lines()
    os.truncate(log.path, 0)
    log.write(b"another first line, longer than all before\nmore\n")
    assert log.lines() == [b"another first line, longer than all before", b"more"]


def test_a_truncated_file_of_exactly_the_same_size_is_seen_too(log):
    size = log.path.stat().st_size
    os.truncate(log.path, 0)
    log.write(b"x" * (size - 1) + b"\n")
    assert log.lines() == [b"x" * (size - 1)]


def test_a_file_that_appears_later_is_read_from_its_start(tmp_path):
    path = tmp_path / "late.log"
    follower = LogFollower(str(path), clock=HandClock())
    assert follower.read() == b""
    path.write_bytes(b"first\n")
    assert follower.read() == b"first\n"
    follower.close()


@pytest.mark.parametrize("extra", [1, MAX_HALF, 5 * MAX_HALF])
def test_an_over_long_line_is_dropped_and_the_next_one_given(log, extra):
    for _ in range(8):
        log.write(b"x" * ((MAX_HALF + extra) // 8 + 1))
        assert log.lines() == []
    log.write(b"\nnext\n")
    assert log.lines() == [b"next"]


def test_one_call_reads_no_more_than_its_budget_and_the_rest_comes_later(log):
    log.write(b"0123456\n" * 700_000)
    first = log.lines()
    rest = [line for _ in range(8) for line in log.lines()]
    assert 0 < len(first) < 700_000
    assert first + rest == [b"0123456"] * 700_000


def test_a_log_that_can_not_be_read_is_a_host_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in (str(tmp_path), "/dev/null", str(tmp_path / "pipe")):
        with pytest.raises(HostError, match="no regular file"):
            LogFollower(name, clock=HandClock())
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="Not a directory"):
        LogFollower(str(tmp_path / "file" / "log"), clock=HandClock())


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_however_the_bytes_arrive_the_lines_are_the_same(tmp_path_factory, pieces):
    log = Log(tmp_path_factory.mktemp("log") / "log")
    found = []
    for piece in pieces:
        log.write(piece)
        found += log.lines()
    assert found == b"".join(pieces).split(b"\n")[:-1]
    log.follower.close()
    log.file.close()

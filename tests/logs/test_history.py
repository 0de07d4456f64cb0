"""The past of real log files, found by time from their end."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import at_most
from upswitch.basics.errors import HostError
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.logs import source
from upswitch.logs.line import HISTORY_S, LATE_S, MAX_LINE, compile_format
from upswitch.watch.attribution import Attribution, Timeline, counter_for

READER = compile_format("$msec $status $request_uri")
END = 1_795_262_400
HOST = LocalHost(SystemClock())


class CountingHost(LocalHost):
    """This machine, and how many bytes were read of it."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.bytes = 0

    def read(self, path, *, offset=0, limit=1 << 24):
        chunk = super().read(path, offset=offset, limit=limit)
        self.bytes += len(chunk.data) if chunk else 0
        return chunk


def line(at, uri=b"/", status=200):
    return b"%d.000 %d %s\n" % (at, status, uri)


def write(path, seconds, a_second=1, uri=b"/"):
    path.write_bytes(b"".join(line(at, uri) * a_second for at in seconds))


def history(path, host=HOST, reader=READER, most=source.MOST):
    """Requests by second, oldest first, as the watch has them."""
    timeline, counter = Timeline(), counter_for(Attribution(), reader, is_timed=True)
    for block in source.last_minutes(host, str(path), reader, most=most):
        timeline.add(counter.count(block), Attribution())
    return [second.total for second in timeline.history().seconds]


def read(path, reader=READER, host=HOST):
    return b"".join(source.last_minutes(host, str(path), reader))


def test_of_a_long_log_only_the_last_ten_minutes_are_read(tmp_path):
    path, host = tmp_path / "log", CountingHost()
    write(path, range(END - 7200, END), a_second=20, uri=b"/" + b"x" * 100)
    assert history(path, host) == [20] * HISTORY_S
    ten_minutes = len(line(END, b"/" + b"x" * 100)) * 20 * HISTORY_S
    assert host.bytes < ten_minutes + 4 * 2**20 < path.stat().st_size / 2


def test_a_log_younger_than_ten_minutes_is_read_from_its_start_and_so_is_the_end_of_the_one_before_it(tmp_path):
    path = tmp_path / "log"
    write(path, range(END - 60, END))
    assert history(path) == [1] * 60
    write(tmp_path / "log.1", range(END - 3600, END - 60), a_second=3)
    assert history(path) == [3] * (HISTORY_S - 60) + [1] * 60


def test_just_after_a_rotation_the_log_is_empty_and_the_one_before_it_is_all_there_is(tmp_path):
    write(tmp_path / "log", ())
    write(tmp_path / "log.1", range(END - 700, END))
    assert history(tmp_path / "log") == [1] * HISTORY_S


def test_a_log_that_is_not_there_yet_has_no_history(tmp_path):
    assert history(tmp_path / "log") == []


def test_a_rotated_log_that_cannot_be_read_is_left_out_and_a_log_that_cannot_is_an_error(tmp_path):
    write(tmp_path / "log", range(END - 60, END))
    (tmp_path / "log.1").mkdir()
    assert history(tmp_path / "log") == [1] * 60
    (tmp_path / "folder").mkdir()
    with pytest.raises(HostError):
        history(tmp_path / "folder")


def test_a_log_in_which_no_line_has_a_time_is_not_read_at_all(tmp_path):
    path = tmp_path / "log"
    write(path, range(END - 60, END))
    for format_text in ("$status $request_uri", "$msec $status"):
        assert read(path, compile_format(format_text)) == b""


def test_lines_that_stand_some_seconds_behind_their_time_are_found(tmp_path):
    """nginx writes a line when its request has ended, and workers take turns."""
    path = tmp_path / "log"
    swapped = [at + (4 if at % 2 else -4) for at in range(END - 7200, END + 4)]
    write(path, swapped, a_second=20, uri=b"/" + b"x" * 100)
    assert min(history(path)[:-8]) == 20


def test_the_last_line_may_be_half_written_and_the_first_one_cut_by_where_reading_begins(tmp_path):
    path = tmp_path / "log"
    write(path, range(END - 10, END))
    with path.open("ab") as file:
        file.write(b"9" + line(END)[:-1])
    assert history(path) == [1] * 10


def test_garbage_at_the_end_does_not_hide_the_past(tmp_path):
    path = tmp_path / "log"
    write(path, range(END - 10, END))
    with path.open("ab") as file:
        file.write(b"\x00" * 1000 + b"\n" + b"\xff\xfe\n" * 100_000)
    assert history(path) == [1] * 10


def test_the_newest_line_is_found_behind_huge_ones(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(line(END) + line(END, b"/" + b"x" * 300_000) * 4)
    assert history(path) == [1]


@pytest.mark.parametrize("length", [MAX_LINE // 2, MAX_LINE + 1, 5 << 20])
def test_huge_lines_are_passed_over_and_their_neighbours_counted(tmp_path, length):
    path = tmp_path / "log"
    huge = line(END - 5, b"/" + b"x" * length)
    path.write_bytes(
        b"".join(line(at) for at in range(END - 10, END - 5)) + huge + b"".join(line(at) for at in range(END - 4, END))
    )
    is_read = length < MAX_LINE
    assert history(path) == [1, 1, 1, 1, 1, int(is_read), 1, 1, 1, 1]


def test_a_log_too_busy_to_be_read_has_a_shorter_history_without_a_hole(tmp_path):
    """Where only the newest part of the present log was read, nothing of the one before it may stand beside that."""
    write(tmp_path / "log.1", range(END - 3600, END - 300))
    write(tmp_path / "log", range(END - 300, END), a_second=200, uri=b"/" + b"x" * 100)
    found = history(tmp_path / "log", most=3 << 20)
    assert 0 < len(found) < 300
    assert set(found[1:]) == {200}


class ShrinkingHost(LocalHost):
    """This machine, where the file is cut after some reads."""

    def __init__(self, path, *, after) -> None:
        super().__init__(SystemClock())
        self._path, self._left = path, after

    def read(self, path, *, offset=0, limit=1 << 24):
        self._left -= 1
        if self._left == 0:
            os.truncate(self._path, 1000)
        return super().read(path, offset=offset, limit=limit)


@pytest.mark.parametrize("after", range(1, 20, 3))
def test_a_file_that_is_cut_while_it_is_read_gives_what_there_was(tmp_path, after):
    path = tmp_path / "log"
    write(path, range(END - 7200, END), a_second=10, uri=b"/" + b"x" * 100)
    whole = set(path.read_bytes().splitlines())
    found = read(path, host=ShrinkingHost(path, after=after))
    assert set(found.splitlines()) <= whole


class RotatingHost(LocalHost):
    """This machine, where the log is renamed after some reads and a new one stands in its place."""

    def __init__(self, path, *, after) -> None:
        super().__init__(SystemClock())
        self._path, self._left = path, after

    def read(self, path, *, offset=0, limit=1 << 24):
        self._left -= 1
        if self._left == 0:
            os.rename(self._path, self._path.with_name("older"))
            self._path.write_bytes(b"y" * 10_000_000 + b"\n")
        return super().read(path, offset=offset, limit=limit)


@pytest.mark.parametrize("after", range(1, 20, 3))
def test_a_file_that_is_replaced_while_it_is_read_is_never_mixed_with_the_new_one(tmp_path, after):
    path = tmp_path / "log"
    write(path, range(END - 7200, END), a_second=10, uri=b"/" + b"x" * 100)
    whole = set(path.read_bytes().splitlines())
    assert set(read(path, host=RotatingHost(path, after=after)).splitlines()) <= whole


@at_most(30)
@given(
    sizes=st.lists(st.sampled_from((0, 10, 1000, 40_000, 70_000, 300_000)), min_size=1, max_size=12),
    gaps=st.lists(st.integers(0, 300), min_size=12, max_size=12),
    late=st.lists(st.integers(0, LATE_S), min_size=12, max_size=12),
)
def test_every_line_of_the_last_ten_minutes_is_given_once_whatever_their_lengths(tmp_path_factory, sizes, gaps, late):
    path = tmp_path_factory.mktemp("log") / "log"
    times = [END + sum(gaps[: number + 1]) - late[number] for number in range(len(sizes))]
    lines = [line(at, b"/%d" % number + b"x" * size) for number, (at, size) in enumerate(zip(times, sizes, strict=True))]
    path.write_bytes(b"".join(lines))
    found = read(path).splitlines(keepends=True)
    readable = [(at, each) for at, each in zip(times, lines, strict=True) if len(each) <= MAX_LINE]
    newest = readable[-1][0] if readable else 0
    wanted = [each for at, each in readable if at >= newest - HISTORY_S]
    assert [each for each in found if each in wanted] == wanted

"""A log followed by the program that runs on its host: here in a process of our own, as a channel would run it."""

import contextlib
import os
import select
import subprocess
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from here import ports
from hostcontract import FollowContract
from sshd import Sshd, host_of, needs_sshd
from upswitch.basics.errors import HostError
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.count_program import whole_lines
from upswitch.hosts.local.host import LocalHost
from upswitch.hosts.ssh.follower import FarFollower, argv
from upswitch.logs.count_on_host import count_program
from upswitch.logs.line import compile_format
from upswitch.nginx.conf_logs import AccessLog, LogFormat
from upswitch.site.model import Nginx
from upswitch.watch.attribution import Attribution, Counts
from upswitch.watch.logs import AccessLogs, Notes
from upswitch_lab.process import until

PIPES = []


@pytest.fixture(autouse=True)
def _no_stream_stays_open():
    yield
    while PIPES:
        PIPES.pop().process.stdout.close()


class ProcessPipe:
    """The program as a process."""

    def __init__(self, argv) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.received = 0
        PIPES.append(self)

    def receive(self, limit, *, timeout):
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            raise TimeoutError
        data = os.read(self.process.stdout.fileno(), limit)
        self.received += len(data)
        return data

    def close_input(self) -> None:
        self.process.stdin.close()

    def close_output(self) -> None:
        self.process.stdout.close()

    def close(self) -> None:
        self.close_input()
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


class SshPipes:
    """Over a real sshd."""

    def __init__(self, sshd) -> None:
        self._host = host_of(sshd, user="")

    def follow(self, path):
        return FarFollower(path, open_pipe=self._open)

    def _open(self, argv):
        return self._host.open_pipe(argv)

    def reconnect(self):
        self._host.reconnect()

    def close(self):
        self._host.close()


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with Sshd(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture
def ssh(sshd):
    with closing(SshPipes(sshd)) as ssh:
        yield ssh


@needs_sshd
class TestFarFollowerOverSsh(FollowContract):
    @pytest.fixture
    def host(self, ssh):
        return ssh


@needs_sshd
def test_over_ssh_a_killed_session_loses_no_line_and_a_closed_follower_leaves_no_process(tmp_path, sshd, ssh):
    log = tmp_path / "access.log"
    log.touch()
    follower = ssh.follow(f"{log}")
    sshd.kill_sessions()
    is_told(follower, "connection lost")
    log.write_bytes(b"one\n")
    ssh.reconnect()
    until(lambda: follower.read() == b"one\n", what="the line")
    assert followers_of(log)
    follower.close()
    until(lambda: not followers_of(log), what="the end of all of them")


def followers_of(log):
    """The living processes that name it."""
    return [each for each in Path("/proc").glob("[0-9]*/cmdline") if f"upswitch-follow\0{log}\0".encode() in bytes_of(each)]


def bytes_of(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def is_told(follower, what):
    def is_raised():
        try:
            follower.read()
        except HostError as exc:
            return what in str(exc)
        return False

    until(is_raised, what=what)


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


def test_a_rename_without_a_reopen_loses_no_line(log):
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
        log.write(b"new\n")
        if number == 0:
            log.gives(b"new")  # it has seen the first rename
    for file in (*olds, log.file):
        file.write(b"line\n")
    log.gives(b"new", b"line", b"line", b"line")
    for file in olds:
        file.close()
    until(lambda: open_files(log.far.pipes[0].process.pid) == {"access.log"}, what="the old files to be left")


def open_files(pid):
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(Path(os.readlink(each)).name)
    return {name for name in found if "access" in name}


def test_a_huge_line_is_dropped_and_the_next_one_given(log):
    for _ in range(3):
        log.write(b"x" * 3_000_000)
        until(lambda: log.follower._places[log.path.stat().st_ino] == log.path.stat().st_size, what="its end")
    log.write(b"\nnext\n")
    log.gives(b"next")


def test_a_log_that_can_not_be_followed_is_a_host_error(tmp_path):
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


def test_a_lost_connection_is_reported_once_and_no_line_is_lost_or_given_twice(log):
    log.write(b"one\n")
    log.gives(b"one")
    log.far.is_down = True
    log.far.cut()
    is_told(log.follower, "connection was lost")
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
    is_told(log.follower, "connection was lost")
    log.write(b"two\n")
    log.path.rename(log.path.with_name("access.log-20261121"))
    log.write(b"three\n")
    log.reopen().close()
    log.write(b"four\n")
    log.far.is_down = False
    log.gives(b"two", b"three", b"four")


def test_after_a_lost_connection_a_file_that_is_gone_is_reported(log):
    log.far.is_down = True
    log.far.cut()
    is_told(log.follower, "connection was lost")
    log.write(b"lost\n")
    log.path.unlink()
    log.reopen().close()
    log.far.is_down = False
    is_told(log.follower, "some lines are missing")
    log.write(b"kept\n")
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


@pytest.mark.parametrize("end", [ProcessPipe.close_input, ProcessPipe.close_output])
def test_no_process_is_left_when_its_input_ends_or_nobody_reads_it(tmp_path, end):
    (tmp_path / "log").touch()
    pipe = ProcessPipe(argv(f"{tmp_path}/log", nonce="0" * 32, program=whole_lines(), places=None))
    assert pipe.receive(1000, timeout=10)
    end(pipe)
    until(lambda: not group_of(pipe.process.pid), deadline=10, what="the end of all of them")
    pipe.close()


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


LINES_EACH = 25_000


def write_and_rename(log, total):
    """Four files of 25,000 lines, each renamed while its writer goes on for a line; `total` says how many lines have come."""
    for number in range(4):
        log.write(b"".join(b"200 %06d %s\n" % (line, b"x" * 180) for line in range(number * LINES_EACH, (number + 1) * LINES_EACH)))
        log.path.rename(log.path.with_suffix(f".{number}"))
        old = log.reopen()
        log.write(b"200 new\n")
        old.write(b"200 late\n")
        old.close()
        until(lambda number=number: total() >= (number + 1) * (LINES_EACH + 2), deadline=30, what="all lines")


def test_no_line_is_lost_over_renames(log):
    found = []

    def total():
        found.extend(log.follower.read().split(b"\n")[:-1])
        return len(found)

    write_and_rename(log, total)
    assert Counter(line.split()[1] for line in found) == {
        **{b"%06d" % line: 1 for line in range(4 * LINES_EACH)},
        b"new": 4,
        b"late": 4,
    }


def test_counted_over_renames_each_line_counts_once_and_hardly_a_byte_is_sent(log):
    log.follower.count(count_program(compile_format("$status $request_uri")))
    found = Counter()

    def total():
        found["sent"] += log.follower.read().count(b"\n")
        for each in log.follower.counts():
            found[each.line] += each.times
        return found.total()

    until(lambda: len(log.far.pipes) == 2, what="the counting")
    write_and_rename(log, total)
    assert found == Counter({b"200 \n": 4 * (LINES_EACH + 2)})
    assert log.far.pipes[-1].received < 10_000


def test_from_lines_to_counts_no_line_is_lost_or_comes_twice(log):
    program = count_program(compile_format("$status $request_uri"))
    log.write(b"200 sent\n" * 1000)
    log.follower.count(program)
    log.write(b"200 sent or counted\n" * 1000 + b"502 kept\n" + b"no line of the format\n")
    found = Counter()

    def total():
        for line in log.follower.read().split(b"\n")[:-1]:
            found[line] += 1
        for each in log.follower.counts():
            found["counted"] += each.times
        return found.total()

    until(lambda: total() >= 2002, what="all lines")
    assert (found[b"502 kept"], found[b"no line of the format"], found.total()) == (1, 1, 2002)
    assert log.follower.read() == b""


# ---- what the watch makes of it ----

FORMAT = '$msec $request_time "$status" "$upstream_addr" "$upstream_status" "$upswitch_generation" "$request_uri"'
OURS = Attribution(
    generation="000042-B",
    addresses=frozenset({"b:1"}),
    former_generation="000041-A",
    former_addresses=frozenset({"a:1"}),
)


class CountingHost(LocalHost):
    """This machine as if it were far away."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.far = Far()

    def follow(self, path):
        return self.far.follow(path)


def logs_of(path, host, text=FORMAT, escape="default"):
    log = AccessLog(path=f"{path}", format_name="it", format=LogFormat(name="it", text=text, escape=escape))
    notes = Notes()
    return AccessLogs(replace(ports(Nginx(state=f"{path.parent}")), host=host), (log,), OURS, notes), notes


def some_lines(generation, addr, *, begin):
    """1,000 a second, and some of each kind of failure."""
    kinds = ("200 200",) * 70 + ("502 502", "499 -", "200 502, 200") * 10
    found = []
    for number in range(20_000):
        status, _, answer = kinds[number % 100].partition(" ")
        at = begin + number / 1000
        found.append(f'{at:.3f} 1.2{number % 90:02} "{status}" "{addr}" "{answer}" "{generation}" "/{number} a"\n')
    return "".join(found).encode()


def seen_by(logs, count):
    found = Counts()

    def is_all():
        nonlocal found
        found += logs.read()
        return found.lines >= count

    until(is_all, what=f"{count} lines")
    return found


def test_the_watch_sees_the_same_of_a_far_log_as_of_a_near_one(tmp_path):
    path = tmp_path / "access.log"
    path.with_suffix(".log.1").write_bytes(some_lines("000041-A", "a:1", begin=1_795_262_400))
    path.write_bytes(some_lines("000041-A", "a:1", begin=1_795_262_410))
    (near, _), (far, notes) = logs_of(path, LocalHost(SystemClock())), logs_of(path, CountingHost())
    with closing(near), closing(far):
        assert far.history() == near.history()
        assert len(far.history()[0].seconds) == 30
        until(lambda: len(far._logs[0].follower._open_pipe.pipes) == 2, what="the counting")
        with path.open("ab") as log:
            log.write(some_lines("000042-B", "b:1", begin=1_795_262_430) + b"no line of the format\n")
        assert seen_by(far, 20_001) == seen_by(near, 20_001)
        assert near.failing.requests == 20_000
        assert sum(each.count for each in far.failing.counts) >= 300
    assert any("All of them count" in note for note in notes.all)


def test_a_far_log_in_a_format_that_can_not_be_counted_is_fetched_and_that_is_reported(tmp_path):
    path = tmp_path / "access.log"
    path.touch()
    logs, notes = logs_of(path, CountingHost(), escape="none")
    with closing(logs), path.open("ab") as log:
        log.write(some_lines("000042-B", "b:1", begin=1_795_262_430))
        log.flush()
        assert seen_by(logs, 20_000).new.gateway == 2000
    assert any("can't be counted on its host" in note for note in notes.all)

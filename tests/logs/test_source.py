"""Logs from files and pipes as blocks of whole lines."""

import gzip
import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from onlogs import diagnose, watch
from upswitch.basics.errors import HostError
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.logs.line import compile_format
from upswitch.logs.since import AccessTimes, Span
from upswitch.logs.source import FileSource, HostSource

READER = compile_format("$msec $status $request_uri")
ALL = AccessTimes(READER)
AT = 1_795_262_400
LINES = tuple(b"%d.000 200 /%s\n" % (AT + second, b"x" * 300) for second in range(10_000))


def late(second: int) -> AccessTimes:
    return AccessTimes(READER, Span(unix=AT + second))


def whole(source: FileSource, times: AccessTimes = ALL) -> bytes:
    return b"".join(source.blocks(times))


@contextmanager
def piped(data: bytes):
    """The name of a pipe that `data` comes out of; and what is set once its end has come, 20 s later if nobody asks for it."""
    reads, writes = os.pipe()
    ends, is_over = threading.Event(), threading.Event()

    def write() -> None:
        with os.fdopen(writes, "wb") as file:
            file.write(data)
            file.flush()
            ends.wait(20)
            is_over.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield f"/dev/fd/{reads}", ends, is_over
    finally:
        ends.set()
        os.close(reads)
        thread.join()


@pytest.mark.parametrize("second", [0, 3000, 5000, 9999, 20_000])
def test_a_file_entered_in_the_middle_gives_whole_lines_and_all_that_matter(tmp_path, second):
    path = tmp_path / "log"
    path.write_bytes(b"".join(LINES))
    lines = whole(FileSource(str(path)), late(second)).splitlines(keepends=True)
    assert set(lines) <= {*LINES}
    assert lines[-1:] == [LINES[-1]]
    assert set(LINES[second:]) <= {*lines}
    assert len(lines) < max(0, len(LINES) - second) + 8000


def test_a_line_longer_than_a_block_where_a_file_is_entered_is_left_out_whole(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"".join((*LINES[:7000], b"x" * (5 << 20) + b"\n", *LINES[7000:])))
    assert set(whole(FileSource(str(path)), late(9000)).splitlines(keepends=True)) >= set(LINES[9000:])


def test_a_torn_line_is_not_one_of_another_format(tmp_path):
    (tmp_path / "access.log").write_bytes(b"".join(LINES))
    words = ("--access-log", "access.log", "--log-format", "$msec $status $request_uri", "--since", "10m", "--json")
    answer = diagnose(*words, folder=tmp_path)
    assert answer.json["unread"] == 0, answer
    assert answer.json["read"][0]["lines"] < len(LINES)


def test_the_first_lines_of_a_pipe_are_there_before_its_end():
    """A file of some GB that is piped in needs no room on any disk."""
    with piped(b"".join(LINES)) as (name, ends, is_over):
        blocks = FileSource(name).blocks(ALL)
        found = next(blocks)
        assert not is_over.is_set()
        ends.set()
        assert found + b"".join(blocks) == b"".join(LINES)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_pipe_can_be_read_after_its_first_lines_and_its_newest_time_were_looked_at(pack):
    with piped(pack(b"".join(LINES))) as (name, ends, _):
        ends.set()
        source = FileSource(name)
        assert source.head().startswith(LINES[0])
        assert source.newest(ALL) == f"{AT + len(LINES) - 1}.000"
        assert whole(source) == b"".join(LINES)
        assert whole(source) == b"".join(LINES)


def test_a_pipe_that_does_not_end_is_not_copied_without_end():
    lines = b"".join(LINES[:150])  # as much as a pipe holds
    with piped(lines) as (name, ends, _):
        ends.set()
        with pytest.raises(OSError, match="more than 0 MiB") as caught:
            FileSource(name).newest(ALL, most=len(lines) - 1)
    assert caught.value.filename == name


@pytest.mark.parametrize("words", [("--since", "10m"), ()])
def test_a_device_is_refused_by_its_name(tmp_path, words):
    answer = diagnose("--error-log", "/dev/zero", *words, folder=tmp_path)
    assert answer.exit == 2, answer
    assert "/dev/zero: a device is no log" in answer.out


def test_a_name_that_is_no_text_is_shown_safely(tmp_path):
    name = os.fsdecode(b"t\xff\x1b[2J.gz")
    (tmp_path / name).write_bytes(gzip.compress(REFUSED * 1000)[:-9])
    answer = diagnose("--error-log", name, "--json", folder=tmp_path)
    assert answer.exit == 3, answer
    assert answer.json["notes"][0].startswith(r"t\xdcff\x1b[2J.gz is cut off or damaged"), answer


def test_garbage_that_looks_compressed_has_no_first_lines(tmp_path):
    path = tmp_path / "log.gz"
    path.write_bytes(b"\x1f\x8b" + b"\xff" * 100)
    source = FileSource(str(path))
    assert (source.head(), whole(source)) == (b"", b"")
    assert "cut off or damaged" in source.cut


@pytest.mark.parametrize("words", [("diagnose", "--access-log"), ("watch", "--at", "2026-11-21T13:00:00Z", "--replay")])
def test_files_are_read_by_a_user_that_has_no_name(tmp_path, words):
    """As in a container."""
    nameless = ("unshare", "--user", "--map-user=54321", "--")
    if subprocess.run((*nameless, "true"), capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine allows no user namespace")
    (tmp_path / "access.log").write_bytes(b"".join(LINES))
    argv = (*nameless, sys.executable, "-m", "upswitch", *words, "access.log", "--log-format", "$msec $status $request_uri")
    ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False)
    assert ran.returncode == 0, ran


# ---- what is asked for with them ----

REFUSED = b"2026/11/20 10:00:00 [error] 7#7: *1 connect() failed (111: Connection refused) while connecting to upstream\n"
UNKNOWN = b"what a line this is\n"


@pytest.mark.parametrize("words", [("--error-log", "x.log"), ("--access-log", "x.log", "--log-format", "$msec $status")])
def test_a_file_of_which_no_line_can_be_read_is_no_sign_of_peace(tmp_path, words):
    (tmp_path / "x.log").write_bytes(UNKNOWN)
    answer = diagnose(*words, "--json", folder=tmp_path)
    assert answer.exit == 2, answer
    assert "x.log" in answer.json["said"]


def test_an_access_log_that_nobody_knows_is_no_reason_to_leave_the_error_log(tmp_path):
    (tmp_path / "error.log").write_bytes(REFUSED)
    (tmp_path / "x.log").write_bytes(UNKNOWN)
    answer = diagnose("--error-log", "error.log", "--access-log", "x.log", "--json", folder=tmp_path)
    assert answer.exit == 3, answer
    assert [each["kind"] for each in answer.json["read"]] == ["error"]
    assert answer.json["notes"][0].startswith("x.log is of no log_format that we know")


@pytest.mark.parametrize(
    ("text", "log_format"),
    [
        ('1.1.1.1 - - [21/Nov/2026:12:00:0{} +0000] "GET / HTTP/1.1" 200 12 "-" "curl"\n', ""),
        ('{{"t":"179526240{}.000","u":"a\\u0001"}}\n', 'escape=json {"t":"$msec","u":"$uri"}'),
    ],
)
def test_a_replay_knows_the_usual_formats_and_takes_others_as_diagnose_does(tmp_path, text, log_format):
    (tmp_path / "access.log").write_text("".join(text.format(second) for second in range(9)))
    words = ("--replay", "access.log", "--at", "2026-11-21T12:00:03Z", "--log-format", log_format)
    answer = watch(tmp_path, *(words if log_format else words[:-2]), "--json")
    assert answer.exit == 0, answer
    assert answer.json["total"] == 6
    assert not any("not of the format" in note for note in answer.json["notes"])


def test_a_hint_to_help_is_a_command_that_can_be_typed(tmp_path):
    answer = diagnose("--error-log", "nowhere.log", "-c", "site.toml", folder=tmp_path)
    assert answer.exit == 2
    (tmp_path / "site.toml").write_text('[upstreams.app]\nA = ["10.0.0.1:80"]\nB = ["10.0.0.2:80"]\n')
    answer = diagnose("--error-log", "nowhere.log", "-c", "site.toml", folder=tmp_path)
    assert "upswitch diagnose --help" in map(str.strip, answer.out.splitlines())


def test_a_log_of_the_host_that_is_not_there_cannot_be_read(tmp_path):
    with pytest.raises(HostError):
        list(HostSource(LocalHost(SystemClock()), str(tmp_path / "log")).blocks(ALL))


@pytest.mark.parametrize("forged", [b"9999/12/31 23:59:59", b"0001/01/01 00:00:00", b"0000/00/00 00:00:00"])
def test_a_line_that_a_client_wrote_does_not_move_the_last_minutes_away(tmp_path, forged):
    (tmp_path / "error.log").write_bytes(REFUSED * 9 + forged + REFUSED[19:])
    answer = diagnose("--error-log", "error.log", "--since", "10m", "--json", folder=tmp_path)
    assert answer.json["since"] == "2026/11/20 09:50:00", answer


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_year_that_no_log_has_is_refused(tmp_path, at):
    (tmp_path / "error.log").write_bytes(REFUSED)
    answer = diagnose("--error-log", "error.log", "--since", at, folder=tmp_path)
    assert answer.exit == 2, answer


def test_where_requests_tell_the_time_error_lines_do_not(tmp_path):
    (tmp_path / "error.log").write_bytes(REFUSED.replace(b"10:00", b"10:30"))
    (tmp_path / "access.log").write_bytes(b'1.1.1.1 - - [20/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 12 "-" "curl"\n')
    answer = diagnose("--error-log", "error.log", "--access-log", "access.log", "--since", "10m", "--json", folder=tmp_path)
    assert answer.json["since"] == "2026/11/20 09:50:00", answer

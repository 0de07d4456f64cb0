"""The lock between real processes."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import msgspec
import pytest

from sshd import ME, OTHER, owner
from upswitch.basics.errors import HostError
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import FileLock, LocalHost

HOLD = """
import sys, msgspec
from upswitch.hosts.local.host import FileLock
from upswitch.basics.errors import Owner
holder = FileLock(sys.argv[1]).acquire(msgspec.json.decode(sys.argv[2], type=Owner))
print(holder.user if holder else "ours", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(path, who=OTHER):
    """Another process that asks for the lock; gives it and what it was told."""
    argv = (sys.executable, "-c", HOLD, path, msgspec.json.encode(who).decode())
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path):
    return f"{tmp_path}/lock"


def test_one_process_holds_the_lock_and_another_learns_which(path):
    with holding(path) as (process, told):
        assert told == "ours"
        lock = FileLock(path)
        assert lock.acquire(ME) == OTHER
        assert lock.holder() == OTHER
        process.stdin.close()
        process.wait(10)
        assert lock.acquire(ME) is None
        assert FileLock(path).holder() == ME
        with holding(path) as (_, told_now):
            assert told_now == "me"
        lock.release()
        assert FileLock(path).holder() is None


def test_the_lock_is_free_at_once_when_its_holder_is_killed(path):
    with holding(path) as (process, _):
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        assert FileLock(path).holder() is None
        lock = FileLock(path)
        assert lock.acquire(ME) is None
        lock.release()


def test_a_process_that_the_holder_starts_does_not_hold_the_lock(path):
    lock = FileLock(path)
    assert lock.acquire(ME) is None
    with subprocess.Popen(("sleep", "60")) as child:
        lock.release()
        try:
            again = FileLock(path)
            assert again.acquire(OTHER) is None
            again.release()
        finally:
            child.kill()


def test_a_process_that_a_command_under_the_lock_leaves_behind_does_not_hold_it(path):
    lock = FileLock(path)
    assert lock.acquire(ME) is None
    ran = LocalHost(SystemClock(), lock).run(("sh", "-c", "sleep 60 & echo $!"), deadline=30, holds_lock=True)
    try:
        lock.release()
        again = FileLock(path)
        assert again.acquire(OTHER) is None
        again.release()
    finally:
        os.kill(int(ran.out), signal.SIGKILL)


def test_asking_who_holds_the_lock_never_takes_it(path):
    assert FileLock(path).holder() is None
    assert not os.path.exists(path)
    with holding(path) as (_, told):
        assert told == "ours"
        assert {FileLock(path).holder() for _ in range(50)} == {OTHER}


def test_a_holder_with_a_shorter_name_overwrites_the_longer_one_completely(path):
    for who in (OTHER, owner("x", "")):
        lock = FileLock(path)
        assert lock.acquire(who) is None
        assert FileLock(path).holder() == who
        lock.release()


def test_a_holder_that_has_not_written_its_name_yet_still_holds_the_lock(path):
    lock = FileLock(path)
    assert lock.acquire(ME) is None
    os.truncate(path, 0)
    assert FileLock(path).acquire(OTHER).user == "?"
    assert FileLock(path).holder().reason == "its holder has not written its name yet"
    lock.release()


def test_a_symbolic_link_in_place_of_the_lock_is_refused_and_its_target_untouched(path, tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    os.symlink(tmp_path / "victim", path)
    with pytest.raises(HostError, match=f"open the lock {path}: "):
        FileLock(path).acquire(ME)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_lock_that_can_not_be_created_is_an_error_and_not_a_held_lock(tmp_path):
    with pytest.raises(HostError, match="No such file or directory"):
        FileLock(f"{tmp_path}/nowhere/lock").acquire(ME)


def test_the_lock_file_is_private(path):
    lock = FileLock(path)
    lock.acquire(ME)
    assert os.stat(path).st_mode & 0o777 == 0o600
    lock.release()

"""What the path of a log really is, as nginx's master opens it."""

import os
import signal
import socket
import subprocess
from contextlib import contextmanager

import pytest

from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.nginx.log_target import Target, targets

HOST = LocalHost(SystemClock())


@contextmanager
def process(stdout):
    """Any process will do for its descriptors: what nginx has as its stdout is tested in watch/test_no_files.py."""
    with subprocess.Popen(["sleep", "60"], stdout=stdout, stderr=subprocess.DEVNULL) as running:
        try:
            yield running.pid
        finally:
            os.kill(running.pid, signal.SIGKILL)


@pytest.mark.parametrize("written", ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/1", "LINK"])
def test_a_stdout_that_is_a_file_is_followed_by_the_name_of_that_file(tmp_path, written):
    link = tmp_path / "access.log"
    link.symlink_to("/dev/stdout")
    path = written.replace("LINK", str(link))
    with (tmp_path / "real.log").open("ab") as file, process(file) as pid:
        found = targets(HOST, [path], master=pid)[path].path
        assert os.path.samefile(found, tmp_path / "real.log")
        (tmp_path / "real.log").unlink()
        assert "has no name any more" in targets(HOST, [path], master=pid)[path].why


@pytest.mark.parametrize("written", ["/dev/stdout", "/proc/self/fd/1"])
def test_a_stdout_that_is_no_file_says_what_it_is(written):
    ours, theirs = socket.socketpair()
    with ours, theirs, process(subprocess.PIPE) as piped, process(theirs) as connected, process(subprocess.DEVNULL) as thrown:
        said = [targets(HOST, [written], master=pid)[written].why for pid in (piped, connected, thrown, 0)]
    kinds = (
        "it is a pipe (pipe:[",
        "it is a socket (socket:[",
        "nginx throws its lines away (/dev/null)",
        "it is nginx's own",
    )
    assert [one.startswith(kind) for one, kind in zip(said, kinds, strict=True)] == [True] * 4, said


def test_files_links_and_others_are_told_without_opening_them(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("")
    for name, to in (("to-fifo", "fifo"), ("to-file", "file"), ("loop", "loop")):
        (tmp_path / name).symlink_to(to)
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        names = ("file", "to-file", "none", "fifo", "to-fifo", "folder", "socket")
        found = targets(HOST, [f"{tmp_path}/{name}" for name in names], master=os.getpid())
    followed = [found[f"{tmp_path}/{name}"] for name in names[:3]]
    assert followed == [Target(path=f"{tmp_path}/{name}") for name in names[:3]]
    assert [found[f"{tmp_path}/{name}"].why for name in names[3:]] == [
        "it is a pipe",
        f"it is a pipe ({tmp_path}/fifo)",
        "it is a folder",
        "it is a socket",
    ]
    assert targets(HOST, [f"{tmp_path}/loop"])[f"{tmp_path}/loop"].path == ""

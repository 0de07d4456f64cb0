"""The machine we stand on keeps the contract of a host."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hostcontract import HostContract
from upswitch.basics.errors import HostError
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost


@pytest.fixture
def host():
    return LocalHost(SystemClock())


class TestLocalHost(HostContract):
    pass


def test_a_command_runs_in_a_session_of_its_own(host):
    session, pid = host.run((sys.executable, "-c", "import os; print(os.getsid(0), os.getpid())"), deadline=10).out.split()
    assert session == pid


READ_ONLY_AS_NOBODY = """
import os, sys
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.basics.errors import HostError
os.setgid(65534)
os.setuid(65534)
host = LocalHost(SystemClock())
for act in (lambda: host.write(sys.argv[1] + "/file", b"new", mode=0o600), lambda: host.append(sys.argv[1] + "/file", b"new")):
    try:
        act()
    except HostError as exc:
        print(exc.reason)
"""


def test_a_folder_that_is_not_ours_is_refused_and_left_as_it_was():
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: nobody else may enter the folders above it
        Path(folder).chmod(0o755)
        Path(folder, "file").write_bytes(b"old")
        argv = (sys.executable, "-c", READ_ONLY_AS_NOBODY, folder)
        ran = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
        assert ran.stdout == "Permission denied\nPermission denied\n"
        assert (os.listdir(folder), Path(folder, "file").read_bytes()) == (["file"], b"old")


def test_an_append_is_on_disk_when_it_returns(tmp_path):
    trace = subprocess.run(("sh", "-c", "command -v strace"), capture_output=True, check=False)
    if trace.returncode:
        pytest.skip("no strace here to see the fsync")
    script = "import sys; from upswitch.hosts.local.host import *; LocalHost(None).append(sys.argv[1], b'line')"
    argv = ("strace", "-f", "-e", "trace=write,fsync", sys.executable, "-c", script, f"{tmp_path}/journal")
    calls = [line for line in subprocess.run(argv, capture_output=True, text=True, check=True).stderr.splitlines() if "(" in line]
    wrote = next(at for at, call in enumerate(calls) if '"line"' in call)
    assert "fsync(" in calls[wrote + 1]


def test_a_file_in_the_place_of_a_folder_is_an_error(host, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HostError, match="Not a directory"):
        host.read(f"{tmp_path}/file/below")

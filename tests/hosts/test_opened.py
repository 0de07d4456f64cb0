"""Whatever stands in a file's place, to open it never waits; what a user names may be a pipe."""

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sshd import ME
from upswitch.basics.errors import HostError
from upswitch.cli import site_files
from upswitch.generations import templates
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local import opened
from upswitch.hosts.local.host import FileLock, LocalHost
from upswitch.hosts.ssh import keys, login
from upswitch.lint import files
from upswitch.logs.source import FileSource
from upswitch.site.model import Gate, Nginx, Site, Upstream, Watch

FLAGS = [os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND]
SAYS = "it is no regular file"


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)


def in_time(act):
    """What `act` raises; a failure where it does not end by itself."""
    raised = []

    def run():
        try:
            act()
        except Exception as exc:  # noqa: BLE001  (it is what we look at)
            raised.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits"
    return str(raised[0]) if raised else ""


@pytest.mark.parametrize("flags", FLAGS)
def test_a_fifo_in_the_place_of_a_file_is_an_error_at_once(fifo, flags):
    assert SAYS in in_time(lambda: opened.regular(fifo, flags))


@pytest.mark.parametrize("name", ["lock", "lease", "epoch"])
def test_a_fifo_in_the_place_of_a_file_of_the_lock_is_an_error_and_the_lock_is_free(tmp_path, name):
    os.mkfifo(tmp_path / name)
    lock = FileLock(f"{tmp_path}/lock")
    assert SAYS in in_time(lambda: lock.acquire(ME))
    os.unlink(tmp_path / name)
    assert FileLock(f"{tmp_path}/lock").acquire(ME) is None


def test_a_fifo_in_the_place_of_the_journal_is_an_error_at_once(fifo):
    host = LocalHost(SystemClock())
    for act in (lambda: host.read(fifo), lambda: host.append(fifo, b"x"), lambda: host.follow(fifo)):
        assert SAYS in in_time(act)


def test_no_file_of_ssh_and_no_template_is_waited_for(fifo, tmp_path):
    upstream = Upstream(name="api", template=fifo, pools={})
    site = Site(nginx=Nginx(user=""), upstreams=(upstream,), gate=Gate(), watch=Watch())
    assert SAYS in in_time(lambda: login.load(fifo))
    assert SAYS in in_time(lambda: keys._load(fifo, None))
    assert SAYS in in_time(lambda: templates.load(site))
    assert in_time(lambda: keys._public(fifo.removesuffix(".pub"))) == ""
    key = tmp_path / "key"
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key), check=True)
    os.mkfifo(f"{key}-cert.pub")
    assert SAYS in in_time(lambda: keys._load(str(key), None))


def test_a_fifo_that_a_user_names_and_nobody_writes_is_an_error_after_some_seconds(fifo):
    with ThreadPoolExecutor() as pool:  # the three wait at the same time
        said = [*pool.map(lambda read: in_time(lambda: read(fifo)), (site_files.read_site, FileSource, files.read))]
    assert [f"nobody wrote into this FIFO within {opened.WRITER_S} s" in each for each in said] == [True] * 3


def test_a_fifo_with_a_writer_and_a_pipe_of_the_shell_are_read(fifo):
    with subprocess.Popen(("sh", "-c", 'echo words > "$1"', "sh", fifo)) as writer:
        with open(opened.named(fifo), encoding="ascii") as file:
            assert file.read() == "words\n"
        assert writer.wait(10) == 0
    script = "from upswitch.hosts.local import opened; import os, sys; print(os.read(opened.named(sys.argv[1]), 99))"
    shell = 'exec "$1" -c "$2" <(sleep 0.5; echo words)'
    argv = ("bash", "-c", shell, "bash", os.sys.executable, script)
    assert subprocess.run(argv, capture_output=True, timeout=20, check=True).stdout == b"b'words\\n'\n"


def test_a_device_is_no_file(tmp_path):
    for path in ("/dev/zero", str(tmp_path)):
        with pytest.raises(OSError, match=SAYS):
            opened.named(path)


def test_a_file_that_can_not_be_opened_says_why(tmp_path):
    os.symlink(tmp_path / "file", tmp_path / "link")
    with pytest.raises(HostError, match="Too many levels of symbolic links"):
        LocalHost(SystemClock()).append(f"{tmp_path}/link", b"x")

"""Files and commands of this machine as sources: what is read, and each way in which that fails."""

import os
import time
from pathlib import Path

import pytest

from upswitch.basics.errors import RefusedError
from upswitch.basics.result import Why
from upswitch.site.model import Gate, Nginx, Pool, Site, Upstream, Watch
from upswitch.site.server_line import parse_server
from upswitch.site.source import CommandSource, FileSource, GivenServers
from upswitch.sources import here
from upswitch_lab.process import until


def read(source, given=()):
    pools = (Pool(name="A", servers=(parse_server("10.0.0.9:80"),)), Pool(name="B", servers=(), source=source))
    site = Site(nginx=Nginx(), upstreams=(Upstream(name="app", pools=pools),), gate=Gate(), watch=Watch())
    found = here.read(site, "B", {"app": given} if given else {})
    assert found.upstreams[0].pool("A") == pools[0]
    return found.upstreams[0].pool("B")


def refusal(source):
    with pytest.raises(RefusedError) as caught:
        read(source)
    (refusal,) = caught.value.refusals
    assert refusal.why is Why.SOURCE
    assert refusal.what.startswith(f"the servers of app.B can't be read from {source.text}: ")
    return refusal.what


def script(text, deadline=10.0):
    return CommandSource(argv=("sh", "-c", text), deadline=deadline)


@pytest.mark.parametrize(
    ("name", "text"), [("b.txt", "10.0.0.1:80\n"), ("b.json", '["10.0.0.1:80"]'), ("b.toml", 'servers=["10.0.0.1:80"]')]
)
def test_a_file_is_read_by_its_form(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    pool = read(FileSource(path=str(tmp_path / name)))
    assert ([each.text for each in pool.servers], pool.source.text) == (["10.0.0.1:80"], f"file {tmp_path / name}")


def test_the_output_of_a_command_is_read():
    assert [each.text for each in read(script("echo 10.0.0.1:80; echo noise >&2; echo 10.0.0.2:80")).servers] == [
        "10.0.0.1:80",
        "10.0.0.2:80",
    ]


def test_given_servers_come_before_a_source_and_it_is_not_read(tmp_path):
    pool = read(FileSource(path=str(tmp_path / "none")), given=(parse_server("10.0.0.3:80"),))
    assert (pool.servers[0].text, pool.source) == ("10.0.0.3:80", GivenServers())


def test_a_file_that_is_not_there_or_no_file_is_refused_at_once(tmp_path):
    assert "No such file or directory" in refusal(FileSource(path=str(tmp_path / "none")))
    assert "no regular file" in refusal(FileSource(path=str(tmp_path)))
    os.mkfifo(tmp_path / "fifo")
    assert "no regular file" in refusal(FileSource(path=str(tmp_path / "fifo")))


def test_a_file_that_every_user_may_write_is_refused_with_the_command_that_ends_it(tmp_path):
    path = tmp_path / "servers"
    path.write_text("10.0.0.1:80\n")
    path.chmod(0o666)
    assert f"every user may write it; `chmod o-w {path}` ends that" in refusal(FileSource(path=str(path)))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (CommandSource(argv=("/nowhere/list",)), "can't be started: No such file"),
        (script("echo 10.0.0.1:80; echo 'no \033[31mregistry' >&2; exit 4"), "exit 4: no \\x1b[31mregistry"),
        (script("kill -9 $$"), "killed by signal 9"),
        (script("true"), "it has no server"),
        (script("yes 10.0.0.1:80"), "more than 1,000,000 bytes"),
        (script("exec >&- 2>&-; sleep 60"), "closed its output and did not end"),
    ],
    ids=["missing", "exit", "killed", "empty", "endless", "closed"],
)
def test_a_command_that_fails_is_refused_in_its_own_words(source, said):
    assert said in refusal(source)


def test_a_command_that_hangs_is_ended_at_its_deadline_with_its_children(tmp_path):
    began = time.monotonic()
    assert "no end within 1 s" in refusal(script(f"sleep 60 & echo $! >{tmp_path}/pid; wait", deadline=1.0))
    assert time.monotonic() - began < 20
    child = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    until(lambda: not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z", what="its child to end")

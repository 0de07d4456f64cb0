"""The two scripts around a reload, on a real nginx and on what is in its place."""

import os
import re
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from skips import NONE_HERE
from upswitch.generations import survey
from upswitch.hosts import sh
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.nginx import commands, running
from upswitch.nginx.marker import Marker
from upswitch.nginx.processes import Family, Process
from upswitch.switch import proof, reload
from upswitch.switch.proof import Proof
from upswitch.switch.reload import Before
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab
from upswitch_lab.process import free_port, until

HOST = LocalHost(SystemClock())


@pytest.fixture(scope="module", params=[pytest.param(path, id=version) for version, path in find_nginx()] or [NONE_HERE])
def lab(request):
    with Lab(request.param) as lab:
        yield lab


def master_of(lab):
    return survey.glance(HOST, lab.site.nginx)[1].family.master


def reloaded(lab, master, *, command=None, seconds=10.0, pid_file=None):
    nginx = lab.site.nginx
    command = command or commands.reload(nginx, lab.place.build)
    argv = reload.reload_argv(
        command, master, pid_file=pid_file or f"{lab.folder}/nginx.pid", log=f"{lab.error_log}", seconds=seconds
    )
    return HOST.run(argv, deadline=20)


def sampled(lab, before):
    ran = HOST.run(reload.sample_argv(before, lab.site.nginx.marker, f"{lab.error_log}"), deadline=10)
    assert ran.exit == 0, ran
    return reload.parse_samples(ran.out, before)


def test_a_reload_says_what_was_before_it_and_its_samples_prove_it(lab):
    before = survey.glance(HOST, lab.site.nginx)[1].family
    ran = reloaded(lab, before.master)
    mark = reload.parse_reload(ran.out, before.master)
    assert (ran.exit, mark.family) == (0, before)
    assert mark.inode == lab.error_log.stat().st_ino
    samples, found = [], None
    for _ in range(20):
        for sample in sampled(lab, mark):
            samples.append(sample)
            found = proof.judge(mark.family, samples, want=lab.marker())
            if found.proof is not Proof.WAITING:
                break
        if found.proof is not Proof.WAITING:
            break
    assert found.proof is Proof.APPLIED, found
    times = [sample.at for sample in samples]
    assert times == sorted(times)
    assert times[0] >= 0


def test_a_family_and_a_marker_look_as_they_do_to_a_single_look(lab):
    running = survey.glance(HOST, lab.site.nginx)[1]
    samples = sampled(lab, Before(family=running.family))
    assert samples[0].family == running.family
    assert len(samples[0].marks) == 5
    assert {mark.generation for mark in samples[0].marks} == {lab.marker()}


def test_only_the_very_master_that_was_verified_is_signalled(lab, tmp_path):
    master = master_of(lab)
    signals = lab.error_log.read_bytes().count(b"signal 1 ")
    other = Process(pid=master.pid, parent=1, start=master.start + 1, state="S", title=master.title)
    with subprocess.Popen(("sleep", "30")) as stranger:
        pid_file = tmp_path / "pid"
        pid_file.write_text(f"{stranger.pid}\n")
        mine = Process(pid=stranger.pid, parent=1, start=start_of(stranger.pid), state="S", title=master.title)
        said = [
            reloaded(lab, other),
            reloaded(lab, mine, pid_file=f"{pid_file}"),
            reloaded(lab, master, pid_file=f"{pid_file}"),
            reloaded(lab, master, pid_file=f"{tmp_path}/nowhere"),
        ]
        stranger.kill()
    assert [(ran.exit, reload.parse_reload(ran.out, master)) for ran in said] == [(sh.Exit.CHANGED, None)] * 4
    assert lab.error_log.read_bytes().count(b"signal 1 ") == signals


def start_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_a_master_that_is_stopped_or_being_replaced_is_not_signalled(lab):
    master = master_of(lab)
    os.kill(master.pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{master.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", what="the stop")
    try:
        assert reloaded(lab, master).exit == sh.Exit.CHANGED
    finally:
        os.kill(master.pid, signal.SIGCONT)
    oldbin = lab.folder / "nginx.pid.oldbin"
    oldbin.write_text(f"{os.getpid()}\n")
    assert reloaded(lab, master).exit == sh.Exit.CHANGED
    oldbin.write_text("4000000\n")  # a file that a killed upgrade left
    assert reloaded(lab, master).exit == 0
    oldbin.unlink()


def test_a_reload_command_that_does_not_end_is_killed_and_what_was_before_is_known(lab):
    master = master_of(lab)
    ran = reloaded(lab, master, command=("sleep", "30"), seconds=0.2)
    assert ran.exit in {None, reload.KILLED}
    if ran.exit == reload.KILLED:
        found = reload.parse_reload(ran.out, master).family.master
        assert (found.pid, found.start) == (master.pid, master.start)  # its state is whatever it did just then


def test_what_the_master_logs_is_seen_as_it_comes_and_only_what_is_new(lab):
    master = master_of(lab)
    with lab.error_log.open("ab", buffering=0) as log:
        log.write(emerg(master.pid, "old"))
        status = lab.error_log.stat()
        mark = Before(family=running.read_family(HOST, master.pid), inode=status.st_ino, size=status.st_size)
        log.write(emerg(master.pid, "new") + b"\x00\xff half a line")
        samples = sampled(lab, mark)
        log.write(b"\n")
    assert {sample.emerg for sample in samples} == {("new",)}


def emerg(pid, said):
    return f"2026/01/01 00:00:00 [emerg] {pid}#{pid}: {said}\n".encode()


def test_a_log_that_was_rotated_is_read_from_its_start(lab):
    master = master_of(lab)
    rotated = lab.folder / "rotated.log"
    rotated.write_bytes(emerg(master.pid, "first"))
    mark = Before(family=running.read_family(HOST, master.pid), inode=1, size=10)
    ran = HOST.run(reload.sample_argv(mark, lab.site.nginx.marker, f"{rotated}"), deadline=10)
    assert {sample.emerg for sample in reload.parse_samples(ran.out, mark)} == {("first",)}


@contextmanager
def answering(data):
    """Somebody else in the marker's place."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    stream, _ = server.accept()
                except OSError:
                    return
                with stream:
                    stream.recv(1024)
                    stream.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"000002-B 7\n",
        b"HTTP/1.1 404 Not Found\r\n\r\n000002-B 7\n",
        b"HTTP/1.1 200 OK\r\n\r\nsample 1.00\r\nmark 000002-B 7",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"\n" * 100 + b"000002-B 7\n",
    ],
)
def test_a_stranger_in_the_markers_place_says_nothing(lab, data):
    mark = Before(family=running.read_family(HOST, master_of(lab).pid))
    with answering(data) as address:
        ran = HOST.run(reload.sample_argv(mark, address, ""), deadline=10)
    samples = reload.parse_samples(ran.out, mark)
    assert samples
    assert not any(mark for sample in samples for mark in sample.marks if mark.generation == "000002-B")


def test_a_marker_that_nobody_serves_leaves_the_family_to_see(lab):
    mark = Before(family=running.read_family(HOST, master_of(lab).pid))
    ran = HOST.run(reload.sample_argv(mark, f"127.0.0.1:{free_port('127.0.0.1')}", ""), deadline=10)
    samples = reload.parse_samples(ran.out, mark)
    assert samples[-1].family.workers
    assert not any(sample.marks for sample in samples)


def test_where_there_is_no_master_there_is_no_family():
    gone = Before(family=Family(master=Process(pid=4_000_000, parent=1, start=1, state="S", title="nginx: master process")))
    ran = HOST.run(reload.sample_argv(gone, "127.0.0.1:1", ""), deadline=10)
    samples = reload.parse_samples(ran.out, gone)
    assert {sample.family for sample in samples} == {Family(master=None)}


def test_marks_after_one_that_is_none_of_ours_do_not_count():
    text = b"sample 2.50\nmark 000002-B 7\nmark no\nmark 000002-B 7\n"
    (sample,) = reload.parse_samples(text, Before(family=Family(master=None), at=2.0))
    assert (sample.at, sample.marks) == (0.5, (Marker(generation="000002-B", pid=7),))


def test_the_script_for_bash_is_one_that_bash_takes_and_needs_nothing_new():
    script = reload.sample_argv(Before(family=Family(master=None)), "127.0.0.1:1", "")[2]
    assert subprocess.run(("bash", "-n", "-c", script), check=False, capture_output=True).returncode == 0
    assert not re.search(r"EPOCH|mapfile -d|\$\{[a-z]+@", script)

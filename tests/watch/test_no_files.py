"""Logs that are no files: nginx's own stdout and stderr, pipes, links to them, syslog."""

import os
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from command import agree, upswitch
from crowd import crowd
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab
from upswitch_lab.process import until

QUIET = Layout(site={"watch": {"duration": "4s", "probe": None}})


def write_logs(lab: Lab, access: str) -> None:
    conf = lab.folder / "nginx.conf"
    conf.write_text(conf.read_text().replace(f"access_log {lab.access_log} upswitch;", f"access_log {access} upswitch;"))


@contextmanager
def running(lab: Lab, stdout, stderr=None):
    """nginx as a service manager or a container runs it: in the foreground, with these descriptors."""
    lab.stop_nginx()
    argv = lab.place.argv
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr or subprocess.DEVNULL) as nginx:
        try:
            until(lambda: served(lab), what="nginx")
            yield
        finally:
            nginx.terminate()
            nginx.wait(10)


def served(lab: Lab) -> bool:
    try:
        return lab.get()[0] > 0
    except OSError:
        return False


def fail(lab: Lab) -> None:
    for number in (1, 2):
        lab.backend("B", number).mode("broken", lying=True)


@pytest.mark.parametrize("path", ["/dev/stdout", "LINK"])
def test_a_stdout_that_is_a_file_is_followed_and_takes_a_bad_release_back(any_nginx, path):
    with Lab(any_nginx, QUIET) as lab:
        link, file = lab.folder / "link.log", lab.folder / "out.log"
        link.symlink_to("/dev/stdout")
        write_logs(lab, path.replace("LINK", str(link)))
        with file.open("ab") as stdout, running(lab, stdout), crowd(lab.place.public, rate=10):
            assert f"The watch reads {file}." in str(upswitch(lab, "plan", "--to", "B").json)
            fail(lab)
            answer = upswitch(lab, "switch", "--to", "B")
            assert (answer.exit, answer.json["watch"]["verdict"]) == (4, "rollback"), answer
            agree(lab, answer, "A")


def test_diagnose_reads_the_file_behind_stdout_and_stderr_once(any_nginx):
    with Lab(any_nginx, QUIET) as lab:
        conf, file = lab.folder / "nginx.conf", lab.folder / "both.log"
        write_logs(lab, "/dev/stdout")
        conf.write_text(conf.read_text().replace(f"error_log {lab.error_log};", "error_log stderr;"))
        with file.open("ab") as both, running(lab, both, both):
            for number in (1, 2):
                lab.backend("A", number).mode("close", lying=True)
            assert [lab.get()[0] for _ in range(3)] == [502] * 3
            found = upswitch(lab, "diagnose").json
        assert [each["name"] for each in found["read"]] == [str(file)], found
        assert [each["code"] for each in found["findings"]][:1] == ["upstream_premature_close"], found
        assert "can't be read" not in str(found["notes"]), found


@contextmanager
def pipe(lab: Lab):
    """Its reader takes every line, as a container's engine does."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
        write_logs(lab, "/dev/stdout")
        with running(lab, reader.stdin):
            yield "/dev/stdout: the watch can't follow it: it is a pipe (pipe:["
        reader.stdin.close()


@contextmanager
def fifo(lab: Lab):
    path = lab.folder / "fifo.log"
    os.mkfifo(path)
    with subprocess.Popen(["sh", "-c", 'exec 3<>"$0"; exec cat <&3', path], stdout=subprocess.DEVNULL) as reader:
        try:
            write_logs(lab, str(path))
            with running(lab, subprocess.DEVNULL):
                yield f"{path}: the watch can't follow it: it is a pipe"
        finally:
            reader.kill()


@contextmanager
def link_to_devnull(lab: Lab):
    """A master that made itself a daemon has closed its stdout."""
    path = lab.folder / "link.log"
    path.symlink_to("/dev/stdout")
    write_logs(lab, str(path))
    with running(lab, subprocess.DEVNULL):
        yield f"{path}: the watch can't follow it: nginx throws its lines away (/dev/null)"


@contextmanager
def syslog(lab: Lab):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        write_logs(lab, f"syslog:server=127.0.0.1:{server.getsockname()[1]}")
        with running(lab, subprocess.DEVNULL):
            yield "it goes to syslog, which the watch can't follow"


@pytest.mark.parametrize("kind", [pipe, fifo, link_to_devnull, syslog])
def test_what_can_not_be_followed_is_said_by_lint_by_plan_and_in_the_headline(any_nginx, kind):
    with Lab(any_nginx, QUIET) as lab, kind(lab) as said, crowd(lab.place.public, rate=10):
        lint, plan = upswitch(lab, "lint"), upswitch(lab, "plan", "--to", "B")
        assert [said in str(each.json) for each in (lint, plan)] == [True, True], (lint, plan)
        assert "log_unwatched" in str(lint.json)
        fail(lab)
        answer = upswitch(lab, "switch", "--to", "B")
        assert answer.json["watch"]["verdict"] != "passed", answer
        assert said in answer.json["said"], answer
        assert "NOT PROVEN BY TRAFFIC" in answer.json["said"] or answer.exit != 0, answer


def test_requests_of_our_own_that_are_answered_are_called_no_proof_where_no_log_shows_those_of_clients(any_nginx):
    with (
        Lab(any_nginx, Layout(site={"watch": {"duration": "2s"}})) as lab,
        link_to_devnull(lab) as said,
        crowd(lab.place.public, rate=10),
    ):
        answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (0, "keep"), answer
        headline = answer.json["said"]
        assert headline.startswith("SWITCHED, NOT PROVEN BY TRAFFIC: no requests in ")
        assert "beside those of upswitch: " in headline
        assert said in headline
        agree(lab, answer, "B")


def test_an_error_log_on_a_pipe_is_said_and_one_in_a_file_behind_stderr_is_read(any_nginx):
    with Lab(any_nginx, QUIET) as lab:
        conf, file = lab.folder / "nginx.conf", lab.folder / "err.log"
        conf.write_text(conf.read_text().replace(f"error_log {lab.error_log};", "error_log stderr;"))
        with file.open("ab") as stderr, running(lab, subprocess.DEVNULL, stderr):
            assert "error log" not in str(upswitch(lab, "plan", "--to", "B").json)
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
            with running(lab, subprocess.DEVNULL, reader.stdin):
                said = "can't follow nginx's error log (/dev/stderr: it is a pipe"
                assert said in str(upswitch(lab, "plan", "--to", "B").json)
                assert "error_log_unwatched" in str(upswitch(lab, "lint").json)
            reader.stdin.close()
        assert Path(lab.error_log).exists()

"""What the watch sees of the access logs that a real nginx writes, in each way that one can be told to write them."""

import os
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack, contextmanager

import pytest

from command import Command, upswitch
from frontend import frontend
from here import ports
from loglines import HOSTILE
from upswitch.logs import coverage
from upswitch.nginx import conf_logs
from upswitch.nginx.build import parse_build
from upswitch.nginx.conf_logs import access_logs
from upswitch.nginx.dump import parse_dump
from upswitch.site.model import Nginx
from upswitch.watch.attribution import Attribution, Counts, Mode
from upswitch.watch.history import Second
from upswitch.watch.logs import AccessLogs, Notes
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab
from upswitch_lab.process import free_port, until

FORMAT = (
    "log_format it '$msec $remote_addr $status $request_time "
    "$upstream_addr $upstream_status $upstream_header_time $request_completion $upswitch_generation';"
)
OURS = Attribution(generation="000042-B")
GET = b"GET / HTTP/1.0\r\n\r\n"


class Watched:
    """Logs that an nginx writes, and what the watch makes of them."""

    def __init__(self, front, logs) -> None:
        self.front = front
        self.logs = logs
        self.notes = Notes()
        self.access = AccessLogs(ports(Nginx(state=str(front.folder))), logs, OURS, self.notes)
        self.found = Counts()

    @property
    def path(self):
        return self.front.folder / "it.log"

    @property
    def codes(self):
        return {gap.code for log in coverage.distinct(self.logs) for gap in coverage.gaps(log)}

    def sees(self, count):
        """Exactly so many of the new pool's requests, as soon as they are there."""
        until(lambda: self.total() >= count, what=f"{count} requests")
        assert self.found.new.total == count

    def total(self):
        self.found += self.access.read()
        return self.found.new.total

    def reopen(self):
        """USR1; returns how many requests it took until nginx wrote to the new file."""
        os.kill(int((self.front.folder / "pid").read_text()), signal.SIGUSR1)
        sent = 0
        while not (self.path.exists() and self.path.stat().st_size):
            self.front.send(GET)
            sent += 1
        return sent


def logs_of(nginx, front):
    """As nginx itself prints its configuration."""
    argv = (nginx, "-T", "-q", "-p", str(front.folder), "-c", f"{front.folder}/nginx.conf", "-e", "stderr")
    dumped = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout
    build = parse_build(f"nginx version: nginx/1.22.1\nconfigure arguments: --prefix={front.folder}\n")
    return access_logs(parse_dump(dumped), build)


@contextmanager
def watched(nginx, folder, logs, server=""):
    """`logs` in http; each request is passed to a port where nobody listens: a 502."""
    dead = free_port("127.0.0.1")
    http = f"""
        map "" $upswitch_generation {{ default "000042-B"; }} large_client_header_buffers 8 16k; {FORMAT} {logs}
        upstream pool {{ server 127.0.0.1:{dead} max_fails=0; }}
        server {{ listen 127.0.0.1:PORT; {server} location / {{ proxy_pass http://pool; }} }}
    """
    with frontend(nginx, folder, http) as front:
        found = Watched(front, logs_of(nginx, front))
        yield found
        found.access.close()


PLAIN = "access_log FOLDER/it.log it;"


RAW = "log_format raw escape=none '$upstream_status $upswitch_generation $request_time $request_completion $msec $remote_addr';"
BRACED = (
    "log_format braced '${status} ${upswitch_generation} $upstream_status $request_time $request_completion $msec $remote_addr';"
)
SHORT = """log_format short escape=json '{"s":$status}';"""


@pytest.mark.parametrize(
    ("logs", "codes"),
    [
        (PLAIN, set()),
        ("access_log FOLDER/it.log it buffer=64k flush=300ms;", set()),
        (f"{BRACED} access_log FOLDER/it.log braced;", set()),
        (f"{SHORT} access_log FOLDER/it.log short;", {"log_limited", "log_lacks", "log_no_time"}),
        (f"{RAW} access_log FOLDER/it.log raw;", {"log_unescaped"}),
        ("access_log FOLDER/it.log;", {"log_limited", "log_lacks"}),
        ("access_log FOLDER/it.log it if=$request_method;", {"log_conditional"}),
        ("access_log syslog:server=127.0.0.1:9 it; access_log FOLDER/it.log it;", set()),
        ("access_log FOLDER/other.log; access_log FOLDER/it.log it; access_log FOLDER/$server_port.log it;", set()),
    ],
)
def test_every_request_is_counted_once_and_what_the_log_lacks_is_told(nginx, tmp_path, logs, codes):
    with watched(nginx, tmp_path, logs) as watch:
        watch.front.send(GET, *HOSTILE)
        watch.sees(1 + len(HOSTILE))
        assert watch.found.new == Second(total=6, gateway=6)
        assert watch.codes == codes
        assert watch.access.mode is (Mode.LIMITED if "log_limited" in codes else Mode.GENERATION)
        assert len(watch.notes.all) == len(codes)


@pytest.mark.parametrize(
    ("logs", "is_any", "code"),
    [
        ("access_log off;", False, "log_unwatched"),
        ("access_log syslog:server=127.0.0.1:9 it;", False, "log_unwatched"),
        ("access_log FOLDER/$server_port.log it;", False, "log_unwatched"),
        ("access_log FOLDER/it.log it gzip flush=100ms;", False, "log_unwatched"),
        ("access_log /dev/null it;", False, "log_unwatched"),
        ("log_format blind '$msec $request_uri'; access_log FOLDER/it.log blind;", False, "log_unwatched"),
        ("access_log FOLDER/it.log it buffer=64k;", True, "log_buffered"),
        ("access_log FOLDER/it.log it buffer=64k flush=5m;", True, "log_buffered"),
        ("map $uri $never { default 0; } access_log FOLDER/it.log it if=$never;", True, "log_conditional"),
    ],
)
def test_a_log_that_shows_nothing_is_told_and_nothing_is_counted(nginx, tmp_path, logs, is_any, code):
    with watched(nginx, tmp_path, logs) as watch:
        watch.front.send(GET, GET)
        assert watch.access.read() == Counts()
        assert (watch.access.is_any, watch.codes, watch.access.silent_after) == (is_any, {code}, 10.0 if is_any else 0.0)
        assert len(watch.notes.all) == 1


def test_lines_that_wait_in_a_buffer_are_waited_for_before_a_log_is_called_silent(nginx, tmp_path):
    with watched(nginx, tmp_path, "access_log FOLDER/it.log it buffer=64k flush=20s;") as watch:
        assert (watch.access.silent_after, watch.codes) == (30.0, {"log_late"})


def test_each_servers_own_log_is_followed_and_one_without_is_told(nginx, tmp_path):
    ports_of = [free_port("127.0.0.1") for _ in range(3)]
    logs = ("access_log FOLDER/one.log it;", "access_log FOLDER/two.log it; access_log FOLDER/one.log it;", "access_log off;")
    servers = "".join(
        f"server {{ listen 127.0.0.1:{port}; {log} location / {{ proxy_pass http://pool; }} }}"
        for port, log in zip(ports_of, logs, strict=True)
    )
    with watched(nginx, tmp_path, servers, server=PLAIN) as watch:
        watch.front.send(GET)
        for port in ports_of:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
                stream.sendall(GET)
                assert b"502" in stream.recv(1 << 16)
        watch.sees(3)  # the second server writes two logs, and counts once: the first server's log has all of its requests
        assert watch.codes == {"log_unwatched"}


def test_a_request_of_the_former_generation_or_of_no_upstream_is_not_the_new_pools(nginx, tmp_path):
    with watched(nginx, tmp_path, PLAIN, server="location = /own { return 503; }") as watch:
        watch.front.send(GET, b"GET /own HTTP/1.0\r\n\r\n", b"GET /a b 502 HTTP/9.9\r\n\r\n")
        with watch.path.open("ab") as other:
            other.write(b"1795262400.000 10.0.0.1 502 0.001 127.0.0.1:1 502 - OK 000041-A\nno line of this format\n")
        watch.sees(3)  # with the generation alone, nginx's own answers count as requests, and not as failures
        until(lambda: watch.total() >= 0 and watch.found.lines == 5, what="all lines")
        assert (watch.found.new, watch.found.former, watch.found.unread) == (
            Second(total=3, gateway=1),
            Second(total=1, gateway=1),
            1,
        )


def test_a_rename_before_nginx_reopens_its_log_loses_nothing(nginx, tmp_path):
    with watched(nginx, tmp_path, PLAIN) as watch:
        watch.front.send(GET)
        watch.path.rename(tmp_path / "it.log.1")
        watch.front.send(GET)
        watch.sees(2)
        watch.path.touch()
        watch.front.send(GET)
        watch.sees(3)
        sent = watch.reopen()
        watch.front.send(GET)
        watch.sees(4 + sent)


def test_copytruncate_is_followed(nginx, tmp_path):
    with watched(nginx, tmp_path, PLAIN) as watch:
        watch.front.send(GET, GET)
        watch.sees(2)
        shutil.copy(watch.path, tmp_path / "it.log.1")
        os.truncate(watch.path, 0)
        watch.front.send(GET)
        watch.sees(3)


def test_a_log_that_appears_later_is_read_from_its_start(nginx, tmp_path):
    with watched(nginx, tmp_path, PLAIN) as before:
        before.path.unlink()
        watch = Watched(before.front, before.logs)
        assert watch.access.history()[0].seconds == ()
        watch.front.send(GET)
        assert watch.access.read() == Counts()
        last = watch.reopen()
        watch.front.send(GET)
        until(lambda: watch.total() >= 2, what="the lines of the new log")
        assert watch.found.new.total <= last + 1
        watch.access.close()


def test_history_comes_from_the_log_and_the_one_before_it(nginx, tmp_path):
    (tmp_path / "it.log.1").write_bytes(
        b"".join(b"%d.000 10.0.0.1 502 0.001 127.0.0.1:1 502 - OK 000041-A\n" % at for at in range(1000, 1400))
    )
    (tmp_path / "it.log").write_bytes(
        b"".join(b"%d.000 10.0.0.1 200 0.001 127.0.0.1:1 200 - OK 000041-A\n" % at for at in range(1400, 1450))
    )
    with watched(nginx, tmp_path, PLAIN) as watch:
        found = watch.access.history()[0].seconds
        assert (len(found), sum(each.gateway for each in found), sum(each.total for each in found)) == (450, 400, 450)
        assert watch.notes.all == []


def test_a_short_history_is_told(nginx, tmp_path):
    with watched(nginx, tmp_path, PLAIN) as watch:
        watch.front.send(GET)
        until(lambda: watch.path.stat().st_size > 0, what="a line")
        assert len(watch.access.history()[0].seconds) == 1
        assert "only 1 s of history" in watch.notes.all[0]


@pytest.mark.parametrize("kind", ["folder", "link to a device", "no folder"])
def test_a_log_that_cannot_be_opened_is_told_and_the_others_are_followed(nginx, tmp_path, kind):
    with watched(nginx, tmp_path, "access_log FOLDER/bad.log it; access_log FOLDER/it.log it;") as watch:
        (tmp_path / "bad.log").unlink()
        match kind:
            case "folder":
                (tmp_path / "bad.log").mkdir()
            case "link to a device":
                (tmp_path / "bad.log").symlink_to("/dev/null")
            case "no folder":
                (tmp_path / "bad.log").symlink_to(tmp_path / "nginx.conf" / "bad.log")
        second = Watched(watch.front, watch.logs)
        second.front.send(GET)
        second.sees(1)
        assert "bad.log can't be followed" in second.notes.all[0]
        second.access.close()


def test_a_log_that_becomes_unreadable_is_told_once_and_the_watch_goes_on(nginx, tmp_path):
    with watched(nginx, tmp_path, PLAIN) as watch:
        watch.path.unlink()
        watch.path.mkdir()
        for _ in range(3):
            watch.access.read()
        assert [note for note in watch.notes.all if "any more" in note] == [
            f"{watch.path} can't be read any more: it is no regular file"
        ]


def test_a_log_that_grows_faster_than_it_can_be_read_is_told_and_the_other_one_is_still_read(one_nginx, tmp_path):
    """700 ms of each second are for reading, half of them for each log: a million lines are more than that."""
    other = f"server {{ listen 127.0.0.1:{free_port('127.0.0.1')}; access_log FOLDER/busy.log it; }}"
    with watched(one_nginx, tmp_path, other, server=PLAIN) as watch:
        block = b"1795262400.000 10.0.0.1 200 0.001 127.0.0.1:1 200 0.001 OK 000042-B\n" * 40_000
        with (tmp_path / "busy.log").open("ab") as busy:
            for _ in range(25):
                busy.write(block)
        with watch.path.open("ab") as other:
            other.write(block[: len(block) // 4000])
        found = watch.access.read()
        assert watch.access.is_behind
        assert watch.notes.all == [f"{tmp_path}/busy.log grows faster than upswitch can read it, so the numbers are late."]
        assert 0 < found.new.total < 25 * 40_000
        rest = 0
        while watch.access.is_behind:
            rest += watch.access.read().new.total
        assert found.new.total + rest == 25 * 40_000 + 10


def test_a_retry_that_healed_is_counted_for_the_diagnosis_once_the_error_log_has_lines(nginx, tmp_path):
    with watched(nginx, tmp_path, PLAIN) as watch:
        healed = b"1795262400.000 10.0.0.1 200 0.001 127.0.0.1:1, 127.0.0.1:2 502, 200 -, 0.001 OK 000042-B\n"
        for watch.access.has_errors, requests in ((False, 0), (True, 1)):
            with watch.path.open("ab") as log:
                log.write(healed)
            until(lambda: watch.access.read().new.total, what="the line")
            assert watch.access.failing.requests == requests


# ---- a blind watch, end to end ----

UNSEEN = "without flush, so on a quiet site the watch sees nothing"
ENDINGS = {"keep": (0, "SWITCHED"), "rollback": (4, "ROLLED_BACK"), "hold": (7, "HELD")}


def buffer_log(lab):
    """Its lines wait in memory until there are 64 KiB of them."""
    conf = lab.folder / "nginx.conf"
    line = f"access.log {conf_logs.LOG_FORMAT_NAME}"
    conf.write_text(conf.read_text().replace(f"{line};", f"{line} buffer=64k;"))
    lab.reload()


def test_a_log_that_stays_silent_while_nginx_answers_us_makes_a_blind_watch_and_on_silence_decides(one_nginx):
    layouts = {policy: Layout(servers_per_pool=1, site={"watch": {"duration": "12s", "on_silence": policy}}) for policy in ENDINGS}
    with ExitStack() as labs_up:
        labs = {policy: labs_up.enter_context(Lab(one_nginx, layout)) for policy, layout in layouts.items()}
        for lab in labs.values():
            buffer_log(lab)
        assert "log_buffered" in [each["code"] for each in upswitch(labs["keep"], "lint").json["findings"]]
        assert UNSEEN in str(upswitch(labs["keep"], "plan", "--to", "B").json["notes"])
        commands = {policy: Command(lab, "switch", "--to", "B") for policy, lab in labs.items()}
        for policy, command in commands.items():
            answer = command.end()
            assert (answer.exit, answer.json["outcome"]) == ENDINGS[policy], answer
            assert answer.json["watch"]["verdict"] == "blind"
            assert answer.json["said"].startswith("SWITCHED, NOT PROVEN BY TRAFFIC: ") is (policy == "keep")
            assert UNSEEN in answer.err.partition("swap")[0]
            assert "no request in the log for" in answer.err

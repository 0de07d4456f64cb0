"""Files as people give them to `diagnose`: packed, rotated, of either kind, with the nginx.conf that they were written with."""

import gzip
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onlogs import diagnose

JOURNALD = "/usr/lib/systemd/systemd-journald"
COMBINED = '203.0.113.7 - - [20/Nov/2026:10:00:{:02} +0000] "GET / HTTP/1.1" {} 157 "-" "curl/8"\n'
CONF = """
http {
  log_format site '$remote_addr "$request" $status "$upstream_addr"';
  upstream app { server 10.1.0.5:8080; server 10.1.0.6:8080; check interval=3000 rise=2 fall=5 timeout=1000; }
  server {
    listen 80;
    location / { proxy_pass http://app; }
    location /x { proxy_pass http://127.0.0.1:3000; }
  }
}
"""


def failure(second: int, cause: str, server: str) -> str:
    return (
        f"2026/11/20 10:00:{second:02} [error] 8#8: *1 {cause} while connecting to upstream, client: 203.0.113.7, server: x, "
        f'request: "GET / HTTP/1.1", upstream: "http://{server}/", host: "x"\n'
    )


REFUSED = failure(1, "connect() failed (111: Connection refused)", "127.0.0.1:3000")
NO_LIVE = failure(3, "no live upstreams", "app")


def found(*words: str, folder: Path) -> dict[str, dict]:
    return {each["code"]: each for each in diagnose(*words, "--json", folder=folder).json["findings"]}


@pytest.mark.parametrize(("name", "pack"), [("e.log.gz", gzip.compress), ("e.log.xz", lzma.compress)])
def test_a_packed_log_is_read_and_a_damaged_one_as_far_as_it_goes(tmp_path, name, pack):
    packed = pack((REFUSED * 50_000).encode())
    (tmp_path / name).write_bytes(packed)
    assert found(name, folder=tmp_path)["connect_refused"]["count"] == 50_000

    (tmp_path / name).write_bytes(packed[: len(packed) // 2])
    answer = diagnose(name, folder=tmp_path)
    assert "connect_refused" in answer.out
    assert "is cut off or damaged" in answer.out


def test_a_log_packed_with_zstd_is_refused_with_the_way_to_read_it(tmp_path):
    (tmp_path / "e.log.zst").write_bytes(b"\x28\xb5\x2f\xfd rest")
    answer = diagnose("e.log.zst", folder=tmp_path)

    assert answer.exit == 2
    assert "e.log.zst: zstd can't be read here: unpack it with `zstd -d`" in answer.out


def test_a_rotated_set_is_read_from_its_oldest_file_on_in_any_order(tmp_path):
    (tmp_path / "error.log.1").write_text(REFUSED)
    (tmp_path / "error.log").write_text(NO_LIVE)
    for names in (("error.log", "error.log.1"), ("error.log.1", "error.log")):
        assert found(*names, folder=tmp_path)["no_live_all_down"]["consequence_of"] == "connect_refused"


def test_what_a_file_holds_decides_how_it_is_read(tmp_path):
    (tmp_path / "a").write_text(COMBINED.format(1, 502) + COMBINED.format(2, 200))
    (tmp_path / "e").write_text(REFUSED)
    (tmp_path / "both").write_text(REFUSED + COMBINED.format(1, 502) + "Configuration complete; ready for start up\n")
    for words in (("a", "e"), ("--error-log", "a", "--access-log", "e"), ("both",), ("--access-log", "both")):
        answer = diagnose(*words, "--json", folder=tmp_path).json
        assert [(each["code"], each["clients"]) for each in answer["findings"]] == [("connect_refused", 1)], words
        assert answer["unread"] == ("both" in words)


def test_error_lines_that_come_late_in_an_access_log_are_read_too(tmp_path):
    (tmp_path / "both").write_text(COMBINED.format(1, 200) * 5000 + REFUSED + COMBINED.format(1, 502))
    assert found("both", folder=tmp_path)["connect_refused"]["clients"] == 1


def test_requests_that_a_client_forged_into_an_error_log_do_not_count_beside_an_access_log(tmp_path):
    (tmp_path / "e").write_text(REFUSED + COMBINED.format(1, 200) * 3)
    (tmp_path / "a").write_text(COMBINED.format(1, 502))
    answer = diagnose("--error-log", "e", "--access-log", "a", "--json", folder=tmp_path).json

    assert [(each["code"], each["clients"]) for each in answer["findings"]] == [("connect_refused", 1)]
    assert answer["unread"] == 3


def test_both_kinds_of_lines_are_read_from_a_pipe(tmp_path):
    answer = diagnose("-", "--json", folder=tmp_path, stdin=(REFUSED + COMBINED.format(1, 502)).encode())
    assert [(each["code"], each["clients"]) for each in answer.json["findings"]] == [("connect_refused", 1)]


def test_the_first_part_of_a_format_that_does_not_fit_is_named_with_its_line(tmp_path):
    (tmp_path / "a").write_text("Configuration complete\n" + COMBINED.format(1, 502))
    text = '$remote_addr - $remote_user [$time_local] "$request" $request_time $status'
    answer = diagnose("a", "--log-format", text, folder=tmp_path)

    assert answer.exit == 2
    assert "in line 2 it wants $request_time and then ' ' where there is: 502" in answer.out


def test_an_nginx_conf_knows_formats_checks_and_the_place_behind_a_cause(tmp_path):
    (tmp_path / "nginx.conf").write_text(CONF)
    (tmp_path / "e").write_text(REFUSED)
    (tmp_path / "late").write_text(NO_LIVE)
    (tmp_path / "a").write_text('203.0.113.7 "GET / HTTP/1.1" 502 "127.0.0.1:3000"\n')

    answer = diagnose("e", "a", "--nginx-conf", "nginx.conf", folder=tmp_path)
    assert "a is read as the log_format site" in answer.out
    assert "nginx.conf:8: proxy_pass http://127.0.0.1:3000" in answer.out
    assert "health_check_not_yet_up" in found("late", "--nginx-conf", "nginx.conf", folder=tmp_path)
    assert "no_live_all_down" in found("late", folder=tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--nginx-conf", "nginx.conf"), "--nginx-conf explains log files: name them"),
        (("e", "--nginx-conf", "gone.conf"), "gone.conf can't be read as an nginx configuration"),
        (("e", "--nginx-conf", "e"), "e can't be read as an nginx configuration"),
        (("nginx.conf",), "nginx.conf is of no log_format that we know"),
        (("-", "--error-log", "-"), "stdin can be only one of the logs"),
    ],
)
def test_what_cannot_be_read_is_refused_with_one_clear_error(tmp_path, words, said):
    (tmp_path / "nginx.conf").write_text(CONF)
    (tmp_path / "e").write_text(REFUSED)
    answer = diagnose(*words, folder=tmp_path)

    assert answer.exit == 2
    assert said in answer.out + answer.err


JOURNAL = """
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/log/journal || exit 77
"$1" & journald=$!
until [ -S /run/systemd/journal/stdout ]; do kill -0 $journald || exit 77; done
printf '%s' "$2" | systemd-cat -t nginx
until journalctl -q -t nginx | grep -q refused; do :; done
"$3" -c "$4"
kill $journald
"""
READ = """
import time
from upswitch.basics.errors import HostError
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.logs.since import EVER, ErrorTimes
from upswitch.logs.source import JournalSource
host, since = LocalHost(SystemClock()), int(time.time()) - 600
print(b"".join(JournalSource(host, "nginx", since=since).blocks(ErrorTimes(EVER))).decode(), end="")
try:
    next(JournalSource(host, "nobody", since=since).blocks(ErrorTimes(EVER)))
except HostError as exc:
    print(exc.what, exc.reason)
"""


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare, for a journal of its own")
@pytest.mark.skipif(not Path(JOURNALD).exists(), reason=f"no {JOURNALD}")
def test_lines_are_read_from_the_systemd_journal_and_it_is_said_where_it_has_none():
    argv = ("unshare", "-m", "--propagation", "private", "timeout", "60", "sh", "-c", JOURNAL, "sh", JOURNALD, REFUSED)
    ran = subprocess.run((*argv, sys.executable, READ), check=False, capture_output=True, text=True)
    if ran.returncode == 77:
        pytest.skip("no journal can be started here")

    assert REFUSED in ran.stdout, ran
    assert "read journalctl -t nobody it has no lines of this time" in ran.stdout

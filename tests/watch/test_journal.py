"""An nginx that a real systemd runs, with its access log sent to syslog: only the journal has it."""

import sys
import urllib.request
from pathlib import Path

from booted import boot, needs_systemd
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.logs import coverage
from upswitch.logs.line import compile_format
from upswitch.logs.source import last_minutes
from upswitch.nginx.conf_logs import AccessLog, LogFormat
from upswitch.nginx.log_target import found
from upswitch_lab.process import free_port, is_listening, until

SYSLOG = "syslog:server=unix:/run/systemd/journal/dev-log,nohostname"
FORMAT = "$msec $status $upstream_addr"
CONF = """
daemon off; pid FOLDER/pid; error_log stderr; events {} http {
    log_format timed '$msec $status $upstream_addr'; access_log SYSLOG timed;
    server { listen 127.0.0.1:PORT; location / { return 204; } }
}
"""
UNITS = {
    "default.target": "[Unit]\nDefaultDependencies=no\nWants=systemd-journald.service web.service driver.service\n",
    "web.service": "[Unit]\nDefaultDependencies=no\nAfter=systemd-journald.service\n[Service]\nExecStart=NGINX\n",
    "driver.service": "[Unit]\nDefaultDependencies=no\nAfter=systemd-journald.service\n[Service]\nExecStart=DRIVER\n"
    "ExecStopPost=systemctl --force exit\nStandardError=file:ERRORS\n",
}


def seen(port: int, folder: str) -> dict[str, object]:
    """Run inside: what the host says of the log, its history, and what comes after."""
    host = LocalHost(SystemClock())
    until(lambda: is_listening(f"127.0.0.1:{port}"), what="nginx")
    until(Path("/run/systemd/journal/dev-log").exists, what="journald")
    urllib.request.urlopen(f"http://127.0.0.1:{port}/before")
    master = int(Path(folder, "pid").read_text())
    log = AccessLog(path=SYSLOG, format_name="timed", format=LogFormat(name="timed", text=FORMAT))
    (followed,) = found(host, (log,), (), master=master).access
    assert coverage.can_follow(followed)
    path = followed.followed
    history = b""

    def has_history() -> bool:
        nonlocal history
        history = b"".join(last_minutes(LocalHost(SystemClock()), path, compile_format(FORMAT, "default")))
        return b" 204 " in history

    until(has_history, what="the line of before in the journal")
    follower, came = host.follow(path), bytearray()

    def has_come() -> bool:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/after")
        came.extend(follower.read())
        return came.count(b" 204 ") > 1

    until(has_come, what="the lines of after")
    follower.close()
    return {"path": path, "history": history.decode(), "came": came.decode()}


@needs_systemd
def test_the_watch_reads_what_only_the_journal_has(tmp_path, one_nginx):
    port, out = free_port("127.0.0.1"), tmp_path / "out"
    (tmp_path / "nginx.conf").write_text(CONF.replace("FOLDER", f"{tmp_path}").replace("PORT", f"{port}").replace("SYSLOG", SYSLOG))
    (tmp_path / "driver.py").write_text(
        f"import json, sys\nsys.path[:0] = {[str(Path(__file__).parent), *filter(None, sys.path)]!r}\n"
        f"import test_journal\njson.dump(test_journal.seen({port}, {str(tmp_path)!r}), open({str(out)!r}, 'w'))\n"
    )
    words = {
        "NGINX": f"{one_nginx} -p {tmp_path} -c {tmp_path}/nginx.conf -e stderr",
        "DRIVER": f"{sys.executable} {tmp_path}/driver.py",
        "ERRORS": f"{tmp_path}/errors",
    }
    told = boot(tmp_path, UNITS, words)
    assert told["path"] == "journal:nginx"
    assert told["history"].count(" 204 ") == 1
    assert told["came"].count(" 204 ") > 1

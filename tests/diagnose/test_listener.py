"""The process behind a failing address: on this machine's /proc, and under a real systemd with its journal and a real OOM kill."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from booted import boot, needs_systemd
from upswitch.diagnose import listener
from upswitch.diagnose.listener import Failing, command
from upswitch.hosts import sh
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch_lab.process import free_port, until

APP = """
import http.server, socketserver, sys, os
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("ERROR job \\x1b[31mfailed for redis://user:hunter2@cache/0", flush=True)
        full = bytearray(1 << 30) if self.path == "/hog" else b""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"%d" % os.getpid())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
"""


def heard(*failing, pid=0):
    return listener.look(LocalHost(SystemClock()), failing, pid=pid)


def started(folder, *words):
    script = folder / "app.py"
    script.write_text(APP)
    return subprocess.Popen([sys.executable, f"{script}", *words])


def answers(port):
    with socket.socket() as stream:
        return stream.connect_ex(("127.0.0.1", port)) == 0


def test_the_program_is_named_without_its_secret_and_told_as_restarted_if_it_began_after_the_failures(tmp_path):
    port = free_port("127.0.0.1")
    app = started(tmp_path, f"{port}", "--token=hunter2")
    try:
        until(lambda: answers(port), what="the app")
        before, after = Failing(server=f"127.0.0.1:{port}", first="1000000000.000"), Failing(server=f"127.0.0.1:{port}")
        ((old,), _), ((new,), _) = heard(before), heard(after)
        assert heard(before, pid=os.getpid()) == heard(before)
    finally:
        app.kill()
        app.wait()

    assert (old.pid, old.is_restarted, new.is_restarted) == (app.pid, True, False)
    assert old.program == f"{sys.executable} {tmp_path}/app.py"
    assert re.search("It was restarted at .*, after the failures began", "".join(old.said))
    assert "from before the failures" in "".join(new.said)
    assert "hunter2" not in f"{old}"


def test_workers_that_share_a_socket_are_told_by_their_master(tmp_path):
    path = f"{tmp_path}/a socket"
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(path)
        stream.listen()
        worker = subprocess.Popen(["sleep", "60"], pass_fds=[stream.fileno()])
        try:
            ((found,), _) = heard(Failing(server=f"unix:{path}"))
        finally:
            worker.kill()
            worker.wait()

    assert found.pid == os.getpid()
    assert "and 1 more process of it" in found.said[0]


def test_nobody_listens_is_said_of_this_machine_and_of_no_other():
    here, there = f"127.0.0.1:{free_port('127.0.0.1')}", "203.0.113.9:80"
    found, _ = heard(Failing(server=here), Failing(server=there), Failing(server=f"[::1]:{free_port('127.0.0.1')}"))

    assert [each.pid for each in found] == [0, 0]
    assert found[0].said[0] == f"No program of this machine listens at {here} now."
    assert listener.listeners(b"", (Failing(server=here),)) == ((), ())


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv, for another user")
def test_what_a_user_without_rights_may_not_see_is_said():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        failing = (Failing(server=f"127.0.0.1:{port}"),)
        argv = sh.argv("upswitch.diagnose", "listener.sh", "", f"{port:04X}", "now", "now")
        user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        ran = subprocess.run([*user, *argv], check=True, capture_output=True)
    ((found,), notes) = listener.listeners(ran.stdout, failing)

    assert (found.pid, ran.stderr) == (0, b"")
    assert "may not see which: run this as root." in found.said[0]
    assert all("can't read the kernel's log" in each and "ermi" in each for each in notes), notes


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            ["/srv/venv/bin/python3.11", "/srv/venv/bin/gunicorn", "app:app", "--env", "KEY=1"],
            "/srv/venv/bin/python3.11 /srv/venv/bin/gunicorn",
        ),
        (["python", "-m", "uvicorn", "app:app"], "python -m uvicorn"),
        (["node", "--max-old-space-size=99", "server.js", "s3cret"], "node server.js"),
        (["java", "-Dpassword=x", "-jar", "/opt/app.jar"], "java /opt/app.jar"),
        (["/opt/api", "--password", "x"], "/opt/api"),
        (["gunicorn: master [app]"], "gunicorn: master [app]"),
        (["node /srv/a.js --token x"], "node /srv/a.js"),
        (["worker redis://u:p@h/0"], "worker"),
        (["node", "s3cret"], "node"),
    ],
)
def test_of_a_command_only_the_program_and_its_script_are_shown(words, shown):
    assert command(words) == shown


# ---- under systemd ----

UNITS = {
    "default.target": "[Unit]\nDefaultDependencies=no\nWants=systemd-journald.service app.service broken.service driver.service\n",
    "app.service": "[Unit]\nDefaultDependencies=no\nAfter=systemd-journald.service\n[Service]\nExecStart=APP\nRestart=always\n"
    "RestartSec=0\nOOMScoreAdjust=1000\nMemoryAccounting=no\n",
    "broken.service": "[Unit]\nDefaultDependencies=no\nAfter=systemd-journald.service\n[Service]\nExecStart=/bin/false\n",
    "driver.service": "[Unit]\nDefaultDependencies=no\nAfter=systemd-journald.service\n[Service]\nExecStart=DRIVER\n"
    "ExecStopPost=systemctl --force exit\nStandardError=file:ERRORS\n",
}
DRIVER = """
import http.client, json, sys, time
sys.path[:0] = sys.argv[1].split(":")
import test_listener as test
from msgspec import to_builtins
port, dead = int(sys.argv[2]), int(sys.argv[3])
def ask(path):
    stream = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    stream.request("GET", path)
    return int(stream.getresponse().read())
def is_new():
    try:
        return ask("/") != old
    except OSError:
        return False
test.until(lambda: test.answers(port), what="the app")
old, first = ask("/"), f"{time.time():.3f}"
before = int(time.time())
test.until(lambda: time.time() > before + 2, what="a later second")
try:
    ask("/hog")
except (OSError, http.client.HTTPException):
    pass
test.until(is_new, what="the app again")
failing = (test.Failing(server=f"127.0.0.1:{port}", first=first), test.Failing(server=f"127.0.0.1:{dead}", first=first))
found, notes = test.heard(*failing)
json.dump([to_builtins(found), notes], open(sys.argv[4], "w"))
"""


@needs_systemd
def test_systemd_its_journal_and_the_kernel_say_what_happened_to_the_process(tmp_path):
    ports, out = (free_port("127.0.0.1"), free_port("127.0.0.1")), tmp_path / "out"
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "driver.py").write_text(DRIVER)
    paths = ":".join(each for each in sys.path if each)
    words = {
        "APP": f"{sys.executable} {tmp_path}/app.py {ports[0]} --token=hunter2",
        "DRIVER": f"{sys.executable} {tmp_path}/driver.py {Path(__file__).parent}:{paths} {ports[0]} {ports[1]} {out}",
        "ERRORS": f"{tmp_path}/errors",
    }
    (app, dead), notes = boot(tmp_path, UNITS, words)
    said = "\n".join(app["said"])
    assert (app["unit"], app["is_restarted"], notes) == ("app.service", True, [])
    assert "systemd calls app.service active (running) and has restarted it 1 time." in said
    assert re.search(r"The kernel killed process \d+ \(python[\d.]*\) at .* for lack of memory", said), said
    assert any("Main process exited" in each for each in app["journal"]), app
    assert any("redis://...@cache" in each and "\\x1b[31m" in each for each in app["journal"]), app
    assert "hunter2" not in json.dumps(app)
    assert app["next"].startswith("journalctl -u app.service --no-pager --since ")
    assert dead["said"][0] == f"No program of this machine listens at 127.0.0.1:{ports[1]} now."
    assert dead["said"][1:3] == ["systemd calls broken.service failed (failed).", "Its last run ended with exit-code, status 1."]

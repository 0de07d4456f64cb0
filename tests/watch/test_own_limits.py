"""A limit of our own (open files, ports, memory) is no fact about servers or nginx."""

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from command import on_disk, running
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab

WATCHED = Layout(site={"watch": {"duration": "2s"}})
WITHOUT_FILES = """
import os, resource, sys
from upswitch.basics.errors import HostError
from upswitch.health.prober import NetProber
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.host import Asking
from upswitch.hosts.local.host import LocalHost
from upswitch.nginx.running import ask_marker
from upswitch.site.model import CheckType, GateRule, Nginx, Target
from upswitch.watch.through import ThroughProbe
host = LocalHost(SystemClock())
through = ThroughProbe(Asking(url="http://127.0.0.1:9/"), host)
RULE = GateRule(type=CheckType.TCP, rise=1, fall=1, default_down=True, timeout=0.2, interval=1.0, deadline=1.0,
    port=0, http_send="", http_expect_alive=(), expect_body="")
prober = NetProber(host, SystemClock())
kept = os.open("/dev/null", os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (kept + 1, kept + 1))
def said(act):
    try:
        return act()
    except HostError as exc:
        return exc
print(host.run(("true",), deadline=5).exit)
print(said(through.ask))
print(said(lambda: ask_marker(host, Nginx(user="", marker="127.0.0.1:9"))))
print(prober.probe(Target(upstream="api", server="x", address="127.0.0.1:9", rule=RULE)).is_unknown)
"""


def test_nothing_that_we_could_not_even_ask_counts_as_an_answer():
    ran = subprocess.run((sys.executable, "-c", WITHOUT_FILES), capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    run, through, marker, probe = ran.stdout.splitlines()
    assert (run, probe) == ("None", "True")
    assert "Too many open files" in through
    assert "Too many open files" in marker


class Many(ThreadingHTTPServer):
    request_queue_size = 256


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        return


def test_a_healthy_release_of_many_servers_is_switched_to_with_few_open_files(one_nginx):
    with Lab(one_nginx, WATCHED) as lab, Many(("0.0.0.0", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers = json.dumps([f"127.0.{1 + at // 100}.{1 + at % 100}:{server.server_port}" for at in range(200)])
        lab.site_file.write_text(re.sub(r"(?m)^B = .*", f"B = {servers}", lab.site_file.read_text()))
        words = (sys.executable, "-m", "upswitch", "switch", "--to", "B", "-c", f"{lab.site_file}")
        argv = ("sh", "-c", 'ulimit -n 60; exec "$@"', "sh", *words)
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)
        server.shutdown()
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert running(lab) == on_disk(lab) == "000002-B"

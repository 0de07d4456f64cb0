"""`upswitch metrics`: what Prometheus reads, checked by its own promtool."""

import json
import re
import shutil
import subprocess

import pytest

from command import upswitch
from forked import run_upswitch
from sources import ROOT
from upswitch.basics.errors import HostError
from upswitch.cli.views import fleet
from upswitch.cli.views.metrics import HELP, HostMetrics, Sample, metrics, outcomes
from upswitch_lab.lab import Lab

LAB = ROOT / ".lab" / "debian" / "usr" / "bin" / "promtool"
PROMTOOL = str(LAB) if LAB.exists() else shutil.which("promtool")
MONITORING = ROOT / "docs" / "monitoring"

needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="no promtool here: run scripts/setup")


def promtool(*words, text=""):
    ran = subprocess.run([PROMTOOL, *words], input=text, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout + ran.stderr if "metrics" in words else "") == (0, ""), ran


def values(body):
    return {key: float(value) for key, value in re.findall(r"^(upswitch\S+) (\S+)$", body, re.MULTILINE)}


def test_a_host_that_is_out_of_reach_is_down_and_the_others_keep_their_values():
    up = HostMetrics(command="metrics", exit=0, samples=(Sample("upswitch_generation", 12.0), *outcomes("HELD")))
    down = fleet.unreachable("sites", HostError("connect", "no route"))
    view = metrics([("shop", fleet.together("sites", {"lb1": up, "lb2": down})), ("blog", up)])
    assert view.exit == 3
    found = values(view.body)
    assert found['upswitch_up{site="shop",host="lb1"}'] == 1
    assert found['upswitch_up{site="shop",host="lb2"}'] == 0
    assert found['upswitch_generation{site="blog"}'] == 12
    assert found['upswitch_last_run_outcome{site="blog",outcome="held"}'] == 1
    assert sum(value for key, value in found.items() if "outcome" in key and "blog" in key) == 1


@needs_promtool
def test_a_label_with_hostile_characters_is_one_label():
    hostile = HostMetrics(command="metrics", exit=0, samples=(Sample("upswitch_live_pool", 1.0, {"pool": 'a"} 7\n\\'}),))
    promtool("check", "metrics", text=f"{metrics([('x', hostile)]).body}")


@needs_promtool
def test_the_metrics_of_a_real_site_are_written_whole_and_promtool_takes_them(lab: Lab):
    assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
    file = lab.folder / "upswitch.prom"
    ran = run_upswitch(["metrics", "-c", str(lab.site_file), "--output", str(file)])
    assert ran.returncode == 0, ran
    body = file.read_text()
    promtool("check", "metrics", text=body)
    found = {re.sub(r'site="[^"]*",?', "", key).replace("{}", ""): value for key, value in values(body).items()}
    assert found["upswitch_up"] == found["upswitch_proved"] == 1
    assert (found['upswitch_live_pool{pool="B"}'], found['upswitch_live_pool{pool="A"}']) == (1, 0)
    assert (found["upswitch_run_unfinished"], found["upswitch_deadman_armed"]) == (0, 0)
    assert found['upswitch_last_run_outcome{outcome="switched"}'] == 1
    assert found["upswitch_last_run_duration_seconds"] > 0
    assert file.stat().st_mode & 0o777 == 0o644
    wrong = run_upswitch(["metrics", "-c", str(lab.site_file), "--output", "/nowhere/x.prom"])
    assert (wrong.returncode, b"/nowhere/x.prom" in wrong.stderr) == (2, True)


@needs_promtool
def test_promtool_takes_the_alert_rules():
    promtool("check", "rules", str(MONITORING / "alerts.yml"))


def test_rules_dashboard_and_page_name_only_metrics_that_there_are():
    used = {path.name: set(re.findall(r"upswitch_[a-z_]+", path.read_text())) for path in MONITORING.iterdir()}
    assert {name: names - HELP.keys() for name, names in used.items()} == {name: set() for name in used}
    assert HELP.keys() <= {*re.findall(r"`(upswitch_[a-z_]+)`", (ROOT / "docs" / "monitoring.md").read_text())}
    panels = json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]
    assert all(panel["targets"] for panel in panels)

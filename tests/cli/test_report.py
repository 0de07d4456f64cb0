"""`upswitch report` and `history --html`: of real runs, of any ending, for people, programs and merge requests."""

import os
import re

import pytest
from msgspec.structs import replace

from command import Command, upswitch
from forked import run_upswitch
from jsonpage import documented
from reportparts import record, run, view
from upswitch.cli.views import report as views
from upswitch.cli.views.report import Format
from upswitch.nginx import conf_logs
from upswitch_lab.conf import Layout
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab

HOSTILE = "@everyone | <b>x</b> `y` [z](http://evil.example) ![](x) # *w* www.evil.example\\"


def markdown(**changes: object) -> str:
    return replace(view(form=Format.MARKDOWN), **changes).text


def test_the_text_has_all_that_the_page_has_but_the_plots():
    said = replace(view(run(), record(failed=50))).text
    for words in ("SWITCHED to B", "Who:     ada", "Reason:  release 7", "watch        ok", "yes Did at least", "9 x refused at"):
        assert words in said
    assert "+    server 10.0.0.2:80;" in said


def test_markdown_of_what_others_wrote_stays_text():
    made = run(reason=HOSTILE)
    said = markdown(run=replace(made, closed=replace(made.closed, said=HOSTILE)))
    row = next(line for line in said.splitlines() if line.startswith("| Reason |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert "<b>" not in said
    assert not re.search(r"@everyone|(?<!\\)\[z|http://|www\.|(?<!\\)`", row)


def test_a_diff_cannot_end_the_block_that_it_stands_in():
    said = markdown(record=record(diff="--- a/x.conf\n+++ b/x.conf\n+```\n+</details>\n"))
    fence = re.search(r"^(`+)diff$", said, re.MULTILINE)[1]
    assert fence == "````"
    assert said.count(fence) == 2


def test_several_hosts_are_one_markdown_document_and_separate_texts():
    hosts = {"lb1": view(form=Format.MARKDOWN), "lb2": view(form=Format.MARKDOWN)}
    assert re.findall(r"^### (\w+):", views.of_hosts(hosts), re.MULTILINE) == ["lb1", "lb2"]
    assert views.of_hosts({"lb1": view()}) == ""


@pytest.fixture(scope="module")
def lab():
    """With a switch under load, a refused one, a rollback, and one that was killed: generations 2, 4, 6 and 8."""
    with Lab(find_nginx()[0][1], Layout(site={"watch": {"duration": "2s"}, "gate": {"deadline": "1s"}})) as lab:
        with lab.load("--connections", "4", "--rate", "100"):
            assert upswitch(lab, "switch", "--to", "B", "--reason", "release 7").exit == 0
        lab.backend("A", 1).end()
        assert upswitch(lab, "switch", "--to", "A").exit == 3
        lab.backend("A", 1).restart()
        lab.backend("A", 1).await_listening()
        assert upswitch(lab, "rollback").exit == 0
        killed = Command(lab, "switch", "--to", "B")
        killed.wait_for("confirm ")
        assert upswitch(lab, "report").json["said"].startswith("UNDER WAY in the step ")
        killed.process.kill()
        killed.end()
        yield lab


def test_a_switch_under_load_is_reported_with_its_requests_and_its_proof(lab):
    found = upswitch(lab, "report", "2").json
    assert (found["run"]["outcome"], found["run"]["reason"]) == ("SWITCHED", "release 7")
    assert set(found) == documented("ReportView")
    assert "times in a row" in found["proof"][0]
    pools = {each["pool"]: sum(each["total"]) for each in found["seen"]["segments"]}
    assert pools["B"] > 100
    assert pools["A"] > 0
    assert {each["pool"] for each in found["seen"]["latency"]} >= {"B"}
    assert [each["state"] for line in found["gate"] for each in line["spans"]] == ["passed"] * 4
    assert "+    server" in found["diff"]
    assert (found["lacks"], len(found["seen"]["answers"])) == ([], 4)


def test_a_refused_switch_is_reported_with_the_server_that_failed(lab):
    found = upswitch(lab, "report", "4").json
    assert (found["run"]["outcome"], found["run"]["why"], found["seen"]) == ("REFUSED", "servers_down", None)
    assert {each["state"] for line in found["gate"] for each in line["spans"]} == {"passed", "failed"}
    assert "no plot of requests" in found["lacks"][0]


def test_a_rollback_is_reported_without_gate_and_watch(lab):
    found = upswitch(lab, "report", "000006-A").json
    assert (found["run"]["command"], found["run"]["outcome"], len(found["lacks"])) == ("rollback", "SWITCHED", 2)


def test_without_a_number_the_last_run_is_reported_though_it_was_killed(lab):
    found = upswitch(lab, "report").json
    assert found["run"]["outcome"] == "UNFINISHED"
    assert "upswitch repair" in found["said"]
    assert "was cut off" in found["lacks"][0]
    assert upswitch(lab, "report", found["run"]["run"]).json["run"] == found["run"]


@pytest.mark.parametrize("wanted", ["99", "x", "000002-A", "0", "²"])
def test_a_run_that_there_is_not_is_a_usage_error_that_names_the_last_ones(lab, wanted):
    answer = upswitch(lab, "report", wanted)
    assert (answer.exit, answer.json["outcome"]) == (2, "USAGE")
    assert "000008-B, 000006-A" in answer.json["said"]


def test_the_page_goes_into_a_file_or_to_stdout(lab, tmp_path):
    site = ("-c", f"{lab.site_file}")
    made = run_upswitch(["report", "2", "--html", f"{tmp_path}/run.html", *site])
    assert (made.returncode, f"The page is in {tmp_path}/run.html" in made.stdout.decode()) == (0, True)
    page = (tmp_path / "run.html").read_text()
    assert "release 7" in page
    assert run_upswitch(["report", "2", "--html", "-", *site]).stdout.decode().rstrip() == page.rstrip()
    assert run_upswitch(["history", "--html", "-", *site]).stdout.count(b"<tr>") == 5


@pytest.mark.parametrize("words", [("report", "--html", "/nowhere/x.html"), ("history", "--html", "/"), ("report", "--html", "-")])
def test_a_page_that_can_go_nowhere_is_a_usage_error(lab, words):
    assert upswitch(lab, *words).exit == 2


def test_the_first_report_of_a_site_without_a_run_says_so(lab, tmp_path):
    journal = lab.folder / "state" / "journal.jsonl"
    os.rename(journal, tmp_path / "journal")
    try:
        answer = upswitch(lab, "report")
    finally:
        os.rename(tmp_path / "journal", journal)
    assert answer.exit == 2
    assert "there is no run yet" in answer.json["said"]


@pytest.mark.parametrize(
    ("log", "pools"),
    [
        ("combined", {"all requests (LIMITED MODE)"}),
        (f"{conf_logs.LOG_FORMAT_NAME} buffer=64k", {"upswitch's own requests"}),
    ],
    ids=["limited", "blind"],
)
def test_where_the_log_cannot_tell_pools_apart_or_shows_nothing_the_plots_say_whose_requests_they_are(any_nginx, log, pools):
    with Lab(any_nginx, Layout(site={"watch": {"duration": "10s" if "buffer" in log else "2s"}})) as lab:
        conf = lab.folder / "nginx.conf"
        conf.write_text(conf.read_text().replace(f"access.log {conf_logs.LOG_FORMAT_NAME};", f"access.log {log};"))
        lab.renew()
        with lab.load("--connections", "2", "--rate", "5" if "buffer" in log else "100"):
            assert upswitch(lab, "switch", "--to", "B").exit == 0
        seen = upswitch(lab, "report").json["seen"]
        assert {each["pool"] for each in seen["segments"]} == pools
        assert min(each["begin_s"] for each in seen["segments"]) <= 0
        assert sum(sum(each["total"]) for each in seen["segments"]) > 10

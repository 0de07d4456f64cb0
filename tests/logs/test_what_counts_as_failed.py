"""What counts as a failed request stands in one place: whoever changes it there changes it everywhere."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import upswitch
from upswitch.logs.count_on_host import count_program
from upswitch.logs.entries import EntryCounter, by_second
from upswitch.logs.line import compile_format
from upswitch.watch.attribution import Attribution, counter_for, counts_of, judged
from upswitch.watch.history import Second

PROGRAM = r"""
import subprocess, sys
from upswitch.diagnose.count_access import AccessCounter
from upswitch.logs.count_on_host import count_program
from upswitch.logs.entries import EntryCounter, by_second
from upswitch.logs.line import compile_format
from upswitch.watch import rule
from upswitch.watch.attribution import Attribution
from upswitch.watch.attribution import counter_for, counts_of, judged
from upswitch.watch.rule import History, judge

left, late = sys.argv[1].encode(), sys.argv[2].encode()
reader, ours = compile_format("$msec $status $request_time $upstream_status $upstream_addr $upstream_header_time"), Attribution()
hung = b"1795000000.000 %s %s - a:1 -\n" % (left, late)
block = hung * 7 + hung.replace(left, b"499" if left != b"499" else b"460") * 2 + hung.replace(late, b"1.000") * 3
block += hung.replace(left, b"502").replace(b" - a:1", b" 502 a:1") * 4
program = count_program(reader)
rows = subprocess.run(["awk", "-v", f"n={len(block)}", "-v", "most=0", program.awk], input=block, capture_output=True, check=True)
lines, alike = program.rows(rows.stdout)
counted = counts_of(counter_for(ours, reader).count(block), ours).new
(moment,) = by_second(EntryCounter(reader, is_timed=True).count(block))[0].values()
failing = AccessCounter(reader)
failing.count(block)
print("by blocks", counted.hung)
print("line by line", sum(ours.classify(reader.read(line)).failure == "hung" for line in block.split(b"\n")[:-1]))
print("by awk", counts_of(counter_for(ours, reader).count(lines, alike), ours).new.hung)
print("by replay", judged(moment.items(), ours).new.hung)
print("by diagnose", sum(each.count for each in failing.found().counts if each.wrong == "left"))
print(rule.sentence(judge(History(), (counted, counted)), 2, "B"))
"""


@pytest.mark.skipif(not shutil.which("awk"), reason="no awk here")
@pytest.mark.parametrize(
    ("change", "left", "after_s", "hung"),
    [
        (("", ""), "499", 1, 10),
        (("CLIENT_LEFT = 499", "CLIENT_LEFT = 460"), "460", 1, 10),
        (("HUNG_S = 1\n", "HUNG_S = 2\n"), "499", 2, 7),
    ],
)
def test_another_status_or_time_of_a_hung_client_is_one_change(tmp_path, change, left, after_s, hung):
    shutil.copytree(Path(upswitch.__file__).parent, tmp_path / "upswitch", ignore=shutil.ignore_patterns("__pycache__"))
    place = tmp_path / "upswitch/logs/line.py"
    before, after = change
    text = place.read_text("utf-8")
    assert not before or text.count(before) == 1
    place.write_text(text.replace(before, after), "utf-8")
    ran = subprocess.run((sys.executable, "-c", PROGRAM, left, "2.500"), cwd=tmp_path, capture_output=True, text=True, check=True)
    *counts, sentence = ran.stdout.splitlines()
    assert counts == [f"{way} {hung}" for way in ("by blocks", "line by line", "by awk", "by replay", "by diagnose")]
    assert f"left after {after_s} s or more without an answer: {left}" in sentence


def every_way(log_format: str, block: bytes) -> list[Second]:
    """What a block comes to: by blocks, for the diagnosis, by awk, by replay, and line by line."""
    reader, ours = compile_format(log_format), Attribution()
    program = count_program(reader)
    rows = subprocess.run(
        ["awk", "-v", f"n={len(block)}", "-v", "most=0", program.awk], input=block, capture_output=True, check=True
    )
    lines, alike = program.rows(rows.stdout)
    (moment,) = by_second(EntryCounter(reader, is_timed=True).count(block))[0].values()
    counted = (
        counts_of(counter_for(ours, reader).count(block), ours),
        counts_of(counter_for(ours, reader, is_for_diagnosis=True).count(block), ours),
        counts_of(counter_for(ours, reader).count(lines, alike), ours),
        judged(moment.items(), ours),
        judged(((reader.read(line), 1) for line in block.splitlines()), ours),
    )
    return [each.new for each in counted]


PLAIN = "$msec $status $request_time $upstream_status $upstream_addr $upstream_header_time"


@pytest.mark.skipif(not shutil.which("awk"), reason="no awk here")
def test_errors_of_the_app_are_the_same_for_every_way_of_counting():
    answers = ("500 500", "501 501", "200 200", "404 404", "502 502", "502 500", "200 500, 200", "009 200")
    split = [each.split(" ", 1) for each in answers]
    block = "".join(f"1795000000.000 {status} 0.010 {answer} a:1 0.010\n" for status, answer in split).encode()
    for new in every_way(PLAIN, block):
        assert (new.app, new.gateway, new.total) == (4, 1, 8)
    reader = compile_format(PLAIN)
    entries = [(reader.read(line), 1) for line in block.splitlines()]
    assert judged(entries, Attribution(ignores_app=True)).new.failures == 1


@pytest.mark.skipif(not shutil.which("awk"), reason="no awk here")
@pytest.mark.parametrize(("variable", "client"), [("", ""), (' "$remote_addr"', ' "10.0.0.1"')])
def test_answers_that_clients_gave_up_are_the_same_for_every_way_of_counting(variable, client):
    given_up = ['200 1.500 200 0.010 ""', '200 25.000 200 0.010 ""', '499 2.000 200 0.010 ""', '404 1.000 404 0.010 ""']
    others = [
        '200 0.900 200 0.010 ""',
        '101 9.000 101 0.010 ""',
        '200 3.000 200 0.010 "OK"',
        '502 3.000 502 - ""',
        '499 2.000 - - ""',
    ]
    block = "".join(f"1795000000.000 {each} a:1{client}\n" for each in given_up * 3 + others).encode()
    times = '$msec $status $request_time $upstream_status $upstream_header_time "$request_completion" $upstream_addr'
    for new in every_way(times + variable, block):
        assert (new.given_up, new.gateway, new.hung, new.total) == (12, 1, 1, 17)

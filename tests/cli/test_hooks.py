"""Hooks, as real programs: good ones, and those that fail, hang, are killed, print without end, or close their input."""

import json
import os

import pytest

from command import agree, on_disk, upswitch
from inbox import inbox
from upswitch.basics.errors import RefusedError, StuckError
from upswitch.cli import hooks
from upswitch.cli.open import Wiring
from upswitch.cli.program import Program
from upswitch.cli.views.acted import ended
from upswitch.site.model import Gate, Nginx, Site, Watch
from upswitch.site.telling import Hooks

STUCK = ended("switch", StuckError("x" * 100_000, undone="no"), None)


def site(**given):
    return Site(nginx=Nginx(), upstreams=(), gate=Gate(), watch=Watch(), name="shop", hooks=Hooks(**given))


@pytest.fixture
def program(tmp_path):
    def made(text, mode=0o755):
        path = tmp_path / f"hook{len(list(tmp_path.iterdir()))}"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(mode)
        return (str(path),)

    return made


@pytest.mark.parametrize(
    ("text", "problem", "last"),
    [
        ("cat >/dev/null; echo done", "", "done"),
        ("echo no >&2; exit 3", "exit 3", "no"),
        ("exec 0<&-; exit 0", "", ""),
        ("kill -9 $$", "killed by signal 9", ""),
        ("sleep 60 & sleep 60", "no end within 0.5 s", ""),
        ("yes | head -c 10000000; echo end", "", "y / y / end"),
        ("while :; do echo y; done", "no end within 0.5 s", "y / y / "),
    ],
    ids=["good", "failing", "closing stdin", "killed", "hanging", "10 MB", "endless"],
)
def test_a_hook_ends_in_time_with_its_last_lines(program, text, problem, last):
    ran = hooks.run(program(text), b"x" * 100_000, 0.5 if "no end" in problem else 20)
    assert ran.problem == problem
    assert ran.last_lines.startswith(last)
    assert len(ran.output) <= 4096


def test_a_child_that_a_hook_leaves_behind_is_not_waited_for(program, tmp_path):
    ran = hooks.run(program(f"sleep 30 & echo $! >{tmp_path}/pid; echo left"), b"", 20)
    os.kill(int((tmp_path / "pid").read_text()), 9)
    assert (ran.problem, ran.last_lines) == ("", "left")


def test_a_hook_that_can_not_run_or_that_others_may_write_is_not_run(program):
    assert "Permission denied" in hooks.run(program("", mode=0o644), b"", 5).problem
    assert "No such file" in hooks.run(("/nowhere/hook",), b"", 5).problem
    assert "every user may write it" in hooks.run(program("touch ran", mode=0o777), b"", 5).problem


def test_before_switch_refuses_with_its_last_lines_and_only_a_switch(program, tmp_path):
    refusing = site(before_switch=program(f"cat >{tmp_path}/given; echo frozen until Monday; exit 1"))
    with pytest.raises(RefusedError) as caught:
        hooks.before(refusing, "switch", "B", "/nowhere")
    (refusal,) = caught.value.refusals
    assert refusal.why == "hook"
    assert refusal.what == "the hook before_switch refused the switch (exit 1): frozen until Monday"
    assert json.loads((tmp_path / "given").read_text()) == {"command": "switch", "site": "shop", "pool": "B"}
    hooks.before(refusing, "rollback", "B", "/nowhere")


def test_a_hook_after_a_result_gets_it_as_json_and_changes_nothing(program, tmp_path, capfd):
    failing = site(stuck=program(f"cat >{tmp_path}/given; echo no pager; exit 2"), held=program(f"touch {tmp_path}/held"))
    assert Program(Wiring())._told(failing, STUCK, as_json=False) == 5
    assert capfd.readouterr().out.endswith("  HOOK FAILED: stuck: exit 2: no pager\n")
    assert json.loads((tmp_path / "given").read_text())["outcome"] == "STUCK"
    assert not (tmp_path / "held").exists()
    assert Program(Wiring())._told(failing, STUCK, as_json=True) == 5
    assert json.loads(capfd.readouterr().out)["notices"] == ["HOOK FAILED: stuck: exit 2: no pager"]


def test_a_real_switch_is_refused_by_its_hook_then_done_and_both_are_notices(lab, program, tmp_path):
    check = program(f"test -e {tmp_path}/go || {{ echo frozen; exit 1; }}")
    done = program(f"cat >{tmp_path}/given")
    with inbox() as good:
        with lab.site_file.open("a") as file:
            file.write(f'\n[hooks]\nbefore_switch = ["{check[0]}"]\nafter_switch = ["{done[0]}"]\n')
            file.write(f'\n[[notify]]\nurl = "{good.url}"\ntemplate = "generic"\n')
        refused = upswitch(lab, "switch", "--to", "B", "--no-watch")
        assert (refused.exit, refused.json["why"], refused.json["notices"]) == (3, "hook", []), refused
        assert on_disk(lab).endswith("-A")
        (tmp_path / "go").touch()
        switched = upswitch(lab, "switch", "--to", "B", "--no-watch")
        agree(lab, switched, "B")
        assert switched.json["notices"] == []
        assert upswitch(lab, "status").exit in {0, 3}
    assert [json.loads(body)["outcome"] for body in good.bodies] == ["REFUSED", "SWITCHED"]
    assert json.loads((tmp_path / "given").read_text())["generation"] == on_disk(lab)
    assert "SECRET" not in refused.out + refused.err + switched.out + switched.err

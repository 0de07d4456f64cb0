"""The drain flag during real switches: no request is lost, and none is answered as it would not be without the flag."""

from contextlib import ExitStack

import pytest

from command import upswitch
from upswitch.nginx.drain_compare import advice
from upswitch.nginx.drain_lines import with_lines
from upswitch.nginx.dump import parse_dump
from upswitch_lab.conf import UPSTREAM, Layout
from upswitch_lab.lab import Lab, Load
from upswitch_lab.process import free_port, is_listening, until

OLD_LINES = "if (-f FLAG) { return 418; } error_page 418 = @d;"


def with_protected(lab, location, *others):
    """The laboratory's nginx with a second server that asks for a password; its address."""
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    (lab.folder / "passwords").touch()
    location = location.replace("FLAG", lab.place.drain_flag)
    server = f"server {{\nlisten {address} backlog=1024;\nlocation / {{\n{location}\n}}\n{' '.join(others)}\n}}\n"
    path = lab.folder / "nginx.conf"
    text = path.read_text().rstrip().removesuffix("}") + server + "}\n"
    needed = advice(parse_dump(f"# configuration file {path}:\n{text}\n"), lab.place.build, [UPSTREAM], flag=lab.place.drain_flag)
    path.write_text(with_lines(text, needed))
    lab.renew()
    until(lambda: is_listening(address), what="the second server")
    return address


@pytest.fixture
def lab(old_nginx):
    with Lab(old_nginx) as lab:
        yield lab


def password(lab):
    return f"auth_basic x;\nauth_basic_user_file {lab.folder}/passwords;\nproxy_pass http://{UPSTREAM};"


def test_under_load_no_switch_loses_a_request_or_serves_one_without_its_password(lab):
    address = with_protected(lab, password(lab))
    asking = Load(f"http://{address}/", lab.folder / "asking.jsonl", ("--connections", "16"))
    with ExitStack() as ending, lab.load("--connections", "16") as load:
        ending.callback(asking.end)
        asking.await_flowing()
        for pool in ("B", "A", "B"):
            answer = upswitch(lab, "switch", "--to", pool, "--no-watch")
            assert answer.exit == 0, answer
            assert "drain" in [step["step"] for step in answer.json["steps"]]
        asking.finish()
    assert (load.summary.lost, set(load.summary.status)) == (0, {"200"})
    assert (asking.summary.lost, set(asking.summary.status)) == (0, {"401"})


def test_the_flag_stays_down_where_a_location_would_answer_differently_and_plan_and_result_say_so(lab):
    drain = f"location @d {{ keepalive_timeout 0; proxy_pass http://{UPSTREAM}; }}"
    address = with_protected(lab, f"{OLD_LINES}\n{password(lab)}", drain)
    said = f"The drain flag {lab.place.drain_flag} stays down"
    planned = upswitch(lab, "plan", "--to", "B").json
    assert "drain" not in planned["steps"]
    assert any(note.startswith(said) and "auth_basic" in note for note in planned["notes"])
    asking = Load(f"http://{address}/", lab.folder / "asking.jsonl", ("--connections", "4"))
    with ExitStack() as ending:
        ending.callback(asking.end)
        asking.await_flowing()
        answer = upswitch(lab, "switch", "--to", "B", "--no-watch")
        asking.finish()
    assert answer.exit == 0, answer
    assert "drain" not in [step["step"] for step in answer.json["steps"]]
    assert said in answer.details
    assert set(asking.summary.status) == {"401"}


def test_what_drain_lines_prints_can_be_pasted_and_then_lint_finds_nothing_more(old_nginx):
    with Lab(old_nginx, Layout(cure=False)) as lab:
        printed = upswitch(lab, "drain-lines").json
        assert [block["block"] for block in printed["blocks"]] == ["server", "location /"]
        assert "no_drain_lines" in codes(lab)
        path = lab.folder / "nginx.conf"
        lines = path.read_text().splitlines()
        for block in sorted(printed["blocks"], key=lambda block: -block["line"]):
            lines[block["line"] : block["line"]] = block["lines"]
        path.write_text("\n".join(lines) + "\n")
        lab.renew()
        assert not codes(lab) & {"no_drain_lines", "drain_location_differs", "drain_lines_old"}
        assert upswitch(lab, "drain-lines").json["said"].startswith("Nothing to add")
        assert "drain" in upswitch(lab, "plan", "--to", "B").json["steps"]


def codes(lab):
    return {each["code"] for each in upswitch(lab, "lint").json["findings"]}

"""`upswitch watch`: the rule on live traffic without a switch, and on past traffic in access logs."""

import gzip
import os
import random
import re
import signal
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest

from command import Answer, Command, upswitch
from jsonpage import documented
from onlogs import AT, BY_ADDRESS, COMBINED, FORMAT, SITE, TARGET, WHEN, A, B, by_address, line, replay, watch
from terminal import terminal
from upswitch.basics.result import Failure
from upswitch.cli.plot import picture
from upswitch.health.gate import ServerHealth
from upswitch.logs.entries import EntryCounter, by_second
from upswitch.logs.line import compile_format
from upswitch.site.model import Probe
from upswitch.watch.attribution import Attribution, Timeline, counter_for
from upswitch.watch.history import History, Second
from upswitch.watch.live import Frame
from upswitch.watch.probation import Probation
from upswitch.watch.replay import Window
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab
from upswitch_lab.process import until


def traffic(*, bad: float, before: int = 400, switch_back: int = 60, rate: int = 50) -> str:
    """A served; B took over at AT and failed that share of requests, until A served again; 80 s in all."""
    dice = random.Random(7)
    lines = [line(AT + at, "000041-A") for at in range(-before, 0) for _ in range(rate)]
    lines += [
        line(AT + at, "000042-B", status=502 if dice.random() < bad else 200) for at in range(switch_back) for _ in range(rate)
    ]
    return "".join(lines + [line(AT + at, "000043-A") for at in range(switch_back, 80) for _ in range(rate)])


@pytest.fixture(scope="module")
def bad_release(tmp_path_factory) -> Path:
    """A folder with the access.log of a release that failed a tenth of its requests and was taken back after 20 s."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "access.log").write_text(traffic(bad=0.1, switch_back=20))
    return folder


# ---- past traffic, from elsewhere ----


def test_a_replay_says_second_by_second_what_the_watch_would_have_done(bad_release):
    answer = watch(bad_release, "--replay", "access.log", "--log-format", FORMAT, "--at", WHEN)
    *looks, verdict, _other, lacks = answer.out.splitlines()
    assert answer.exit == 3
    assert "$request_completion" in lacks
    assert [look.split(" ")[0].rstrip(":") for look in looks] == [f"t+{at}s" for at in range(1, len(looks) + 1)]
    assert "ROLLBACK" not in answer.out
    assert all(("In the 400 s before, 0 of 20000 requests failed" in look) is (": 0 of " not in look) for look in looks)
    assert f" failed in {len(looks)} s from " in verdict
    assert verdict.endswith(f"A switch would have been rolled back after {len(looks)} s, at 2026-11-20T10:00:{len(looks):02}Z.")


def test_its_json_is_one_documented_object(bad_release):
    found = replay(bad_release, "--at", WHEN)
    assert documented("WatchView") == set(found)
    assert (found["verdict"], found["would"], found["pool"], found["mode"]) == ("rollback", "rollback", "B", "generation")
    assert found["at_s"] == found["seconds"] == len(found["looks"]) <= 3
    assert found["answers"] == {"enough": True, "big": True, "new": True, "not_luck": True}
    assert found["before"] == {"failed": 0, "total": 20_000, "seconds": 400}
    assert (found["peers_down"], len(found["notes"])) == ([], 2)
    assert found["notes"][0].startswith("These took over too: 000043-A at 2026-11-20T10:00:20Z")


def test_without_a_time_it_finds_the_second_in_which_another_pool_took_over(bad_release):
    found = replay(bad_release)
    assert found == replay(bad_release, "--at", WHEN)
    assert (found["at"], found["generation"]) == (WHEN, "000042-B")


def test_a_release_that_was_taken_back_is_judged_though_the_former_pool_got_most_requests(bad_release):
    assert replay(bad_release, "--at", "2026-11-20T11:00:00+01:00")["pool"] == "B"


def test_the_way_back_can_be_judged_too(bad_release):
    found = replay(bad_release, "--to", "A", "--duration", "10s")
    assert (found["generation"], found["at"], found["verdict"]) == ("000043-A", "2026-11-20T10:00:20Z", "keep")


def test_compressed_piped_and_split_logs_give_the_same_answer(bad_release, tmp_path):
    whole = (bad_release / "access.log").read_bytes()
    want = replay(bad_release)
    lines = whole.splitlines(keepends=True)
    half = len(lines) // 2
    (tmp_path / "access.log.2.gz").write_bytes(gzip.compress(b"".join(lines[:half])))
    (tmp_path / "access.log").write_bytes(b"".join(lines[half:]))
    assert replay(tmp_path, "--replay", "access.log.2.gz") == want
    for i in (0, 1):
        (tmp_path / f"host{i}.log").write_bytes(b"".join(lines[i::2]))
    assert replay(tmp_path, "--replay", "host1.log", log="host0.log") == want
    for data in (whole, gzip.compress(whole)):
        answer = watch(tmp_path, "--replay", "-", "--log-format", FORMAT, "--json", stdin=data)
        assert answer.json == want


def test_a_log_of_weeks_is_entered_where_the_switch_is(tmp_path):
    quiet = "".join(line(AT - 90_000 + at, "000041-A", uri="/" + "x" * 200) for at in range(0, 80_000, 2))
    (tmp_path / "access.log").write_text(quiet + traffic(bad=0.1))
    found = replay(tmp_path, "--at", WHEN)
    assert (found["verdict"], found["before"]["total"]) == ("rollback", 20_000)


def test_the_thresholds_can_be_tuned_and_are_told(bad_release):
    tuned = replay(bad_release, "--big", "30%", "--new", "2", "--enough", "9", "--luck", "1e-9")
    assert (tuned["verdict"], tuned["would"], tuned["exit"]) == ("held", "hold", 3)
    assert tuned["thresholds"] == {"enough": 9, "enough_seconds": 2, "big": 30.0, "new": 2.0, "luck": 1e-9}
    assert any("(9 needed)" in look for look in tuned["looks"])
    assert any("fewer than 30 % of the requests" in look for look in tuned["looks"])


def test_a_good_release_is_kept_and_a_short_log_is_said_to_be_short(tmp_path):
    (tmp_path / "access.log").write_text(traffic(bad=0, before=20, switch_back=80))
    found = replay(tmp_path, "--duration", "2m")
    assert (found["verdict"], found["exit"], found["at_s"], found["seconds"]) == ("keep", 0, None, 80)
    assert any("only 20 s of history" in note for note in found["notes"])
    assert any("ends 80 s after the switch" in note for note in found["notes"])


def test_clients_that_gave_up_are_a_failure_of_the_pool(tmp_path):
    hung = [line(AT + at, "000042-B", status=499, took=f"{3 + at / 1000:.3f}", answer="-") for at in range(30) for _ in range(3)]
    before = [line(AT + at, "000041-A") for at in range(-400, 0) for _ in range(5)]
    (tmp_path / "access.log").write_text("".join(before + hung))
    found = replay(tmp_path)
    assert found["verdict"] == "rollback"
    assert "hung (the client left after 1 s or more without an answer: 499)" in found["looks"][-1]


def test_a_pool_that_got_nothing_was_not_switched(tmp_path):
    (tmp_path / "access.log").write_text("".join(line(AT + at, "000041-A") for at in range(-400, 70)))
    found = replay(tmp_path, "--at", WHEN, "--to", "B")
    assert (found["verdict"], found["would"], found["exit"], found["total"]) == ("not_switched", "rollback", 3, 0)


def test_a_second_in_which_nothing_failed_or_changed_is_in_the_json_only(tmp_path):
    lines = traffic(bad=0, switch_back=30).replace(line(AT + 7, "000042-B"), line(AT + 7, "000042-B", status=502), 1)
    (tmp_path / "access.log").write_text(lines)
    answer = watch(tmp_path, "--replay", "access.log", "--log-format", FORMAT, "--at", WHEN, "--duration", "20s")
    found = replay(tmp_path, "--at", WHEN, "--duration", "20s")
    assert (len(found["looks"]), found["told"][0]) == (20, 8)
    assert answer.out.splitlines()[0] == found["looks"][7]
    assert found["looks"][7].startswith("t+8s: 1 of 400 requests to B failed (502/503/504)")
    assert "1 failure (5 needed)" in found["looks"][7]
    assert len(answer.out.splitlines()) < 8, answer
    good = replay(tmp_path, "--at", WHEN, "--duration", "5s")
    assert (len(good["looks"]), good["told"]) == (5, [])


# ---- by address, and in limited mode ----


@pytest.fixture
def addressed(tmp_path) -> Path:
    """B takes over at 10:06:40 and fails everything; nginx's own answers are in the same log."""
    lines = [by_address(at, "A" if at < 400 else "B", 200 if at < 400 else 502) for at in range(430) for _ in range(5)]
    lines += [by_address(at, "", 503) for at in range(430)]
    (tmp_path / "access.log").write_text("".join(sorted(lines)))
    (tmp_path / "upswitch.toml").write_text(SITE)
    return tmp_path


def test_the_site_file_tells_pools_by_their_addresses(addressed):
    found = replay(addressed, text=BY_ADDRESS)
    assert (found["verdict"], found["pool"], found["mode"], found["at"]) == ("rollback", "B", "address", "2026-11-20T10:06:40Z")
    assert found["before"] == {"failed": 0, "total": 2000, "seconds": 400}
    assert replay(addressed, "--at", "2026-11-20T10:06:40Z", "--site", "upswitch.toml", text=BY_ADDRESS) == found


def test_on_spike_and_on_silence_of_the_site_say_what_would_have_been_done(addressed):
    (addressed / "upswitch.toml").write_text(SITE + '[watch]\non_spike = "hold"\non_silence = "rollback"\n')
    held = replay(addressed, text=BY_ADDRESS)
    assert (held["verdict"], held["would"], held["exit"]) == ("rollback", "hold", 3)
    quiet = replay(addressed, "--at", "2026-11-20T10:06:39Z", "--duration", "1s", "--to", "B", text=BY_ADDRESS)
    assert (quiet["verdict"], quiet["would"], quiet["exit"]) == ("unproven", "rollback", 3)


def test_a_pool_that_the_site_does_not_have_is_refused(addressed):
    answer = watch(addressed, "--replay", "access.log", "--log-format", BY_ADDRESS, "--to", "C")
    assert answer.exit == 2
    assert "the site has A, B" in answer.out


def combined(second: int, status: int) -> str:
    minute, clock = divmod(second, 60)
    return f'192.0.2.1 - - [20/Nov/2026:10:{minute:02}:{clock:02} +0000] "GET / HTTP/1.1" {status} 12 "-" "a browser"\n'


def test_a_plain_log_is_replayed_in_limited_mode_when_the_time_is_given(tmp_path):
    (tmp_path / "access.log").write_text("".join(combined(at, 200 if at < 400 else 502) for at in range(430) for _ in range(5)))
    found = replay(tmp_path, "--at", "2026-11-20T10:06:40Z", text=COMBINED)
    assert (found["verdict"], found["pool"], found["mode"]) == ("rollback", "all", "limited")
    assert any(note.startswith("LIMITED MODE") for note in found["notes"])
    answer = watch(tmp_path, "--replay", "access.log", "--log-format", COMBINED)
    assert answer.exit == 2
    assert "LIMITED MODE" in answer.out
    assert "Give --at" in answer.out


# ---- what can't be replayed ----


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--log-format", FORMAT, "--at", "2026-11-20T10:00:00"], "has no time zone: add Z for UTC, or "),
        (["--log-format", FORMAT, "--at", "yesterday"], "is not a time such as"),
        (["--log-format", FORMAT, "--at", "2026-11-21T10:00:00Z"], "ends at 2026-11-20T10:01:19Z"),
        (["--log-format", FORMAT, "--at", "2026-11-19T10:00:00Z"], "begins at 2026-11-20T09:53:20Z"),
        (["--log-format", FORMAT, "--to", "C"], "C did not take over in this time"),
        (["--log-format", COMBINED], "the log_format does not fit: in line 1 it wants $remote_addr"),
        (["--log-format", "$status $upstream_addr"], "the log_format does not fit: in line 1 it wants $status"),
        ([], "access.log is of no log_format that we know: give its text with --log-format"),
        (["--log-format", FORMAT, "-c", "other.toml"], "other.toml: No such file"),
        (["--log-format", FORMAT, "--replay", "gone\x1b[31m.log"], r"gone\x1b[31m.log: No such file"),
    ],
    ids=lambda each: each[-1][:24] if isinstance(each, list) and each else "",
)
def test_what_cannot_be_replayed_is_refused_with_one_clear_error(bad_release, words, told):
    answer = watch(bad_release, "--replay", "access.log", *words)
    assert answer.exit == 2
    assert told in answer.out + answer.err
    assert "Traceback" not in answer.err


def test_a_time_without_a_replay_is_refused(bad_release):
    assert watch(bad_release, "--at", WHEN).exit == 2


def test_where_nginx_does_not_say_the_format_it_must_be_given(addressed):
    (addressed / "upswitch.toml").write_text(f'[nginx]\nbinary = "/no/nginx"\nuser = "{os.environ.get("USER") or "root"}"\n{SITE}')
    answer = watch(addressed, "--replay", "access.log")
    assert answer.exit == 2
    assert "does not say its format" in answer.out
    assert "give its text with --log-format" in answer.out


def test_what_a_client_wrote_forges_nothing_and_reaches_no_terminal(tmp_path):
    evil = "\x1b]0;owned\x07 502 \\x22 000099-C \u202e"
    lines = traffic(bad=0, switch_back=80).splitlines(keepends=True)
    lines[::5] = [each.replace('"/"', f'"/{evil}"') for each in lines[::5]]
    lines.insert(500, "\x00\xff not a line of this format \x1b[31m\n")
    (tmp_path / "access.log").write_text("".join(lines))
    answer = watch(tmp_path, "--replay", "access.log", "--log-format", FORMAT)
    assert answer.exit == 0, answer
    assert (answer.out + answer.err).isascii()
    assert "\x1b" not in answer.out + answer.err
    assert "lines that are not of the format or have no time: 1" in answer.out


def test_old_workers_that_finish_late_are_neither_a_switch_nor_the_release(tmp_path):
    lines = traffic(bad=0.1).splitlines(keepends=True)
    lines.insert(600, line(AT - 391, "000040-B", status=502))  # of a worker that drains since before the log began
    lines[-2000:-2000] = [line(AT + 30, "000041-A", status=502) for _ in range(200)]
    (tmp_path / "access.log").write_text("".join(lines))
    found = replay(tmp_path)
    assert (found["at"], found["generation"], found["before"]["failed"]) == (WHEN, "000042-B", 0)


def test_lines_that_stand_some_seconds_behind_their_time_are_counted_in_their_second(bad_release, tmp_path):
    lines = (bad_release / "access.log").read_text().splitlines(keepends=True)
    dice = random.Random(3)
    keys = [(int(each[:10]) + dice.choice([0, 0, 0, 4]), at) for at, each in enumerate(lines)]
    (tmp_path / "access.log").write_text("".join(lines[at] for _, at in sorted(keys)))
    assert replay(tmp_path, "--at", WHEN) == replay(bad_release, "--at", WHEN)


def test_it_counts_what_the_watch_of_a_switch_counts():
    """The window keeps lines by what they say and learns whose they are afterwards; the watch knows before it reads."""
    dice = random.Random(5)
    lines = [
        f"{AT + dice.randrange(50)}.000 {dice.choice([200, 404, 499, 502])} {dice.choice(['0.1', '2.5'])}00 "
        f'"{dice.choice([A, B, f"{A}, {B}", f"{B} : {A}", "app", "-", "10.9.9.9:80"])}" '
        f'"{dice.choice(["200", "502", "-", "502, 200", "504 : 200"])}" {dice.choice(["000041-A", "000042-B", "-"])} "/"\n'
        for _ in range(4000)
    ]
    block = "".join([*lines, "not of the format\n"]).encode()
    reader = compile_format(FORMAT)
    whose = Attribution(
        generation="000042-B",
        addresses=frozenset({B}),
        former_generation="000041-A",
        former_addresses=frozenset({A}),
        upstreams=frozenset({"app"}),
    )
    timeline = Timeline()
    timeline.add(counter_for(whose, reader, is_timed=True).count(block), whose)
    window = Window(60, at=AT, begins=lambda _at, _moment: False)
    moments, unread = by_second(EntryCounter(reader, is_timed=True).count(block))
    window.add(0, moments)
    assert list(window.counts(range(AT, AT + 50), lambda _: whose)) == [timeline.at(second) for second in range(AT, AT + 50)]
    assert unread == 1


# ---- a real nginx ----


SHORT = Layout(site={"watch": {"duration": "20s"}})


@pytest.fixture
def lab(any_nginx):
    with Lab(any_nginx, SHORT) as lab:
        yield lab


def test_the_replay_of_what_a_real_watch_judged_gives_the_same_verdict(lab):
    for number in (1, 2):
        lab.backend("B", number).mode("error", lying=True)
    with lab.load("--connections", "4", "--rate", "200"):
        seconds = re.compile(rb'"msec":"?(\d+)')
        until(lambda: len(set(seconds.findall(lab.access_log.read_bytes()))) > 1, what="a second in which only A serves")
        switched = upswitch(lab, "switch", "--to", "B")
    assert switched.json["outcome"] == "ROLLED_BACK", switched
    found = upswitch(lab, "watch", "--replay", str(lab.access_log))
    assert (found.json["verdict"], found.json["generation"], found.exit) == ("rollback", "000002-B", 3), found
    assert abs(found.json["at_s"] - switched.json["watch"]["seconds"]) <= 1
    assert found.json["mode"] == switched.json["watch"]["mode"] == "generation"


def test_live_traffic_is_judged_without_a_switch_and_nothing_is_changed(lab):
    before = sorted(path.name for path in (lab.folder / "state").iterdir())
    with lab.load("--connections", "4", "--rate", "200"):
        answer = upswitch(lab, "watch", "--duration", "2s")
    assert (answer.exit, answer.json["verdict"], answer.json["pool"]) == (0, "keep", "A"), answer
    assert answer.json["total"] > 200
    assert answer.json["failed"] == 0
    assert sum(" watch " in told and " t+" in told for told in answer.err.splitlines()) == 2
    assert sorted(path.name for path in (lab.folder / "state").iterdir()) == before
    assert documented("WatchView") == set(answer.json)


def lines_of(answer: Answer) -> list[str]:
    """What was told of each second, without the clock and the step."""
    return [told[told.index("t+") :] for told in answer.err.splitlines() if " watch " in told and " t+" in told]


def test_a_server_that_the_gate_sees_down_would_have_been_a_rollback_though_no_client_saw_it(lab):
    dead = lab.backend("A", 2).address
    with lab.load("--connections", "4", "--rate", "200"):
        watching = Command(lab, "watch")
        watching.wait_for("t+1s")
        lab.backend("A", 2).kill()
        watching.wait_for("a switch would roll back now: health check:")
        watching.signal(signal.SIGINT)
        answer = watching.end()
    found = answer.json
    assert (answer.exit, found["verdict"], found["would"], found["peers_down"]) == (3, "rollback", "rollback", [dead]), answer
    assert f"t+{found['at_s']}s a switch would roll back now: health check: app {dead} is unhealthy" in found["said"]
    assert found["said"].endswith(". A switch would have been rolled back.")
    assert found["failed"] == 0


@pytest.mark.parametrize("level", ["error", "emerg"])
def test_a_crash_loop_of_nginxs_workers_would_have_been_a_rollback_whatever_the_error_log_leaves_out(lab, level):
    conf = lab.folder / "nginx.conf"
    conf.write_text(conf.read_text().replace("/error.log;", f"/error.log {level};"))
    assert f"/error.log {level};" in conf.read_text()
    lab.reload()
    watching = Command(lab, "watch")
    watching.wait_for("t+1s")
    seconds = 0

    def is_told() -> bool:
        """Both workers die once a second."""
        nonlocal seconds
        before, seconds = seconds, watching.told().count(" t+")
        if seconds > before:
            for pid in Path(f"/proc/{lab.nginx_pid}/task/{lab.nginx_pid}/children").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        return "nginx workers died in 10 s" in watching.told()

    until(is_told, deadline=30, what="the crash loop")
    watching.signal(signal.SIGINT)
    answer = watching.end()
    assert (answer.exit, answer.json["verdict"], answer.json["would"]) == (3, "rollback", "rollback"), answer
    assert " a switch would roll back now: " in answer.json["said"]


def test_without_a_log_our_own_requests_are_what_is_counted_and_named(one_nginx):
    with Lab(one_nginx, Layout(http=("access_log off;",))) as lab:
        good = upswitch(lab, "watch", "--duration", "2s")
        for number in (1, 2):
            lab.backend("A", number).kill()
        bad = upswitch(lab, "watch", "--duration", "5s")
    assert (good.exit, good.json["verdict"], good.json["mode"], good.json["failed"]) == (0, "keep", "probes", 0), good
    assert 2 <= good.json["total"] <= 6
    assert "requests by upswitch itself to A failed" in good.json["said"]
    assert (bad.exit, bad.json["verdict"]) == (3, "rollback"), bad
    assert bad.json["failed"] == bad.json["total"] > 5
    assert all("requests by upswitch itself to A" in told or "health check:" in told for told in lines_of(bad))


def test_a_healthy_second_is_one_short_line_and_the_answers_are_told_only_when_they_change(lab):
    with lab.load("--connections", "4", "--rate", "200"):
        watching = Command(lab, "watch")
        watching.wait_for("t+2s")
        lab.backend("A", 1).mode("error", lying=True)
        watching.wait_for("a switch would roll back now: ")
        at_s = len(lines_of(Answer(0, "", watching.told())))
        watching.wait_for(f"t+{at_s + 3}s")
        watching.signal(signal.SIGINT)
        answer = watching.end()
    told = lines_of(answer)
    assert told[0].startswith("t+1s: 0 of ")
    assert all(len(each) < 100 for each in told if "In the " not in each), told
    assert sum(" a switch would roll back now: " in each for each in told) == 1, told
    assert "ROLLBACK" not in answer.out + answer.err
    assert [each for each in told if "keep" in each] == []
    assert answer.json["said"].count("failed (502/503/504)") == 1


def test_a_signal_ends_it_with_what_it_saw_and_a_spike_with_its_reasons(lab):
    with lab.load("--connections", "4", "--rate", "200"):
        watching = Command(lab, "watch")
        watching.wait_for("t+2s")
        lab.backend("A", 1).kill()
        lab.backend("A", 2).kill()
        watching.wait_for("a switch would roll back now: ")
        watching.wait_for("Cause: ")
        watching.signal(signal.SIGINT)
        answer = watching.end()
    assert (answer.exit, answer.json["verdict"]) == (3, "rollback"), answer
    assert 2 <= answer.json["at_s"] <= answer.json["seconds"]
    assert answer.json["peers_down"] == [lab.backend("A", number).address for number in (1, 2)]
    assert lab.backend("A", 1).address in answer.json["reasons"]


def test_a_switch_meanwhile_is_said_and_the_new_pool_is_judged(lab):
    with lab.load("--connections", "4", "--rate", "100"):
        watching = Command(lab, "watch")
        watching.wait_for("t+1s")
        assert upswitch(lab, "switch", "--to", "B", "--no-watch").exit == 0
        watching.wait_for("requests to B")
        watching.wait_for("000002-B is live now instead of 000001-A")
        watching.signal(signal.SIGINT)
        answer = watching.end()
    assert (answer.exit, answer.json["verdict"], answer.json["pool"]) == (0, "keep", "B"), answer
    assert answer.json["generation"] == "000002-B"
    assert len(answer.json["changes"]) == 1


def test_a_terminal_shows_requests_and_failures_by_pool(lab):
    argv = (sys.executable, "-m", "upswitch", "watch", "-c", str(lab.site_file))
    with lab.load("--connections", "4", "--rate", "200"), terminal() as (slave, seen):
        watching = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=slave, text=True, env=os.environ | {"TERM": "xterm"})
        until(lambda: b"requests/s" in seen and b"failures/s" in seen and b"t+2s" in seen, deadline=30, what="the plot")
        assert "█".encode() in seen
        watching.send_signal(signal.SIGINT)
        out, _ = watching.communicate(timeout=30)
    assert watching.returncode == 0
    assert "There is no reason for a rollback. A switch would have been kept." in out
    assert "█" not in out


def test_the_plot_keeps_to_the_width_and_escapes_what_others_wrote():
    frames = [
        Frame(at_s=at, pool="B", new=Second(total=at, gateway=at // 50), others=Second(total=1), said=f"\x1b[31m t+{at}s")
        for at in range(1, 200)
    ]
    told = [str(each) for each in picture(frames, width=80).renderables]
    assert told[0] == "requests/s (up to 199)"
    assert told[1].startswith("B                  199 ")
    assert all(len(each) <= 80 for each in told)
    assert told[-1] == r"\x1b[31m t+199s"
    rows = [told[1][23:], told[4][23:]]
    assert [["▁▂▃▄▅▆▇█".find(bar) for bar in row] for row in rows] == [sorted("▁▂▃▄▅▆▇█".find(bar) for bar in row) for row in rows]


def test_the_plot_shows_all_there_is_to_say_and_each_server_that_is_down():
    frame = Frame(
        at_s=1, pool="B", new=Second(), others=Second(), said="t+1s", words=("t+1s ROLLBACK: x", "cause: y"), down=("s\x1b:1",)
    )
    told = [str(each) for each in picture([frame], width=80).renderables]
    assert told[-3:] == ["t+1s ROLLBACK: x", "cause: y", r"Down: s\x1b:1"]


# ---- the probation alone ----


def probation(**given) -> Probation:
    return Probation(**{"pool": "B", "history": History(), "servers": (), "log_mode": "generation", "silent_after": 2.0} | given)


def after(begun: Probation, *seconds: dict[str, object]) -> Probation:
    return reduce(lambda so_far, second: so_far.after(**second), seconds, begun)


def test_our_requests_are_judged_where_the_log_shows_none_of_them_as_the_pools():
    unseen = {"new": Second(), "former": 9, "through": (Failure.GATEWAY,) * 3}
    assert after(probation(), *[unseen] * 3).whole == Second()
    blind = after(probation(), *[unseen] * 4)
    assert (blind.is_silent, blind.mode, blind.whole) == (True, "probes", Second(total=12, gateway=12))
    assert "12 of 12 requests by upswitch itself to B failed" in blind.failure(blind.look()).what
    seen = after(blind, {"new": Second(total=1), "through": (Failure.NONE,)})
    assert (seen.is_silent, seen.mode, seen.whole) == (False, "generation", Second(total=1))


def test_the_gate_and_the_workers_say_no_as_the_rule_does():
    fine, dead = {"new": Second(total=50), "rounds": ((Probe(ok=True),),)}, {"new": Second(), "rounds": ((Probe(ok=False),),) * 9}
    served = probation(servers=(ServerHealth(target=TARGET, is_up=True),))
    assert after(served, fine).failure(after(served, fine).look()) is None
    down = after(served, fine, dead)
    assert (down.down, down.failure(down.look()).said()) == (
        (A,),
        (
            f"t+2s ROLLBACK: health check: app {A} is unhealthy: 1 of 10 checks passed, the last 9 failed (fall=5) "
            "(1 of 1 servers are unhealthy)"
        ),
    )
    looping = after(served, {"new": Second(total=50), "crashes": 4})
    assert looping.failure(looping.look()).said() == "t+1s ROLLBACK: 4 nginx workers died in 10 s"


def test_seconds_of_ten_minutes_ago_become_history_and_the_sums_stay():
    begun = probation()
    for _ in range(700):
        begun = begun.after(new=Second(total=2)).aged()
    assert (len(begun.seconds), len(begun.probes), len(begun.history.seconds)) == (600, 600, 100)
    assert (begun.at_s, begun.whole, begun.latest) == (700, Second(total=1400), Second(total=2))


@pytest.mark.parametrize("words", [("--new", "nan"), ("--luck", "nan"), ("--new", "inf"), ("--big", "nan")])
def test_a_threshold_that_is_no_number_is_refused(tmp_path, words):
    (tmp_path / "access.log").touch()
    assert watch(tmp_path, "--replay", "access.log", "--log-format", FORMAT, *words).exit == 2

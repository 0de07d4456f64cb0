"""Which release of several a replay judges, and what it tells of the others."""

import random
import time
from pathlib import Path

import pytest

from onlogs import AT, BY_ADDRESS, FORMAT, SITE, WHEN, by_address, line, replay, watch
from upswitch.watch.history import History, Second
from upswitch.watch.rule import judge, looks


def served(*spans: tuple[int, int, str, int]) -> str:
    """Each span is from and to in seconds after AT, the generation, and the status that 10 requests a second got."""
    return "".join(
        line(AT + at, generation, status=status)
        for begin, end, generation, status in spans
        for at in range(begin, end)
        for _ in range(10)
    )


@pytest.fixture
def busy_minute(tmp_path) -> Path:
    """B42 was taken back after 10 s; 20 s later comes B44, and old workers of A41, B42 and A43 still finish requests."""
    (tmp_path / "access.log").write_text(
        served((-90, -30, "000041-A", 200), (-30, -20, "000042-B", 502), (-20, 0, "000043-A", 200))
        + served((0, 1, "000041-A", 200), (0, 1, "000042-B", 200), (0, 1, "000043-A", 200), (0, 20, "000044-B", 502))
        + served((20, 30, "000045-A", 200))
    )
    return tmp_path


@pytest.mark.parametrize("words", [(), ("--to", "B")])
def test_the_release_at_a_time_is_judged_though_others_came_in_the_minute_before(busy_minute, words):
    found = replay(busy_minute, "--at", WHEN, *words)
    assert (found["generation"], found["verdict"], found["failed"]) == ("000044-B", "rollback", found["total"])


def test_a_way_back_seconds_after_its_release_can_be_judged(busy_minute):
    found = replay(busy_minute, "--at", "2026-11-20T09:59:40Z", "--duration", "15s")
    assert (found["generation"], found["verdict"]) == ("000043-A", "keep")


def test_where_no_time_is_given_the_first_release_is_judged_and_the_others_are_named(busy_minute):
    found = replay(busy_minute, "--duration", "5s")
    assert (found["generation"], found["at"]) == ("000042-B", "2026-11-20T09:59:30Z")
    assert found["notes"][0] == (
        "These took over too: 000043-A at 2026-11-20T09:59:40Z, 000044-B at 2026-11-20T10:00:00Z, 000045-A at 2026-11-20T10:00:20Z."
        " --at TIME judges another one."
    )


def test_of_many_other_releases_some_are_named(tmp_path):
    (tmp_path / "access.log").write_text("".join(served((at, at + 10, f"{at:06}-B", 200)) for at in range(10, 1000, 10)))
    assert ". --at" in (note := replay(tmp_path)["notes"][0])
    assert (note.count("-B at "), "59 more" in note) == (5, True)


def test_by_address_the_former_pool_is_the_one_that_served_last(tmp_path):
    """B served most of the last minute, A the last 15 s of it; then B comes again, while A finishes."""
    pools = "A" * 100 + "B" * 45 + "A" * 15 + "B" * 20
    lines = [by_address(at, pool, 502 if at >= 160 else 200) for at, pool in enumerate(pools) for _ in range(10)]
    lines.insert(1605, by_address(160, "A"))
    (tmp_path / "access.log").write_text("".join(lines))
    (tmp_path / "upswitch.toml").write_text(SITE)
    found = replay(tmp_path, "--at", "2026-11-20T10:02:40Z", text=BY_ADDRESS)
    assert (found["pool"], found["verdict"]) == ("B", "rollback")


def test_a_pool_that_was_switched_away_from_within_the_watch_is_said_to_have_got_nothing_since(tmp_path):
    (tmp_path / "access.log").write_text(served((-90, 0, "000041-A", 200), (0, 5, "000042-B", 200), (5, 30, "000043-A", 200)))
    found = replay(tmp_path, "--duration", "15s")
    assert (found["verdict"], found["seconds"], found["total"]) == ("keep", 15, 50)
    assert "B got no requests after t+5s." in found["notes"]
    assert not any("got no requests" in note for note in replay(tmp_path, "--duration", "5s")["notes"])


def busy(*, more: str) -> str:
    """Over 1 MiB before the switch, in which `more` stands once, and a release that fails."""
    lines = [line(AT + at, "000041-A", uri="/" + "x" * 100) for at in range(-600, 0) for _ in range(20)]
    lines.insert(2000, more)
    return "".join(lines) + served((0, 60, "000042-B", 502))


@pytest.mark.parametrize("words", [(), ("--at", WHEN)])
def test_a_line_from_the_future_does_not_end_the_reading_and_is_told(tmp_path, words):
    (tmp_path / "access.log").write_text(busy(more=line(AT + 86_400, "000041-A")))
    found = replay(tmp_path, *words)
    assert (found["verdict"], found["generation"], found["before"]["total"]) == ("rollback", "000042-B", 12_000)
    told = [note for note in found["notes"] if "stands before" in note]
    assert told[0].startswith("access.log: 2026-11-21T10:00:00Z stands before 2026-11-20T09:5")
    assert not any("stands before" in note for note in replay_in_order(tmp_path)["notes"])


def replay_in_order(folder: Path) -> dict:
    (folder / "access.log").write_text(busy(more=""))
    return replay(folder)


def test_every_look_is_that_of_a_watch_of_so_many_seconds_and_hours_cost_no_more_than_their_seconds():
    dice = random.Random(11)
    history = History(seconds=tuple(Second(total=50, gateway=dice.randrange(3), hung=dice.randrange(2)) for _ in range(600)))
    since = [Second(total=60, gateway=dice.randrange(3), hung=dice.randrange(2)) for _ in range(7200)]
    began = time.process_time()
    found = list(looks(history, since))
    assert time.process_time() - began < 3
    assert len(found) == 7200
    for end in (1, 9, 10, 11, 59, 60, 61, 599, 600, 601, 7200):
        assert found[end - 1] == judge(history, since[:end])


@pytest.mark.parametrize("moment", [999_999_999_999, 253_402_300_800])
def test_a_time_that_has_no_date_is_no_time(tmp_path, moment):
    (tmp_path / "access.log").write_text(line(moment, "000041-A"))
    answer = watch(tmp_path, "--replay", "access.log", "--log-format", FORMAT, "--at", WHEN)
    assert answer.exit == 2
    assert "none of its 1 lines has this format and a time" in answer.out + answer.err
    (tmp_path / "access.log").write_text(line(moment, "000041-A") + served((-60, 0, "000041-A", 200), (0, 10, "000042-B", 502)))
    found = replay(tmp_path)
    assert found["verdict"] == "rollback"
    assert "access.log: lines that are not of the format or have no time: 1" in found["notes"]


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_moment_that_has_no_date_in_utc_is_refused(busy_minute, moment):
    answer = watch(busy_minute, "--replay", "access.log", "--log-format", FORMAT, "--at", moment)
    assert (answer.exit, "is not a time such as" in answer.out + answer.err) == (2, True)

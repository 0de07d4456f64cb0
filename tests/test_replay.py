"""Which release of several a replay judges, and what it tells of the others."""

from pathlib import Path

import pytest

from test_watch import AT, BY_ADDRESS, SITE, WHEN, by_address, line, replay


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
        "also took over: 000043-A at 2026-11-20T09:59:40Z, 000044-B at 2026-11-20T10:00:00Z, 000045-A at 2026-11-20T10:00:20Z;"
        " --at TIME judges another"
    )


def test_of_many_other_releases_some_are_named(tmp_path):
    (tmp_path / "access.log").write_text("".join(served((at, at + 10, f"{at:06}-B", 200)) for at in range(10, 1000, 10)))
    assert "; --at" in (note := replay(tmp_path)["notes"][0])
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
    assert "B got no request after t+5s" in found["notes"]
    assert not any("got no request" in note for note in replay(tmp_path, "--duration", "5s")["notes"])

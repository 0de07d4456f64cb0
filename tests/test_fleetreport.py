"""One view of several hosts: the exit code, the sentence, and the table that a person reads at night."""

import pytest

from upswitch.core.outcome import Live
from upswitch.fleetreport import together, unreachable
from upswitch.report import production
from upswitch.views import Acted, HistoryView


def acted(outcome: str, exit_: int, pool: str, *, is_proved: bool = True) -> Acted:
    live = Live(disk=f"000001-{pool}", running=f"000001-{pool}" if is_proved else "", pool=pool)
    return Acted(command="switch", outcome=outcome, exit=exit_, said=f"{outcome} here", production=production(live), hint="a hint")


SWITCHED, UNCHANGED = acted("SWITCHED", 0, "B"), acted("UNCHANGED", 0, "B")
BACK, REFUSED, STUCK = acted("ROLLED_BACK", 4, "A"), acted("REFUSED", 3, "A"), acted("STUCK", 5, "B", is_proved=False)
LOCKED, HELD, BUG = acted("LOCKED", 6, "A"), acted("HELD", 7, "B"), acted("BUG", 1, "A")


@pytest.mark.parametrize(
    ("views", "exit_", "outcome"),
    [
        ([SWITCHED, SWITCHED], 0, "SWITCHED"),
        ([SWITCHED, UNCHANGED], 0, "SWITCHED"),
        ([UNCHANGED, UNCHANGED], 0, "UNCHANGED"),
        ([BACK, REFUSED], 4, "ROLLED_BACK"),
        ([REFUSED, REFUSED], 3, "REFUSED"),
        ([LOCKED, REFUSED], 6, "LOCKED"),
        ([BACK, STUCK], 5, "STUCK"),
        ([BUG, REFUSED], 1, "BUG"),
        ([HELD, REFUSED], 7, "HELD"),
        ([SWITCHED, BACK], 5, "SPLIT"),
        ([SWITCHED, REFUSED], 5, "SPLIT"),
        ([UNCHANGED, REFUSED], 3, "REFUSED"),
        ([SWITCHED, unreachable("switch", "no route", 0)], 0, "SWITCHED"),
        ([REFUSED, unreachable("switch", "no route", 3)], 3, "REFUSED"),
    ],
)
def test_the_worst_host_decides_and_a_mixed_fleet_is_a_persons_business(views, exit_, outcome):
    found = together("switch", {f"lb{number}": view for number, view in enumerate(views, 1)})
    assert (found.exit, found.outcome) == (exit_, outcome)


def test_a_skipped_host_is_named_in_the_outcome():
    found = together("switch", {"lb1": SWITCHED, "lb2": unreachable("switch", "no route", 0)})
    assert "NOT REACHED, left as they were: lb2" in found.said


def test_the_table_tells_each_host_and_who_is_not_proved():
    text = together("switch", {"lb2": STUCK, "lb1": BACK}).text.splitlines()
    assert text[0] == "STUCK: A serves on lb1; NOT PROVED on lb2"
    assert text[1].split() == ["HOST", "OUTCOME", "SERVES", "GENERATION", "PROVED"]
    assert text[2].split() == ["lb1", "ROLLED_BACK", "A", "000001-A", "yes"]
    assert text[3].split() == ["lb2", "STUCK", "B", "?", "NO"]
    assert text[-1] == "Next: a hint"


def test_hosts_that_say_the_same_are_shown_once_and_without_a_table_of_what_nobody_looked_at():
    same = HistoryView(command="history", exit=0, runs=())
    assert (
        together("history", {"lb1": same, "lb2": same}).text == "history on 2 hosts\n== lb1, lb2\nno run yet\nNext: nothing to do"
    )


@pytest.mark.parametrize(("command", "exit_"), [("switch", 3), ("rollback", 5), ("status", 3)])
def test_a_host_out_of_reach_is_named_with_its_page_and_the_command_for_later(command, exit_):
    found = together(command, {"lb1": unreachable(command, "no route", exit_)})
    assert (found.exit, "unreachable.md" in found.hint) == (exit_, True)
    assert ("--host lb1" in found.hint) == (command != "switch")

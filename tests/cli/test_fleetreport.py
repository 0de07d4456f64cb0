"""One view of several hosts: the exit code, the sentence, and the table that a person reads at night."""

import pytest
from msgspec.structs import replace

from jsonpage import documented
from upswitch.basics.errors import HostError
from upswitch.basics.result import Result, Why
from upswitch.cli.views.acted import Acted
from upswitch.cli.views.fleet import together, unreachable
from upswitch.cli.views.plan import PlanView
from upswitch.cli.views.status import HistoryView, StatusView, of_deadman
from upswitch.generations.generation import Live
from upswitch.health.rounds import GateReport
from upswitch.site.model import Verdict
from upswitch.switch.deadman import Mark, Standing
from upswitch.switch.machine import Step
from upswitch.switch.plan import Planned
from upswitch.switch.run import Plan
from upswitch.switch.warm import Warmth
from upswitch.watch.history import History
from upswitch.watch.report import WatchReport
from upswitch.watch.rule import judge


def acted(outcome: str, exit_: int, pool: str, *, is_proved: bool = True, said: str = "here") -> Acted:
    live = Live(disk=f"000001-{pool}", running=f"000001-{pool}" if is_proved else "", pool=pool)
    return Acted(
        command="switch",
        outcome=outcome,
        exit=exit_,
        said=f"{outcome}: {said}",
        production=live,
        hint="a hint",
        pool="B",
        former_pool="A",
    )


def watch_report(*, failed: int, total: int, seconds: int) -> WatchReport:
    """All that a table shows of a watch."""
    return WatchReport(
        result=Result.OK,
        final="keep",
        said="",
        pool="B",
        seconds=seconds,
        failed=failed,
        total=total,
        mode="log",
        judgement=judge(History(), ()),
    )


def status_view(pool: str = "A", *findings: str, lock: str = "") -> StatusView:
    live = Live(disk=f"000001-{pool}", running=f"000001-{pool}", pool=pool)
    return StatusView(
        command="status",
        exit=3 if findings else 0,
        production=live,
        generations=(),
        edited=(),
        master=1,
        workers=1,
        draining=(),
        unfinished="",
        lock=lock,
        findings=findings,
    )


NO_ROUTE = HostError("connect to it", "no route")
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
        ([BACK, replace(BACK, production=SWITCHED.production)], 5, "SPLIT"),
        ([LOCKED, acted("REFUSED", 3, "B")], 6, "LOCKED"),
        ([SWITCHED, unreachable("switch", NO_ROUTE, is_skipped=True)], 0, "SWITCHED"),
        ([UNCHANGED, unreachable("switch", NO_ROUTE, is_skipped=True)], 3, "SKIPPED"),
        ([unreachable("switch", NO_ROUTE, is_skipped=True)], 3, "SKIPPED"),
        ([REFUSED, unreachable("switch", NO_ROUTE)], 3, "REFUSED"),
    ],
)
def test_the_worst_host_decides_and_a_mixed_fleet_is_a_persons_business(views, exit_, outcome):
    found = together("switch", {f"lb{number}": view for number, view in enumerate(views, 1)})
    assert (found.exit, found.outcome) == (exit_, outcome)


def test_a_skipped_host_is_named_in_the_outcome():
    found = together("switch", {"lb1": SWITCHED, "lb2": unreachable("switch", NO_ROUTE, is_skipped=True)})
    assert "NOT REACHED, left as they were: lb2" in found.said
    assert "`switch --to B --host lb2`; until then keep A running" in found.hint


def test_the_table_tells_each_host_and_who_is_not_proved():
    text = together("switch", {"lb2": STUCK, "lb1": BACK}).text.splitlines()
    assert text[0] == "STUCK: A serves on lb1; NOT PROVED on lb2"
    assert text[1].split() == ["HOST", "OUTCOME", "SERVES", "GENERATION", "PROVED"]
    assert text[2].split() == ["lb1", "ROLLED_BACK", "A", "000001-A", "yes"]
    assert text[3].split() == ["lb2", "STUCK", "B", "?", "NO"]
    assert text[-1] == "Next: a hint"


def test_a_repair_of_a_split_fleet_never_says_that_there_is_nothing_to_do():
    found = together("repair", {"lb1": acted("UNCHANGED", 0, "A"), "lb2": UNCHANGED})
    assert (found.exit, found.outcome) == (3, "SPLIT")
    assert "`switch --to POOL`" in found.hint
    assert "help split" in found.hint
    repaired = replace(BACK, exit=0)
    assert together("repair", {"lb1": repaired, "lb2": UNCHANGED}).exit == 5


def test_a_repair_counts_the_hosts_that_it_leaves_proved():
    repaired = replace(BACK, exit=0)
    assert together("repair", {"lb1": repaired, "lb2": repaired}).said == "ROLLED_BACK 2 of 2 hosts: A serves on lb1, lb2"


def test_a_rollback_after_which_hosts_serve_different_pools_is_split():
    found = together("rollback", {"lb1": acted("SWITCHED", 0, "A"), "lb2": SWITCHED})
    assert (found.exit, found.outcome) == (5, "SPLIT")
    assert "`upswitch repair`; then run `switch --to POOL`" in found.hint


def test_only_the_hosts_that_hold_are_offered_a_way_back():
    found = together("switch", {"lb1": HELD, "lb2": REFUSED, "lb3": HELD})
    assert "fix B, or go back with `upswitch rollback --host lb1 --host lb3`" in found.hint


def test_a_host_key_that_is_not_the_recorded_one_has_its_own_page():
    lost = unreachable("switch", HostError("connect to lb2", "its host key is not the recorded one", why=Why.HOST_KEY))
    found = together("switch", {"lb1": REFUSED, "lb2": replace(lost, exit=4)})
    assert all("help host-key" in text and "help unreachable" not in text for text in (found.hint, lost.hint))


def test_hosts_that_another_one_held_back_are_one_line_and_its_reason_is_said_once():
    late = replace(acted("REFUSED", 3, "A"), why=Why.OTHER_HOST)
    back = replace(BACK, why=Why.OTHER_HOST)
    view = together("switch", {"lb1": replace(BACK, why=Why.SPIKE), "lb2": late, "lb3": late, "lb4": back})
    assert view.text.splitlines()[-4:-1] == [
        "lb1: ROLLED_BACK: here",
        "lb2, lb3: REFUSED, because another host failed",
        "lb4: ROLLED BACK, because another host failed",
    ]


def test_a_reason_that_no_other_host_shows_stays():
    because = replace(acted("REFUSED", 3, "A", said="not switched, because of lb1"), why=Why.OTHER_HOST)
    assert "lb2: REFUSED: not switched, because of lb1" in together("switch", {"lb1": SWITCHED, "lb2": because}).text


def test_the_table_tells_what_each_host_was_watched_for():
    watched = replace(SWITCHED, watch=watch_report(failed=0, total=508, seconds=60))
    text = together("switch", {"lb1": watched, "lb2": UNCHANGED}).text.splitlines()
    assert text[1].endswith("PROVED  WATCHED")
    assert text[2].endswith("yes     0 of 508 failed in 60 s")
    assert text[3].endswith("yes")


def test_status_says_who_is_at_it_and_else_the_remedy_of_a_finding():
    busy = status_view("B", lock="ann@ci (pid 7) since now: release 7")
    hint = together("status", {"lb1": busy, "lb2": status_view()}).hint
    assert hint == "wait: a run is under way on lb1, by ann@ci (pid 7) since now: release 7"
    left = replace(status_view("A", "run 1 is unfinished"), needs_repair=True)
    assert together("status", {"lb1": left, "lb2": status_view()}).hint.startswith("run `upswitch repair`; ")
    assert together("status", {"lb1": status_view("A", "edited"), "lb2": status_view()}).hint.startswith("fix the FINDING of lb1")


@pytest.mark.parametrize(
    ("mark", "is_alive", "said"),
    [(Mark.ARMED, True, "rolls itself back when the lease expires"), (Mark.ARMED, False, "its watcher is gone")],
)
def test_an_unfinished_run_is_shown_with_its_dead_man(mark, is_alive, said):
    standing = Standing(run="1", mark=mark, is_alive=is_alive)
    (found,) = of_deadman(standing, "1")
    assert said in found
    assert [*of_deadman(standing, "2"), *of_deadman(None, "1")] == []


COLD = Warmth()


def plan_view(number: int, change: str = "+server 127.0.0.1:1;", log: str = "/var/log/a.log", warmth: Warmth = COLD) -> PlanView:
    live = Live(disk=f"{number:06}-A", running=f"{number:06}-A", pool="A")
    to, back = f"{number + 1:06}-B", f"{number + 2:06}-A"
    plan = Plan(run="1", command="plan", pool="B", former_pool="A", former=live.disk, to=to, back=back)
    return PlanView(
        command="plan",
        exit=0,
        planned=Planned(
            plan=plan,
            steps=(Step.GATE,),
            is_unchanged=False,
            warmth=warmth,
            notes=(f"the watch goes by {log}",),
            gate=GateReport(verdict=Verdict.PASS, new=()),
            diff=f"--- {live.disk}/app.conf\n+++ {plan.to}/app.conf\n{change}\n",
        ),
        production=live,
    )


def test_what_nginx_must_still_prove_has_the_keys_of_the_page():
    assert plan_view(1).warm is None
    warm = plan_view(1, warmth=Warmth(wanted={"app": ("127.0.0.1:1",)}, longest=1.25, down=("127.0.0.1:1",))).warm
    assert set(warm) == documented("Warm")
    assert warm["longest_s"] == 1.2


def test_a_plan_is_shown_once_and_again_only_where_more_than_generation_numbers_differs():
    other = plan_view(1, "+server 127.0.0.1:2;")
    text = together("plan", {"lb1": plan_view(1), "lb2": plan_view(7, log="/srv/b.log"), "lb3": other}).text
    assert text.count("127.0.0.1:1;") == text.count("127.0.0.1:2;") == 1
    assert "== lb2: the same\n== lb3\n" in text
    assert text.endswith("Next: this does it:\n        upswitch switch --to B")


def test_hosts_that_say_the_same_are_shown_once_and_without_a_table_of_what_nobody_looked_at():
    same = HistoryView(command="history", exit=0, runs=())
    assert (
        together("history", {"lb1": same, "lb2": same}).text == "history on 2 hosts\n== lb1, lb2\nNo run yet.\nNext: nothing to do"
    )


@pytest.mark.parametrize(("command", "exit_"), [("switch", 3), ("rollback", 5), ("status", 3)])
def test_a_host_out_of_reach_is_named_with_its_page_and_the_command_for_later(command, exit_):
    found = together(command, {"lb1": unreachable(command, NO_ROUTE)})
    assert (found.exit, "help unreachable" in found.hint) == (exit_, True)
    assert ("--host lb1" in found.hint) == (command != "switch")


def test_a_remark_of_hosts_that_did_as_asked_is_shown_once_with_their_names():
    done = replace(acted("SWITCHED", 0, "B"), details=("The drain flag stays down",))
    text = together("switch", {"a": done, "b": done, "c": acted("SWITCHED", 0, "B")}).text
    assert "a, b: The drain flag stays down" in text


@pytest.mark.parametrize(("quiet", "where"), [(("lb1", "lb2"), ""), (("lb2",), " on lb2")])
def test_hosts_that_were_kept_without_proof_by_traffic_are_named_in_the_headline(quiet, where):
    views = {name: replace(SWITCHED, why=Why.UNPROVEN if name in quiet else Why.NONE) for name in ("lb1", "lb2")}
    found = together("switch", views)
    assert (found.exit, found.said) == (0, f"SWITCHED, NOT PROVEN BY TRAFFIC{where}: 2 of 2 hosts: B serves on lb1, lb2")

"""Every walk of the machine there is."""

import itertools

import pytest

from upswitch.basics.result import Result
from upswitch.switch import machine
from upswitch.switch.machine import (
    ENDINGS,
    MOVES,
    UNDO,
    UNTOUCHED,
    WAY_BACK,
    Outcome,
    Phase,
    Step,
    after,
    can_interrupt,
    next_step,
    settle,
    way,
)
from walks import SKIPS, walks

TOUCHING = {(Step.SWAP, Result.OK), *((step, Result.UNKNOWN) for step in (Step.TEST, Step.WARM, Step.SWAP))}
TOUCHED_ENDINGS = {Phase.DONE, Phase.HELD, Phase.ROLLED_BACK, Phase.STUCK}

each_skips = pytest.mark.parametrize("skips", SKIPS.values(), ids=SKIPS)


@each_skips
def test_every_walk_ends_where_what_it_touched_says(skips):
    seen = set()
    for walk, ending in walks(skips):
        has_touched = any((step, result) in TOUCHING for _, step, result in walk)
        is_as_before = any(result is Result.UNTOUCHED for _, _, result in walk)
        assert ending in (TOUCHED_ENDINGS if has_touched and not is_as_before else {Phase.REFUSED, Phase.INTERRUPTED})
        seen.add(ending)
    assert seen == {Phase.REFUSED, Phase.INTERRUPTED, Phase.DONE, Phase.ROLLED_BACK, Phase.STUCK, Phase.HELD}


@each_skips
def test_no_walk_comes_to_a_phase_twice(skips):
    for walk, _ in walks(skips):
        phases = [phase for phase, _, _ in walk]
        assert len(phases) == len(set(phases)) <= len(MOVES)


@each_skips
def test_a_skipped_step_is_taken_on_no_walk(skips):
    assert not {step for walk, _ in walks(skips) for _, step, _ in walk} & set(skips)


@each_skips
def test_after_the_swap_done_needs_a_confirm_and_rolled_back_needs_one_too(skips):
    for walk, ending in walks(skips):
        done = {(step, result) for _, step, result in walk}
        if ending in {Phase.DONE, Phase.HELD}:  # a run that stays asks nginx what it serves
            assert {(Step.CONFIRM, Result.OK), (Step.RESTORE, Result.HOLD)} & done
        if ending is Phase.ROLLED_BACK:
            assert (Step.CONFIRM_BACK, Result.OK) in done


@each_skips
def test_the_way_of_a_run_in_which_all_goes_well_ends_switched(skips):
    phase = settle(Phase.PLANNED, skips)
    for step in way(skips):
        assert next_step(phase, skips) is step
        phase = after(phase, Result.OK, skips)
    assert ENDINGS[phase] is Outcome.SWITCHED


def test_the_table_is_complete():
    assert MOVES.keys() | ENDINGS.keys() == set(Phase)
    assert not MOVES.keys() & ENDINGS.keys()
    assert sorted(step for step, _ in MOVES.values()) == sorted(Step)
    assert {phase for _, moves in MOVES.values() for phase in moves.values()} | {Phase.PLANNED} == set(Phase)
    assert MOVES.keys() >= UNTOUCHED | WAY_BACK


def test_every_step_can_succeed_fail_or_be_unknown():
    for _, moves in MOVES.values():
        assert moves.keys() >= {Result.OK, Result.FAILED, Result.UNKNOWN}


def test_only_the_watch_and_a_dead_way_back_can_hold():
    assert [step for step, moves in MOVES.values() if Result.HOLD in moves] == [Step.WATCH, Step.RESTORE]


def test_every_step_of_the_way_back_can_find_that_nginx_was_left_as_it_was():
    assert {phase for phase, (_, moves) in MOVES.items() if moves.get(Result.UNTOUCHED) is Phase.REFUSED} == WAY_BACK


def test_what_changes_production_has_its_undo_on_the_way_back():
    way_back = {MOVES[phase][0] for phase in WAY_BACK}
    assert UNDO.keys() >= {Step.WARM, Step.SWAP, Step.RELOAD}
    assert set(UNDO.values()) == way_back


def test_the_way_back_and_the_very_end_are_not_interrupted():
    assert {phase for phase in Phase if not can_interrupt(phase)} == {*WAY_BACK, Phase.JUDGED, *ENDINGS}
    for phase in WAY_BACK:
        with pytest.raises(KeyError):
            after(phase, Result.INTERRUPTED)


def test_an_ending_has_no_next_step_whatever_is_skipped():
    for phase, count in itertools.product(ENDINGS, range(3)):
        for skips in itertools.combinations(Step, count):
            assert machine.next_step(phase, skips) is None

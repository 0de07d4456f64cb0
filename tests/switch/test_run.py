"""A run and its journal: what was done live and what is read back are the same."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.basics.errors import JournalCorruptError
from upswitch.basics.result import Result, Why
from upswitch.switch import machine
from upswitch.switch.machine import Outcome, Phase, Step
from upswitch.switch.run import (
    _LATER_STEPS,
    VERSION,
    Closed,
    Ended,
    Intent,
    Plan,
    Run,
    Started,
    begin,
    decode,
    encode,
    fold,
    replay,
    resolve,
    taken_back,
    unfinished,
)
from walks import SKIPS, walks

PLAN = Plan(run="r1", command="switch", pool="B", former_pool="A", former="000001-A", to="000002-B", back="000003-A")
WARMED = msgspec.structs.replace(PLAN, warm="000004-A")
ALL = [(skips, walk, ending) for skips in SKIPS.values() for walk, ending in walks(skips)]
STEPS = "gate stage test warm recheck arm drain swap reload confirm watch finish restore reload_back confirm_back"
"""Of version 3."""
SAID = st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=40)


def records_of(skips, walk, *, run="r1", said=""):
    yield Started(plan=msgspec.structs.replace(PLAN, run=run, skips=skips), at="t0")
    for _, step, result in walk:
        yield Intent(run=run, step=step, at="t1")
        yield Ended(run=run, step=step, result=result, said=said, at="t2", seconds=0.5)


def live(records):
    first, *rest = records
    run = begin(first)
    for record in rest:
        run = fold(run, record)
    return run


@given(st.lists(st.tuples(st.sampled_from(ALL), SAID), min_size=1, max_size=4), st.data())
def test_the_replay_of_any_journal_cut_anywhere_is_the_run_as_it_was_live(chosen, data):
    *before, last = [[*records_of(skips, walk, run=f"r{at}", said=said)] for at, ((skips, walk, _), said) in enumerate(chosen)]
    last = last[: data.draw(st.integers(1, len(last)))]
    journal = b"".join(encode(record) for records in [*before, last] for record in records)
    torn = encode(Intent(run="r0", step=Step.SWAP, at="now"))[: data.draw(st.integers(0, 20))]
    runs = replay(decode(journal + torn))
    assert runs == (*map(live, before), live(last))


@pytest.mark.parametrize("skips", SKIPS.values(), ids=SKIPS)
def test_every_walk_replays_to_its_ending(skips):
    for walk, ending in walks(skips):
        records = [*records_of(skips, walk)]
        (run,) = replay(records)
        assert (run.phase, run.outcome, run.next_step, run.pending) == (ending, machine.ENDINGS[ending], None, None)
        assert run.is_over
        assert run == live(records)


def test_the_cause_is_the_first_step_that_was_not_ok():
    walk = [*walks(())][-1][0]
    (run,) = replay(records_of((), walk))
    assert run.cause == next((step for step in run.steps if step.result is not Result.OK), None)
    assert begin(Started(plan=PLAN, at="t")).cause is None


def test_a_torn_last_line_is_dropped():
    whole = encode(Started(plan=PLAN, at="t"))
    for length in range(len(whole)):
        assert decode(whole + whole[:length]) == decode(whole)


@pytest.mark.parametrize("bad", [b"", b"{", b"null", b'{"kind":"started"}', b'{"kind":"other"}', b"\xff\xfe", b"[" * 5000])
def test_a_bad_line_in_the_middle_is_named(bad):
    good = encode(Started(plan=PLAN, at="t"))
    with pytest.raises(JournalCorruptError, match="line 2: ") as caught:
        decode(good + bad + b"\n" + good)
    assert caught.value.line == 2


@pytest.mark.parametrize("run", ["", "../../x", "a\0b", "a b", "-rf", "\n", "x" * 5000])
def test_a_run_whose_name_is_not_ours_is_corruption(run):
    with pytest.raises(JournalCorruptError, match="line 1: a run or a generation has a name that upswitch does not give"):
        decode(encode(Started(plan=msgspec.structs.replace(PLAN, run=run), at="t")))


@pytest.mark.parametrize("field", ["former", "to", "back", "warm", "copy_of"])
def test_a_generation_whose_name_is_not_ours_is_corruption(field):
    with pytest.raises(JournalCorruptError, match="line 1: a run or a generation"):
        decode(encode(Started(plan=msgspec.structs.replace(PLAN, **{field: "../../x"}), at="t")))


def test_a_journal_from_before_there_were_reasons_still_reads():
    old = b'{"kind":"ended","run":"r1","step":"gate","result":"failed","said":"1 of 2 down | a down","at":"t","seconds":0.1}\n'
    (run,) = replay(decode(encode(Started(plan=PLAN, at="t")) + old))
    assert (run.phase, run.why, run.cause.details) == (Phase.REFUSED, Why.NONE, ())


def test_the_reason_of_a_run_is_what_turned_it_and_of_a_stuck_one_what_could_not_be_done():
    def over(*results):
        records = [Ended(run="r1", step=step, result=result, said="", at="t", why=why) for step, result, why in results]
        skips = (Step.GATE, Step.STAGE, Step.TEST, Step.WARM, Step.RECHECK, Step.ARM, Step.DRAIN)
        plan = msgspec.structs.replace(PLAN, skips=skips)
        (run,) = replay(decode(b"".join(map(encode, [Started(plan=plan, at="t"), *records]))))
        return run.why

    turned = ((Step.SWAP, Result.OK, Why.NONE), (Step.RELOAD, Result.FAILED, Why.RELOAD_REFUSED))
    assert over(*turned) is Why.RELOAD_REFUSED
    assert over(*turned, (Step.RESTORE, Result.FAILED, Why.DISK_FULL)) is Why.DISK_FULL


def test_a_journal_of_a_newer_version_is_refused():
    newer = encode(Started(plan=PLAN, at="t", version=VERSION + 1))
    with pytest.raises(JournalCorruptError, match=f"line 1: written by a newer upswitch .journal version {VERSION + 1}"):
        decode(newer)


@pytest.mark.parametrize(
    "record", [Intent(run="r2", step=Step.GATE, at="t"), Closed(run="r2", outcome=Outcome.STUCK, said="", at="t")]
)
def test_a_record_of_a_run_that_was_not_started_is_corruption(record):
    with pytest.raises(JournalCorruptError, match=r"line 2: .* of run r2 without its start"):
        replay([Started(plan=PLAN, at="t"), record])
    with pytest.raises(JournalCorruptError, match="line 1: "):
        replay([record])


@pytest.mark.parametrize(("step", "result"), [(Step.SWAP, Result.OK), (Step.GATE, Result.HOLD)])
def test_a_result_that_does_not_follow_is_corruption(step, result):
    ended = Ended(run="r1", step=step, result=result, said="", at="t")
    with pytest.raises(JournalCorruptError, match="line 2"):
        replay([Started(plan=PLAN, at="t"), ended])


def test_nothing_follows_an_ending():
    records = [*records_of((), next(walk for walk, ending in walks(()) if ending is Phase.REFUSED))]
    with pytest.raises(JournalCorruptError, match="does not follow refused"):
        replay([*records, Ended(run="r1", step=Step.STAGE, result=Result.OK, said="", at="t")])


def test_unfinished_is_the_last_run_if_it_never_came_to_an_ending():
    whole = [*records_of((), next(walks(()))[0], run="r0")]
    cut = [*records_of((), next(walks(()))[0])]
    assert unfinished([]) is None
    assert unfinished(replay(whole)) is None
    assert unfinished(replay([*whole, *cut[:4]])).plan.run == "r1"
    assert unfinished(replay([*whole, cut[0]])).plan.run == "r1"
    assert unfinished(replay([*cut[:4], *whole])) is None  # an older one that was left is history


def test_an_intent_without_its_result_is_pending():
    (run,) = replay([Started(plan=PLAN, at="t"), Intent(run="r1", step=Step.GATE, at="t")])
    assert (run.pending, run.next_step, run.phase) == (Step.GATE, Step.GATE, Phase.PLANNED)


@pytest.mark.parametrize(
    ("phase", "live", "to"),
    [
        *((phase, PLAN.former, Phase.INTERRUPTED) for phase in sorted(machine.UNTOUCHED)),
        (Phase.PLANNED, PLAN.to, Phase.REFUSED),
        (Phase.STAGED, PLAN.to, Phase.BACKING_OUT),  # the candidate was live while it was tested
        (Phase.TESTED, WARMED.warm, Phase.BACKING_OUT),  # on disk, and nobody knows whether it was loaded
        (Phase.WARMED, WARMED.warm, Phase.INTERRUPTED),
        (Phase.DRAINED, WARMED.warm, Phase.INTERRUPTED),
        (Phase.DRAINED, PLAN.to, Phase.BACKING_OUT),
        (Phase.DRAINED, "", Phase.BACKING_OUT),
        *((phase, PLAN.to, Phase.BACKING_OUT) for phase in (Phase.SWAPPED, Phase.RELOADED, Phase.CONFIRMED)),
        *((phase, PLAN.former, Phase.BACKING_OUT) for phase in (Phase.SWAPPED, Phase.RELOADED, Phase.CONFIRMED)),
    ],
)
def test_a_step_that_a_crash_cut_off_counts_by_where_the_link_points(phase, live, to):
    run = Run(plan=WARMED, started="t", phase=phase)
    assert machine.after(phase, resolve(run, live, is_proved=False)) is to


@pytest.mark.parametrize("plan", [PLAN, WARMED], ids=["without warm", "with warm"])
@pytest.mark.parametrize("phase", sorted(machine.UNTOUCHED))
@pytest.mark.parametrize("is_proved", [True, False])
def test_before_the_swap_only_a_link_that_still_names_what_serves_counts_as_nothing_happened(plan, phase, is_proved):
    run = Run(plan=plan, started="t", phase=phase)
    assert resolve(run, plan.former, is_proved=is_proved) is Result.INTERRUPTED
    assert resolve(run, plan.to, is_proved=is_proved) is Result.UNKNOWN
    assert resolve(run, "", is_proved=is_proved) is Result.UNKNOWN  # it could not be read
    is_past_warm = phase in {Phase.WARMED, Phase.RECHECKED, Phase.ARMED, Phase.DRAINED}
    is_nothing = plan is WARMED and (is_past_warm or (phase is Phase.TESTED and is_proved))
    assert resolve(run, WARMED.warm, is_proved=is_proved) is (Result.INTERRUPTED if is_nothing else Result.UNKNOWN)


def test_a_warm_generation_that_nginx_answers_with_is_as_if_nothing_had_happened():
    run = Run(plan=WARMED, started="t", phase=Phase.TESTED)
    assert machine.after(run.phase, resolve(run, WARMED.warm, is_proved=True)) is Phase.INTERRUPTED


def test_a_run_from_before_there_was_a_warm_step_is_read_as_it_was_written():
    old = Started(plan=PLAN, at="t", version=1)
    step = {"run": "r1", "result": Result.OK, "said": "", "at": "t"}
    way = [Ended(step=each, **step) for each in (Step.GATE, Step.STAGE, Step.TEST, Step.RECHECK)]
    (run,) = replay([old, *way])
    assert run.phase is Phase.ARMED


def test_a_repair_never_completes_a_switch():
    for skips, walk, _ in ALL:
        for phase, _, _ in walk:
            if machine.can_interrupt(phase):
                run = Run(plan=msgspec.structs.replace(WARMED, skips=skips), started="t", phase=phase)
                seen = itertools.product((PLAN.former, WARMED.warm, PLAN.to, ""), (True, False))
                after = {machine.after(phase, resolve(run, live, is_proved=is_proved), skips) for live, is_proved in seen}
                assert after <= {Phase.INTERRUPTED, Phase.REFUSED, Phase.BACKING_OUT}


@pytest.mark.parametrize(
    ("result", "phase", "is_left"),
    [(Result.OK, Phase.ROLLED_BACK, False), (Result.FAILED, Phase.BACKING_OUT, True), (Result.UNKNOWN, Phase.BACKING_OUT, True)],
)
def test_a_host_that_took_itself_back_ends_the_run_where_it_was_proved(result, phase, is_left):
    step = {"run": "r1", "result": Result.OK, "said": "", "at": "t"}
    way = (Step.GATE, Step.STAGE, Step.TEST, Step.WARM, Step.RECHECK, Step.ARM, Step.DRAIN, Step.SWAP, Step.RELOAD, Step.CONFIRM)
    records = [Started(plan=PLAN, at="t"), *(Ended(step=each, **step) for each in way), Intent(run="r1", step=Step.WATCH, at="t")]
    fired = b'{"kind":"fired","run":"r1","result":"%s","live":"000003-A","said":"proved","at":"t"}\n' % result.encode()
    (run,) = replay(decode(b"".join(map(encode, records)) + fired))
    assert (run.phase, run.is_left, run.pending) == (phase, is_left, None)
    said = "rolled itself back at t: proved" if result is Result.OK else "tried to roll itself back at t, NOT PROVED: proved"
    assert said in run.fired.text


def test_each_older_version_of_the_journal_says_which_steps_its_machine_did_not_have():
    assert set(_LATER_STEPS) == set(range(1, VERSION))
    assert STEPS.split() == [*Step], "a new step needs the next VERSION and its row in _LATER_STEPS"


def run_of(*steps, copy_of="", start):
    """A run whose steps ended one second after another, from a minute on."""
    run = begin(Started(plan=msgspec.structs.replace(PLAN, copy_of=copy_of, run=start), at=f"10:{start}:00"))
    for second, (step, result) in enumerate(steps):
        run = msgspec.structs.replace(
            run,
            phase=machine.after(run.phase, result, ()),
            steps=(*run.steps, Ended(run=start, step=step, result=result, said="", at=f"10:{start}:{second:02}")),
        )
    return run


FORWARD = [(step, Result.OK) for step in list(Step)[: list(Step).index(Step.WATCH)]]
BACK = [(step, Result.OK) for step in (Step.RESTORE, Step.RELOAD_BACK, Step.CONFIRM_BACK)]


def test_the_journal_knows_when_releases_served_that_were_taken_back():
    failed = run_of(*FORWARD, (Step.WATCH, Result.FAILED), *BACK, start="01")
    refused = run_of((Step.GATE, Result.FAILED), start="02")
    held = run_of(*FORWARD, (Step.WATCH, Result.HOLD), start="03")
    kept = run_of(*FORWARD, (Step.WATCH, Result.OK), (Step.FINISH, Result.OK), start="05")
    back = run_of(*FORWARD, (Step.WATCH, Result.OK), (Step.FINISH, Result.OK), copy_of="000001-A", start="04")
    assert taken_back([failed, refused]) == (("10:01:07", "10:01:13"),)
    assert taken_back([held, back]) == (("10:03:07", "10:04:11"),)
    assert taken_back([kept, held]) == taken_back([]) == ()

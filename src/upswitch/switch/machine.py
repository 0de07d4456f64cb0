"""The machine of a switch: every move there is.

Rule 1: every phase, step and ending stands in MOVES; nothing else in the program decides where a run goes next. (Two things
stand beside it: `repair` takes a STUCK run up again at BACKING_OUT, and a host that gets no more heartbeats rolls itself back;
see `Retried` and `Fired` in run.py.)

Rule 2: the swap is the point of no return. Before it every way out ends where production was never touched, or serves the same
pool with the new one beside it as a standby (REFUSED, INTERRUPTED). From it on there is no way out but forward, with proof, or
back, with proof; what can be proved neither way is STUCK and a person must look. The way back to a pool that is
dead is not taken (HELD), and where nginx was never asked there is none to take (REFUSED).

Rule 3: UNKNOWN is not FAILED. A step that timed out or lost its connection may have happened. FAILED says that it did not:
so a swap that FAILED refuses, a swap that is UNKNOWN goes back. A reload is never believed either way: OK and UNKNOWN
both go on to the confirm, which asks nginx.

Rule 4: the undo is known before the do. UNDO names, for each step that changes production, the step that reverses it.
Its target (the way-back generation) is staged and on disk before the swap, so that going back is a rename and a reload.

Rule 5: on the way back nothing is interrupted; a signal there is only counted.

A run may leave steps out (`plan.skips`: a rollback has no gate). A left-out step counts as OK and leaves no trace.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType

from upswitch.basics.result import Result

OK, FAILED, UNKNOWN, INTERRUPTED, HOLD = Result.OK, Result.FAILED, Result.UNKNOWN, Result.INTERRUPTED, Result.HOLD


class Phase(StrEnum):
    """Where a run is. The last six are endings."""

    PLANNED = "planned"
    GATED = "gated"
    STAGED = "staged"
    TESTED = "tested"
    WARMED = "warmed"
    RECHECKED = "rechecked"
    ARMED = "armed"
    DRAINED = "drained"
    SWAPPED = "swapped"
    RELOADED = "reloaded"
    CONFIRMED = "confirmed"
    JUDGED = "judged"
    BACKING_OUT = "backing_out"
    RESTORED = "restored"
    RELOADED_BACK = "reloaded_back"
    DONE = "done"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    HELD = "held"
    ROLLED_BACK = "rolled_back"
    STUCK = "stuck"


class Step(StrEnum):
    """One act. Verbs; what each does to a host is in switch/steps.py."""

    GATE = "gate"
    STAGE = "stage"
    TEST = "test"
    WARM = "warm"
    RECHECK = "recheck"
    ARM = "arm"
    DRAIN = "drain"
    SWAP = "swap"
    RELOAD = "reload"
    CONFIRM = "confirm"
    WATCH = "watch"
    FINISH = "finish"
    RESTORE = "restore"
    RELOAD_BACK = "reload_back"
    CONFIRM_BACK = "confirm_back"


class Outcome(StrEnum):
    """What a command proved at its end."""

    SWITCHED = "SWITCHED"
    UNCHANGED = "UNCHANGED"
    REFUSED = "REFUSED"
    INTERRUPTED = "INTERRUPTED"
    HELD = "HELD"
    ROLLED_BACK = "ROLLED_BACK"
    STUCK = "STUCK"


def _untouched(ok: Phase) -> Mapping[Result, Phase]:
    """A step before the swap: whatever goes wrong, the same pool serves."""
    return {OK: ok, FAILED: Phase.REFUSED, UNKNOWN: Phase.REFUSED, INTERRUPTED: Phase.INTERRUPTED}


def _back_out_unless(ok: Phase) -> Mapping[Result, Phase]:
    """A step after the swap: whatever goes wrong, go back."""
    return {OK: ok, FAILED: Phase.BACKING_OUT, UNKNOWN: Phase.BACKING_OUT, INTERRUPTED: Phase.BACKING_OUT}


def _back_or_stuck(ok: Phase) -> Mapping[Result, Phase]:
    """A step of the way back."""
    return {OK: ok, FAILED: Phase.STUCK, UNKNOWN: Phase.STUCK, Result.UNTOUCHED: Phase.REFUSED}


MOVES: Mapping[Phase, tuple[Step, Mapping[Result, Phase]]] = MappingProxyType(
    {
        Phase.PLANNED: (Step.GATE, _untouched(Phase.GATED)),
        Phase.GATED: (Step.STAGE, _untouched(Phase.STAGED)),
        # Where no private mount namespace is allowed the candidate is live while it is tested, so UNKNOWN goes back.
        Phase.STAGED: (Step.TEST, {**_untouched(Phase.TESTED), UNKNOWN: Phase.BACKING_OUT}),
        # The former pool's generation again, with a standby beside it: what serves stays what it was, unless its reload
        # can't be proved. A standby that does not come up is left there: nginx goes on proving it, and the next run need not wait.
        Phase.TESTED: (Step.WARM, {**_untouched(Phase.WARMED), UNKNOWN: Phase.BACKING_OUT}),
        Phase.WARMED: (Step.RECHECK, _untouched(Phase.RECHECKED)),
        # From here on the host rolls itself back when the heartbeats stop. Every ending disarms that (drive.py).
        Phase.RECHECKED: (Step.ARM, _untouched(Phase.ARMED)),
        Phase.ARMED: (Step.DRAIN, _untouched(Phase.DRAINED)),
        Phase.DRAINED: (Step.SWAP, {**_untouched(Phase.SWAPPED), UNKNOWN: Phase.BACKING_OUT}),
        # ---- the point of no return ----
        Phase.SWAPPED: (Step.RELOAD, {**_back_out_unless(Phase.RELOADED), UNKNOWN: Phase.RELOADED}),
        Phase.RELOADED: (Step.CONFIRM, _back_out_unless(Phase.CONFIRMED)),
        Phase.CONFIRMED: (Step.WATCH, {**_back_out_unless(Phase.JUDGED), HOLD: Phase.HELD}),
        Phase.JUDGED: (Step.FINISH, {OK: Phase.DONE, FAILED: Phase.STUCK, UNKNOWN: Phase.STUCK}),
        # ---- the way back ----
        # HOLD: the former pool is dead, so to go back would be an outage. UNTOUCHED: no reload has reached nginx, or it can't act.
        Phase.BACKING_OUT: (Step.RESTORE, {**_back_or_stuck(Phase.RESTORED), HOLD: Phase.HELD}),
        Phase.RESTORED: (Step.RELOAD_BACK, {**_back_or_stuck(Phase.RELOADED_BACK), UNKNOWN: Phase.RELOADED_BACK}),
        Phase.RELOADED_BACK: (Step.CONFIRM_BACK, _back_or_stuck(Phase.ROLLED_BACK)),
    }
)

UNDO: Mapping[Step, Step] = MappingProxyType(
    {Step.WARM: Step.RESTORE, Step.SWAP: Step.RESTORE, Step.RELOAD: Step.RELOAD_BACK, Step.CONFIRM: Step.CONFIRM_BACK},
)

ENDINGS: Mapping[Phase, Outcome] = MappingProxyType(
    {
        Phase.DONE: Outcome.SWITCHED,
        Phase.REFUSED: Outcome.REFUSED,
        Phase.INTERRUPTED: Outcome.INTERRUPTED,
        Phase.HELD: Outcome.HELD,
        Phase.ROLLED_BACK: Outcome.ROLLED_BACK,
        Phase.STUCK: Outcome.STUCK,
    },
)

UNTOUCHED = frozenset(
    {Phase.PLANNED, Phase.GATED, Phase.STAGED, Phase.TESTED, Phase.WARMED, Phase.RECHECKED, Phase.ARMED, Phase.DRAINED},
)
WAY_BACK = frozenset({Phase.BACKING_OUT, Phase.RESTORED, Phase.RELOADED_BACK})


def next_step(phase: Phase, skips: Collection[Step] = ()) -> Step | None:
    """The step to take in `phase`; None at an ending. A phase whose step is skipped is never rested in: see `settle`."""
    move = MOVES.get(settle(phase, skips))
    return move[0] if move else None


def settle(phase: Phase, skips: Collection[Step]) -> Phase:
    """Pass over the phases whose step is left out."""
    while phase in MOVES and MOVES[phase][0] in skips:
        phase = MOVES[phase][1][OK]
    return phase


def after(phase: Phase, result: Result, skips: Collection[Step] = ()) -> Phase:
    """Where `result` of the step of `phase` leads. KeyError for a result that the step can't have."""
    return settle(MOVES[settle(phase, skips)][1][result], skips)


def turns(step: Step, result: Result) -> bool:
    """Whether this result of `step` turns a run from its way."""
    return any(moves[result] is not moves[OK] for taken, moves in MOVES.values() if taken is step)


def way(skips: Collection[Step]) -> tuple[Step, ...]:
    """The steps of a run in which everything goes well."""
    steps: list[Step] = []
    phase = settle(Phase.PLANNED, skips)
    while (step := next_step(phase, skips)) is not None:
        steps.append(step)
        phase = after(phase, OK, skips)
    return tuple(steps)


def can_interrupt(phase: Phase) -> bool:
    """Whether a signal may end this phase's step; on the way back and at the very end it may not."""
    return phase in MOVES and INTERRUPTED in MOVES[phase][1]

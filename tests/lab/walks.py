"""Every way that a run can go, by the table of switch/machine.py alone."""

from collections.abc import Iterator

from upswitch.basics.result import Result
from upswitch.switch import machine
from upswitch.switch.job import ROLLBACK_SKIPS
from upswitch.switch.machine import Phase, Step

Walk = tuple[tuple[Phase, Step, Result], ...]

SKIPS: dict[str, tuple[Step, ...]] = {
    "switch": (),
    "switch without drain": (Step.DRAIN,),
    "switch without a check module": (Step.WARM,),
    "rollback": (*ROLLBACK_SKIPS, Step.DRAIN),
    "switch --no-watch": (Step.WATCH,),
}


def walks(skips: tuple[Step, ...], phase: Phase = Phase.PLANNED, so_far: Walk = ()) -> Iterator[tuple[Walk, Phase]]:
    """Each sequence of results, with the ending it leads to."""
    phase = machine.settle(phase, skips)
    if phase in machine.ENDINGS:
        yield so_far, phase
        return
    step, moves = machine.MOVES[phase]
    for result, to in moves.items():
        yield from walks(skips, to, (*so_far, (phase, step, result)))

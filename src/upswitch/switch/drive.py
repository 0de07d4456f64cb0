"""The loop: intent, act, result; until the run is over.

The intent is on disk before the step acts (invariant I7): it goes there with the result of the step before, ahead of the first
command of its own step, or at once where a step waits before it acts. What comes next is the machine's decision alone.
A journal that can't be written any more (a full disk) stops a run that has changed nothing, turns one back that has, leaves
one STUCK that was about to end, and never stops one that is on its way back: what that needs is on disk since before the swap.
"""

from collections.abc import Callable

from upswitch.basics.errors import HostError, NotAppendedError
from upswitch.basics.result import Result, Took, Why
from upswitch.switch import machine
from upswitch.switch.journal import Journal
from upswitch.switch.run import AnyRecord, Ended, Intent, Run, fold
from upswitch.switch.turn import RunPorts
from upswitch.switch.words import Step

Perform = Callable[[Step], Took]
_WAITING = frozenset({Step.GATE, Step.WARM, Step.WATCH})  # for seconds: who is killed there must not leave a journal that is behind


def drive(run: Run, *, perform: Perform, journal: Journal, ports: RunPorts) -> Run:
    """The run at its end, whose last result is noted but not written yet. Only a bug leaves this function by an exception."""
    while (step := run.next_step) is not None:
        began = ports.clock.monotonic()
        took = _BUG
        try:
            took = _take(run, step, perform=perform, journal=journal, ports=ports)
        finally:
            ports.turn.saw(step, took)
        record = Ended(
            run=run.plan.run,
            step=step,
            result=took.result,
            said=took.said,
            at=ports.clock.now(),
            seconds=round(ports.clock.monotonic() - began, 3),
            details=took.details,
            why=took.why,
        )
        journal.note(record)
        said = " | ".join((f"{_WORDS[took.result]}{took.said}", *took.details))
        ports.tell(step.replace("_", " "), said, is_bad=took.result in {Result.FAILED, Result.UNKNOWN})
        run = fold(run, record)
    _send(journal, ports)
    return run


_BUG = Took(result=Result.FAILED, said="upswitch itself failed", why=Why.BUG)
"""What other hosts hear of an exception. It is repaired on its own host (cli/main.py), and they do not wait for that."""

_WORDS = {
    Result.OK: "",
    Result.FAILED: "FAILED: ",
    Result.UNKNOWN: "UNKNOWN: ",
    Result.INTERRUPTED: "interrupted: ",
    Result.HOLD: "HOLD: ",
}


def _take(run: Run, step: Step, *, perform: Perform, journal: Journal, ports: RunPorts) -> Took:
    if ports.interrupts.count and run.can_interrupt:
        return Took(result=Result.INTERRUPTED, said=f"{ports.interrupts.name} before {step}", why=Why.SIGNAL)
    intent = Intent(run=run.plan.run, step=step, at=ports.clock.now())
    lost = write(journal, intent, ports, is_ahead=step not in _WAITING)
    if lost is None:
        try:
            return _performed(perform, step)
        except NotAppendedError as exc:
            journal.was_refused()
            ports.tell("journal", str(exc))
            lost = exc
    if run.phase not in machine.WAY_BACK:
        return Took(result=Result.FAILED, said=f"the journal can't be written: {lost}", why=lost.why)
    return _performed(perform, step)


def _performed(perform: Perform, step: Step) -> Took:
    try:
        return perform(step)
    except NotAppendedError:
        raise
    except HostError as exc:
        return Took(result=Result.UNKNOWN, said=str(exc), why=exc.why)


def _send(journal: Journal, ports: RunPorts) -> None:
    """What went ahead of a step that asked the host nothing."""
    try:
        journal.send()
    except HostError as exc:
        journal.was_refused()
        ports.tell("journal", str(exc))


def write(journal: Journal, record: AnyRecord | None, ports: RunPorts, *, is_ahead: bool = False) -> HostError | None:
    """Write the record, and what waits before it. None where it is on disk, or goes ahead; an error is reported and returned."""
    try:
        journal.write(record, is_ahead=is_ahead)
    except HostError as exc:
        ports.tell("journal", str(exc))
        return exc
    return None

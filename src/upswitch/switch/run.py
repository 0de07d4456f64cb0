"""A run: a plan under way, and its journal as a fold.

`fold` is the only way a run changes. The live run and the replay of a journal are the same fold, so what `repair` believes
about a killed run is what the run itself believed.
"""

import re
from collections.abc import Iterable

import msgspec

from upswitch.basics.errors import JournalCorruptError
from upswitch.basics.result import Result, Why
from upswitch.basics.value import Value
from upswitch.site.model import parse_name
from upswitch.switch import machine
from upswitch.switch.machine import Outcome, Phase, Step

VERSION = 4
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FIRED = {Result.OK: Phase.ROLLED_BACK, Result.HOLD: Phase.HELD}
_LATER_STEPS = {1: (Step.WARM, Step.ARM), 2: (Step.ARM,), 3: ()}  # those that a version's machine did not have


class Plan(Value):
    """What a run will do. `back` is the way-back generation: the former pool's content under the next number.

    `warm` is the former generation with the new pool as a standby, made live before the swap; "" where there is no need.
    """

    run: str
    command: str
    pool: str
    former_pool: str
    former: str
    to: str
    back: str
    copy_of: str = ""
    warm: str = ""
    skips: tuple[Step, ...] = ()
    reason: str = ""
    user: str = ""

    @property
    def base(self) -> str:
        """What is live just before the swap."""
        return self.warm or self.former


class Record(Value, tag_field="kind", tag=str.lower):
    """One line of the journal."""


class Started(Record):
    plan: Plan
    at: str
    version: int = VERSION


class Intent(Record):
    """Written and synced before the step acts."""

    run: str
    step: Step
    at: str


class Ended(Record):
    """Written when the step's result is known. `said` and `details` are for people; a journal before 0.2 has no `why`."""

    run: str
    step: Step
    result: Result
    said: str
    at: str
    seconds: float = 0.0
    details: tuple[str, ...] = ()
    why: Why = Why.NONE


class Closed(Record):
    """The end of a run, as its caller saw it."""

    run: str
    outcome: Outcome
    said: str
    at: str


class Retried(Record):
    """A STUCK run is taken up again, on its way back; `is_forward`: at its finish, where nothing else is left to be done."""

    run: str
    at: str
    is_forward: bool = False


class Fired(Record):
    """Written by the host itself (switch/deadman/): no more heartbeats came, and it put the former generation back.

    OK: `live` was proved to serve. FAILED and UNKNOWN: it was tried, and `repair` has to look. HOLD: the former pool was dead, so
    the host stayed as it was.
    """

    run: str
    result: Result
    live: str
    said: str
    at: str

    @property
    def text(self) -> str:
        if self.result is Result.HOLD:
            return f"upswitch stopped sending heartbeats, but the host did not roll itself back at {self.at}: {self.said}"
        if self.result is Result.OK:
            return f"upswitch stopped sending heartbeats, so the host rolled itself back at {self.at}: {self.said}"
        return f"upswitch stopped sending heartbeats, so the host tried to roll itself back at {self.at}, NOT PROVED: {self.said}"


class Settled(Record):
    """A STUCK run after which production was found proved: a person has seen to it."""

    run: str
    at: str


AnyRecord = Started | Intent | Ended | Closed | Retried | Fired | Settled


class Run(Value):
    """Where a run is. `pending` is a step whose intent was written and whose result was not."""

    plan: Plan
    started: str
    phase: Phase = Phase.PLANNED
    pending: Step | None = None
    steps: tuple[Ended, ...] = ()
    closed: Closed | None = None
    fired: Fired | None = None
    is_settled: bool = False

    @property
    def is_over(self) -> bool:
        return self.phase in machine.ENDINGS

    @property
    def is_left(self) -> bool:
        """Something is left to do: it was cut off, or it is STUCK and not settled."""
        return not self.is_over or (self.phase is Phase.STUCK and not self.is_settled)

    @property
    def needs_repair(self) -> bool:
        """Something is left, or the host rolled itself back and no command has recorded it yet."""
        return self.is_left or (self.fired is not None and self.closed is None)

    @property
    def can_interrupt(self) -> bool:
        """Whether a signal, or a crash, turns the run. A rollback goes on from its swap: what it leaves is the outage."""
        is_rollback = self.plan.copy_of != "" and self.phase not in machine.UNTOUCHED
        return machine.can_interrupt(self.phase) and not is_rollback

    @property
    def outcome(self) -> Outcome | None:
        return machine.ENDINGS.get(self.phase)

    @property
    def ending(self) -> str:
        """The outcome as its caller saw it; UNFINISHED where nothing tells it yet."""
        return self.closed.outcome if self.closed else self.outcome or "UNFINISHED"

    @property
    def said(self) -> str:
        return self.closed.said if self.closed else f"at {self.phase}"

    @property
    def next_step(self) -> Step | None:
        return machine.next_step(self.phase, self.plan.skips)

    @property
    def unproven(self) -> str:
        """What the watch did not see, where it kept the new pool without proof by traffic; "" where it had proof."""
        return self._kept(Why.UNPROVEN)

    @property
    def unseen(self) -> str:
        """What a short watch did not see though it had proof by our own requests; "" where it saw enough."""
        return self._kept(Why.SHORT_WATCH)

    @property
    def kept_why(self) -> Why:
        """The reason why a kept pool has less than full proof; NONE where it has that."""
        return Why.UNPROVEN if self.unproven else Why.SHORT_WATCH if self.unseen else Why.NONE

    def _kept(self, why: Why) -> str:
        return next((each.said for each in self.steps if each.result is Result.OK and each.why is why), "")

    @property
    def why(self) -> Why:
        """The reason of the ending: of what could not be done where it is STUCK, else of what turned the run from its way."""
        if self.phase is Phase.STUCK or self.has_stayed:
            return self.steps[-1].why
        return Why.DEAD_MAN if self.fired else self.cause.why if self.cause else Why.NONE

    @property
    def has_stayed(self) -> bool:
        """Whether the run would have gone back, and the former pool was dead."""
        return bool(self.steps) and self.steps[-1].step is Step.RESTORE and self.steps[-1].result is Result.HOLD

    @property
    def way_back_details(self) -> tuple[str, ...]:
        """The unhealthy servers of the former pool, as the last look before the way back saw them."""
        return next((each.details for each in self.steps[::-1] if each.step is Step.RESTORE and each is not self.cause), ())

    @property
    def cause(self) -> Ended | None:
        """The step that turned the run from its way: the first that was not OK."""
        return next((step for step in self.steps if step.result is not Result.OK), None)


def begin(record: Started) -> Run:
    plan = record.plan
    if record.version in _LATER_STEPS:
        plan = msgspec.structs.replace(plan, skips=(*plan.skips, *_LATER_STEPS[record.version]))
    return Run(plan=plan, started=record.at, phase=machine.settle(Phase.PLANNED, plan.skips))


def fold(run: Run, record: AnyRecord) -> Run:
    """The run after `record`. ValueError where the record does not follow from the run."""
    if run.fired and isinstance(record, Intent | Ended) and record.step is not run.next_step:
        return run  # of an orchestrator that did not know yet that the host had acted
    match record:
        case Started():
            return begin(record)
        case Intent():
            return msgspec.structs.replace(run, pending=record.step)
        case Ended():
            if record.step is not run.next_step:
                raise ValueError(f"{record.step} does not follow {run.phase}")
            phase = machine.after(run.phase, record.result, run.plan.skips)
            return msgspec.structs.replace(run, phase=phase, pending=None, steps=(*run.steps, record))
        case Closed():
            return msgspec.structs.replace(run, closed=record)
        case Retried():
            return msgspec.structs.replace(run, phase=Phase.JUDGED if record.is_forward else Phase.BACKING_OUT, closed=None)
        case Fired():
            phase = _FIRED.get(record.result, Phase.BACKING_OUT)
            return msgspec.structs.replace(run, phase=phase, pending=None, closed=None, fired=record)
        case Settled():
            return msgspec.structs.replace(run, is_settled=True)


def encode(record: AnyRecord) -> bytes:
    return msgspec.json.encode(record) + b"\n"


def decode(data: bytes) -> tuple[AnyRecord, ...]:
    """The records of a journal. A torn last line (no newline) is dropped; any other bad line is JournalCorruptError."""
    records: list[AnyRecord] = []
    decoder = msgspec.json.Decoder(AnyRecord)
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            record: AnyRecord = decoder.decode(line)
        except msgspec.MsgspecError as exc:
            raise JournalCorruptError(number, str(exc)) from exc
        if isinstance(record, Started) and record.version > VERSION:
            raise JournalCorruptError(number, f"written by a newer upswitch (journal version {record.version})")
        if isinstance(record, Started) and not _is_ours(record.plan):
            raise JournalCorruptError(number, "a run or a generation has a name that upswitch does not give")
        records.append(record)
    return tuple(records)


def _is_ours(plan: Plan) -> bool:
    """Names become parts of paths and of commands."""
    names = (plan.former, plan.to, plan.back, plan.base, plan.copy_of or plan.to)
    return all(map(parse_name, names)) and _RUN.fullmatch(plan.run) is not None


def replay(records: Iterable[AnyRecord]) -> tuple[Run, ...]:
    """Every run of a journal, oldest first. A record that comes twice was sent again after a cut, and counts once."""
    runs: list[Run] = []
    seen: set[AnyRecord] = set()
    for number, record in enumerate(records, 1):
        if isinstance(record, Started):
            if record not in seen:
                runs.append(begin(record))
                seen = {record}
            continue
        if record in seen:
            continue
        seen.add(record)
        if not runs or runs[-1].plan.run != record.run:
            raise JournalCorruptError(number, f"{type(record).__name__} of run {record.run} without its start")
        try:
            runs[-1] = fold(runs[-1], record)
        except (ValueError, KeyError) as exc:
            raise JournalCorruptError(number, str(exc)) from exc
    return tuple(runs)


def taken_back(runs: Iterable[Run]) -> tuple[tuple[str, str], ...]:
    """When releases served that did not stay: from their swap until the former pool served again, as the journal has the times.

    One that was held, or kept, counts where the next change was a rollback.
    """
    swapped = [(run, step) for run in runs for step in run.steps if step.step is Step.SWAP and step.result is Result.OK]
    found: list[tuple[str, str]] = []
    for number, (run, swap) in enumerate(swapped, 1):
        later = swapped[number][0] if number < len(swapped) else None
        if run.fired or run.phase is Phase.ROLLED_BACK:
            found.append((swap.at, run.fired.at if run.fired else run.steps[-1].at))
        elif later is not None and later.plan.copy_of:
            found.append((swap.at, later.steps[-1].at))
    return tuple(found)


def unfinished(runs: Iterable[Run]) -> Run | None:
    """The run that was cut off or got STUCK: the last one, where something is left of it to do."""
    last = next(iter([*runs][::-1]), None)
    return last if last is not None and last.is_left else None


def resolve(run: Run, live: str, *, is_proved: bool) -> Result:
    """How the step that a crash cut off counts, when `live` is the generation that the link points to now.

    Before the swap the link tells: still the former one means that nothing happened; else it is UNKNOWN, which leads back.
    From the swap on it counts as interrupted: an unconfirmed switch is rolled back, never completed; a rollback, whose
    swap has happened, goes on. Where a run can't be interrupted its steps are idempotent and simply taken again, and this
    is not asked (repair.py). A warm generation counts as nothing happened once nginx answers with it
    (`is_proved`): it serves what the former one does.
    """
    is_past = run.phase in {Phase.WARMED, Phase.RECHECKED, Phase.ARMED, Phase.DRAINED}
    is_warm = run.plan.warm != "" and live == run.plan.warm and (is_past or (is_proved and run.phase is Phase.TESTED))
    if run.phase not in machine.UNTOUCHED or live == run.plan.former or is_warm:
        return Result.INTERRUPTED
    is_swapped_back = run.plan.copy_of != "" and run.phase is Phase.DRAINED and live == run.plan.to
    return Result.OK if is_swapped_back else Result.UNKNOWN

"""What a run keeps for its report, beside the journal: a file for each run in the folder `runs` of the state folder.

The journal decides, so it stays small. Nothing is decided by a record: where it is missing, or can't be read, the report says so.
"""

import msgspec

from upswitch.basics.errors import HostError
from upswitch.basics.value import Value
from upswitch.diagnose.finding import Finding
from upswitch.health.rounds import GateReport
from upswitch.health.timeline import ServerLine, Timeline
from upswitch.hosts import sh
from upswitch.hosts.host import Host
from upswitch.switch.journal import KEPT_RUNS
from upswitch.switch.run import Plan
from upswitch.watch.report import WatchReport
from upswitch.watch.seen import Seen

VERSION = 1
_LONGEST_DIFF = 1 << 16  # characters
_MOST_CAUSES, _MOST_NOTES = 12, 30
_LONGEST = 1 << 21  # bytes of a file
_PLACE = "runs"


class CauseKept(Value):
    """A cause that the logs tell: how often, where, one line as evidence, and what to do."""

    code: str
    count: int
    clients: int
    servers: tuple[str, ...]
    evidence: str
    why: str
    check: str
    fix: str


class Record(Value):
    """`watch` is what the watch came to, "" where there was none. A diff that is too long is cut (`is_diff_cut`).

    `gate_s` is how long the gate took, in seconds.
    """

    run: str
    version: int = VERSION
    gate_s: float = 0.0
    gate: tuple[ServerLine, ...] = ()
    seen: Seen | None = None
    watch: str = ""
    notes: tuple[str, ...] = ()
    causes: tuple[CauseKept, ...] = ()
    diff: str = ""
    is_diff_cut: bool = False


class Recording:
    """The record of a run under way."""

    def __init__(self, plan: Plan) -> None:
        self._record = Record(run=plan.run)
        self._new, self._old = Timeline(plan.pool), Timeline(plan.former_pool)
        self._round_s = 0.0

    def round(self, report: GateReport) -> None:
        """One more round of the gate."""
        self._new.add(report.new, at_s=self._round_s)
        self._old.add(report.old, at_s=self._round_s)
        self._round_s = report.seconds

    def watched(self, seen: Seen, report: WatchReport) -> None:
        self._record = msgspec.structs.replace(
            self._record,
            seen=seen,
            watch=report.said,
            notes=report.notes[:_MOST_NOTES],
            causes=tuple(map(_kept, report.findings[:_MOST_CAUSES])),
        )

    def record(self, diff: str) -> Record:
        return msgspec.structs.replace(
            self._record,
            gate_s=self._round_s,
            gate=(*self._new.lines, *self._old.lines),
            diff=diff[:_LONGEST_DIFF],
            is_diff_cut=len(diff) > _LONGEST_DIFF,
        )


def _kept(found: Finding) -> CauseKept:
    return CauseKept(
        code=found.code,
        count=found.count,
        clients=found.clients,
        servers=found.servers[:_MOST_CAUSES],
        evidence=found.evidence,
        why=found.why,
        check=found.check,
        fix=found.fix,
    )


def keep(host: Host, state: str, record: Record, *, most: int = KEPT_RUNS) -> str:
    """Why it could not be kept; "" where it was. Only the last `most` records stay."""
    argv = sh.argv("upswitch.switch", "record.sh", state, record.run, str(most))
    ran = host.run(argv, deadline=sh.QUICK_S, stdin=msgspec.json.encode(record))
    return "" if ran.exit == 0 else f"the data for this run's report could not be kept: {ran.words}"


def kept(host: Host, state: str, run: str) -> Record | str:
    """The record of a run, or why there is none."""
    path = f"{state}/{_PLACE}/{run}.json"
    try:
        chunk = host.read(path, limit=_LONGEST)
    except HostError as exc:
        return f"{path} can't be read: {exc.reason}"
    if chunk is None:
        return f"this run kept no data. It was cut off, an older upswitch made it, or it is older than the last {KEPT_RUNS} runs"
    try:
        return msgspec.json.decode(chunk.data, type=Record)
    except msgspec.MsgspecError as exc:
        return f"{path} can't be read, maybe because another version of upswitch wrote it: {exc}"

"""Proof of a reload. Exit codes prove nothing: `nginx -t` and `nginx -s reload` both exit 0 while the old configuration
goes on serving (a port is taken, a zone key changed), and while every new worker dies and the old ones leave.

Proof is (nginx-facts, section 3): the same master as before; at least one child that was not there before and that has
finished its start (see processes.py); no older child that still accepts (old workers go on accepting for about 100 ms,
ngx_process_cycle.c:239); the marker answering with the new generation MARKS times in a row, from children that are new; and
the same new workers still there SETTLE later.

The reload was REJECTED when the master itself logged [emerg] and still has no new child once it has given up (a bind is tried
five times, 500 ms apart). It is an OUTAGE when workers could not be started, or none is left: restore at once. Else UNKNOWN.
"""

from collections.abc import Sequence
from enum import StrEnum

from upswitch.basics.result import Result, Took, Why
from upswitch.basics.value import Value
from upswitch.nginx.marker import Marker
from upswitch.nginx.processes import Family, Process, keys

MARKS = 10
SETTLE = 0.105  # seconds: more than 0.1 in /proc/uptime's hundredths; a worker's death in its start shows in its title, at once
QUIET = 0.7  # seconds without a further [emerg]: longer than the 500 ms between two tries of a bind
NO_WORKER = 0.5  # seconds without any worker before it is called an outage
DOOMED = 0.3  # seconds that a word about workers that can't start must stand without a new worker: a client can forge the word
DEADLINE = 8.0  # seconds; longer where a name must be resolved (10 s per dead resolver, measured)
DEADLINE_NAMES = 35.0


class Proof(StrEnum):
    WAITING = "waiting"
    APPLIED = "applied"
    REJECTED = "rejected"
    OUTAGE = "outage"
    UNKNOWN = "unknown"


class Sample(Value):
    """What was seen at one moment. `at` is seconds since the reload; `emerg` and `fatal` are all such lines since then."""

    at: float
    family: Family
    marks: tuple[Marker, ...] = ()
    emerg: tuple[str, ...] = ()
    fatal: tuple[str, ...] = ()


class Finding(Value):
    """`why` of an UNKNOWN."""

    proof: Proof
    said: str
    why: Why = Why.NOT_PROVED


def judge(before: Family, samples: Sequence[Sample], *, want: str, deadline: float = DEADLINE) -> Finding:
    """What the samples since the reload prove about generation `want`. `before` was taken just before the reload."""
    now = samples[-1]
    if now.family.master is None or before.master is None or now.family.master.key != before.master.key:
        return Finding(proof=Proof.UNKNOWN, said="the nginx master process is gone, or it is another process", why=Why.NO_MASTER)
    new = _new_workers(before, now.family)
    if now.fatal and not new and now.at - _first_fatal(samples) >= DOOMED:
        return Finding(proof=Proof.OUTAGE, said=f"new workers can't start: {now.fatal[-1]}")
    if _had_no_worker(samples):
        return Finding(proof=Proof.OUTAGE, said=f"nginx has had no worker for {NO_WORKER:g} s")
    if new and _is_settled(before, samples, want):
        marks = _marks_in_row(before, samples, want)
        return Finding(
            proof=Proof.APPLIED,
            said=f"nginx reported {want} {marks} times in a row from {len(new)} new workers; no old worker accepts requests",
        )
    if now.emerg and not new and now.at - _first_seen(samples, now.emerg) >= QUIET:
        return Finding(proof=Proof.REJECTED, said=f"nginx kept its old configuration: {now.emerg[-1]}")
    proof = Proof.UNKNOWN if now.at >= deadline else Proof.WAITING
    return Finding(proof=proof, said=_what_is_missing(before, now, want))


def took(finding: Finding) -> Took:
    """The finding as the result of a step."""
    match finding.proof:
        case Proof.APPLIED:
            return Took(result=Result.OK, said=finding.said)
        case Proof.REJECTED | Proof.OUTAGE:
            why = Why.REJECTED if finding.proof is Proof.REJECTED else Why.OUTAGE
            return Took(result=Result.FAILED, said=f"{finding.proof}: {finding.said}", why=why)
        case Proof.UNKNOWN | Proof.WAITING:
            return Took(result=Result.UNKNOWN, said=finding.said, why=finding.why)


def _new_workers(before: Family, now: Family) -> tuple[Process, ...]:
    old = keys(before.children)
    return tuple(worker for worker in now.workers if worker.key not in old)


def _old_accepting(before: Family, now: Family) -> tuple[Process, ...]:
    old = keys(before.children)
    return tuple(worker for worker in now.workers if worker.key in old)


def _starting(now: Family) -> tuple[Process, ...]:
    """Children that still carry the master's title: inside their start."""
    return tuple(child for child in now.children if child.is_master)


def _is_settled(before: Family, samples: Sequence[Sample], want: str) -> bool:
    now = samples[-1]
    if _old_accepting(before, now.family) or _starting(now.family):
        return False
    if _marks_in_row(before, samples, want) < MARKS:
        return False
    workers = keys(now.family.workers)
    first = next((sample.at for sample in samples if keys(_new_workers(before, sample.family)) == workers), now.at)
    return now.at - first >= SETTLE


def _marks_in_row(before: Family, samples: Sequence[Sample], want: str) -> int:
    """The last marks that say `want` and come from a new child, counted back to the first that does not."""
    old = {child.pid for child in before.children}
    count = 0
    for sample in reversed(samples):
        for mark in reversed(sample.marks):
            if mark.generation != want or mark.pid in old:
                return count
            count += 1
    return count


def _had_no_worker(samples: Sequence[Sample]) -> bool:
    """No child that accepts or starts, for NO_WORKER seconds up to now."""
    now = samples[-1]
    last = max((sample.at for sample in samples if sample.family.workers or _starting(sample.family)), default=0.0)
    return now.at - last >= NO_WORKER


def _first_fatal(samples: Sequence[Sample]) -> float:
    return next(sample.at for sample in samples if sample.fatal)


def _first_seen(samples: Sequence[Sample], emerg: tuple[str, ...]) -> float:
    """When the present number of [emerg] lines was first seen: the last new one came then."""
    return next(sample.at for sample in samples if len(sample.emerg) == len(emerg))


def _what_is_missing(before: Family, now: Sample, want: str) -> str:
    if not _new_workers(before, now.family):
        return f"after {now.at:.1f} s nginx has no new worker" + (f"; it said: {now.emerg[-1]}" if now.emerg else "")
    old = _old_accepting(before, now.family)
    if old:
        return f"after {now.at:.1f} s old workers still accept requests: {', '.join(str(worker.pid) for worker in old)}"
    seen = sorted({mark.generation for mark in now.marks})
    return f"after {now.at:.1f} s nginx reports {', '.join(seen) or 'nothing'}, not only {want}"

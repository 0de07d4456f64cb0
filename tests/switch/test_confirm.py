"""What samples taken after a reload prove."""

import msgspec
import pytest

from upswitch.logs.error_line import emerg_lines, fatal_lines
from upswitch.nginx.marker import Marker, parse_marker
from upswitch.nginx.processes import Family, Process
from upswitch.switch.proof import DEADLINE, DOOMED, MARKS, NO_WORKER, QUIET, SETTLE, Proof, Sample, judge

WORKER, LEAVING, MASTER = "nginx: worker process", "nginx: worker process is shutting down", "nginx: master process nginx"
WANT, FORMER = "000002-B", "000001-A"


def process(pid, title=WORKER, *, state="S", parent=1):
    return Process(pid=pid, parent=parent, start=pid * 10, state=state, title=title)


def family(*children, master=1):
    return Family(master=process(master, MASTER, parent=0), children=children)


OLD = (process(11), process(12))
GONE = (process(11, LEAVING), process(12, LEAVING))
NEW = (process(21), process(22))
BEFORE = family(*OLD)


def marks(*words):
    """`g2` is the new generation from a new worker, `g1` the former one from an old worker."""
    return tuple(Marker(generation=WANT, pid=21) if word == "g2" else Marker(generation=FORMER, pid=11) for word in words)


def sample(at, *children, said=(), **complaints):
    return Sample(at=at, family=family(*children), marks=said, **complaints)


def proof(*samples):
    return judge(BEFORE, samples, want=WANT).proof


ALL_NEW = marks(*["g2"] * MARKS)
APPLIED = (sample(0.2, *NEW, *GONE, said=ALL_NEW), sample(0.21 + SETTLE, *NEW, *GONE, said=ALL_NEW))


def test_new_workers_that_answer_and_no_old_one_that_accepts_are_an_applied_reload():
    finding = judge(BEFORE, APPLIED, want=WANT)
    assert finding.proof is Proof.APPLIED
    assert finding.said == f"nginx reported {WANT} {2 * MARKS} times in a row from 2 new workers; no old worker accepts requests"
    assert proof(APPLIED[0]) is Proof.WAITING  # not settled yet


def test_marks_add_up_over_samples_and_must_be_the_last_ones():
    few = [sample(0.1 * at, *NEW, said=marks("g2", "g2", "g2")) for at in range(1, 5)]
    assert proof(*few) is Proof.APPLIED
    assert proof(*few[:3]) is Proof.WAITING
    assert proof(*few, sample(0.5, *NEW, said=marks("g2", "g1"))) is Proof.WAITING


def test_one_hit_among_answers_of_both_generations_proves_nothing():
    mixed = marks("g2", "g1", "g1", "g2")  # as a probe saw it in the 100 ms in which both accept
    assert proof(*(sample(at, *NEW, *GONE, said=mixed) for at in (0.1, 0.3, 0.5))) is Proof.WAITING
    late = judge(BEFORE, [sample(DEADLINE, *NEW, *GONE, said=mixed)], want=WANT)
    assert (late.proof, late.said) == (Proof.UNKNOWN, f"after 8.0 s nginx reports {FORMER}, {WANT}, not only {WANT}")


def test_the_new_generation_from_an_old_worker_is_not_proof():
    stale = (Marker(generation=WANT, pid=11),) * MARKS
    assert proof(sample(0.2, *NEW, said=stale), sample(0.5, *NEW, said=stale)) is Proof.WAITING


def test_marks_without_a_pid_count():
    older = (Marker(generation=WANT),) * MARKS
    assert proof(sample(0.2, *NEW, said=older), sample(0.5, *NEW, said=older)) is Proof.APPLIED


def test_an_old_worker_that_still_accepts_is_waited_for_and_named():
    samples = [sample(at, *NEW, process(11), GONE[1], said=ALL_NEW) for at in (0.1, 0.3)]
    assert proof(*samples) is Proof.WAITING
    late = judge(BEFORE, [*samples, msgspec.structs.replace(samples[-1], at=DEADLINE)], want=WANT)
    assert (late.proof, late.said) == (Proof.UNKNOWN, "after 8.0 s old workers still accept requests: 11")


def test_a_child_that_still_carries_the_masters_title_is_inside_its_start():
    starting = process(23, MASTER)
    samples = [sample(at, *NEW, starting, said=ALL_NEW) for at in (0.1, 0.3)]
    assert proof(*samples) is Proof.WAITING
    assert (
        proof(*samples, sample(0.5, *NEW, process(23), said=ALL_NEW), sample(0.7, *NEW, process(23), said=ALL_NEW)) is Proof.APPLIED
    )


def test_a_reused_pid_is_a_new_worker():
    reused = Process(pid=11, parent=1, start=999, state="S", title=WORKER)
    samples = [sample(at, reused, said=(Marker(generation=WANT),) * MARKS) for at in (0.1, 0.3)]
    assert judge(BEFORE, samples, want=WANT).proof is Proof.APPLIED


def test_workers_that_are_replaced_again_settle_again():
    crashed = (sample(0.2, *NEW, said=ALL_NEW), sample(0.25, NEW[0], process(23), said=ALL_NEW))
    assert proof(*crashed) is Proof.WAITING
    assert proof(*crashed, sample(0.26 + SETTLE, NEW[0], process(23), said=ALL_NEW)) is Proof.APPLIED


def test_a_taken_port_is_rejected_only_when_the_bind_was_given_up():
    lines, samples = [], []
    for at in range(1, 40):  # a look every 100 ms; the master complains five times, 500 ms apart
        if at % 5 == 1 and len(lines) < 5:
            lines.append(f"bind() to 0.0.0.0:80 failed ({at})")
        samples.append(sample(at / 10, *OLD, emerg=tuple(lines)))
    proofs = [judge(BEFORE, samples[: at + 1], want=WANT).proof for at in range(len(samples))]
    first = proofs.index(Proof.REJECTED)
    assert {*proofs[:first]} == {Proof.WAITING}
    assert 2.1 + QUIET - 0.01 < samples[first].at < 2.1 + QUIET + 0.11
    assert "kept its old configuration: bind() to" in judge(BEFORE, samples, want=WANT).said


def test_an_emerg_of_another_process_alone_is_nothing():
    lines = [b"2024/01/01 00:00:00 [emerg] 777#0: unexpected end of file in /etc/nginx/nginx.conf:9"]
    assert emerg_lines(lines, 1) == fatal_lines(lines, 1) == ()
    assert len(emerg_lines(lines, 777)) == 1


def test_an_emerg_with_new_workers_does_not_undo_their_proof():
    samples = [msgspec.structs.replace(each, emerg=("something",)) for each in APPLIED]
    assert proof(*samples) is Proof.APPLIED


def test_workers_that_cannot_start_are_an_outage_once_no_new_one_has_come_for_a_moment():
    fatal = ("worker process 21 exited with fatal code 2 and cannot be respawned",)
    said = sample(0.1, *OLD, fatal=fatal)
    assert proof(said) is Proof.WAITING  # a client can forge the line
    assert proof(said, sample(0.1 + DOOMED, *OLD, fatal=fatal)) is Proof.OUTAGE
    assert proof(said, sample(0.1 + DOOMED, process(21, MASTER), fatal=fatal)) is Proof.OUTAGE
    assert proof(said, sample(0.1 + DOOMED, *NEW, said=ALL_NEW, fatal=fatal)) is Proof.WAITING


def test_no_worker_at_all_is_an_outage_after_half_a_second():
    assert proof(sample(0.1, *NEW), sample(0.1 + NO_WORKER - 0.01)) is Proof.WAITING
    assert proof(sample(0.1, *NEW), sample(0.1 + NO_WORKER)) is Proof.OUTAGE
    assert proof(sample(NO_WORKER, *GONE)) is Proof.OUTAGE
    assert proof(sample(NO_WORKER, process(21, MASTER))) is Proof.WAITING  # one is starting
    assert proof(sample(NO_WORKER, process(21, "", state="Z"))) is Proof.OUTAGE


@pytest.mark.parametrize("now", [Family(master=None), family(*NEW, master=2), Family(master=process(1, "", state="Z"))])
def test_without_the_same_master_nothing_is_proved(now):
    start = msgspec.structs.replace(now.master, start=5) if now.master and now.master.pid == 1 else now.master
    last = Sample(at=0.3, family=msgspec.structs.replace(now, master=start), marks=ALL_NEW)
    assert judge(BEFORE, [last], want=WANT).proof is Proof.UNKNOWN


def test_nothing_at_all_is_unknown_at_the_deadline_that_was_given():
    quiet = [sample(DEADLINE, *OLD)]
    assert judge(BEFORE, quiet, want=WANT).proof is Proof.UNKNOWN
    assert judge(BEFORE, quiet, want=WANT, deadline=35.0).proof is Proof.WAITING
    assert judge(BEFORE, quiet, want=WANT).said == "after 8.0 s nginx has no new worker"


@pytest.mark.parametrize(
    ("body", "marker"),
    [
        (b"000002-B 21\n", Marker(generation=WANT, pid=21)),
        (b"000002-B\n", Marker(generation=WANT)),
        (b"", None),
        (b"\n", None),
        (b"<html><head><title>404</title>", None),
        (b"\x1b[2J000002-B 21", None),
        (b"<html> some other server </html>", None),
    ],
)
def test_the_markers_answer_is_a_generation_and_a_worker(body, marker):
    assert parse_marker(body) == marker

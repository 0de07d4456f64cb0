"""The loop with hand-made steps and a real journal, or one that can't be written."""

import pytest

from upswitch.basics.errors import HostError, JournalCorruptError, NotAppendedError
from upswitch.basics.result import Result, Took, Why
from upswitch.generations.generation import Live
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.site.model import Nginx
from upswitch.switch import machine, run
from upswitch.switch.drive import close, drive, write
from upswitch.switch.journal import Journal
from upswitch.switch.machine import Outcome, Phase, Step
from upswitch.switch.run import Ended, Intent, Plan, Started
from upswitch.switch.session import Alone, RunPorts

PLAN = Plan(run="r1", command="switch", pool="B", former_pool="A", former="000001-A", to="000002-B", back="000003-A")
STARTED = Started(plan=PLAN, at="t0")


class FullDisk(LocalHost):
    """A machine whose disk is full once the journal holds so many records."""

    def __init__(self, room: int) -> None:
        super().__init__(SystemClock())
        self.room = room

    def append(self, path: str, data: bytes, *, is_ahead: bool = False) -> None:
        records = data.count(b"\n")
        if self.room < records:
            raise HostError(f"append to {path}", "No space left on device")
        self.room -= records
        super().append(path, data, is_ahead=is_ahead)


class FarDisk(FullDisk):
    """The same behind a wire: what goes ahead is written when the next command comes, which is not begun where that fails."""

    def __init__(self, room: int) -> None:
        super().__init__(room)
        self._ahead: list[tuple[str, bytes]] = []

    def append(self, path: str, data: bytes, *, is_ahead: bool = False) -> None:
        self._ahead.append((path, data))
        if not is_ahead:
            self._arrive()

    def run(self, argv, *, deadline, stdin=b"", holds_lock=False):
        try:
            self._arrive()
        except HostError as exc:
            raise NotAppendedError(exc.what, exc.reason, why=exc.why) from exc
        return super().run(argv, deadline=deadline, stdin=stdin, holds_lock=holds_lock)

    def _arrive(self) -> None:
        ahead, self._ahead = self._ahead, []
        for path, data in ahead:
            super().append(path, data)


class GoneAtTheEnd(FullDisk):
    """A host that no command reaches any more, once old generations are to be removed."""

    def run(self, argv, *, deadline, stdin=b"", holds_lock=False):
        if "prune" in argv:
            raise HostError("run a program", "connection lost", why=Why.CONNECTION_LOST)
        return super().run(argv, deadline=deadline, stdin=stdin, holds_lock=holds_lock)


class Signals:
    """Interrupts that come with the step named."""

    def __init__(self, at: Step | None = None) -> None:
        self.at = at
        self.count = 0
        self.name = ""

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"the driver does not sleep ({seconds})")

    def came_with(self, step: Step) -> None:
        if step is self.at:
            self.count, self.name = 1, "SIGTERM"


class Listener(Alone):
    """What the other hosts of a fleet would hear, and what had been done by then."""

    def __init__(self, done: list[Step]) -> None:
        self.heard: list[tuple[int, Step, Result]] = []
        self._done = done

    def saw(self, step: Step, took: Took) -> None:
        self.heard.append((len(self._done), step, took.result))


class Driven:
    """One run driven to its end. `answers` are the results that are not OK; an exception is raised."""

    def __init__(self, folder, answers=None, *, room=1000, signal=None, host=FullDisk, turn=None):
        self.host = host(room)
        self.interrupts = Signals(signal)
        self.told: list[str] = []
        self.done: list[Step] = []
        self.turn = turn or Listener(self.done)
        self.answers = answers or {}
        self.journal = Journal(self.host, f"{folder}/journal")
        self.journal.write(STARTED)
        clock = SystemClock()
        self.ports = ports = RunPorts(
            host=self.host,
            prober=None,
            through=None,
            clock=clock,
            lock=None,
            interrupts=self.interrupts,
            tell=self.tell,
            turn=self.turn,
            home=self.host,
        )
        self.run = drive(run.begin(STARTED), perform=self.perform, journal=self.journal, ports=ports)
        write(self.journal, None, ports)

    def tell(self, step, said, *, is_passing=False, is_bad=False):
        del is_bad
        assert not is_passing
        self.told.append(f"{step}: {said}")

    def perform(self, step):
        if isinstance(self.host, FarDisk):
            self.host.run(("true",), deadline=5)
        self.done.append(step)
        self.interrupts.came_with(step)
        answer = self.answers.get(step, Result.OK)
        if isinstance(answer, Exception):
            raise answer
        return Took(result=answer, said=f"{step} {answer}")


WAY = [*machine.way(())]
WAY_BACK = [Step.RESTORE, Step.RELOAD_BACK, Step.CONFIRM_BACK]


def test_when_all_goes_well_every_step_is_taken_and_the_journal_holds_intent_and_result_of_each(tmp_path):
    driven = Driven(tmp_path)
    assert (driven.run.outcome, driven.done) == (Outcome.SWITCHED, WAY)
    records = run.decode((tmp_path / "journal").read_bytes())
    assert [(type(record), record.step) for record in records[1:]] == [(kind, step) for step in WAY for kind in (Intent, Ended)]
    assert driven.journal.read() == (driven.run,)


@pytest.mark.parametrize("step", WAY)
@pytest.mark.parametrize("result", [Result.FAILED, Result.UNKNOWN])
def test_a_step_that_goes_wrong_leads_where_the_machine_says(tmp_path, step, result):
    driven = Driven(tmp_path, {step: result})
    phase = next(phase for phase, (taken, _) in machine.MOVES.items() if taken is step)
    done = WAY[: WAY.index(step) + 1]
    if machine.after(phase, result) is Phase.BACKING_OUT:
        assert (driven.done, driven.run.outcome) == ([*done, *WAY_BACK], Outcome.ROLLED_BACK)
    elif machine.after(phase, result) in machine.ENDINGS:
        assert driven.done == done
    assert driven.run.cause.step is step
    assert driven.journal.read() == (driven.run,)


def test_a_host_that_could_not_be_asked_makes_a_step_unknown_not_failed(tmp_path):
    error = HostError("run nginx", "connection lost")
    assert Driven(tmp_path, {Step.SWAP: error}).run.outcome is Outcome.ROLLED_BACK
    (tmp_path / "journal").unlink()
    driven = Driven(tmp_path, {Step.RELOAD: error})
    assert driven.run.outcome is Outcome.SWITCHED  # a reload is not believed either way: the confirm asks nginx
    assert driven.run.cause == next(step for step in driven.run.steps if step.result is Result.UNKNOWN)
    assert "reload: UNKNOWN: can't run nginx: connection lost" in driven.told


@pytest.mark.parametrize("answer", [HostError("ask", "connection lost"), Result.UNKNOWN])
def test_the_other_hosts_hear_how_a_step_ended_before_the_next_one_begins(tmp_path, answer):
    driven = Driven(tmp_path, {Step.CONFIRM: answer})
    steps = [*WAY[: WAY.index(Step.CONFIRM) + 1], *WAY_BACK]
    results = [Result.UNKNOWN if step is Step.CONFIRM else Result.OK for step in steps]
    assert driven.turn.heard == [*zip(range(1, len(steps) + 1), steps, results, strict=True)]


def test_the_other_hosts_hear_of_a_bug(tmp_path):
    turn = Listener([])
    with pytest.raises(ZeroDivisionError):
        Driven(tmp_path, {Step.RELOAD: ZeroDivisionError()}, turn=turn)
    assert turn.heard[-1][1:] == (Step.RELOAD, Result.FAILED)


def test_a_bug_leaves_the_loop_with_the_intent_on_disk(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Driven(tmp_path, {Step.RELOAD: ZeroDivisionError()})
    (left,) = Journal(LocalHost(SystemClock()), f"{tmp_path}/journal").read()
    assert (left.pending, left.phase, run.unfinished([left])) == (Step.RELOAD, Phase.SWAPPED, left)


each_host = pytest.mark.parametrize("host", [FullDisk, FarDisk], ids=["here", "far"])


@each_host
@pytest.mark.parametrize("room", range(1, 1 + 2 * len(WAY)))
def test_a_disk_that_fills_up_refuses_before_the_swap_and_goes_back_after_it(tmp_path, room, host):
    driven = Driven(tmp_path, room=room, host=host)
    swapped = Step.SWAP in driven.done
    if WAY[-1] in driven.done:
        assert driven.run.outcome is Outcome.SWITCHED  # the last result alone was lost
    elif Step.WATCH in driven.done:
        assert driven.run.outcome is Outcome.STUCK  # judged, but never recorded as done (reliability.md, F08 at the end)
    else:
        assert driven.run.outcome is (Outcome.ROLLED_BACK if swapped else Outcome.REFUSED)
        assert driven.done[-3:] == WAY_BACK or not swapped
        assert driven.run.cause.said.startswith("the journal can't be written: can't append to ")
    assert any(line.startswith("journal: ") for line in driven.told)


@each_host
@pytest.mark.parametrize("room", range(2 * WAY.index(Step.SWAP) + 2, 2 * len(WAY)))
def test_a_way_back_under_way_is_not_stopped_by_a_full_disk(tmp_path, room, host):
    driven = Driven(tmp_path, {Step.CONFIRM: Result.FAILED}, room=room, host=host)
    assert (driven.run.outcome, driven.done[-3:]) == (Outcome.ROLLED_BACK, WAY_BACK)


@each_host
def test_what_could_not_be_written_is_written_with_the_next_record_when_there_is_room_again(tmp_path, host):
    """A journal with a gap in it could not be read."""
    driven = Driven(tmp_path, room=2 * WAY.index(Step.SWAP) + 2, host=host)
    assert driven.run.outcome is Outcome.ROLLED_BACK
    driven.host.room = 1000
    driven.journal.write()
    assert driven.journal.read() == (driven.run,)


def test_a_host_that_is_lost_when_old_generations_are_removed_does_not_change_how_the_run_ended(tmp_path):
    driven = Driven(tmp_path, host=GoneAtTheEnd)
    live = Live(disk=PLAN.to, running=PLAN.to, pool=PLAN.pool, problem="")
    ending = close(driven.ports, driven.run, driven.journal, Nginx(user=""), seen=live, outdated=("000000-A",))
    assert ending.outcome is Outcome.SWITCHED
    assert driven.journal.read()[-1].closed is not None
    assert any("old generations are left" in line for line in driven.told)


@pytest.mark.parametrize("step", WAY[: WAY.index(Step.SWAP)])
def test_a_signal_before_the_swap_ends_the_run_with_nothing_touched(tmp_path, step):
    driven = Driven(tmp_path, signal=step)
    assert (driven.run.outcome, driven.done[-1]) == (Outcome.INTERRUPTED, step)
    assert driven.run.cause.said.startswith("SIGTERM before ")


@pytest.mark.parametrize("step", [Step.SWAP, Step.RELOAD, Step.CONFIRM])
def test_a_signal_after_the_swap_goes_back_and_never_stops_on_the_way(tmp_path, step):
    driven = Driven(tmp_path, signal=step)
    assert (driven.run.outcome, driven.done[-4:]) == (Outcome.ROLLED_BACK, [step, *WAY_BACK])


@pytest.mark.parametrize("step", WAY_BACK)
def test_a_signal_on_the_way_back_changes_nothing(tmp_path, step):
    assert Driven(tmp_path, {Step.CONFIRM: Result.FAILED}, signal=step).run.outcome is Outcome.ROLLED_BACK


def test_a_signal_in_the_last_step_of_the_watch_is_too_late_to_go_back(tmp_path):
    assert Driven(tmp_path, signal=Step.WATCH).run.outcome is Outcome.SWITCHED


@pytest.mark.parametrize("step", WAY_BACK)
def test_a_way_back_that_fails_is_stuck(tmp_path, step):
    failed = Driven(tmp_path, {Step.CONFIRM: Result.FAILED, step: Result.FAILED})
    assert (failed.run.outcome, failed.done[-1]) == (Outcome.STUCK, step)


def test_a_hold_ends_the_run_on_the_new_pool(tmp_path):
    driven = Driven(tmp_path, {Step.WATCH: Result.HOLD})
    assert (driven.run.outcome, driven.done) == (Outcome.HELD, WAY[: WAY.index(Step.WATCH) + 1])


def test_a_journal_is_cut_to_whole_lines_before_a_run_and_blocks_are_set_aside(tmp_path):
    host, path = LocalHost(SystemClock()), tmp_path / "journal"
    journal = Journal(host, f"{path}")
    journal.prepare()
    journal.write(STARTED)
    whole = path.read_bytes()
    with path.open("ab") as out:
        out.write(b'{"kind":"int')
    journal.prepare()
    assert path.read_bytes() == whole
    assert path.stat().st_blocks * 512 >= 64 << 10
    journal.write(Intent(run="r1", step=Step.GATE, at="t"))
    assert journal.read()[0].pending is Step.GATE


def test_a_journal_that_cannot_be_read_is_moved_aside_whole(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b"garbage\n")
    journal = Journal(LocalHost(SystemClock()), f"{path}")
    with pytest.raises(JournalCorruptError, match="line 1"):
        journal.read()
    aside = journal.forget("r9")
    assert (journal.read(), aside, (tmp_path / "journal.r9").read_bytes()) == ((), f"{path}.r9", b"garbage\n")
    with pytest.raises(HostError, match=r"move .* aside"):
        journal.forget("r9")

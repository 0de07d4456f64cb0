"""What commands print on stdout: one value, as text or as JSON (docs/json.md)."""

from collections.abc import Iterable

import msgspec

from upswitch import usecases
from upswitch.core import outcome
from upswitch.core.gate import Tally
from upswitch.core.outcome import Live
from upswitch.core.run import JournalCorruptError, Run
from upswitch.core.site import Problem
from upswitch.core.words import Outcome, Value
from upswitch.gating import GateReport
from upswitch.ports import HostError, Owner
from upswitch.preflight import RefusedError
from upswitch.survey import Disk, Running
from upswitch.usecases import Ending, LockedError, Planned


class Production(Value):
    """What serves, read when the command ended. `proved`: nginx's answer and the disk agree, and nothing is in the way."""

    pool: str
    running: str
    disk: str
    proved: bool
    text: str


class StepLine(Value):
    step: str
    result: str
    said: str
    seconds: float


class ServerLine(Value):
    """One server at the gate."""

    upstream: str
    server: str
    up: bool
    ok: int
    failed: int
    error: str
    text: str


class GateLine(Value):
    verdict: str
    seconds: float
    way_back: bool
    new: tuple[ServerLine, ...]
    old: tuple[ServerLine, ...]


class WatchLine(Value):
    """How the watch ended; `answers` are the rule's four."""

    verdict: str
    said: str
    seconds: int
    failed: int
    total: int
    mode: str
    answers: dict[str, bool]
    before: dict[str, int]
    peers_down: tuple[str, ...]
    reasons: str
    notes: tuple[str, ...]


class Acted(Value):
    """`switch`, `rollback`, `repair`; and any command that was refused."""

    command: str
    outcome: str
    exit: int
    said: str
    production: Production | None
    hint: str
    run: str = ""
    pool: str = ""
    former_pool: str = ""
    generation: str = ""
    steps: tuple[StepLine, ...] = ()
    gate: GateLine | None = None
    watch: WatchLine | None = None
    problems: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What and where; what production is in now; what to do next."""
        lines = [self.said, *(f"  {problem}" for problem in self.problems)]
        if self.watch is not None:
            lines += [f"Watch: {self.watch.said}", *(f"Watch: {note}" for note in self.watch.notes)]
        if self.production is not None:
            lines.append(f"Production: {self.production.text}")
        return "\n".join([*lines, f"Next: {self.hint}"])


class PlanView(Value):
    """`plan`: nothing was changed."""

    command: str
    exit: int
    pool: str
    former_pool: str
    generation: str
    way_back: str
    unchanged: bool
    steps: tuple[str, ...]
    blackout_s: float
    gate: GateLine
    diff: str
    production: Production

    @property
    def text(self) -> str:
        if self.unchanged:
            return f"UNCHANGED: {self.pool} is live already, with the same servers\nProduction: {self.production.text}"
        servers = [f"  {server.text}" for server in (*self.gate.new, *self.gate.old)]
        return "\n".join(
            [
                f"switch --to {self.pool} would go from {self.former_pool} to generation {self.generation}; nothing was changed",
                f"Steps: {', '.join(self.steps)}. Way back: {self.way_back}",
                f"Expected blackout: {self.blackout_s:g} s (this nginx checks no server; the gate does, before the swap)",
                "One probe of each server, now:",
                *servers,
                self.diff.rstrip("\n"),
                f"Production: {self.production.text}",
            ],
        )


class StatusView(Value):
    """`status`: exit 0 where everything agrees, 3 with findings."""

    command: str
    exit: int
    production: Production
    generations: tuple[str, ...]
    edited: tuple[str, ...]
    master: int
    workers: int
    draining: tuple[int, ...]
    unfinished: str
    lock: str
    findings: tuple[str, ...]

    @property
    def text(self) -> str:
        old = f", {len(self.draining)} old workers finishing ({', '.join(map(str, self.draining))})" if self.draining else ""
        lines = [self.production.text, f"nginx master {self.master or 'unknown'}, {self.workers} workers{old}"]
        lines += [f"locked by {self.lock}"] if self.lock else []
        lines += [f"FINDING: {finding}" for finding in self.findings]
        return "\n".join(lines)


class PastRun(Value):
    run: str
    at: str
    command: str
    pool: str
    former_pool: str
    generation: str
    outcome: str
    said: str
    user: str
    reason: str


class HistoryView(Value):
    """`history`: newest first."""

    command: str
    exit: int
    runs: tuple[PastRun, ...]

    @property
    def text(self) -> str:
        lines = [
            f"{past.at}  {past.command:8} {past.former_pool} -> {past.pool}  {past.outcome:11} {past.said}"
            + (f"  ({past.user}{': ' + past.reason if past.reason else ''})" if past.user else "")
            for past in self.runs
        ]
        return "\n".join(lines) or "no run yet"


def to_json(view: object) -> str:
    return msgspec.json.encode(view).decode()


def production(live: Live) -> Production:
    return Production(pool=live.pool, running=live.running, disk=live.disk, proved=live.agrees, text=live.text)


def acted(command: str, ending: Ending) -> Acted:
    over = ending.run
    return Acted(
        command=command,
        outcome=ending.outcome,
        exit=outcome.EXIT[ending.outcome],
        said=ending.headline,
        production=production(ending.live),
        hint=ending.hint,
        run=over.plan.run if over.steps else "",
        pool=over.plan.pool,
        former_pool=over.plan.former_pool,
        generation=over.plan.to if over.steps else over.plan.former,
        steps=tuple(StepLine(step=step.step, result=step.result, said=step.said, seconds=step.seconds) for step in over.steps),
        gate=gate_line(ending.gate) if ending.gate else None,
        watch=_watch_line(ending) if ending.watch else None,
    )


def refused(command: str, error: RefusedError, live: Live | None) -> Acted:
    first, *others = error.refusals
    return Acted(
        command=command,
        outcome=Outcome.REFUSED,
        exit=outcome.EXIT[Outcome.REFUSED],
        said=f"REFUSED: {first.what}",
        problems=tuple(refusal.what for refusal in others),
        production=production(live) if live else None,
        hint=first.hint,
    )


def usage(command: str, config: str, problems: Iterable[Problem]) -> Acted:
    texts = tuple(problem.text for problem in problems)
    return Acted(
        command=command,
        outcome="USAGE",
        exit=outcome.USAGE,
        said=f"{config}: {len(texts)} {'problem' if len(texts) == 1 else 'problems'}",
        problems=texts,
        production=None,
        hint="mend the site file; nothing was read from any host, and nothing was changed",
    )


def wrong_words(command: str, said: str) -> Acted:
    return Acted(
        command=command,
        outcome="USAGE",
        exit=outcome.USAGE,
        said=said,
        production=None,
        hint=f"`upswitch {command} --help`; nothing was read from any host, and nothing was changed",
    )


def no_site(command: str, config: str, why: str) -> Acted:
    return Acted(
        command=command,
        outcome="USAGE",
        exit=outcome.USAGE,
        said=f"{config}: {why}",
        production=None,
        hint="name the site file with -c, or make one with `upswitch init`; nothing was changed",
    )


def locked(command: str, error: LockedError, live: Live) -> Acted:
    return Acted(
        command=command,
        outcome="LOCKED",
        exit=outcome.LOCKED,
        said=str(error),
        production=production(live),
        hint="wait for it to end, then try again; the kernel frees the lock the moment its holder is gone",
    )


def host_failed(command: str, error: HostError, live: Live) -> Acted:
    return Acted(
        command=command,
        outcome=Outcome.REFUSED,
        exit=outcome.EXIT[Outcome.REFUSED],
        said=f"REFUSED: {error}",
        production=production(live),
        hint="mend that, then try again; `upswitch status` shows what is live",
    )


def corrupt(command: str, path: str, error: JournalCorruptError, live: Live) -> Acted:
    return Acted(
        command=command,
        outcome=Outcome.REFUSED,
        exit=outcome.EXIT[Outcome.REFUSED],
        said=f"REFUSED: the journal {path} can't be read: {error}",
        production=production(live),
        hint="`upswitch repair --forget` moves it aside; look first whether what is live is what you want",
    )


def bug(command: str, said: str, kept: str, live: Live) -> Acted:
    return Acted(
        command=command,
        outcome="BUG",
        exit=outcome.BUG,
        said=f"a bug of upswitch: {said} (traceback in {kept})",
        production=production(live),
        hint="`upswitch status`, then `upswitch repair`; please report the traceback",
    )


def repaired(ending: Ending | None, live: Live, *, aside: str) -> Acted:
    """A repair succeeded when production is proved, whichever way the run went."""
    moved = f"the journal was moved to {aside}; " if aside else ""
    if ending is None:
        return Acted(
            command="repair",
            outcome=Outcome.UNCHANGED,
            exit=0 if live.agrees else outcome.FINDINGS,
            said=f"{moved}nothing to repair: no run was cut off",
            production=production(live),
            hint="nothing to do" if live.agrees else "`upswitch status` says what does not agree",
        )
    view = acted("repair", ending)
    is_proved = ending.outcome is not Outcome.STUCK and live.agrees
    return msgspec.structs.replace(view, exit=0 if is_proved else outcome.EXIT[Outcome.STUCK], said=moved + view.said)


def planned(view: Planned, live: Live) -> PlanView:
    return PlanView(
        command="plan",
        exit=0,
        pool=view.plan.pool,
        former_pool=view.plan.former_pool,
        generation=view.plan.to,
        way_back=view.plan.back,
        unchanged=view.is_unchanged,
        steps=tuple(view.steps),
        blackout_s=0.0,
        gate=gate_line(view.gate),
        diff=view.diff,
        production=production(live),
    )


def status(disk: Disk, running: Running, *, left: Run | None, holder: Owner | None) -> StatusView:
    family = running.family
    live = usecases.live(disk, running)
    findings = _findings(disk, live, left)
    return StatusView(
        command="status",
        exit=outcome.FINDINGS if findings else 0,
        production=production(live),
        generations=tuple(generation.name for generation in disk.generations),
        edited=disk.drift,
        master=running.pid,
        workers=len(family.workers) if family else 0,
        draining=tuple(process.pid for process in family.draining) if family else (),
        unfinished=left.plan.run if left else "",
        lock=f"{holder.user}@{holder.host} (pid {holder.pid}) since {holder.since}: {holder.reason}" if holder else "",
        findings=findings,
    )


def _findings(disk: Disk, live: Live, left: Run | None) -> tuple[str, ...]:
    found = []
    if left is not None:
        found.append(
            f"run {left.plan.run} ({left.plan.command} to {left.plan.pool}) is unfinished, at {left.phase}: `upswitch repair`"
        )
    if disk.drift:
        found.append(f"edited since it was staged: {', '.join(disk.drift)} of {disk.live}")
    if live.disk != live.running:
        found.append(
            f"nginx answers {live.running or 'nothing'}, the disk says {live.disk or 'nothing'}: a reload would change what serves"
        )
    if live.problem and not disk.drift:
        found.append(live.problem)
    return tuple(found)


def history(runs: Iterable[Run], *, limit: int) -> HistoryView:
    newest = [*runs][::-1][:limit]
    return HistoryView(command="history", exit=0, runs=tuple(map(_past, newest)))


def _past(past: Run) -> PastRun:
    plan = past.plan
    return PastRun(
        run=plan.run,
        at=past.started,
        command=plan.command,
        pool=plan.pool,
        former_pool=plan.former_pool,
        generation=plan.to,
        outcome=past.closed.outcome if past.closed else past.outcome or "UNFINISHED",
        said=past.closed.said if past.closed else f"at {past.phase}",
        user=plan.user,
        reason=plan.reason,
    )


def gate_line(gate: GateReport) -> GateLine:
    return GateLine(
        verdict=gate.verdict,
        seconds=round(gate.seconds, 3),
        way_back=gate.has_way_back,
        new=tuple(map(_server_line, gate.new)),
        old=tuple(map(_server_line, gate.old)),
    )


def _server_line(tally: Tally) -> ServerLine:
    return ServerLine(
        upstream=tally.target.upstream,
        server=tally.target.server,
        up=tally.is_up,
        ok=tally.ok,
        failed=tally.failed,
        error=tally.error,
        text=tally.text,
    )


def _watch_line(ending: Ending) -> WatchLine | None:
    watch = ending.watch
    if watch is None:
        return None
    look = watch.judgement
    return WatchLine(
        verdict=watch.final,
        said=watch.said,
        seconds=watch.seconds,
        failed=watch.failed,
        total=watch.total,
        mode=watch.mode,
        answers={"enough": look.is_enough, "big": look.is_big, "new": look.is_new, "not_luck": look.is_not_luck} if look else {},
        before={"failed": look.before_failed, "total": look.before_total, "seconds": look.before_s} if look else {},
        peers_down=watch.peers_down,
        reasons=watch.reasons,
        notes=watch.notes,
    )

"""From what a command that only reads came to, to what it prints (cli/views/parts.py)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from upswitch.basics.errors import Owner
from upswitch.basics.text import plain
from upswitch.cli.exit_codes import Exit
from upswitch.cli.views.acted import gate_line, production
from upswitch.cli.views.parts import (
    CheckedLine,
    DrainView,
    FindingLine,
    HistoryView,
    LintView,
    PastRun,
    PlanView,
    StatusView,
    WarmLine,
)
from upswitch.generations import survey
from upswitch.generations.generation import Live
from upswitch.generations.store import Disk
from upswitch.nginx.running import Running
from upswitch.switch.deadman.files import Mark, Standing
from upswitch.switch.run import Run

if TYPE_CHECKING:
    from upswitch.health.module.compare import Compared
    from upswitch.lint.site_rules import Finding
    from upswitch.switch.drained import DrainReport
    from upswitch.switch.plan import Planned


_DEADMAN_PAGE = "`upswitch help dead-man`"


def planned(view: "Planned", live: Live) -> PlanView:
    return PlanView(
        command="plan",
        exit=Exit.DONE,
        pool=view.plan.pool,
        former_pool=view.plan.former_pool,
        generation=view.plan.to,
        way_back=view.plan.back,
        unchanged=view.is_unchanged,
        steps=tuple(view.steps),
        blackout_s=0.0,
        plain_blackout_s={"likely": round(view.warmth.plain.likely, 1), "worst": round(view.warmth.plain.worst, 1)},
        warm=_warm_line(view),
        notes=view.notes,
        gate=gate_line(view.gate),
        diff=view.diff,
        production=production(live),
    )


def _warm_line(view: "Planned") -> WarmLine | None:
    warmth = view.warmth
    if not any(warmth.wanted.values()):
        return None
    return WarmLine(generation=view.plan.warm, why=warmth.why, longest_s=round(warmth.longest, 1), down=warmth.down)


def status(disk: Disk, running: Running, *, last: Run | None, holder: Owner | None) -> StatusView:
    """`last`: the journal's last run."""
    family = running.family
    live = survey.live(disk, running)
    left = last if last is not None and last.is_left else None
    findings = _findings(disk, live, last if holder is None else None)  # a run under way is not one that was left
    return StatusView(
        command="status",
        exit=Exit.FINDINGS if findings else Exit.DONE,
        production=production(live),
        generations=tuple(generation.name for generation in disk.generations),
        edited=disk.drift,
        master=running.pid,
        workers=len(family.workers) if family else 0,
        draining=tuple(process.pid for process in family.draining) if family else (),
        unfinished=left.plan.run if left else "",
        lock=holder.text if holder else "",
        findings=findings,
    )


def with_deadman(view: StatusView, standing: Standing | None) -> StatusView:
    """The same of an unfinished run, with the dead-man that may end it; `view` has findings already: the run itself is one."""
    if standing is None or standing.run != view.unfinished:
        return view
    ending = ""
    if standing.mark is Mark.ARMED:
        ending = (
            ": the host goes back by itself when the lease has run out" if standing.is_alive else ": it will not go back by itself"
        )
    return msgspec.structs.replace(view, findings=(*view.findings, f"{standing.text}{ending}; {_DEADMAN_PAGE}"))


def with_checks(view: StatusView, compared: Iterable["Compared"], *, rejection: str) -> StatusView:
    """The same with nginx's own check beside ours. `rejection`: what the master said when it last refused a reload."""
    servers = tuple(
        CheckedLine(
            upstream=each.upstream,
            pool=each.pool,
            server=each.nginx.address,
            nginx_up=each.nginx.is_up,
            nginx=each.nginx.state,
            ours_up=each.ours.ok,
            ours="up" if each.ours.ok else f"down ({each.ours.error})",
        )
        for each in compared
    )
    found = [each.problem for each in compared if each.is_serving and each.problem]
    if rejection:
        found.append(
            f"by its error log nginx rejected a reload: {rejection}. Until one succeeds a worker that dies crashes in a loop "
            "(the check module's fault): mend the cause and reload. That reload forgets which servers are up: ours stay up, "
            "but an upstream beside them with default_down=true begins down"
        )
    findings = (*view.findings, *found)
    return msgspec.structs.replace(view, servers=servers, findings=findings, exit=Exit.FINDINGS if findings else Exit.DONE)


def _findings(disk: Disk, live: Live, last: Run | None) -> tuple[str, ...]:
    found = []
    name = f"run {last.plan.run} ({last.plan.command} to {last.plan.pool})" if last else ""
    if last is not None and last.fired and not last.closed:
        found.append(f"{name}: {last.fired.text}; `upswitch repair` takes note of it; {_DEADMAN_PAGE}")
    elif last is not None and last.is_left:
        found.append(f"{name} is unfinished, at {last.phase}: `upswitch repair`")
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
    return HistoryView(command="history", exit=Exit.DONE, runs=tuple(map(_past, newest)))


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


def lint(findings: Iterable["Finding"]) -> LintView:
    lines = tuple(FindingLine(code=each.code, level=each.level, what=plain(each.what), hint=plain(each.hint)) for each in findings)
    return LintView(command="lint", exit=Exit.FINDINGS if lines else Exit.DONE, findings=lines)


def drain(seen: "DrainReport") -> DrainView:
    return DrainView(
        command="drain",
        exit=Exit.DONE if seen.is_safe else Exit.FINDINGS,
        said=seen.said,
        safe=seen.is_safe,
        pool=seen.pool,
        live=seen.live,
        addresses=seen.addresses,
        old_workers=seen.old_workers,
        connections=seen.connections,
    )

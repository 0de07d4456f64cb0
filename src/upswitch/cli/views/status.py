"""What `status`, `history`, `drain` and `lint` print."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from upswitch.basics.errors import Owner
from upswitch.basics.result import Why
from upswitch.basics.value import Value
from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import Production, View, production
from upswitch.generations import survey
from upswitch.generations.generation import Live
from upswitch.generations.store import Disk
from upswitch.nginx.running import Running
from upswitch.switch.deadman import Mark, Standing
from upswitch.switch.run import Ended, Run

if TYPE_CHECKING:
    from upswitch.health.compare import Compared
    from upswitch.lint.rules import LintFinding
    from upswitch.switch.drained import DrainReport

_DEADMAN_PAGE = "`upswitch help dead-man`"


class CheckedLine(Value):
    """One server, by nginx's own health check (`check_status`) and by one check of ours now."""

    upstream: str
    pool: str
    server: str
    nginx_up: bool
    nginx: str
    ours_up: bool
    ours: str

    @property
    def text(self) -> str:
        return f"{self.pool}  {self.upstream}  {self.server}  nginx: {self.nginx}  upswitch: {self.ours}"


class StatusView(View):
    """`status`: exit 0 where everything agrees, 3 with findings."""

    production: Production
    generations: tuple[str, ...]
    edited: tuple[str, ...]
    master: int
    workers: int
    draining: tuple[int, ...]
    unfinished: str
    lock: str
    findings: tuple[str, ...]
    servers: tuple[CheckedLine, ...] = ()
    needs_repair: bool = False

    @property
    def text(self) -> str:
        old = f", {_counted(len(self.draining), 'old worker')} finishing ({', '.join(map(str, self.draining))})"
        workers = f"{_counted(self.workers, 'worker')}{old if self.draining else ''}"
        lines = [self.production.text, f"nginx master process {self.master or 'unknown'}, {workers}"]
        lines += [f"A run is under way, by {self.lock}"] if self.lock else []
        lines += ["Servers: nginx's own health check, and one health check by upswitch now:"] if self.servers else []
        lines += [f"  {server.text}" for server in self.servers]
        lines += [f"FINDING: {finding}" for finding in self.findings]
        return "\n".join(lines)


def status(
    disk: Disk,
    running: Running,
    *,
    last: Run | None,
    holder: Owner | None,
    standing: Standing | None,
    compared: Sequence["Compared"],
    rejection: str,
) -> StatusView:
    """`last` is the journal's last run, `standing` its dead-man, `rejection` what nginx said when it last rejected a reload."""
    family, live = running.family, survey.live(disk, running)
    left = last if last is not None and last.is_left else None
    findings = (
        *_of_run(None if holder else last, standing),  # a run under way is not one that was cut off
        *_of_files(disk, live),
        *(each.problem for each in compared if each.is_serving and each.problem),
        *([_REJECTED.format(rejection)] if rejection else []),
    )
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
        servers=tuple(map(_checked, compared)),
        needs_repair=holder is None and last is not None and last.needs_repair,
    )


_REJECTED = (
    "nginx's error log says that it rejected a reload: {}. Fix the cause, then reload nginx. "
    "Until a reload succeeds, a worker that dies is restarted in a loop (a fault of the check module). "
    "That reload forgets which servers are up. Servers of the site file stay up; others with default_down=true start down"
)


def _of_run(last: Run | None, standing: Standing | None) -> Iterator[str]:
    if last is None:
        return
    name = f"run {last.plan.run} ({last.plan.command} to {last.plan.pool})"
    if last.fired and not last.closed:
        yield f"{name}: {last.fired.text}; `upswitch repair` records this; {_DEADMAN_PAGE}"
    elif last.is_left:
        yield f"{name} is unfinished, at {last.phase}: run `upswitch repair`"
    if last.is_left:
        yield from of_deadman(standing, last.plan.run)


def of_deadman(standing: Standing | None, run: str) -> Iterator[str]:
    """What the dead-man of an unfinished run will do."""
    if standing is None or standing.run != run:
        return
    acts = "rolls itself back when the lease expires" if standing.is_alive else "will not roll itself back"
    ending = f": the host {acts}" if standing.mark is Mark.ARMED else ""
    yield f"{standing.text}{ending}; {_DEADMAN_PAGE}"


def _of_files(disk: Disk, live: Live) -> Iterator[str]:
    if disk.drift:
        yield f"files of {disk.live} were edited after upswitch wrote them: {', '.join(disk.drift)}"
    if live.disk != live.running:
        running, link = live.running or "no generation", live.disk or "none"
        yield f"nginx reports {running}, but the live link points to {link}: a reload would change what serves"
    if live.problem and not disk.drift:
        yield live.problem


def _checked(compared: "Compared") -> CheckedLine:
    ours = compared.ours
    return CheckedLine(
        upstream=compared.upstream,
        pool=compared.pool,
        server=compared.nginx.address,
        nginx_up=compared.nginx.is_up,
        nginx=compared.nginx.state,
        ours_up=ours.ok,
        ours="up" if ours.ok else f"down ({ours.error})",
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
    why: Why = Why.NONE
    cause: Ended | None = None


class HistoryView(View):
    """`history`: newest first."""

    runs: tuple[PastRun, ...]

    @property
    def text(self) -> str:
        lines = [
            f"{past.at}  {past.command:8} {past.former_pool} -> {past.pool}  {past.user}{past.reason and f': {past.reason}'}\n"
            f"    {past.said}{f'; why: {past.why}' if past.why else ''}"
            for past in self.runs
        ]
        return "\n".join(lines) or "No run yet."


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
        why=past.why,
        cause=past.cause,
    )


class DrainView(View):
    """`drain`: exit 0 when the former pool can be stopped, 3 while it must keep running."""

    said: str
    safe: bool
    pool: str
    live: str
    addresses: tuple[str, ...]
    old_workers: tuple[int, ...]
    connections: dict[str, int]

    @property
    def text(self) -> str:
        return self.said


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


class FindingLine(Value):
    code: str
    level: str
    what: str
    hint: str


class LintView(View):
    """`lint`: exit 0 without a finding, 3 with one."""

    findings: tuple[FindingLine, ...]

    @property
    def text(self) -> str:
        lines = [f"{each.level.upper()} {each.code}: {each.what}\n    {each.hint}" for each in self.findings]
        return "\n".join(lines) or "Nothing found."


def lint(findings: Iterable["LintFinding"]) -> LintView:
    lines = tuple(FindingLine(**msgspec.structs.asdict(each)) for each in findings)
    return LintView(command="lint", exit=Exit.FINDINGS if lines else Exit.DONE, findings=lines)

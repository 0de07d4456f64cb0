"""What `status`, `history` and `drain` print."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from upswitch.basics.errors import Owner
from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View
from upswitch.generations import survey
from upswitch.generations.generation import Live
from upswitch.generations.store import Disk
from upswitch.generations.survey import Configured
from upswitch.nginx.running import Running
from upswitch.site.names import UNNAMED
from upswitch.switch.deadman import Mark, Standing
from upswitch.switch.run import Run

if TYPE_CHECKING:
    from upswitch.health.compare import Compared, PoolHealth
    from upswitch.switch.drained import DrainReport
    from upswitch.watch.recent import Recent

_DEADMAN_PAGE = "`upswitch help dead-man`"


class StatusView(View):
    """`status`: exit 0 where everything agrees, 3 with findings."""

    production: Live
    generations: tuple[str, ...]
    edited: tuple[str, ...]
    master: int
    workers: int
    draining: tuple[int, ...]
    unfinished: str
    lock: str
    findings: tuple[str, ...]
    servers: tuple["Compared", ...] = ()
    pools: tuple["PoolHealth", ...] = ()
    needs_repair: bool = False
    site: str = ""
    variables: str = UNNAMED
    requests: str = ""
    untested: str = ""

    @property
    def text(self) -> str:
        old = f", {_counted(len(self.draining), 'old worker')} finishing ({', '.join(map(str, self.draining))})"
        workers = f"{_counted(self.workers, 'worker')}{old if self.draining else ''}"
        lines = [self.production.text, f"nginx master process {self.master or 'unknown'}, {workers}"]
        lines += [f"A run is under way, by {self.lock}"] if self.lock else []
        lines += ["Servers: nginx's own health check, and one health check by upswitch now:"] if self.servers else []
        lines += [f"  {_compared(each)}" for each in self.servers]
        lines += [f"Pool {pool.text}" for pool in self.pools]
        lines += [f"Requests: {self.requests}"] if self.requests else []
        lines += [f"`nginx -t` was not run on the configuration on disk: {self.untested}"] if self.untested else []
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
    probed: Sequence["PoolHealth"],
    sick: Sequence[str],
    configured: Configured,
    requests: "Recent | None",
    rejection: str,
    site: str,
) -> StatusView:
    """`last` is the journal's last run, `standing` its dead-man, `rejection` what nginx said when it last rejected a reload.
    `site` is the site's name, `sick` what is wrong with the servers of the live pool, `requests` how its last requests ended.
    """
    family, live = running.family, replace(survey.live(disk, running), is_failing=_is_failing(compared, probed, requests))
    of_run = _of_run(None if holder else last, standing)  # a run under way is not one that was cut off
    of_nginx = _of_nginx(running, configured, requests, rejection=rejection)
    of_conf = tuple(filter(None, (configured.left_out, configured.overgrown))) if disk.live else ()
    findings = (*of_run, *_of_files(disk, live), *of_conf, *sick, *of_nginx)
    return StatusView(
        command="status",
        exit=Exit.FINDINGS if findings else Exit.DONE,
        production=live,
        generations=tuple(generation.name for generation in disk.generations),
        edited=disk.drift,
        master=running.pid if running.master else 0,
        workers=len(family.workers) if family else 0,
        draining=tuple(each.pid for each in family.draining) if family else (),
        unfinished=last.plan.run if last and last.is_left else "",
        lock=holder.text if holder else "",
        findings=findings,
        servers=tuple(compared),
        pools=tuple(probed),
        needs_repair=holder is None and last is not None and last.needs_repair,
        site=site,
        requests=requests.text if requests else "",
        untested="" if configured.is_broken else configured.problem,
        variables=(disk.manifest.prefix if disk.manifest else "") or UNNAMED,
    )


def _of_nginx(running: Running, configured: Configured, requests: "Recent | None", *, rejection: str) -> Iterator[str]:
    if requests and requests.is_failing:
        yield f"the live pool fails: {requests.text}"
    if configured.is_broken:
        yield _BROKEN.format(configured.problem)
    if rejection:
        yield _REJECTED.format(rejection)
    if running.old.are_piling_up:
        yield f"{running.old.text}. `worker_shutdown_timeout` in nginx.conf would end them"


def _is_failing(compared: Sequence["Compared"], probed: Sequence["PoolHealth"], requests: "Recent | None") -> bool:
    """Whether half of the last requests failed, or all servers of the live pool fail our health checks.

    Where nginx checks them too, all servers of one upstream.
    """
    if requests is not None and requests.is_failing:
        return True
    serving = [each for each in compared if each.is_serving]
    alive = {each.upstream for each in serving if each.ours.ok or each.ours.is_unknown}
    return any(each.upstream not in alive for each in serving) or any(
        pool.is_live and pool.failed and len(pool.failed) == pool.servers for pool in probed
    )


_BROKEN = "nginx rejects its configuration on disk, so the next reload, by anybody, will fail: {}"
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


def _compared(each: "Compared") -> str:
    return f"{each.pool}  {each.upstream}  {each.nginx.address}  nginx: {each.nginx.state}  upswitch: {each.ours_said}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class HistoryView(View):
    """`history`: newest first. `page`: the file that the page was written to, "" where none was."""

    runs: tuple[Run, ...]
    site: str = ""
    page: str = ""

    @property
    def text(self) -> str:
        if self.page:
            return f"The page is in {self.page}"
        return "\n".join(map(_past, self.runs)) or "No run yet."


def _past(run: Run) -> str:
    plan = run.plan
    reason, why = plan.reason and f": {plan.reason}", run.why and f"; why: {run.why}"
    return f"{run.started}  {plan.command:8} {plan.former_pool} -> {plan.pool}  {plan.to}  {plan.user}{reason}\n    {run.said}{why}"


def history(runs: Iterable[Run], *, limit: int, site: str) -> HistoryView:
    return HistoryView(command="history", exit=Exit.DONE, runs=tuple(runs)[::-1][:limit], site=site)


class DrainView(View):
    """`drain`: exit 0 when the former pool can be stopped, 3 while it must keep running."""

    report: "DrainReport"

    @property
    def text(self) -> str:
        return self.report.said


def drain(report: "DrainReport") -> DrainView:
    return DrainView(command="drain", exit=Exit.DONE if report.is_safe else Exit.FINDINGS, report=report)

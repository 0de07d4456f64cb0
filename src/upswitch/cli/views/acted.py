"""From what a command came to, to what it prints (cli/views/parts.py)."""

from typing import TYPE_CHECKING, NamedTuple

import click
import msgspec

from upswitch.basics.errors import HostError, JournalCorruptError, LockedError, RefusedError, StuckError
from upswitch.cli.exit_codes import Exit, exit_of
from upswitch.cli.invocation import NoSiteError
from upswitch.cli.views.parts import (
    Acted,
    CauseLine,
    GateLine,
    InitView,
    Production,
    ServerLine,
    SettingLine,
    StepLine,
    WatchLine,
)
from upswitch.generations.generation import Live
from upswitch.init.site_text import without_secrets
from upswitch.site.read import SiteInvalid
from upswitch.switch.words import Outcome

if TYPE_CHECKING:
    from upswitch.diagnose.finding import Finding
    from upswitch.health.gate.gate_rule import Tally
    from upswitch.health.gate.rounds import GateReport
    from upswitch.init.adopt import Proposal
    from upswitch.init.apply import Applied
    from upswitch.switch.go import Ending


def production(live: Live) -> Production:
    return Production(pool=live.pool, running=live.running, disk=live.disk, proved=live.agrees, text=live.text)


def acted(command: str, ending: "Ending") -> Acted:
    over = ending.run
    return Acted(
        command=command,
        outcome=ending.outcome,
        exit=exit_of(ending.outcome),
        said=ending.headline,
        production=production(ending.live),
        hint=ending.hint,
        run=over.plan.run if over.steps else "",
        pool=over.plan.pool,
        former_pool=over.plan.former_pool,
        generation=ending.live.disk,
        steps=tuple(StepLine(step=step.step, result=step.result, said=step.said, seconds=step.seconds) for step in over.steps),
        gate=gate_line(ending.gate) if ending.gate else None,
        watch=_watch_line(ending) if ending.watch else None,
    )


class End(NamedTuple):
    """How an error ends a command: the outcome, what is said, what to do next, and the page about it.

    `{error}` is the error's text, `{hint}` its own advice, `{file}` the file that it is about, `{command}` the command.
    """

    outcome: str
    said: str
    hint: str
    page: str


ENDINGS: dict[type[Exception], End] = {
    click.UsageError: End("USAGE", "{error}", "`upswitch {command} --help` lists the options; nothing was changed", "usage"),
    NoSiteError: End("USAGE", "{file}: {error}", "name the site file with -c, or make one with `upswitch init`", "usage"),
    SiteInvalid: End("USAGE", "{file}: {error}", "fix the site file; no host was asked, and nothing was changed", "usage"),
    RefusedError: End("REFUSED", "REFUSED: {error}", "{hint}", "refused"),
    HostError: End("REFUSED", "REFUSED: {error}", "fix that, then try again; `upswitch status` shows what is live", "refused"),
    JournalCorruptError: End(
        "REFUSED",
        "REFUSED: the journal {file} can't be read: {error}",
        "check with `upswitch status` that the right pool is live; then `upswitch repair --forget` moves the journal aside",
        "refused",
    ),
    LockedError: End("LOCKED", "{error}", "wait until that run ends; the lock is freed even if its process is killed", "locked"),
    StuckError: End("STUCK", "STUCK: {error}", "run `nginx -t`, fix what it names, then reload nginx", "stuck"),
    Exception: End(
        "BUG",
        "a bug in upswitch: {error} (traceback in {file})",
        "`upswitch status`, then `upswitch repair`; please report the traceback",
        "bug",
    ),
}
"""Every error that can end a command; the first row that fits counts. A new ending is a new row."""


def is_expected(error: Exception) -> bool:
    """Whether it is an ending that upswitch means to have; every other error is a bug."""
    return _end(error) is not ENDINGS[Exception]


def ended(command: str, error: Exception, live: Live | None, *, file: str = "") -> Acted:
    """The view of a command that ended with `error`. `live`: what serves, None where no host was asked."""
    end = _end(error)
    first, *others = _texts(error)
    hint = error.refusals[0].hint if isinstance(error, RefusedError) else ""
    return Acted(
        command=command,
        outcome=end.outcome,
        exit=exit_of(end.outcome),
        said=end.said.format(error=first, file=file),
        problems=tuple(others),
        production=production(live) if live else None,
        hint=f"{end.hint.format(command=command, hint=hint)}; `upswitch help {end.page}`",
    )


def usage_error(command: str, said: str) -> Acted:
    return ended(command, click.UsageError(said), None)


def _end(error: Exception) -> End:
    return next(end for kind, end in ENDINGS.items() if isinstance(error, kind))


def _texts(error: Exception) -> list[str]:
    """What it says, then what else is wrong."""
    match error:
        case click.UsageError():
            return [error.format_message()]
        case RefusedError():
            return [refusal.what for refusal in error.refusals]
        case SiteInvalid():
            problems = [problem.text for problem in error.problems]
            return [f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}", *problems]
        case _ if is_expected(error):
            return [str(error)]
        case _:
            return [f"{type(error).__name__}: {error}"]


def repaired(ending: "Ending | None", live: Live, *, aside: str) -> Acted:
    """A repair succeeded when production is proved, whichever way the run went."""
    moved = f"the journal was moved to {aside}; " if aside else ""
    if ending is None:
        return Acted(
            command="repair",
            outcome=Outcome.UNCHANGED,
            exit=Exit.DONE if live.agrees else Exit.FINDINGS,
            said=f"{moved}nothing to repair",
            production=production(live),
            hint="nothing to do" if live.agrees else "`upswitch status` says what does not agree",
        )
    view = acted("repair", ending)
    is_proved = ending.outcome is not Outcome.STUCK and live.agrees
    return msgspec.structs.replace(view, exit=Exit.DONE if is_proved else Exit.STUCK, said=moved + view.said)


def gate_line(gate: "GateReport") -> GateLine:
    return GateLine(
        verdict=gate.verdict,
        seconds=round(gate.seconds, 3),
        way_back=gate.has_way_back,
        new=tuple(map(_server_line, gate.new)),
        old=tuple(map(_server_line, gate.old)),
    )


def _server_line(tally: "Tally") -> ServerLine:
    return ServerLine(
        upstream=tally.target.upstream,
        server=tally.target.server,
        up=tally.is_up,
        ok=tally.ok,
        failed=tally.failed,
        error=tally.error,
        text=tally.text,
    )


def cause_line(finding: "Finding", settings: tuple[SettingLine, ...] = ()) -> CauseLine:
    """`settings`: the directives behind it, where nginx's configuration was looked at."""
    return CauseLine(
        code=finding.code,
        count=finding.count,
        clients=finding.clients,
        status=finding.status,
        servers=finding.servers,
        first=finding.first,
        last=finding.last,
        evidence=finding.evidence,
        why=finding.why,
        check=finding.check,
        fix=finding.fix,
        consequence_of=finding.consequence_of,
        note=finding.note,
        settings=settings,
    )


def _watch_line(ending: "Ending") -> WatchLine | None:
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
        findings=tuple(map(cause_line, watch.findings)),
        notes=watch.notes,
    )


def proposed(proposal: "Proposal") -> InitView:
    request = proposal.request
    return InitView(
        command="init",
        exit=Exit.DONE,
        applied=False,
        said=f"{request.from_path} can be taken over as pool {request.pool}; nothing was changed",
        site_file=request.out,
        site_text=without_secrets(proposal.site_text),
        generation=proposal.generation,
        diff=proposal.diff,
        backup=proposal.backup,
        notes=proposal.notes,
        advice=_advice(proposal),
        hint="the same command with --apply does it: backup, test, reload, proof; undone where it fails",
        production=None,
    )


def applied(proposal: "Proposal", done: "Applied", live: Live) -> InitView:
    return msgspec.structs.replace(
        proposed(proposal),
        applied=True,
        said=f"{proposal.request.pool} is generation {done.generation}; {done.tested}; {done.proof}",
        backup=done.backup,
        hint=f"read {proposal.request.out}, then `upswitch lint`; {done.backup} is the file as it was",
        production=production(live),
    )


def _advice(proposal: "Proposal") -> tuple[str, ...]:
    """What the owner should add by hand; every line of it is his to paste."""
    found = []
    if proposal.undrained:
        places = ", ".join(f"{place.file}:{place.line}" for place in proposal.undrained)
        texts = "\n".join(f"# {snippet.name}\n{snippet.text.rstrip()}" for snippet in proposal.snippets)
        found.append(f"so that a reload loses no request, put these lines at {places}:\n{texts}")
    if proposal.log_format:
        logs = ", ".join(proposal.logs)
        found.append(f"so that the watch knows whose a request was, let {logs} use this format:\n{proposal.log_format}")
    return tuple(found)

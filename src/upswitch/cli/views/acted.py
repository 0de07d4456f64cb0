"""From what a command came to, to what it prints (cli/views/parts.py)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from upswitch.basics.errors import HostError, JournalCorruptError, LockedError, RefusedError, StuckError
from upswitch.cli import exit_codes
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
    hint_of,
)
from upswitch.generations.generation import Live
from upswitch.init.site_text import without_secrets
from upswitch.site.model import Problem
from upswitch.switch import outcome
from upswitch.switch.words import Outcome

if TYPE_CHECKING:
    from upswitch.diagnose.finding import Finding
    from upswitch.health.gate.gate_rule import Tally
    from upswitch.health.gate.rounds import GateReport
    from upswitch.init.apply import Applied
    from upswitch.init.proposal import Proposal
    from upswitch.switch.go import Ending


def production(live: Live) -> Production:
    return Production(pool=live.pool, running=live.running, disk=live.disk, proved=live.agrees, text=live.text)


def acted(command: str, ending: "Ending") -> Acted:
    over = ending.run
    return Acted(
        command=command,
        outcome=ending.outcome,
        exit=exit_codes.EXIT[ending.outcome],
        said=ending.headline,
        production=production(ending.live),
        hint=hint_of(ending.hint),
        run=over.plan.run if over.steps else "",
        pool=over.plan.pool,
        former_pool=over.plan.former_pool,
        generation=ending.live.disk,
        steps=tuple(StepLine(step=step.step, result=step.result, said=step.said, seconds=step.seconds) for step in over.steps),
        gate=gate_line(ending.gate) if ending.gate else None,
        watch=_watch_line(ending) if ending.watch else None,
    )


def refused(command: str, error: RefusedError, live: Live | None) -> Acted:
    first, *others = error.refusals
    return Acted(
        command=command,
        outcome=Outcome.REFUSED,
        exit=exit_codes.EXIT[Outcome.REFUSED],
        said=f"REFUSED: {first.what}",
        problems=tuple(refusal.what for refusal in others),
        production=production(live) if live else None,
        hint=hint_of(f"{first.hint}; playbooks/incident/refused.md"),
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
        hint=hint_of("mend the site file; nothing was read from any host, and nothing was changed; playbooks/incident/usage.md"),
    )


def wrong_words(command: str, said: str) -> Acted:
    return Acted(
        command=command,
        outcome="USAGE",
        exit=outcome.USAGE,
        said=said,
        production=None,
        hint=hint_of(f"`upswitch {command} --help`; nothing was changed; playbooks/incident/usage.md"),
    )


def no_site(command: str, config: str, why: str) -> Acted:
    return Acted(
        command=command,
        outcome="USAGE",
        exit=outcome.USAGE,
        said=f"{config}: {why}",
        production=None,
        hint=hint_of(
            "name the site file with -c, or make one with `upswitch init`; nothing was changed; playbooks/incident/usage.md"
        ),
    )


def locked(command: str, error: LockedError, live: Live) -> Acted:
    return Acted(
        command=command,
        outcome="LOCKED",
        exit=outcome.LOCKED,
        said=str(error),
        production=production(live),
        hint=hint_of("wait for it to end: the kernel frees the lock the moment its holder is gone; playbooks/incident/locked.md"),
    )


def host_failed(command: str, error: HostError, live: Live) -> Acted:
    return Acted(
        command=command,
        outcome=Outcome.REFUSED,
        exit=exit_codes.EXIT[Outcome.REFUSED],
        said=f"REFUSED: {error}",
        production=production(live),
        hint=hint_of("mend that, then try again; `upswitch status` shows what is live; playbooks/incident/refused.md"),
    )


def corrupt(command: str, path: str, error: JournalCorruptError, live: Live) -> Acted:
    return Acted(
        command=command,
        outcome=Outcome.REFUSED,
        exit=exit_codes.EXIT[Outcome.REFUSED],
        said=f"REFUSED: the journal {path} can't be read: {error}",
        production=production(live),
        hint=hint_of(
            "`upswitch repair --forget` moves it aside; look first whether what is live is what you want; "
            "playbooks/incident/refused.md"
        ),
    )


def bug(command: str, said: str, kept: str, live: Live) -> Acted:
    return Acted(
        command=command,
        outcome="BUG",
        exit=outcome.BUG,
        said=f"a bug of upswitch: {said} (traceback in {kept})",
        production=production(live),
        hint=hint_of("`upswitch status`, then `upswitch repair`; please report the traceback; playbooks/incident/bug.md"),
    )


def repaired(ending: "Ending | None", live: Live, *, aside: str) -> Acted:
    """A repair succeeded when production is proved, whichever way the run went."""
    moved = f"the journal was moved to {aside}; " if aside else ""
    if ending is None:
        return Acted(
            command="repair",
            outcome=Outcome.UNCHANGED,
            exit=0 if live.agrees else outcome.FINDINGS,
            said=f"{moved}nothing to repair",
            production=production(live),
            hint="nothing to do" if live.agrees else "`upswitch status` says what does not agree",
        )
    view = acted("repair", ending)
    is_proved = ending.outcome is not Outcome.STUCK and live.agrees
    return msgspec.structs.replace(view, exit=0 if is_proved else exit_codes.EXIT[Outcome.STUCK], said=moved + view.said)


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
        exit=0,
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


def stuck(command: str, error: StuckError, live: Live) -> Acted:
    return Acted(
        command=command,
        outcome=Outcome.STUCK,
        exit=exit_codes.EXIT[Outcome.STUCK],
        said=f"STUCK: {error}",
        production=production(live),
        hint=hint_of("a person must look: `nginx -t`, then reload it; playbooks/incident/stuck.md"),
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

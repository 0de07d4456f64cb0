"""What `switch`, `rollback` and `repair` print, and every command that an error ends."""

from typing import TYPE_CHECKING, NamedTuple

import click
import msgspec

from upswitch.basics.errors import HostError, JournalCorruptError, LockedError, RefusedError, StuckError, UntrustedError
from upswitch.basics.result import Result, Why
from upswitch.cli.exit_codes import Exit, exit_of
from upswitch.cli.site_files import NoSiteError, SeveralSitesError, SharedSiteError
from upswitch.cli.views import View, next_lines
from upswitch.generations.generation import Live
from upswitch.site.read import SiteInvalid
from upswitch.switch.machine import Outcome, Step
from upswitch.switch.run import Ended

if TYPE_CHECKING:
    from upswitch.health.rounds import GateReport
    from upswitch.switch.drive import Ending
    from upswitch.watch.report import WatchReport


class Acted(View):
    """`switch`, `rollback`, `repair`; and any command that was refused."""

    outcome: str
    said: str
    production: Live | None
    hint: str
    details: tuple[str, ...] = ()
    why: Why = Why.NONE
    run: str = ""
    pool: str = ""
    former_pool: str = ""
    generation: str = ""
    steps: tuple[Ended, ...] = ()
    gate: "GateReport | None" = None
    watch: "WatchReport | None" = None
    problems: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What happened and where; what production is in now; what to do next."""
        lines = [self.said, *self.details, *self.problems]
        if self.watch is not None:
            is_decisive = any(each.step is Step.WATCH and (each.result is not Result.OK or each.why) for each in self.steps)
            lines += [] if is_decisive else [f"Watch: {self.watch.said}"]  # the headline has it
            lines += [f"Watch: {note}" for note in self.watch.notes]
        lines += [f"Accepted: {each}" for each in self.accepted]
        if self.why:
            lines.append(f"Why: {self.why} ({self.why.words})")
        if self.production is not None:
            lines.append(f"Production: {self.production.text}")
        return "\n  ".join([*lines, *next_lines(self.hint)])


def acted(command: str, ending: "Ending") -> Acted:
    over = ending.run
    return Acted(
        command=command,
        outcome=ending.outcome,
        exit=exit_of(ending.outcome),
        said=ending.headline,
        production=ending.live,
        hint=ending.hint,
        details=ending.details,
        why=ending.why,
        run=over.plan.run if over.steps else "",
        pool=over.plan.pool,
        former_pool=over.plan.former_pool,
        generation=ending.live.disk,
        steps=over.steps,
        gate=ending.gate,
        watch=ending.watch,
        accepted=ending.accepted,
    )


class End(NamedTuple):
    """How an error ends a command: the outcome, what is said, what to do next, the page about it, and why.

    `{error}` is the error's text, `{hint}` its own advice, `{file}` the file that it is about, `{command}` the command,
    `{test}` the command that tests nginx's configuration.
    A RefusedError and a HostError say why themselves.
    """

    outcome: str
    said: str
    hint: str
    page: str
    why: Why = Why.NONE


ENDINGS: dict[type[Exception], End] = {
    click.UsageError: End("USAGE", "{error}", "`upswitch {command} --help` lists the options; nothing was changed", "usage"),
    SeveralSitesError: End("USAGE", "{file}: {error}", "choose one with -s NAME, or name a site file with -c", "usage"),
    SharedSiteError: End("USAGE", "{file}: {error}", "give each site a name and places of its own; nothing was changed", "usage"),
    NoSiteError: End("USAGE", "{file}: {error}", "name the site file with -c, or make one with `upswitch init`", "usage"),
    SiteInvalid: End("USAGE", "{file}: {error}", "fix the site file; no host was asked, and nothing was changed", "usage"),
    UntrustedError: End("USAGE", "{error}", "find out who changed it, then run `{hint}`; nothing was changed", "usage"),
    RefusedError: End("REFUSED", "REFUSED: {error}", "{hint}", "refused"),
    HostError: End("REFUSED", "REFUSED: {error}", "fix the cause, then try again; `upswitch status` shows what is live", "refused"),
    JournalCorruptError: End(
        "REFUSED",
        "REFUSED: the journal {file} can't be read: {error}",
        "check with `upswitch status` that the right pool is live; then `upswitch repair --forget` moves the journal aside",
        "refused",
        Why.JOURNAL,
    ),
    LockedError: End("LOCKED", "{error}", "wait until that run ends; the lock is freed even if its process is killed", "locked"),
    StuckError: End("STUCK", "STUCK: {error}", "run `{test}`, fix what it names, then reload nginx", "stuck", Why.INIT),
    Exception: End(
        "BUG",
        "a bug in upswitch: {error} (traceback in {file})",
        "run `upswitch status`; then run `upswitch repair`; please report the traceback",
        "bug",
        Why.BUG,
    ),
}
"""Every error that can end a command; the first row that fits counts. A new ending is a new row."""


def is_expected(error: Exception) -> bool:
    """Whether it is an ending that upswitch means to have; every other error is a bug."""
    return _end(error) is not ENDINGS[Exception]


def ended(command: str, error: Exception, live: Live | None, *, file: str = "", test: str = "nginx -t") -> Acted:
    """The view of a command that ended with `error`. `live`: what serves, None where no host was asked.

    `test` is what a person types to test this nginx's configuration.
    """
    end = _end(error)
    first, *others = _texts(error)
    hint, why = "", error.why if isinstance(error, HostError) else end.why
    if isinstance(error, UntrustedError):
        hint = error.fix
    if isinstance(error, RefusedError):
        hint, why = error.refusals[0].hint, error.refusals[0].why
    return Acted(
        command=command,
        outcome=end.outcome,
        exit=exit_of(end.outcome),
        said=end.said.format(error=first, file=file),
        problems=tuple(others),
        why=why,
        production=live,
        hint=f"{end.hint.format(command=command, hint=hint, test=test)}; `upswitch help {end.page}`",
    )


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


def repaired(ending: "Ending | None", live: Live, *, aside: str, sick: tuple[str, ...]) -> Acted:
    """A repair succeeded when production is proved, whether the run was finished or undone. A HELD run still needs a person.

    `sick`: what is wrong with the servers of the live pool. A proved generation that fails is a finding, as in `status`.
    """
    moved = f"The journal was moved to {aside}. " if aside else ""
    if ending is None:
        return Acted(
            command="repair",
            outcome=Outcome.UNCHANGED,
            exit=Exit.DONE if live.agrees and not sick else Exit.FINDINGS,
            said=f"{moved}Nothing to repair",
            problems=sick,
            production=live,
            hint="nothing to do" if live.agrees and not sick else "`upswitch status` shows what is wrong",
        )
    view = acted("repair", ending)
    is_proved = ending.outcome is not Outcome.STUCK and live.agrees
    done = Exit.HELD if ending.outcome is Outcome.HELD else Exit.FINDINGS if sick else Exit.DONE
    return msgspec.structs.replace(view, exit=done if is_proved else Exit.STUCK, said=moved + view.said, problems=sick)

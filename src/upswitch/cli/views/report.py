"""What `report` prints of one run: text for people, JSON, and Markdown for a merge request. The page is in cli/report."""

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum

from upswitch.basics.result import Result
from upswitch.basics.text import plain
from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View
from upswitch.cli.views.plan import without_marker
from upswitch.health.timeline import ServerLine
from upswitch.switch.machine import Outcome, Step
from upswitch.switch.record import CauseKept, Record
from upswitch.switch.run import Run
from upswitch.watch.seen import Seen

UNDER_WAY = "UNDER WAY"
_PROOFS = {Step.CONFIRM, Step.FINISH, Step.CONFIRM_BACK}


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


class ReportView(View):
    """One run on one host. `missing`: why nothing but the journal is known of it, "" where its record could be read.

    `page`: the file that the page was written to, "" where none was. `holder`: who works on this run now, "" where nobody does.
    """

    site: str
    run: Run
    record: Record | None
    missing: str = ""
    format: Format = Format.TEXT
    page: str = ""
    holder: str = ""

    @property
    def outcome(self) -> str:
        return UNDER_WAY if self.holder else outcome(self.run)

    @property
    def said(self) -> str:
        """How it ended, in a sentence."""
        if self.holder:
            return f"{UNDER_WAY} {self._at}, by {self.holder}"
        if self.run.closed or self.run.fired:
            return self.run.fired.text if self.run.fired and not self.run.closed else self.run.said
        return f"UNFINISHED: the run was cut off {self._at}; `upswitch repair` finishes or undoes it"

    @property
    def _at(self) -> str:
        """Where a run is that has no end."""
        if self.run.pending:
            return f"in the step {step_name(self.run.pending)}"
        return f"after the step {step_name(self.run.steps[-1].step)}" if self.run.steps else "before the first step"

    @property
    def ended(self) -> str:
        """When the last thing of it was recorded."""
        closed, steps = self.run.closed, self.run.steps
        return closed.at if closed else steps[-1].at if steps else self.run.started

    @property
    def seconds(self) -> float:
        """How long it took."""
        begin, end = moment(self.run.started), moment(self.ended)
        return round((end - begin).total_seconds(), 1) if begin and end else 0.0

    @property
    def proof(self) -> tuple[str, ...]:
        """By what nginx showed which generation serves; of a run that went back, that this is the former one again."""
        found = {each.step: each.said for each in self.run.steps if each.step in _PROOFS and each.result is Result.OK}
        return (found[Step.CONFIRM_BACK],) if Step.CONFIRM_BACK in found else tuple(found.values())

    @property
    def gate(self) -> tuple[ServerLine, ...]:
        return self.record.gate if self.record else ()

    @property
    def seen(self) -> Seen | None:
        return self.record.seen if self.record else None

    @property
    def watch(self) -> str:
        return self.record.watch if self.record else ""

    @property
    def notes(self) -> tuple[str, ...]:
        return self.record.notes if self.record else ()

    @property
    def causes(self) -> tuple[CauseKept, ...]:
        return self.record.causes if self.record else ()

    @property
    def diff(self) -> str:
        return self.record.diff if self.record else ""

    @property
    def diff_title(self) -> str:
        has_swapped = any(each.step is Step.SWAP and each.result is Result.OK for each in self.run.steps)
        return "Changed files" if has_swapped else "Files that it would have changed"

    @property
    def facts(self) -> dict[str, str]:
        """A line each: its name, and what it says."""
        plan, run = self.run.plan, self.run
        found = {
            "Site": self.site,
            "Change": f"{plan.command} from {plan.former_pool} ({plan.former}) to {plan.pool} ({plan.to})",
            "Who": plan.user,
            "Reason": plan.reason,
            "Began": shown(run.started),
            "Took": duration(self.seconds),
            "Proof": "; ".join(self.proof),
            "Cause": f"{run.why}: {run.why.words}" if run.why else "",
            "Watch": self.watch if run.outcome is Outcome.SWITCHED else "",
            "Run": plan.run,
        }
        return {name: said for name, said in found.items() if said}

    @property
    def lacks(self) -> tuple[str, ...]:
        """What the report can't show, and why."""
        if self.holder:
            return ("The plots, the health checks and the diff come at the end of the run.",)
        if self.missing:
            return (f"The plots, the health checks and the diff are missing: {self.missing}.",)
        watch = "" if self.seen else "There is no plot of requests, because this run had no watch."
        gate = "" if self.gate else "No health check was recorded, because this run had no gate."
        return tuple(filter(None, (gate, watch)))

    @property
    def text(self) -> str:
        if self.page:
            return f"{self.said}\n  The page is in {self.page}"
        return _markdown({"": self}) if self.format is Format.MARKDOWN else "\n".join(_lines(self))


def of_hosts(views: Mapping[str, View], form: Format | None = None) -> str:
    """One Markdown document of several hosts; "" where people read the text."""
    found = {name: view for name, view in views.items() if isinstance(view, ReportView)}
    is_wanted = any(each.format is Format.MARKDOWN and not each.page for each in found.values()) or form is Format.MARKDOWN
    return _markdown(found) if is_wanted else ""


def report(site: str, run: Run, record: Record | str, form: Format, *, holder: str = "") -> ReportView:
    """`record`: what was kept of the run, or why there is nothing. `holder`: who works on it now."""
    kept, missing = (record, "") if isinstance(record, Record) else (None, record)
    return ReportView(
        command="report",
        exit=Exit.DONE,
        site=site,
        run=run,
        record=kept,
        missing=missing,
        format=form,
        holder=holder,
    )


# ---- times ----


def moment(at: str) -> datetime | None:
    """None where it is no time."""
    try:
        return datetime.fromisoformat(at).astimezone(UTC)
    except ValueError:
        return None


def shown(at: str) -> str:
    found = moment(at)
    return f"{found:%Y-%m-%d %H:%M:%S} UTC" if found else plain(at)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def outcome(run: Run) -> str:
    return str(run.ending).replace("_", " ")


# ---- text ----


def _lines(view: ReportView) -> Iterator[str]:
    yield view.said
    yield from (f"  {name + ':':8} {said}" for name, said in view.facts.items())
    yield "Steps:"
    yield from (f"  {step_name(each.step):12} {each.result:11} {duration(each.seconds):>8}  {each.said}" for each in view.run.steps)
    if view.gate:
        yield f"Health checks before the switch, {duration(view.record.gate_s if view.record else 0)}:"
        yield from (f"  {each.pool}: {each.said}" for each in view.gate)
    if view.seen:
        yield "What the rule for a rollback found at the end of the watch:"
        yield from (f"  {'yes' if each.is_yes else 'no':4}{each.question} {each.numbers}" for each in view.seen.answers)
    for name, lines in (("Causes", map(cause, view.causes)), ("Notes", (*view.notes, *view.lacks))):
        said = [f"  {line}" for line in lines]
        yield from (f"{name}:", *said) if said else ()
    if shown_diff := without_marker(view.diff):
        yield f"{view.diff_title}:"
        yield shown_diff


def step_name(step: Step) -> str:
    return step.replace("_", " ")


def cause(found: CauseKept) -> str:
    """One line."""
    where = f" at {', '.join(found.servers)}" if found.servers else ""
    return f"{found.count} x {found.code}{where}: {found.why} {found.fix}"


# ---- Markdown ----


def _markdown(views: Mapping[str, ReportView]) -> str:
    """Of one host, or of several by their names. What others wrote can't become Markdown or HTML."""
    return "\n".join(line for name, view in views.items() for line in _document(name, view))


def _document(name: str, view: ReportView) -> Iterator[str]:
    yield f"### {_escaped(f'{name}: {view.said}' if name else view.said)}"
    yield from ("", "| | |", "|---|---|")
    yield from (f"| {label} | {_escaped(said)} |" for label, said in view.facts.items())
    if view.seen:
        yield from ("", "| Question of the rule for a rollback | Answer | Numbers |", "|---|---|---|")
        yield from (f"| {_escaped(each.question)} | {_yes(each.is_yes)} | {_escaped(each.numbers)} |" for each in view.seen.answers)
    yield from ("", *(f"- {_escaped(line)}" for line in (*map(cause, view.causes), *view.notes, *view.lacks)))
    steps = [
        f"| {step_name(each.step)} | {each.result} | {duration(each.seconds)} | {_escaped(each.said)} |" for each in view.run.steps
    ]
    yield from _folded("Steps", ["| Step | Result | Took | What was seen |", "|---|---|---|---|", *steps])
    if shown_diff := without_marker(view.diff):
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", shown_diff)), default=0))
        yield from _folded(view.diff_title, [f"{fence}diff", shown_diff.rstrip("\n"), fence])
    yield ""


def _folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("", f"<details><summary>{title}</summary>", "", *lines, "", "</details>")


def _yes(is_yes: bool) -> str:  # noqa: FBT001  (what it is about)
    return "yes" if is_yes else "no"


def _escaped(text: str) -> str:
    """As text: no markup, no HTML, no link, no name that would be notified."""
    said = html.escape(plain(text), quote=False)
    said = re.sub(r"([\\`*_{}\[\]()#|~!])", r"\\\1", said)
    return re.sub(r"@|:(?=//)|\bwww(?=\.)", lambda found: f"{found[0]}<!-- -->", said)

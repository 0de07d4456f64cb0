"""The page of one run, and the page of a list of runs. Whatever others wrote is text in it: nothing becomes HTML."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from upswitch import __version__
from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.cli.report.plots import Mark, Plot, plots
from upswitch.cli.views import report as words
from upswitch.cli.views.plan import without_marker
from upswitch.cli.views.report import ReportView
from upswitch.health.timeline import ServerLine
from upswitch.switch.machine import Outcome, Step
from upswitch.switch.run import Run

_MARKS = {Step.GATE: "gate", Step.SWAP: "switch", Step.RESTORE: "rollback"}
_GOOD = {Outcome.SWITCHED, Outcome.UNCHANGED}
_BAD = {Outcome.STUCK, "UNFINISHED"}
_WORST = (
    *(Outcome.STUCK, "UNFINISHED", Outcome.HELD, Outcome.ROLLED_BACK),
    *(Outcome.INTERRUPTED, Outcome.REFUSED),
    *sorted(_GOOD),
)
_TABLE_ROWS = 400  # lines of a diff


class Phase(Value):
    """A step as a row with a bar. `begin` and `length` are percent of the run."""

    name: str
    result: str
    took: str
    said: tuple[str, ...]
    begin: float
    length: float


class Bar(Value):
    """A part of a server's line. `length` is percent of the gate."""

    state: str
    length: float


class Checks(Value):
    """The health checks of one server."""

    line: ServerLine
    bars: tuple[Bar, ...]


class HostPart(Value):
    """All that the page has of one host. `name` is "" for this machine."""

    name: str
    view: ReportView
    outcome: str
    kind: str
    phases: tuple[Phase, ...]
    checks: tuple[Checks, ...]
    plots: tuple[Plot, ...]
    diff: tuple[tuple[str, str], ...]


def page(views: Mapping[str, ReportView], others: Mapping[str, str]) -> str:
    """Of the newest run among these. `others`: hosts that have none, and what they say instead."""
    newest = max(view.run.plan.run for view in views.values())
    parts = tuple(_part(name, view) for name, view in views.items() if view.run.plan.run == newest)
    absent = {name: f"took no part; its run is {view.run.plan.run}" for name, view in views.items() if view.run.plan.run != newest}
    worst = min(parts, key=lambda part: _WORST.index(part.view.run.ending))
    return _rendered("run.html.j2", parts=parts, worst=worst, others={**others, **absent})


def runs_page(hosts: Mapping[str, Sequence[Run]], site: str) -> str:
    """The list of runs, of each host."""
    rows = {name: tuple((run, kind_of(run), words.outcome(run), _took(run)) for run in runs) for name, runs in hosts.items()}
    return _rendered("runs.html.j2", rows=rows, site=site, shown=words.shown)


def kind_of(run: Run) -> str:
    """How it ended, as the page colors it."""
    return "good" if run.ending in _GOOD else "bad" if run.ending in _BAD else "warn"


def _took(run: Run) -> str:
    begin, end = (words.moment(at) for at in (run.started, run.closed.at if run.closed else run.started))
    return words.duration((end - begin).total_seconds()) if begin and end and run.closed else ""


def _rendered(template: str, **values: Any) -> str:
    """Every value that is printed is made safe to show; then Jinja2 escapes it."""
    environment = Environment(
        loader=PackageLoader("upswitch.cli.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,  # HTML of ours has a type of its own
    )
    environment.filters["rest"] = _rest
    return environment.get_template(template).render(version=__version__, **values)


def _rest(said: str, outcome: str) -> str:
    """A headline without the outcome, which stands before it."""
    rest = said.removeprefix(outcome).lstrip(":, ")
    return rest[:1].upper() + rest[1:]


def _part(name: str, view: ReportView) -> HostPart:
    run, seen = view.run, view.seen
    return HostPart(
        name=name,
        view=view,
        outcome=view.outcome,
        kind="warn" if view.holder else kind_of(run),
        phases=tuple(_phases(view)),
        checks=tuple(_checks(view)),
        plots=plots(seen, tuple(_marks(view, seen.began))) if seen else (),
        diff=tuple(map(_colored, without_marker(view.diff).splitlines()[:_TABLE_ROWS])),
    )


def _phases(view: ReportView) -> Iterable[Phase]:
    begin = words.moment(view.run.started)
    for step in view.run.steps:
        end = words.moment(step.at)
        after = (end - begin).total_seconds() - step.seconds if begin and end else 0.0
        whole = max(view.seconds, 0.001)
        yield Phase(
            name=words.step_name(step.step),
            result=step.result,
            took=words.duration(step.seconds),
            said=(step.said, *step.details),
            begin=min(99.0, max(0.0, 100 * after / whole)),
            length=max(0.4, min(100.0, 100 * step.seconds / whole)),
        )


def _checks(view: ReportView) -> Iterable[Checks]:
    whole = max(view.record.gate_s if view.record else 0.0, 0.001)
    for line in view.gate:
        ends = (*(span.at_s for span in line.spans[1:]), whole)
        parts = zip(line.spans, ends, strict=False)
        yield Checks(line=line, bars=tuple(Bar(state=span.state, length=100 * (end - span.at_s) / whole) for span, end in parts))


def _marks(view: ReportView, began: str) -> Iterable[Mark]:
    """Where each step began; 0 is when the watch began. Only the main ones have a name."""
    zero = words.moment(began)
    for step in view.run.steps:
        end = words.moment(step.at)
        if zero and end:
            yield Mark(at_s=round((end - zero).total_seconds() - step.seconds, 2), label=_MARKS.get(step.step, ""))


def _colored(line: str) -> tuple[str, str]:
    """A line of a diff with its class."""
    kinds = {"+++": "file", "---": "file", "@@ ": "place"}
    return kinds.get(line[:3]) or {"+": "added", "-": "removed"}.get(line[:1], ""), line

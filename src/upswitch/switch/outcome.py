"""What a command came to, its exit code, and what a tired person needs to read (docs/design.md)."""

from upswitch.basics.result import Result, Why
from upswitch.generations.generation import Live
from upswitch.switch.machine import Outcome, Step
from upswitch.switch.run import Plan, Run

UNREACHABLE_PAGES = {
    Why.UNREACHABLE: "`upswitch help unreachable`",
    Why.CONNECTION_LOST: "`upswitch help unreachable`",
    Why.HOST_KEY: "`upswitch help host-key`",
}
"""The reasons why a host can't be reached, and the page about each."""


def headline(run: Run, outcome: Outcome, live: Live) -> str:
    """What happened, with the step that decided it."""
    plan, cause = run.plan, run.cause
    because = f": {cause.step.replace('_', ' ')}: {cause.said}" if cause else ""
    because = f": {run.fired.text}" if run.fired else because
    match outcome:
        case Outcome.SWITCHED:
            return _switched(plan)
        case Outcome.UNCHANGED:
            return f"UNCHANGED: {plan.pool} is live already, with the same servers"
        case Outcome.REFUSED if run.outcome is Outcome.ROLLED_BACK:
            return f"REFUSED: this run was taken back, and then somebody else made {live.disk} live"
        case Outcome.REFUSED:
            return f"REFUSED{because}"
        case Outcome.INTERRUPTED:
            return f"INTERRUPTED before the swap{because}"
        case Outcome.ROLLED_BACK:
            return f"ROLLED BACK to {plan.former_pool} (generation {live.disk}){because}"
        case Outcome.HELD:
            return f"HELD on {plan.pool}{because}"
        case Outcome.STUCK:
            return f"STUCK{because}{_last(run)}"


def _switched(plan: Plan) -> str:
    if plan.copy_of:
        return f"SWITCHED back to {plan.pool} (generation {plan.to}, as {plan.copy_of} was), from {plan.former_pool}"
    if plan.pool == plan.former_pool:
        return f"SWITCHED {plan.pool} to what the site file says now (generation {plan.to}, from {plan.former})"
    return f"SWITCHED to {plan.pool} (generation {plan.to}), from {plan.former_pool}"


def _last(run: Run) -> str:
    """The step that could not be done, where it is not the one that turned the run."""
    last = run.steps[-1] if run.steps else None
    return f"; then {last.step.replace('_', ' ')}: {last.said}" if last and last is not run.cause else ""


def hint(run: Run, outcome: Outcome, live: Live) -> str:
    """The next command, or the page to open."""
    plan = run.plan
    match outcome:
        case Outcome.SWITCHED:
            if plan.pool == plan.former_pool:
                return "`upswitch rollback` goes back to the servers that it had"
            again = f"`switch --to {plan.former_pool}` when it is mended" if plan.copy_of else "`upswitch rollback` goes back"
            return f"`upswitch drain` says when {plan.former_pool} may be stopped; {again}"
        case Outcome.UNCHANGED:
            return "nothing to do"
        case Outcome.INTERRUPTED:
            return f"run it again when ready: {_again(plan)}; `upswitch help interrupted`"
        case Outcome.ROLLED_BACK:
            page = "`upswitch help dead-man`" if run.fired else "`upswitch help rolled-back`"
            return f"{_to_mend(run)}{_again(plan)}; {page}"
        case Outcome.HELD:
            return f"decide: `upswitch rollback` for {plan.former_pool}, or mend {plan.pool}; `upswitch help held`"
        case Outcome.STUCK:
            lost = UNREACHABLE_PAGES.get(run.why)
            look = f"see why ssh can't reach the host: {lost}" if lost else "automatic recovery failed: see `upswitch help stuck`"
            return f"{look}; then `upswitch repair`"
        case Outcome.REFUSED:
            return _refused_hint(run, live)


def _to_mend(run: Run) -> str:
    """A release that failed in the watch; else what a step named. Nothing where the run was only cut off, or stopped."""
    cause = run.cause
    is_cut = cause is not None and cause.result is Result.UNKNOWN and cause.step is not Step.CONFIRM
    if cause is None or is_cut or cause.result is Result.INTERRUPTED or run.fired:
        return "when ready: "
    return f"mend {run.plan.pool}, then " if cause.step is Step.WATCH else "mend what is named, then "


def _refused_hint(run: Run, live: Live) -> str:
    step = run.cause.step if run.cause else None
    if not live.agrees:
        return "`upswitch status` shows what is live; `upswitch help refused`"
    match step:
        case Step.GATE | Step.RECHECK:
            return f"look at the servers named above, then {_again(run.plan)}; `upswitch help refused`"
        case Step.TEST:
            return "mend what is named, then try again; `upswitch plan` shows the files; `upswitch help refused`"
        case _:
            return f"mend that, then {_again(run.plan)}; `upswitch help refused`"


def _again(plan: Plan) -> str:
    return "`upswitch rollback` again" if plan.copy_of else f"`switch --to {plan.pool}` again"

"""The first and the last line of a command that changes things: what happened, and what to do next (docs/design.md)."""

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
_REPORTED = {Outcome.SWITCHED, Outcome.ROLLED_BACK, Outcome.HELD}
_REPORT = "`upswitch report` shows all about this run"
_GO_BACK = "go back to {} with `upswitch rollback`"


def headline(run: Run, outcome: Outcome, live: Live) -> str:
    """What happened, with the step that decided it."""
    plan, cause = run.plan, run.cause
    because = f": {cause.step.replace('_', ' ')}: {cause.said}" if cause else ""
    because = f": {run.fired.text}" if run.fired else because
    match outcome:
        case Outcome.SWITCHED:
            return (
                f"SWITCHED, NOT PROVEN BY TRAFFIC: {run.unproven}; switched {_switched(plan)}"
                if run.unproven
                else f"SWITCHED {_switched(plan)}{run.unseen and f'; the watch saw {run.unseen}'}"
            )
        case Outcome.UNCHANGED:
            return f"UNCHANGED: {plan.pool} is live already, with the same servers"
        case Outcome.REFUSED if run.outcome is Outcome.ROLLED_BACK:
            return f"REFUSED: this run was rolled back; after that somebody else made {live.disk or 'another link'} live"
        case Outcome.REFUSED:
            return f"REFUSED{because}"
        case Outcome.INTERRUPTED:
            return f"INTERRUPTED before the swap{because}"
        case Outcome.ROLLED_BACK:
            return f"ROLLED BACK to {plan.former_pool} (generation {live.disk}){because}"
        case Outcome.HELD:
            stayed = f"; {run.steps[-1].said}" if run.has_stayed else ""
            return f"HELD: {plan.pool} is still live{because}{stayed}"
        case Outcome.STUCK:
            last = run.steps[-1] if run.steps else None
            then = f"; then {last.step.replace('_', ' ')}: {last.said}" if last and last is not cause else ""
            return f"STUCK{because}{then}"


def _switched(plan: Plan) -> str:
    if plan.copy_of:
        return f"back to {plan.pool} (generation {plan.to}, a copy of {plan.copy_of}), from {plan.former_pool}"
    if plan.pool == plan.former_pool:
        return f"{plan.pool} to what the site file says now (generation {plan.to}, from {plan.former})"
    return f"to {plan.pool} (generation {plan.to}), from {plan.former_pool}"


def hint(run: Run, outcome: Outcome, live: Live) -> str:
    """The next command, and the page to read."""
    found = _hint(run, outcome, live)
    return f"{found}; {_REPORT}" if outcome in _REPORTED else found


def _hint(run: Run, outcome: Outcome, live: Live) -> str:
    plan = run.plan
    again = "run `upswitch rollback` again" if plan.copy_of else f"run `switch --to {plan.pool}` again"
    match outcome:
        case Outcome.SWITCHED:
            return _after_switch(plan)
        case Outcome.UNCHANGED:
            return "nothing to do"
        case Outcome.INTERRUPTED:
            return f"{again} when you are ready; `upswitch help interrupted`"
        case Outcome.ROLLED_BACK:
            return f"{_first(run)} {again}; `upswitch help {'dead-man' if run.fired else 'rolled-back'}`"
        case Outcome.HELD:
            is_dead = run.has_stayed or run.fired
            first = f"start the servers of {plan.former_pool}; `upswitch rollback` then goes back" if is_dead else _GO_BACK
            fix = f"fix {plan.pool}, or " if not is_dead or _has_failed(run) else ""
            return f"decide now: {fix}{first.format(plan.former_pool)}; `upswitch help held`"
        case Outcome.STUCK:
            lost = UNREACHABLE_PAGES.get(run.why)
            look = f"upswitch can't reach the host: see {lost}" if lost else "automatic recovery failed: see `upswitch help stuck`"
            return f"{look}; then run `upswitch repair`"
        case Outcome.REFUSED if not live.agrees:
            return "`upswitch status` shows what is live; `upswitch help refused`"
        case Outcome.REFUSED:
            return f"{_fix(run)}, then {again}; `upswitch help refused`"


def _has_failed(run: Run) -> bool:
    """Whether the watch found the new pool bad; a run that was stopped or killed says nothing of it."""
    cause = run.cause
    return cause is not None and cause.step is Step.WATCH and cause.result in {Result.FAILED, Result.HOLD}


def _after_switch(plan: Plan) -> str:
    if plan.pool == plan.former_pool:
        return f"`upswitch rollback` goes back to the former servers of {plan.pool}"
    back = f"run `switch --to {plan.former_pool}` when it is fixed" if plan.copy_of else "`upswitch rollback` goes back"
    return f"`upswitch drain` says when {plan.former_pool} may be stopped; {back}"


def _first(run: Run) -> str:
    """What to do before the next try. Nothing where the run was only cut off, or stopped."""
    cause = run.cause
    is_cut = cause is not None and cause.result is Result.UNKNOWN and cause.step is not Step.CONFIRM
    if cause is None or is_cut or cause.result is Result.INTERRUPTED or run.fired:
        return "when you are ready,"
    return f"fix {run.plan.pool}, then" if cause.step is Step.WATCH else "fix what is named above, then"


def _fix(run: Run) -> str:
    match run.cause and run.cause.step:
        case Step.GATE if run.why is Why.PROBE_FAILED:
            return f"fix watch.probe in the site file, or {run.plan.former_pool} if that fails (--one-way goes on all the same)"
        case Step.GATE | Step.RECHECK:
            return "fix the servers named above"
        case Step.TEST if run.plan.copy_of:  # these files served before
            return "fix the line of nginx's own configuration that is named above"
        case Step.TEST:
            return f"`upswitch plan --to {run.plan.pool}` shows the files; fix what is named above"
        case _:
            return "fix the cause named above"

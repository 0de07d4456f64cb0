"""Where a rollback leads: to what was live before, to the newest generation of a pool that is known good, or to one generation.

A generation is known good if it served, and upswitch neither rolled it back nor held it. A copy is as good as its original.
"""

from collections.abc import Collection, Iterable, Mapping

from upswitch.basics.errors import Refusal, RefusedError
from upswitch.basics.result import Why
from upswitch.generations import generation
from upswitch.generations.generation import Manifest
from upswitch.site.model import parse_name
from upswitch.switch.machine import Outcome
from upswitch.switch.run import Run

_SWAPPED = {Outcome.SWITCHED, Outcome.HELD, Outcome.ROLLED_BACK}
_ANYWAY = "`upswitch rollback --force --to {}` goes there anyway; `upswitch history` lists the runs"


def destination(to: str, *, live: str, manifests: Mapping[str, Manifest], runs: Collection[Run], is_forced: bool) -> str:
    """The name of a generation on disk. `to` is a number, the name of a generation, the name of a pool, or "".

    RefusedError where there is none. Without `is_forced` also for one that never served, or that upswitch had to leave.
    """
    if to and not to.isdecimal() and to not in manifests:
        return _newest(to, live=live, manifests=manifests, runs=runs, is_forced=is_forced)
    name = _numbered(to, manifests) if to else _before(live, manifests)
    if not is_forced and (doubt := _doubt(name, _served(live, manifests, runs), manifests, runs)):
        raise RefusedError(doubt)
    return name


def _numbered(to: str, manifests: Mapping[str, Manifest]) -> str:
    for name in manifests:
        if name == to or ((parsed := parse_name(name)) and to.isdecimal() and parsed.number == int(to)):
            return name
    raise RefusedError(Refusal(what=f"--to {to}: no such generation", hint=_have(manifests), why=Why.NO_GENERATION))


def _before(live: str, manifests: Mapping[str, Manifest]) -> str:
    found = generation.way_back(live, manifests)
    if found is None:
        now = manifests.get(live)
        gone = f"generation {now.replaces}, which was live before, is not on disk any more" if now and now.replaces else ""
        what = gone or f"{live} is the first generation: there is nothing to go back to"
        hint = f"choose a generation with `upswitch rollback --to N`; or use `switch --to POOL`; {_have(manifests)}"
        raise RefusedError(Refusal(what=what, hint=hint, why=Why.NOTHING_BEFORE))
    return found


def _newest(pool: str, *, live: str, manifests: Mapping[str, Manifest], runs: Collection[Run], is_forced: bool) -> str:
    own = sorted((name for name, each in manifests.items() if each.pool == pool), key=_number, reverse=True)
    if not own:
        what = f"--to {pool}: no generation of pool {pool} is on disk"
        raise RefusedError(Refusal(what=what, hint=f"`switch --to {pool}` makes one; {_have(manifests)}", why=Why.NO_GENERATION))
    served = _served(live, manifests, runs)
    doubts = {name: _doubt(name, served, manifests, runs) or _held(name, manifests, runs) for name in own}
    good = [name for name, doubt in doubts.items() if doubt is None]
    if good:
        return good[0]
    if is_forced:
        return own[0]
    first = next(doubt for doubt in doubts.values() if doubt)
    others = f" ({len(own) - 1} more of {pool} are no better)" if own[1:] else ""
    what = f"no generation of pool {pool} is known good: {first.what}{others}"
    hint = f"`switch --to {pool}` makes a new one, with all checks; {_ANYWAY.format(pool)}"
    raise RefusedError(Refusal(what=what, hint=hint, why=first.why))


def _number(name: str) -> int:
    found = parse_name(name)
    return found.number if found else 0


def _have(manifests: Iterable[str]) -> str:
    return f"generations on disk: {', '.join(sorted(manifests))}"


# ---- what is known of a generation ----


def _served(live: str, manifests: Mapping[str, Manifest], runs: Iterable[Run]) -> set[str]:
    """Those that served: the live one, what the runs made live or found live, and what each of these replaced."""
    found = {live}
    for run in runs:
        found.add(run.plan.former)
        if run.outcome in _SWAPPED:
            found |= {run.plan.to, run.plan.warm, run.plan.back if run.outcome is Outcome.ROLLED_BACK else ""}
    left = [*found]
    while left:
        manifest = manifests.get(left.pop())
        if manifest and manifest.replaces not in found:
            found.add(manifest.replaces)
            left.append(manifest.replaces)
    return found - {""}


def _doubt(name: str, served: set[str], manifests: Mapping[str, Manifest], runs: Iterable[Run]) -> Refusal | None:
    """Why it is not to be made live again, unless a person knows better. One that failed once fails again."""
    origin = manifests[name]
    for run in runs:
        if run.outcome is Outcome.ROLLED_BACK and run.plan.to in {name, origin.copy_of}:
            because = run.fired.text if run.fired else f"{run.cause.step}: {run.cause.said}" if run.cause else "it was stopped"
            what = f"generation {run.plan.to} of pool {origin.pool} was rolled back by the run of {run.started}: {because}"
            hint = "`upswitch rollback --force` goes there anyway; `upswitch rollback --to N` goes to generation N"
            return Refusal(what=what, hint=f"{hint}; `upswitch history` lists the runs", why=Why.TAKEN_BACK)
    if not served & {name, origin.copy_of}:
        what = f"nothing shows that generation {name} of pool {origin.pool} ever served"
        return Refusal(what=what, hint=_ANYWAY.format(_number(name)), why=Why.NEVER_SERVED)
    return None


def _held(name: str, manifests: Mapping[str, Manifest], runs: Iterable[Run]) -> Refusal | None:
    origin = manifests[name]
    for run in runs:
        if run.ending == Outcome.HELD and {run.plan.to, run.plan.copy_of} & {name, origin.copy_of} - {""}:
            what = f"generation {run.plan.to} of pool {origin.pool} failed in the run of {run.started}, which ended as HELD"
            return Refusal(what=what, hint="", why=Why.TAKEN_BACK)
    return None

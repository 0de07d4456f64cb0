"""From a site, a host's facts and the journal to a plan, or to the reasons why there is none. Pure."""

from collections.abc import Iterable

from upswitch.basics.value import Value
from upswitch.generations import generation
from upswitch.site.words import Generation
from upswitch.switch.run import Plan, Run
from upswitch.switch.words import Step

ROLLBACK_SKIPS = (Step.GATE, Step.WARM, Step.RECHECK, Step.ARM, Step.WATCH)


class Ask(Value):
    """What the caller wants. `skips` are steps left out by choice."""

    run: str
    command: str
    pool: str
    reason: str = ""
    user: str = ""
    skips: tuple[Step, ...] = ()


class Names(Value):
    """The generations of one run: `former` is live, `to` is to be, `back` is the prepared way back.

    `warm` is the former one with the new pool as a standby beside it, "" where nginx's own check needs none.
    """

    former: str
    former_pool: str
    to: str
    back: str
    warm: str = ""

    @property
    def base(self) -> str:
        """What is live just before the swap."""
        return self.warm or self.former


def names(live: Generation, pool: str, *, number: int, has_warm: bool = False) -> Names:
    """New numbers from `number` up."""
    first = number + 1 if has_warm else number
    return Names(
        former=live.name,
        former_pool=live.pool,
        to=Generation(number=first, pool=pool).name,
        back=Generation(number=first + 1, pool=live.pool).name,
        warm=Generation(number=number, pool=live.pool).name if has_warm else "",
    )


def next_number(present: Iterable[Generation], runs: Iterable[Run]) -> int:
    """Above all that were ever used."""
    used = [name for run in runs for name in (run.plan.to, run.plan.back, run.plan.warm)]
    return generation.next_number(present, used)


def plan(ask: Ask, found: Names, *, copy_of: str = "", skips: tuple[Step, ...] = ()) -> Plan:
    """The plan of one run. `skips` are steps that have no effect on this host."""
    return Plan(
        run=ask.run,
        command=ask.command,
        pool=ask.pool,
        former_pool=found.former_pool,
        former=found.former,
        to=found.to,
        back=found.back,
        warm=found.warm,
        copy_of=copy_of,
        skips=tuple(dict.fromkeys((*ask.skips, *skips))),
        reason=ask.reason,
        user=ask.user,
    )


def staying(ask: Ask, live: str, pool: str) -> Plan:
    """Of a host that has nothing to do."""
    return Plan(run=ask.run, command=ask.command, pool=pool, former_pool=pool, former=live, to=live, back=live)

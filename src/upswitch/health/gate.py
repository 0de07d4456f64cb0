"""The gate: what rise, fall and default_down make of repeated probes.

The rule is nginx_upstream_check_module's: a server starts down where `default_down` holds, else up; `rise` successes in a
row make it up, `fall` failures in a row make it down. Two things are ours: a server must have answered at least once (the
module would send traffic to a `default_down=false` server that nobody ever reached), and the gate ends early where the
deadline leaves no time for `rise` successes.
"""

from collections.abc import Iterable

import msgspec

from upswitch.basics.value import Value
from upswitch.site.model import Probe, Target
from upswitch.site.words import Verdict


class ServerHealth(Value):
    """A server's probes so far. `streak` counts like answers in a row: successes above zero, failures below."""

    target: Target
    is_up: bool
    streak: int = 0
    ok: int = 0
    failed: int = 0
    error: str = ""
    head: str = ""

    @property
    def text(self) -> str:
        """`app 127.0.0.1:29110 down: 0 of 12 probes passed; connection refused`."""
        state = "up" if self.is_up else "not yet up" if self.streak > 0 else "down"
        said = f"{self.target.upstream} {self.target.server} {state}: "
        said += f"{self.ok} of {self.ok + self.failed} probes passed"
        if self.streak > 0:
            return f"{said}, {self.streak} in a row (need {self.target.rule.rise})"
        said += f", the last {-self.streak} failed (fall={self.target.rule.fall})" if self.ok and self.streak else ""
        return said + (f"; {self.error}" if self.error else "") + (f'; body began "{self.head}"' if self.head else "")


def begin(targets: Iterable[Target]) -> tuple[ServerHealth, ...]:
    return tuple(ServerHealth(target=target, is_up=not target.rule.default_down) for target in targets)


def observe(tally: ServerHealth, probe: Probe) -> ServerHealth:
    """The tally after one more probe."""
    rule = tally.target.rule
    if probe.ok:
        streak = max(tally.streak, 0) + 1
        return msgspec.structs.replace(tally, streak=streak, ok=tally.ok + 1, is_up=tally.is_up or streak >= rule.rise)
    streak = min(tally.streak, 0) - 1
    return msgspec.structs.replace(
        tally,
        streak=streak,
        failed=tally.failed + 1,
        is_up=tally.is_up and -streak < rule.fall,
        error=probe.error,
        head=probe.head,
    )


def verdict(tallies: Iterable[ServerHealth], *, elapsed: float) -> Verdict:
    """PASS when every server is up and has answered; FAIL at the deadline, or when it can't be met any more."""
    waiting = [tally for tally in tallies if not (tally.is_up and tally.ok)]
    if not waiting:
        return Verdict.PASS
    if any(_is_hopeless(tally, elapsed) for tally in waiting):
        return Verdict.FAIL
    return Verdict.RUNNING


def _is_hopeless(tally: ServerHealth, elapsed: float) -> bool:
    rule = tally.target.rule
    if elapsed >= rule.deadline:
        return True
    needed = 1 if tally.is_up else rule.rise - max(tally.streak, 0)
    return -tally.streak >= rule.fall and elapsed + needed * rule.interval > rule.deadline


def down(tallies: Iterable[ServerHealth]) -> tuple[ServerHealth, ...]:
    """The servers that are down or never answered."""
    return tuple(tally for tally in tallies if not (tally.is_up and tally.ok))


def serves(tallies: Iterable[ServerHealth]) -> bool:
    """Whether a pool could carry traffic at all: in every upstream at least one server's last probe passed."""
    answering: dict[str, bool] = {}
    for tally in tallies:
        name = tally.target.upstream
        answering[name] = answering.get(name, False) or tally.streak > 0
    return all(answering.values())

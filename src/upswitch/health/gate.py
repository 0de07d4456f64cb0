"""The gate: whether servers are healthy, by rise, fall and default_down over repeated checks.

The rule is nginx_upstream_check_module's: a server starts down where `default_down` holds, else up; `rise` successes in a
row make it up, `fall` failures in a row make it down. Two things are ours: a server must have answered at least once (the
module would send traffic to a `default_down=false` server that nobody ever reached), and the gate ends early where the
deadline leaves no time for `rise` successes.
"""

from collections.abc import Iterable

import msgspec

from upswitch.basics.value import Value
from upswitch.site.model import Probe, Target, Verdict
from upswitch.site.server_line import is_name


class ServerHealth(Value):
    """A server and its checks so far. `streak` counts like answers in a row: successes above zero, failures below."""

    target: Target
    is_up: bool
    streak: int = 0
    ok: int = 0
    failed: int = 0
    error: str = ""
    head: str = ""

    @property
    def text(self) -> str:
        """`app 127.0.0.1:29110 is unhealthy: 0 of 12 checks passed; connection refused`."""
        at = f" ({self.target.address})" if is_name(self.target.server) else ""
        name, rule = f"{self.target.upstream} {self.target.server}{at}", self.target.rule
        passed = f"{self.ok} of {self.ok + self.failed} checks passed"
        if not self.ok and not self.failed:
            return f"{name} was not checked yet" + (f": {self.error}" if self.error else "")
        if self.streak > 0 and not self.is_up:
            return f"{name} is healthy so far: {self.streak} of the {rule.rise} checks in a row that it needs"
        if self.streak > 0:
            return f"{name} is healthy: {passed}"
        last = f", the last {-self.streak} failed (fall={rule.fall})" if self.ok else ""
        why = (f"; {self.error}" if self.error else "") + (f'; the body began "{self.head}"' if self.head else "")
        return f"{name} is {'still healthy' if self.is_up else 'unhealthy'}: {passed}{last}{why}"


def begin(targets: Iterable[Target]) -> tuple[ServerHealth, ...]:
    return tuple(ServerHealth(target=target, is_up=not target.rule.default_down) for target in targets)


def observe(server: ServerHealth, probe: Probe) -> ServerHealth:
    """The server after one more check."""
    rule = server.target.rule
    if probe.is_unknown:
        return msgspec.structs.replace(server, error=probe.error)
    if probe.ok:
        streak = max(server.streak, 0) + 1
        return msgspec.structs.replace(server, streak=streak, ok=server.ok + 1, is_up=server.is_up or streak >= rule.rise)
    streak = min(server.streak, 0) - 1
    return msgspec.structs.replace(
        server,
        streak=streak,
        failed=server.failed + 1,
        is_up=server.is_up and -streak < rule.fall,
        error=probe.error,
        head=probe.head,
    )


def verdict(servers: Iterable[ServerHealth], *, elapsed: float) -> Verdict:
    """PASS when every server is up and has answered; FAIL at the deadline, or when it can't be met any more."""
    waiting = [server for server in servers if not (server.is_up and server.ok)]
    if not waiting:
        return Verdict.PASS
    if any(_is_hopeless(server, elapsed) for server in waiting):
        return Verdict.FAIL
    return Verdict.RUNNING


def _is_hopeless(server: ServerHealth, elapsed: float) -> bool:
    rule = server.target.rule
    if elapsed >= rule.deadline:
        return True
    needed = 1 if server.is_up else rule.rise - max(server.streak, 0)
    return -server.streak >= rule.fall and elapsed + needed * rule.interval > rule.deadline


def down(servers: Iterable[ServerHealth]) -> tuple[ServerHealth, ...]:
    """The servers that are down or never answered."""
    return tuple(server for server in servers if not (server.is_up and server.ok))


def serves(servers: Iterable[ServerHealth]) -> bool:
    """Whether a pool could carry traffic at all: in every upstream at least one server's last probe passed."""
    answering: dict[str, bool] = {}
    for server in servers:
        name = server.target.upstream
        answering[name] = answering.get(name, False) or server.streak > 0
    return all(answering.values())

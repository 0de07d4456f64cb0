"""The health checks of a gate over time: when each server's checks began to pass, and when they began to fail."""

from collections.abc import Iterable
from enum import StrEnum
from itertools import zip_longest

from upswitch.basics.value import Value
from upswitch.health.gate import ServerHealth

MOST_SERVERS = 64
MOST_SPANS = 40  # of one server


class Checked(StrEnum):
    """What a health check of a server said. UNKNOWN: it could not be made."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Span(Value):
    """From `at_s`, seconds after the gate began, the checks said `state`, until the next span or the gate's end."""

    at_s: float
    state: Checked


class ServerLine(Value):
    """One server of `pool`. `said` is what its checks came to."""

    pool: str
    upstream: str
    server: str
    said: str
    spans: tuple[Span, ...] = ()


class Timeline:
    """Of one pool. It takes its servers after each round; their number and their order stay the same."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._last: tuple[ServerHealth, ...] = ()
        self._spans: list[list[Span]] = []

    def add(self, servers: Iterable[ServerHealth], *, at_s: float) -> None:
        """After one more round, which began at `at_s`."""
        now = tuple(servers)[:MOST_SERVERS]
        self._spans = self._spans or [[] for _ in now]
        for spans, server, last in zip_longest(self._spans, now, self._last):
            state = _state(server, last)
            is_new = not spans or spans[-1].state is not state
            if is_new and len(spans) < MOST_SPANS:
                spans.append(Span(at_s=round(at_s, 2), state=state))
        self._last = now

    @property
    def lines(self) -> tuple[ServerLine, ...]:
        return tuple(
            ServerLine(
                pool=self._pool,
                upstream=server.target.upstream,
                server=server.target.server,
                said=server.text,
                spans=tuple(spans),
            )
            for server, spans in zip(self._last, self._spans, strict=True)
        )


def _state(now: ServerHealth, last: ServerHealth | None) -> Checked:
    """By what was counted since. A server of the former pool is not checked again once it is healthy: it stays so."""
    if now.ok > (last.ok if last else 0) or (now == last and now.streak > 0):
        return Checked.PASSED
    return Checked.FAILED if now.failed > (last.failed if last else 0) else Checked.UNKNOWN

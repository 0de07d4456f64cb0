"""What the gate asks of one upstream: its check, and what the gate's own table says otherwise."""

from typing import TypeVar

from upswitch.basics.value import Value
from upswitch.site.model import Check, Gate, Upstream
from upswitch.site.words import CheckType, Dialect

T = TypeVar("T")


class GateRule(Value):
    """The rule over the probes of one upstream. Times are seconds; `port` 0 is each server's own. `expect_body` "" is any body.

    `dialect` is whose check the probe must agree with, where the two modules differ (their TLS hello, FastCGI); NONE: ours alone.
    """

    type: CheckType
    rise: int
    fall: int
    default_down: bool
    timeout: float
    interval: float
    deadline: float
    port: int
    http_send: str
    http_expect_alive: tuple[str, ...]
    expect_body: str
    fastcgi_param: tuple[tuple[str, str], ...] = ()
    dialect: Dialect = Dialect.NONE


def effective_check(upstream: Upstream, gate: Gate, dialect: Dialect = Dialect.NONE) -> GateRule:
    """The gate's word before the check's, the check's before the module's defaults."""
    check = upstream.check or Check()
    kind = _first(gate.type, check.type)
    return GateRule(
        type=kind,
        rise=_first(gate.rise, check.rise),
        fall=_first(gate.fall, check.fall),
        default_down=_first(gate.default_down, check.default_down),
        timeout=gate.timeout,
        interval=gate.interval,
        deadline=gate.deadline,
        port=check.port,
        http_send=_first(gate.http_send, check.http_send),
        http_expect_alive=_alive(kind, _first(gate.http_expect_alive, check.http_expect_alive)),
        expect_body=gate.expect_body if kind is CheckType.HTTP else "",
        fastcgi_param=check.fastcgi_param,
        dialect=dialect,
    )


def _alive(kind: CheckType, given: tuple[str, ...]) -> tuple[str, ...]:
    """http has a default in the module, fastcgi has none: any answer will do."""
    return given or (Check().http_expect_alive if kind is CheckType.HTTP else ())


def _first(override: T | None, default: T) -> T:
    return default if override is None else override


class Target(Value):
    """One server to probe: `server` as the site file writes it, `address` as it is connected to."""

    upstream: str
    server: str
    address: str
    rule: GateRule


class Probe(Value):
    """One answer. `error` says what was wrong; `head` holds the first bytes of a wrong body; `seconds` it took."""

    ok: bool
    error: str = ""
    head: str = ""
    seconds: float = 0.0

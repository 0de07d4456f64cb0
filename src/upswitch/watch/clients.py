"""Whose requests failed: no client decides alone while others are fine, neither that a release goes back nor that it stays.

Theory. A client that calls an endpoint that fails by itself, or leaves a slow one too soon, makes failures at will; one that
sends good requests makes the failures of others look few. Where the log has $remote_addr, failures are known by client, and a
sample of all requests gives each client's share. Then some clients are left out, requests and failures:

    since the switch   up to 3 that fail otherwise than all others do (Fisher), where those others have requests
    before it          the same, in the ten minutes: one client's failures are not what the site always had
    for the doubt      whoever has most good requests: a spike without those is a spike

A client that had half of all requests before the switch is no client but a proxy, and is never left out; nor is anybody where the
log does not show enough requests before. A release that fails for one client only is therefore kept, and this is said.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest

from upswitch.basics.result import Failure
from upswitch.basics.value import Value
from upswitch.logs.line import ENOUGH_FAILED
from upswitch.watch import rule
from upswitch.watch.history import History, Second
from upswitch.watch.rule import DEFAULT, Judgement, Thresholds

Clients = Mapping[str, Second]
"""Requests of some seconds by client: all that failed, and a sample of the others."""

_ALONE = 3
_AT_LEAST = 3
_LAST_S = 60
_DIFFERENT = 0.05
_SAMPLE = 30
_HALF = 0.5


class Fair(Value):
    """The seconds without the clients that decide nothing alone. `out` are those, and `failed` their failures."""

    seconds: tuple[Second, ...]
    out: tuple[str, ...] = ()
    failed: int = 0


def merged(all_: Iterable[Clients]) -> Clients:
    """As one."""
    found: dict[str, Second] = {}
    for clients in filter(None, all_):
        for name, each in clients.items():
            found[name] = found[name] + each if name in found else each
    return found


def added(hosts: Iterable[Sequence[Clients]]) -> tuple[Clients, ...]:
    """The seconds of several hosts, one by one."""
    return tuple(merged(column) for column in zip_longest(*hosts, fillvalue={}))


def usual(history: History, clients: Sequence[Clients]) -> History:
    """The history without the failures of single clients, which are not what the site always had."""
    known = merged(clients)
    return History(seconds=_without(history.seconds, clients, _different(history.seconds, known, known)))


def fair(since: Sequence[Second], clients: Sequence[Clients], known: Clients) -> Fair:
    """What is judged of the seconds since the switch. `known` are the clients of the time before."""
    latest = merged(clients[-_LAST_S:])
    out = _different(since[-_LAST_S:], latest, known)
    return Fair(seconds=_without(since, clients, out), out=out, failed=sum(latest[name].failures for name in out))


def judge(
    history: History, since: Fair, clients: Sequence[Clients], known: Clients, *, thresholds: Thresholds = DEFAULT
) -> Judgement:
    """The look at what is fair; and without the busiest client, where only that is a spike."""
    look = rule.judge(history, since.seconds, thresholds)
    if look.is_spike or sum(each.failures for each in since.seconds) < ENOUGH_FAILED:
        return look
    latest = merged(clients)
    busiest = max(latest, key=lambda name: _share(name, latest), default="")
    if not busiest or _is_proxy(busiest, known):
        return look
    others = rule.judge(history, _without(since.seconds, clients, (busiest,)), thresholds)
    return others if others.is_spike else look


def given_up(history: History, since: Sequence[Second], clients: Sequence[Clients], known: Clients) -> Judgement:
    """The look at answers that clients gave up, without single clients that give up more than all others."""
    if sum(each.given_up for each in since) < ENOUGH_FAILED:  # most watches: no need to look for clients
        return rule.given_up(history, since)
    out = _different(since, merged(clients), known, of=lambda each: each.given_up)
    return rule.given_up(history, _without(since, clients, out))


# ---- which ones ----


def _failures(second: Second) -> int:
    return second.failures


def _different(
    seconds: Sequence[Second], clients: Clients, known: Clients, *, of: Callable[[Second], int] = _failures
) -> tuple[str, ...]:
    """The clients that fail otherwise than all others, most failures first. `of`: what counts as failed."""
    whole = sum(seconds, Second())
    failed, total = of(whole), whole.total
    found: list[str] = []
    for name in sorted(clients, key=lambda name: -of(clients[name]))[:_ALONE]:
        own = of(clients[name])
        requests = own + round(_share(name, clients) * (whole.total - of(whole)))
        others = failed - own, total - requests
        if own >= _AT_LEAST and not _is_proxy(name, known) and rule.odds(own, requests, *others) < _DIFFERENT:
            found.append(name)
            failed, total = others
    return tuple(found)


def _without(seconds: Sequence[Second], clients: Sequence[Clients], names: Sequence[str]) -> tuple[Second, ...]:
    """The same seconds without the requests of these clients, as far as they are known: of the good ones their share."""
    if not names:
        return tuple(seconds)
    share = sum(_share(name, merged(clients)) for name in names)
    theirs = ([of[name] for name in names if name in of] for of in clients)
    return tuple(_less(each, its, share) for each, its in zip(seconds, theirs, strict=True))


def _less(second: Second, theirs: Iterable[Second], share: float) -> Second:
    failures = sum(theirs, Second())
    failed = {kind: max(0, second.failed(kind) - failures.failed(kind)) for kind in Failure if kind is not Failure.NONE}
    good = round(second.whole * (1 - share))
    return Second(total=good + sum(failed.values()), **{kind.value: count for kind, count in failed.items()})


def _is_proxy(name: str, known: Clients) -> bool:
    """Also true of everybody where too few requests are known."""
    return _good(known) < _SAMPLE or _share(name, known) >= _HALF


def _share(name: str, clients: Clients) -> float:
    """Of the good requests, by the sample."""
    every = _good(clients)
    return _good({name: clients[name]}) / every if every and name in clients else 0.0


def _good(clients: Clients) -> int:
    return sum(each.whole for each in clients.values())

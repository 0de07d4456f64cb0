"""How a watch without a spike ends: by what the last requests got, whatever came before, and by how much was seen at all.

NEW compares with what was before. So a release that fails can be no spike, after an incident or a history that somebody poisoned.
What is kept must serve its clients:

    half or more of the last requests fail           HELD: a person decides
    10 % or more fail, and more than before by more  HELD, unless that was accepted
    than luck: also more than in the worst stretch,
    and a larger share than in the last minute
    clients give up answers in the middle, and the   HELD, unless that was accepted
    rule would call them a spike if they were
    failures

The last requests are those of the last 10 s for the first question, of the last 30 s for the second: a burst must not hold a good
release. Where those are fewer than 10, the last 60 s count; else all.
"""

from collections.abc import Sequence
from enum import StrEnum

from upswitch.watch import rule
from upswitch.watch.history import History, Second
from upswitch.watch.rule import Judgement, is_worse

PROVING_REQUESTS = 30
_FORMER_STILL_SERVES = 20
_HELD_FAILED = 2  # one failed request is no trend, however few there are
_ELEVATED_PERCENT = 10
_MORE_S = 30


class Final(StrEnum):
    """How a watch without a spike ends."""

    KEEP = "keep"
    KEEP_ELEVATED = "keep_elevated"
    HELD = "held"
    UNPROVEN = "unproven"
    NOT_SWITCHED = "not_switched"
    BLIND = "blind"


def finish(
    look: Judgement,
    last: Judgement,
    *,
    has_log: bool,
    new: int,
    former: int,
    probes: int,
    is_silent: bool = False,
    is_given_up: bool = False,
    accepts_elevated: bool = False,
) -> Final:
    """The ending of a watch whose every look was without a spike. ValueError where the last one has one: that is a rollback.

    `last` is of the last requests (rule.last). `new` and `former` are requests to either pool since the switch, `probes` our own
    that were answered. `is_silent`: there are logs, and nothing comes in them though our own requests are answered.
    `is_given_up`: clients give up answers, and would be a spike if those were failures (rule.given_up).
    """
    if look.is_spike:
        raise ValueError("a spike is no ending to keep")
    if new == 0 and former >= _FORMER_STILL_SERVES:
        return Final.NOT_SWITCHED
    is_more = fails_more(last) or is_given_up
    if fails_half(last) or (is_more and not accepts_elevated):
        return Final.HELD
    if is_silent or (not has_log and not probes):
        return Final.BLIND
    if new < PROVING_REQUESTS and not probes:
        return Final.UNPROVEN
    return Final.KEEP_ELEVATED if look.is_elevated or is_more else Final.KEEP


def last(history: History, seconds: Sequence[Second], fair: Sequence[Second]) -> Judgement:
    """The last requests: all of them where half failed, else those without single clients (watch/clients.py)."""
    every = rule.last(history, seconds)
    return every if fails_half(every) else rule.last(history, fair, shortest_s=_MORE_S)


def fails_half(last: Judgement) -> bool:
    return last.failed >= _HELD_FAILED and last.failed * 2 >= last.total


def fails_more(last: Judgement) -> bool:
    """At least 10 %, and more than before by more than luck."""
    minute = last.minute_failed, last.minute_total
    is_more = last.is_certain and last.failed > last.worst and is_worse((last.failed, last.total), minute, 1)
    return is_more and last.failed * 100 >= last.total * _ELEVATED_PERCENT


def held_because(last: Judgement) -> str:
    """Why it is held, for people."""
    if fails_half(last):
        return "At least half of the last requests failed. upswitch never keeps that by itself, whatever came before"
    return f"At least {_ELEVATED_PERCENT} % of the last requests failed, which is more than before. --accept-elevated keeps that"


GIVEN_UP_BECAUSE = (
    "The servers may stall in the middle of an answer, send it too slowly, or announce a length that is too long.",
    "`curl -m 10 -o /dev/null URL` shows whether an answer ends.",
    "Where people stop downloads or streams themselves, the release may be good. --accept-elevated keeps that.",
)
"""Why it is held where clients gave up answers, for people."""


def unproven_because(final: Final, *, has_log: bool, new: int, seconds: int, has_own: bool = False) -> str:
    """What the watch did not see, in one clause, where it is UNPROVEN or BLIND. `has_own`: its own requests were answered."""
    if final is Final.BLIND:
        return "the access log shows nothing, though nginx answers upswitch" if has_log else "no access log and no watch.probe"
    return few(new, seconds, has_own=has_own)


def few(new: int, seconds: int, *, has_own: bool = False) -> str:
    """So few requests were seen, in one clause."""
    seen = f"only {new} {'request' if new == 1 else 'requests'}" if new else "no requests"
    return f"{seen} in {seconds} s{' beside those of upswitch' if has_own else ''}"

"""How long an upstream answers 502 because none of its servers has been proved yet: the module's timers as arithmetic.

With `default_down=true` a server that nginx does not know by its address starts down, after a start as after a reload that
brings it in. Both modules then do this, in every worker process for itself (yaoweibin's module, lines 1011, 1047 and 1078;
Tengine's is the same):

- the first look at a server comes `random() % max(interval, 1000)` ms after the start of the worker;
- each further look comes half an interval after the one before;
- a look starts a check when the last result is an interval old or more. Only whole looks count, so the checks that one worker
  makes are 1.0 to 1.5 intervals apart: 1.5 as soon as a check takes a millisecond, because the look one interval after the
  start of the check then comes too early. With w workers whoever looks first checks, and the mean gap is 1 + 1/(2w);
- `rise` successes in a row make the server up. The requests find a server again with the first one that is up.
"""

from upswitch.basics.value import Value
from upswitch.site.model import Check

_LEAST_FIRST_MS = 1000
_WIDEST_GAP = 1.5


class Blackout(Value):
    """Seconds of 502. `worst` is never reached by quick checks; `likely` is the mean over many starts."""

    worst: float
    likely: float


NONE = Blackout(worst=0.0, likely=0.0)


def of(check: Check, *, servers: int, workers: int) -> Blackout:
    """For an upstream of so many servers, none of them known to nginx, all of them well, each check quick.

    `default_down=false` has none; its price is that a server which nobody has asked yet gets requests at once.
    `likely` is a closed form: the first of servers x workers random looks, then the mean gap. A simulation of the timers stays
    within 10 % of it (tests/test_blackout.py), and so did both real modules, 40 starts each at interval=1000 rise=3, 1 or 2
    servers, 1, 2 or 4 workers, checks of 3 ms. Checks of less than a millisecond ended it up to 23 % sooner.
    """
    if not check.default_down:
        return NONE
    first = _first_ms(check) / (servers * workers + 1)
    gap = 1 + 0.5 / workers
    return Blackout(worst=_up_ms(check) / 1000, likely=(first + (check.rise - 1) * gap * check.interval_ms) / 1000)


def longest_to_up(check: Check) -> float:
    """Seconds until each server of a pool that is well is up, whatever its checks take of their `timeout`: a deadline.

    Also with `default_down=false`: that says what counts before the proof, not when the proof is there. The servers of a pool
    are checked side by side, so their number does not matter.
    """
    return (_up_ms(check) + check.rise * check.timeout_ms) / 1000


def _up_ms(check: Check) -> float:
    return _first_ms(check) + (check.rise - 1) * _WIDEST_GAP * check.interval_ms


def _first_ms(check: Check) -> int:
    return max(check.interval_ms, _LEAST_FIRST_MS)

"""Fisher's exact test, one-sided: how likely luck alone explains that many failures.

Given all failures of both stretches together, the number that falls into the watched one is hypergeometric when nothing has
changed. The first term of its tail comes from log-gamma, the others from the ratio of neighbours, which only shrinks above
the mean: the sum can stop as soon as a term no longer counts.
"""

from math import exp, lgamma, log

_NEGLIGIBLE = 1e-15


def odds(failed: int, total: int, before_failed: int, before_total: int) -> float:
    """Probability (0..1) of `failed` or more of `total` by luck, given `before_failed` of `before_total`.

    1.0 when `failed` is not above what the two stretches together let expect; 0.0 when it is too small for a float.
    Relative error under 1e-5 for totals up to 1e8 (log-gamma's rounding), a few hundred terms there.
    """
    everything, all_failed = total + before_total, failed + before_failed
    if failed * everything <= all_failed * total:
        return 1.0
    first = _log_choose(total, failed) + _log_choose(before_total, before_failed) - _log_choose(everything, all_failed)
    return min(1.0, exp(first + log(_tail(failed, total, before_failed, before_total))))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _tail(failed: int, total: int, before_failed: int, before_total: int) -> float:
    """Sum of the tail's terms, in units of the first one."""
    before_passed = before_total - before_failed
    term = tail = 1.0
    for more in range(min(total - failed, before_failed)):
        term *= (total - failed - more) * (before_failed - more) / ((failed + more + 1) * (before_passed + more + 1))
        tail += term
        if term < tail * _NEGLIGIBLE:
            break
    return tail

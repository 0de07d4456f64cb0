"""Where a rollback of several hosts leads: it takes back the newest run, and nothing else.

Each host alone would go to what it served before; where a run reached only some of them (a wave that failed, a host that was
skipped), that would take the others to the very release that has failed. So: the newest run that made anything live is taken
back where it is live still; a host that it never reached, or that is back from it already, stays.
"""

from collections.abc import Mapping

from upswitch.core.words import Value


class Stand(Value):
    """One host before a rollback. `run` made what is live, which was a way back or not; `before` is the pool that it replaced."""

    run: str
    pool: str
    before: str
    is_back: bool = False


class SplitError(Exception):
    """They would serve different pools afterwards; the text says which."""


def going(stands: Mapping[str, Stand]) -> frozenset[str]:
    """The hosts that go back; the others stay as they are. SplitError. Where all are back already all go: each says why not."""
    newest = max(stand.run for stand in stands.values())
    found = frozenset(name for name, stand in stands.items() if stand.run == newest and not stand.is_back) or frozenset(stands)
    pools: dict[str, list[str]] = {}
    for name, stand in sorted(stands.items()):
        pools.setdefault(stand.before if name in found else stand.pool, []).append(name)
    if len(pools) > 1:
        raise SplitError("; ".join(f"{pool or 'nothing'} on {', '.join(names)}" for pool, names in pools.items()))
    return found

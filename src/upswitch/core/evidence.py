"""What counters of logs keep to show: one line of each kind, and a bounded number of kinds."""

from upswitch.core.foreign import printable

MOST_KEPT = 1 << 9
"""Kinds that a counter keeps apart; whoever can forge lines can make any number."""

OTHERS = "others"
"""Stands for the servers (and the words) beyond those that are kept apart."""

UNEXPLAINED = "unexplained"
"""Stands for the code of a failure that no rule knows, or whose log was not given."""

_LONGEST = 300


def shown(line: bytes) -> str:
    """A line, escaped, of at most 300 characters."""
    text = printable(line[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

"""What counters of logs keep to show: one line of each kind, and a bounded number of kinds."""

import re

from upswitch.basics.text import printable

MOST_KEPT = 1 << 9
"""Kinds that a counter keeps apart; whoever can forge lines can make any number."""

OTHERS = "others"
"""Stands for the servers (and the words) beyond those that are kept apart."""

UNEXPLAINED = "unexplained"
"""Stands for the code of a failure that no rule knows, or whose log was not given."""

_LONGEST = 300
_USERINFO = re.compile(rb'//[^\s"/?]*@')
_QUERY = re.compile(rb'\?[^\s"]+')
_QUERY_OF_VALUE = re.compile(rb"\?.+?(?= HTTP/\d\.\d$|$)", re.DOTALL)


def shown(line: bytes) -> str:
    """A line, escaped, of at most 300 characters, without what its URIs hold of queries and userinfo: both may be secrets."""
    text = printable(_QUERY.sub(b"?...", _USERINFO.sub(b"//...@", line))[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def without_secrets(value: bytes) -> bytes:
    """One value of a line, which ends where its query does: a quote or a blank in that ends nothing."""
    return _QUERY_OF_VALUE.sub(b"?...", _USERINFO.sub(b"//...@", value), count=1)

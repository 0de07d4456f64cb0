"""What a check type is: what a probe of it sends, and what the bytes that come back mean. Each but tcp has a file here.

A new type is a file here, its row in `PROBE_TYPES` of prober.py, and its word in `site.model.CheckType`, from which the site file's
reader takes the words that it allows. Types import `site` and `basics`, and no other room. Read ajp.py as an example.
"""

from collections.abc import Callable

from upswitch.basics.value import Value
from upswitch.site.model import Dialect, GateRule, Verdict


class Answer(Value):
    """What the bytes that have come so far mean: PASS is alive, FAIL is not, RUNNING needs more of them.

    `why` says what is wrong where the verdict is FAIL, and `shown` holds the bytes that a person may want to see. Both hold the
    server's own bytes: printable makes them safe to show. `has_body`: it is HTTP, only of a wrong class, so the body behind it says
    more than its beginning.
    """

    verdict: Verdict
    why: str = ""
    shown: bytes = b""
    has_body: bool = False


MORE = Answer(verdict=Verdict.RUNNING)
ALIVE = Answer(verdict=Verdict.PASS)


def dead(why: str, shown: bytes = b"") -> Answer:
    return Answer(verdict=Verdict.FAIL, why=why, shown=shown)


Hello = Callable[[Dialect], bytes]
"""Makes a TLS ClientHello."""


class ProbeType(Value):
    """`send` makes what a probe sends. `read` gets all bytes so far, each time that more have come.

    `part` is what an answer may break off inside of.
    """

    part: str
    send: Callable[[GateRule, Hello], bytes]
    read: Callable[[bytes, GateRule], Answer]

"""What the bytes of a server's answer are so far: alive, not alive, or not yet enough to say (Verdict's three words)."""

from upswitch.basics.value import Value
from upswitch.site.words import Verdict


class Answer(Value):
    """`why` says what is wrong where the verdict is FAIL, and `shown` holds the bytes that a person may want to see.

    Both hold the server's own bytes: they are shown through foreign.printable. `has_body`: it is HTTP, only of a wrong class, so
    the body behind it says more than its beginning.
    """

    verdict: Verdict
    why: str = ""
    shown: bytes = b""
    has_body: bool = False


MORE = Answer(verdict=Verdict.RUNNING)
ALIVE = Answer(verdict=Verdict.PASS)


def dead(why: str, shown: bytes = b"") -> Answer:
    return Answer(verdict=Verdict.FAIL, why=why, shown=shown)

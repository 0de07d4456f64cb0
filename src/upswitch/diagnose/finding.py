"""One cause that logs show, with what to say about it."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from upswitch.basics.value import Value
from upswitch.diagnose.causes import CAUSES
from upswitch.diagnose.causes.cause import Code
from upswitch.diagnose.count_access import AccessCount
from upswitch.diagnose.count_errors import ErrorCount
from upswitch.diagnose.directives import Setting
from upswitch.diagnose.evidence import UNEXPLAINED
from upswitch.logs.line import seconds_of

_NOT_HTTP, _FIRST_ERROR = 9, 500


class Finding(Value):
    """One cause. `code` is a Code or UNEXPLAINED; `consequence_of` the code of the finding that it follows from, or "".

    `status` is what clients get: None for no access line, 0 and 9 for `000` and `009`. `clients`: how many of `count` clients got,
    as far as the logs tell; the others were tried again, or are no requests. `servers`: the commonest first; one may be OTHERS.
    `first`, `last` are as the log writes times. `evidence` is one line of a log, escaped. `note`: what else there is to say, or "".
    `settings`: on a live host, the directives behind it.
    """

    code: str
    count: int
    clients: int
    status: int | None
    servers: tuple[str, ...]
    first: str
    last: str
    evidence: str
    why: str
    check: str
    fix: str
    consequence_of: str = ""
    note: str = ""
    settings: tuple[Setting, ...] = ()

    @property
    def rank(self) -> int:
        """0: clients get errors; 1: cut answers and what has no status; 2: nobody was hurt."""
        if not self.clients:
            return 2
        is_error = self.status is not None and (self.status >= _FIRST_ERROR or self.status == _NOT_HTTP)
        return 0 if is_error or self.code == Code.CLIENT_CLOSED else 1

    @property
    def is_hurting(self) -> bool:
        """Whether anybody should act on it. A failure that a retry hid is one."""
        return self.clients > 0 or self.code == UNEXPLAINED or not CAUSES[Code(self.code)].is_benign


class Told(Value):
    """What counts say together."""

    count: int
    servers: tuple[str, ...]
    first: str
    last: str
    evidence: str


class Words(Value):
    """For a finding that the catalogue does not have."""

    status: int | None
    why: str
    check: str
    fix: str


def errors_told(counts: Sequence[ErrorCount]) -> Told:
    """At least one, of one kind, the commonest first."""
    return _told(counts, str)


def requests_told(counts: Sequence[AccessCount]) -> Told:
    """At least one, of one kind, the commonest first."""
    return _told(counts, lambda time: seconds_of(time) or 0.0)


def explained(code: Code, told: Told, clients: int, *, note: str = "") -> Finding:
    """As the catalogue says."""
    cause = CAUSES[code]
    words = Words(status=cause.status, why=cause.why, check=cause.check, fix=cause.fix)
    return replace(_finding(code, told, words), clients=clients, note=note)


def unexplained(told: Told, words: Words, clients: int, *, note: str = "") -> Finding:
    """Of what has no code."""
    return replace(_finding(UNEXPLAINED, told, words), clients=clients, note=note)


def _told(counts: Sequence[ErrorCount] | Sequence[AccessCount], at: Callable[[str], str | float]) -> Told:
    return Told(
        count=sum(each.count for each in counts),
        servers=tuple(dict.fromkeys(each.server for each in counts if each.server)),
        first=min((each.first for each in counts), key=at),
        last=max((each.last for each in counts), key=at),
        evidence=counts[0].evidence,
    )


def _finding(code: str, told: Told, words: Words) -> Finding:
    return Finding(
        code=code,
        count=told.count,
        clients=told.count,
        status=words.status,
        servers=told.servers,
        first=told.first,
        last=told.last,
        evidence=told.evidence,
        why=words.why,
        check=words.check,
        fix=words.fix,
    )

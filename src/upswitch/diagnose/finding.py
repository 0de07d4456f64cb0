"""One cause that logs show, with what to say about it."""

from collections.abc import Sequence

from upswitch.basics.value import Value
from upswitch.diagnose.causes import Cause, Code, catalogue
from upswitch.diagnose.count_access import AccessCount
from upswitch.diagnose.count_errors import ErrorCount
from upswitch.diagnose.directives import Setting
from upswitch.diagnose.evidence import UNEXPLAINED
from upswitch.logs.line import seconds_of

_NOT_HTTP, _FIRST_ERROR = 9, 500


class Finding(Value):
    """One cause. `code` is that of a cause or UNEXPLAINED; `consequence_of` the code of the finding that it follows from, or "".

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
        return self.clients > 0 or self.code == UNEXPLAINED or not catalogue().causes[self.code].is_benign


def finding(
    code: str, counts: Sequence[ErrorCount] | Sequence[AccessCount], clients: int, *, said: Cause | None = None, note: str = ""
) -> Finding:
    """Of at least one count, all of one kind, the commonest first. `said` is told where the catalogue's own words don't fit."""
    worst = counts[0]
    cause = said or catalogue().causes[code]
    cause = cause.told_of(worst.family) if isinstance(worst, ErrorCount) else cause
    return Finding(
        code=code,
        count=sum(each.count for each in counts),
        clients=clients,
        status=worst.status if isinstance(worst, ErrorCount) else cause.status,
        servers=tuple(dict.fromkeys(each.server for each in counts if each.server)),
        first=min((each.first for each in counts), key=_when),
        last=max((each.last for each in counts), key=_when),
        evidence=worst.evidence,
        why=cause.why,
        check=cause.check,
        fix=cause.fix,
        note=note,
    )


def _when(time: str) -> tuple[float, str]:
    """An error log's times are in order as they are."""
    return seconds_of(time) or 0.0, time

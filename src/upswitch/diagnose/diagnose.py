"""What error log and access log say together: causes, worst first, each with what follows from it.

Worst is what clients got most of: errors, then answers cut short and what has no status, then what nobody noticed. "no live
upstreams" is a consequence of the failures just before it (count_errors.py), which weigh what it weighs. The times of the two logs
are never compared: the error log's have no zone.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from upswitch.basics.value import Value
from upswitch.diagnose.causes import Code, catalogue
from upswitch.diagnose.count_access import Access
from upswitch.diagnose.count_errors import FROM_SERVERS, ErrorCount, Errors, NoLive
from upswitch.diagnose.directives import Known
from upswitch.diagnose.evidence import UNEXPLAINED
from upswitch.diagnose.finding import Finding, finding
from upswitch.diagnose.findings import Attempts, from_access, from_errors
from upswitch.logs.line import ENOUGH_FAILED

_LONGEST = 300
_SERVERS = 4
_MORE = "; and more"
_HELD_DOWN = "No line says that a server failed. So nginx's own health check holds them down, or nginx.conf says `down` of each."
_WITHOUT_ERRORS = "Without the error log, nginx's own failures have no cause, and answers that a server cut short are not seen."
_WITHOUT_ACCESS = "Without an access log, 502s of the app, retries and clients that left are not seen."


class Diagnosis(Value):
    """Findings, worst first, a consequence directly after its cause. `noise`: what is no failure of anything.

    `limits`: what could not be seen, a clause each.

    `error_lines` and `requests` were read, None where that log was not given; `unread` lines were not of their log's format.
    """

    findings: tuple[Finding, ...] = ()
    noise: tuple[Finding, ...] = ()
    limits: tuple[str, ...] = ()
    error_lines: int | None = None
    requests: int | None = None
    unread: int = 0


_NOTHING_KNOWN = Known()


def diagnose(errors: Errors | None = None, access: Access | None = None, known: Known = _NOTHING_KNOWN) -> Diagnosis:
    """From the error log, the access log, or both."""
    seen = from_access(access, errors) if access else []
    has_left = any(each.code == Code.CLIENT_CLOSED for each in seen)
    attempts = Attempts(errors or Errors(), access)
    said = from_errors(errors, access, attempts, keeps_alive=known.keeps_alive) if errors else []
    causes = [*seen, *(each for each in said if not (has_left and each.code == Code.CLIENT_CLOSED))]
    follow = _no_live(errors, attempts, known) if errors else []
    if any(each.code == Code.DNS_SERVER_DOWN for each in causes):
        follow += [replace(each, consequence_of=Code.DNS_SERVER_DOWN) for each in causes if each.code == Code.DNS_TIMEOUT]
        causes = [each for each in causes if each.code != Code.DNS_TIMEOUT]
    noise = tuple(each for each in causes if each.code != UNEXPLAINED and catalogue().causes[each.code].is_noise)
    return Diagnosis(
        findings=_in_order([each for each in causes if each not in noise], follow),
        noise=noise,
        limits=(*(() if errors else (_WITHOUT_ERRORS,)), *(access.limits if access else (_WITHOUT_ACCESS,))),
        error_lines=errors.lines if errors else None,
        requests=access.requests if access else None,
        unread=(errors.unread if errors else 0) + (access.unread if access else 0),
    )


def about(diagnosis: Diagnosis, servers: frozenset[str]) -> Diagnosis:
    """Only what is of these servers (addresses, and names of upstreams), or of none; all of it where no server is known."""
    ours = tuple(each for each in diagnosis.findings if not servers or not each.servers or not servers.isdisjoint(each.servers))
    return replace(diagnosis, findings=ours)


def sentence(diagnosis: Diagnosis) -> str:
    """One sentence of at most 300 characters: the worst findings; "" where there is none."""
    told = ""
    for number, each in enumerate(diagnosis.findings):
        part = _clause(each, is_first=number == 0)
        more = f"{told}; {part}" if told else part
        if len(more) > _LONGEST - len(_MORE):
            return f"{told}{_MORE}" if told else f"{part[: _LONGEST - 3]}..."
        told = more
    return told


def _no_live(errors: Errors, attempts: Attempts, known: Known) -> list[Finding]:
    """By what they follow from; where nothing failed before, by what may be so in the configuration."""
    lines = {each.server: each for each in errors.counts if each.code == Code.NO_LIVE_ALL_DOWN}
    held = _are_held_down(errors)
    groups: dict[tuple[Code, str], list[ErrorCount]] = {}
    for each in sorted(errors.no_live, key=lambda each: -each.count):
        part = replace(lines[each.name], count=each.count, first=each.first, last=each.last)
        groups.setdefault((_code(each, known, are_held_down=held), each.after), []).append(part)
    found = []
    for (code, after), counts in groups.items():
        clients, note = attempts.weigh(counts)
        note = f"{note} {_HELD_DOWN}".strip() if held and code == Code.HEALTH_CHECK_NOT_YET_UP else note
        found.append(replace(finding(code, counts, clients, note=note), consequence_of=after))
    return found


def _are_held_down(errors: Errors) -> bool:
    """Whether the lines alone say that nothing but a health check took the servers out.

    Failures do so for fail_timeout at most. Then nginx asks a server again, and the log has a line about it.
    """
    is_failure = any(each.status in FROM_SERVERS and each.code != Code.NO_LIVE_ALL_DOWN for each in errors.counts)
    return not is_failure and sum(each.count for each in errors.no_live) >= ENOUGH_FAILED


def _code(no_live: NoLive, known: Known, *, are_held_down: bool) -> Code:
    if not no_live.after and no_live.name in known.max_conns:
        return Code.MAX_CONNS
    if not no_live.after and no_live.name in known.failing:
        return Code.HEALTH_CHECK_DOWN
    is_starting = not no_live.after and (are_held_down or no_live.name in known.checked)
    return Code.HEALTH_CHECK_NOT_YET_UP if is_starting else Code.NO_LIVE_ALL_DOWN


def _in_order(causes: Sequence[Finding], follow: Sequence[Finding]) -> tuple[Finding, ...]:
    """Each consequence behind the first cause of its code; one whose cause is not among them stands alone."""
    codes = {each.code for each in causes}
    of = {code: [each for each in follow if each.consequence_of == code] for code in codes}
    alone = [replace(each, consequence_of="") for each in follow if each.consequence_of not in codes]
    families = [[each, *of.pop(each.code, [])] for each in sorted((*causes, *alone), key=lambda each: -each.clients)]
    families.sort(key=lambda family: (min(each.rank for each in family), -sum(each.clients for each in family)))
    return tuple(each for family in families for each in family)


def _clause(found: Finding, *, is_first: bool) -> str:
    names = [server for server in found.servers if server]
    more = f" and {len(names) - _SERVERS} more" if len(names) > _SERVERS else ""
    where = f" at {', '.join(names[:_SERVERS])}{more}" if names else ""
    why = f"follows from {found.consequence_of}" if found.consequence_of else found.why.removesuffix(".") if is_first else ""
    return f"{found.count} x {found.code}{where}{f' ({why})' if why else ''}"

"""How a step ended, how a request failed, and the closed set of reasons: decisions are made by these, never by a text."""

import errno
from enum import StrEnum

from upswitch.basics.value import Value


class Result(StrEnum):
    """How a step ended. UNKNOWN: it timed out or lost its connection, so it may or may not have happened."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    INTERRUPTED = "interrupted"
    HOLD = "hold"


class Failure(StrEnum):
    """How a request failed. GATEWAY: the pool's last answer was 502/503/504. HUNG: the client left after 1 s or more unanswered."""

    NONE = "none"
    GATEWAY = "gateway"
    HUNG = "hung"


class Why(StrEnum):
    """The reason why something was refused, failed, or turned a run. The pages in playbooks/incident/ have a section for each."""

    NONE = ""
    """It went well, or no page says more than the text does."""

    # The host, and the way to it.
    UNREACHABLE = "unreachable"
    """No connection could be made."""
    HOST_KEY = "host_key"
    """Its key is not the recorded one, or none is recorded."""
    CONNECTION_LOST = "connection_lost"
    """The connection was cut, or the host did not answer any more."""
    FENCED = "fenced"
    """Somebody else has had the lock since it was ours."""
    DISK_FULL = "disk_full"
    READ_ONLY = "read_only"
    DENIED = "denied"
    """A right is missing, or others may write what only we may."""

    # nginx and its files.
    NO_MASTER = "no_master"
    """nginx is down or stopped, or its pid file does not name it."""
    BAD_CONFIG = "bad_config"
    """`nginx -t` fails, with the new generation or without it."""
    TEMPLATE = "template"
    REJECTED = "rejected"
    """nginx took the signal, and kept its old configuration."""
    OUTAGE = "outage"
    """After the reload nginx had no worker."""
    RELOAD_REFUSED = "reload_refused"
    """The reload command itself failed: nginx was not asked."""
    NOT_PROVED = "not_proved"
    """The reload could be proved neither to have worked nor to have failed."""
    DRAIN_FLAG = "drain_flag"
    """nginx does not see the file that tells it to drain."""
    MOVED = "moved"
    """Somebody else changed the live link."""
    DISAGREE = "disagree"
    """The live link and nginx name different generations."""
    EDITED = "edited"
    """Live files are not as they were staged."""
    MARKER = "marker"
    """nginx.marker in the site file is not the address that the live generation answers at."""
    NOT_INCLUDED = "not_included"
    """nginx's configuration does not include the live generation."""
    NO_GENERATION = "no_generation"
    """No generation is live yet, or there is none of this number."""
    GENERATION_GONE = "generation_gone"
    """A generation that is needed is not on disk any more, or is damaged."""
    NOTHING_BEFORE = "nothing_before"
    """There is no generation that a rollback could safely lead to."""

    # Servers and requests.
    SERVERS_DOWN = "servers_down"
    """Servers of the pool fail their health checks."""
    NO_WAY_BACK = "no_way_back"
    """The former pool fails its health checks too."""
    CHECK_DOWN = "check_down"
    """nginx's own health check holds the servers down."""
    UNRESOLVED = "unresolved"
    """A server's name has no address."""
    SPIKE = "spike"
    """The error rate of the new pool is above the threshold."""
    WORKERS_DIED = "workers_died"
    NO_ANSWER = "no_answer"
    """nginx itself does not answer."""
    NOT_SWITCHED = "not_switched"
    """Requests still reach the former pool."""
    UNPROVEN = "unproven"
    """The watch saw too little to judge."""

    # Whoever runs upswitch, and other hosts.
    SIGNAL = "signal"
    KILLED = "killed"
    """The run was killed in this step."""
    DEAD_MAN = "dead_man"
    """The dead-man could not be armed, or acts now."""
    OTHER_HOST = "other_host"
    """Another host failed, or all hosts together did."""
    SPLIT = "split"
    """The hosts would serve different pools."""
    UNFINISHED = "unfinished"
    """A run that was killed has to be repaired first."""
    JOURNAL = "journal"
    """The journal can't be read."""
    INIT = "init"
    """`init --apply` could not be undone."""
    BUG = "bug"


class Took(Value):
    """What a step came to: its result, one line for people, further lines, and the reason where it is not OK."""

    result: Result
    said: str
    details: tuple[str, ...] = ()
    why: Why = Why.NONE


_ERRNOS = {
    errno.ENOSPC: Why.DISK_FULL,
    errno.EDQUOT: Why.DISK_FULL,
    errno.EROFS: Why.READ_ONLY,
    errno.EACCES: Why.DENIED,
    errno.EPERM: Why.DENIED,
}
_STRERRORS = {
    b"No space left on device": Why.DISK_FULL,
    b"Disk quota exceeded": Why.DISK_FULL,
    b"Read-only file system": Why.READ_ONLY,
    b"Permission denied": Why.DENIED,
    b"Operation not permitted": Why.DENIED,
}


def why_of(exc: OSError) -> Why:
    """The reason that the kernel gave; NONE for one that we have no name for."""
    return _ERRNOS.get(exc.errno or 0, Why.NONE)


def why_printed(err: bytes) -> Why:
    """The same from the error output of a program, which prints the kernel's reason as libc words it."""
    return next((why for text, why in _STRERRORS.items() if text in err), Why.NONE)

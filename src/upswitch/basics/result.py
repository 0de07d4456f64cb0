"""How a step ended, how a request failed, and the closed set of reasons: decisions are made by these, never by a text."""

import errno
from enum import StrEnum
from typing import Self

from upswitch.basics.value import Value


class Result(StrEnum):
    """How a step ended. UNKNOWN: it timed out or lost its connection, so it may or may not have happened.

    UNTOUCHED: on the way back it was found that nginx never left what it served before the run, and the link names that again.
    """

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    INTERRUPTED = "interrupted"
    HOLD = "hold"
    UNTOUCHED = "untouched"


class Failure(StrEnum):
    """How a request failed.

    GATEWAY: the pool's last answer was 502/503/504. HUNG: the client left after 1 s or more unanswered. APP: any other 5xx, no
    HTTP at all, or an answer that broke off. GIVEN_UP: the client left in the middle of the answer after 1 s or more, which
    people do too: no failure until there are many more than before.
    """

    NONE = "none"
    GATEWAY = "gateway"
    HUNG = "hung"
    APP = "app"
    GIVEN_UP = "given_up"


class Why(StrEnum):
    """The reason why something was refused, failed, or turned a run. The pages in playbooks/incident/ have a section for each.

    The value is the code in the journal and the JSON; `words` are printed beside it. NONE: it went well, or no page says more.
    """

    words: str

    def __new__(cls, code: str, words: str = "") -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.words = words
        return member

    NONE = ""

    # The host, and the way to it.
    UNREACHABLE = "unreachable", "no connection to the host could be made"
    HOST_KEY = "host_key", "the host's key is not the recorded one, or none is recorded"
    CONNECTION_LOST = "connection_lost", "the connection to the host was cut"
    FENCED = "fenced", "another upswitch or the dead-man has changed this host since"
    DISK_FULL = "disk_full", "the disk of the host is full"
    READ_ONLY = "read_only", "the file system of the host is read-only"
    DENIED = "denied", "a permission is missing on the host"

    # nginx and its files.
    NO_MASTER = "no_master", "nginx is down or stopped, or its pid file is wrong"
    BAD_CONFIG = "bad_config", "`nginx -t` fails"
    TEMPLATE = "template", "a template can't be rendered"
    REJECTED = "rejected", "nginx rejected the reload and kept its old configuration"
    OUTAGE = "outage", "nginx had no worker after the reload"
    RELOAD_REFUSED = "reload_refused", "the reload command failed"
    NOT_PROVED = "not_proved", "upswitch could not prove which generation nginx serves"
    DRAIN_FLAG = "drain_flag", "nginx does not see the drain flag file"
    MOVED = "moved", "somebody else changed the live link"
    DISAGREE = "disagree", "nginx and the live link name different generations"
    EDITED = "edited", "live files were edited by hand"
    MARKER = "marker", "nginx.marker is not the address of the live generation"
    NOT_INCLUDED = "not_included", "nginx's configuration does not include the live generation"
    NO_GENERATION = "no_generation", "this generation does not exist"
    GENERATION_GONE = "generation_gone", "a generation is damaged or was removed"
    TAKEN_BACK = "taken_back", "upswitch had to roll this generation back before"
    NEVER_SERVED = "never_served", "nothing shows that this generation ever served"
    NOTHING_BEFORE = "nothing_before", "there is no former generation to go back to"

    # Servers and requests.
    SERVERS_DOWN = "servers_down", "servers of the new pool fail their health checks"
    NO_WAY_BACK = "no_way_back", "the former pool fails its health checks too"
    PROBE_FAILED = "probe_failed", "watch.probe fails already before the switch"
    CHECK_DOWN = "check_down", "nginx's own health check holds the servers down"
    HOOK = "hook", "the hook before_switch refused the switch"
    SOURCE = "source", "the source of a pool's servers gives no list that can be used"
    SHRUNK = "shrunk", "the source gives fewer than half of the servers that the pool had"
    UNRESOLVED = "unresolved", "the name of a server has no address"
    SPIKE = "spike", "the error rate of the new pool is above the threshold"
    GIVEN_UP = "given_up", "clients leave in the middle of the new pool's answers, many more than before"
    HANG = "hang", "requests to the new pool begin and do not end"
    WORKERS_DIED = "workers_died", "nginx's workers crashed"
    NO_ANSWER = "no_answer", "nginx itself does not answer"
    NOT_SWITCHED = "not_switched", "requests still reach the former pool"
    SHORT_WATCH = "short_watch", "the watch saw no requests, and was shorter than a hang takes to show"
    UNPROVEN = "unproven", "the watch saw too little traffic to judge"

    # Whoever runs upswitch, and other hosts.
    SIGNAL = "signal", "a person or the pipeline stopped the run"
    KILLED = "killed", "the run was killed"
    DEAD_MAN = "dead_man", "the dead-man could not be armed, or rolled this host back"
    OTHER_HOST = "other_host", "another host of the fleet failed"
    SPLIT = "split", "the hosts would serve different pools"
    UNFINISHED = "unfinished", "an earlier run was killed; `upswitch repair` comes first"
    JOURNAL = "journal", "the journal can't be read"
    INIT = "init", "`init --apply` failed and could not be undone"
    BUG = "bug", "upswitch has a bug"


class Took(Value):
    """What a step came to: its result, one line for people, further lines, and the reason where it is not OK."""

    result: Result
    said: str
    details: tuple[str, ...] = ()
    why: Why = Why.NONE


_KERNEL_REASONS = (
    (errno.ENOSPC, b"No space left on device", Why.DISK_FULL),
    (errno.EDQUOT, b"Disk quota exceeded", Why.DISK_FULL),
    (errno.EROFS, b"Read-only file system", Why.READ_ONLY),
    (errno.EACCES, b"Permission denied", Why.DENIED),
    (errno.EPERM, b"Operation not permitted", Why.DENIED),
)
"""The kernel's reasons, by its number and by libc's words for it."""

_OWN_LIMITS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}


def is_own_limit(exc: BaseException | None) -> bool:
    """Whether we could not even ask: open files, ports or memory of our own ran out. That says nothing about the server."""
    return isinstance(exc, OSError) and exc.errno in _OWN_LIMITS


def why_of(exc: OSError) -> Why:
    """The reason that the kernel gave; NONE for one that we have no name for."""
    return next((why for number, _, why in _KERNEL_REASONS if number == exc.errno), Why.NONE)


def why_printed(err: bytes) -> Why:
    """The same from the error output of a program, which prints the kernel's reason as libc words it."""
    return next((why for _, words, why in _KERNEL_REASONS if words in err), Why.NONE)

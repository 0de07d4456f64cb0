"""What a command can't do or can't know, as one tree. An expected ending of a run is a value, not one of these; readers of texts
(site files, dumps, statements, templates) raise their own ValueErrors, which whoever called them turns into these.

UpswitchError
├── RefusedError         nothing was done, and why: exit 3
├── LockedError          another upswitch holds the host's lock: exit 6
├── StuckError           neither the new state nor the former one could be confirmed: exit 5
├── HostError            a host could not be asked, or could not do it; inside a step: UNKNOWN
│   ├── UntrustedError    other users may change a file that decides what upswitch does: exit 2
│   └── NotAppendedError  what was to be on disk before a command could not be: the command was not begun
├── NginxBrokenError     nginx's own configuration does not pass as it is
└── JournalCorruptError  a line of the journal is not ours
"""

import re

from upswitch.basics.result import Why
from upswitch.basics.value import Value


class Refusal(Value):
    """What is in the way of a command, and what to do about it."""

    what: str
    hint: str
    why: Why = Why.NONE


class Owner(Value):
    """Who holds the lock: shown to those who wait. `since` is wall time."""

    user: str
    host: str
    pid: int
    since: str
    reason: str

    @property
    def text(self) -> str:
        return f"{self.user}@{self.host} (pid {self.pid}) since {self.since}: {self.reason}"


class UpswitchError(Exception):
    """The root."""


class RefusedError(UpswitchError):
    """Nothing was done, and why. `refusals` has at least one."""

    def __init__(self, *refusals: Refusal) -> None:
        super().__init__(" | ".join(refusal.what for refusal in refusals))
        self.refusals = refusals


class LockedError(UpswitchError):
    """Another upswitch holds this host's lock."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(f"LOCKED: another run holds the lock: {owner.text}")


class StuckError(UpswitchError):
    """A first use failed, and that nginx is as it was could not be confirmed: a person must look. `failed` came first."""

    def __init__(self, failed: str, undone: str) -> None:
        super().__init__(f"{failed}; undoing init failed too: {undone}")


class HostError(UpswitchError):
    """A host could not be asked or could not do it: `what` was tried, and the reason in words. State is as it was or UNKNOWN."""

    def __init__(self, what: str, reason: str, *, why: Why = Why.NONE) -> None:
        super().__init__(f"can't {what}: {reason}")
        self.what = what
        self.reason = reason
        self.why = why


class UntrustedError(HostError):
    """Other users may change this file or folder, which decides what upswitch does. `fix` is the command that ends that."""

    def __init__(self, path: str, reason: str, fix: str) -> None:
        super().__init__(f"trust {path}", reason)
        self.path = path
        self.fix = fix

    @property
    def warning(self) -> str:
        """For a command that goes on all the same."""
        return f"WARNING: {self}. upswitch goes on, as this is an incident command; afterwards run `{self.fix}`"


class NotAppendedError(HostError):
    """What was to be durable before this call could not be made so (`Host.append`, ahead): the call did nothing."""


class NginxBrokenError(UpswitchError):
    """nginx's own configuration does not pass as it is, before anything of ours. `files` are those that nginx's words name."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said
        self.files = tuple(re.findall(r" in (/[^:]+):\d", said))


class JournalCorruptError(UpswitchError):
    """A line of the journal is not one of ours, or a newer version's. `line` is 1-based."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line

"""Who hears of a result: the tables [[notify]] and [hooks] of the site file."""

from enum import StrEnum

from upswitch.basics.value import Value


class Event(StrEnum):
    """How a command can end; a notice names those that it is sent for."""

    SWITCHED = "switched"
    ROLLED_BACK = "rolled_back"
    HELD = "held"
    STUCK = "stuck"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    UNREACHABLE = "unreachable"
    SPLIT = "split"
    SKIPPED = "skipped"
    BUG = "bug"
    UNCHANGED = "unchanged"
    LOCKED = "locked"
    USAGE = "usage"


NOTHING_DONE = {Event.UNCHANGED, Event.LOCKED, Event.USAGE}
"""A notice is not sent for these unless it names them."""


class Secret(Value):
    """Where a value is that may be secret: written here, in a file, or in an environment variable. Only one of them is given."""

    text: str = ""
    file: str = ""
    env: str = ""


class Notice(Value):
    """One target. `template` is a name of templates/notify or an absolute path. `timeout` is for all attempts, in seconds."""

    url: Secret
    template: str = "generic"
    headers: tuple[tuple[str, Secret], ...] = ()
    on: tuple[Event, ...] = tuple(event for event in Event if event not in NOTHING_DONE)
    timeout: float = 10.0


class Hooks(Value):
    """Commands of the owner, each with its words; () for none. `timeout` is for each of them, in seconds."""

    before_switch: tuple[str, ...] = ()
    after_switch: tuple[str, ...] = ()
    rolled_back: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    timeout: float = 60.0

    def after(self, outcome: str) -> tuple[str, tuple[str, ...]]:
        """The hook of an outcome, and its command: ("", ()) where there is none."""
        name = {"SWITCHED": "after_switch", "ROLLED_BACK": "rolled_back", "HELD": "held", "STUCK": "stuck", "SPLIT": "stuck"}.get(
            outcome
        )
        return (name, getattr(self, name)) if name else ("", ())

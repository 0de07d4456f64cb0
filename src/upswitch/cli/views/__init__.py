"""What commands print: one value each, as text for people and as JSON (docs/json.md). Only this package lays out a result as text.

What one command prints is one file: acted.py (switch, rollback, repair, and every refusal), plan.py (plan, init), status.py
(status, history, drain, lint), diagnose.py, watch.py; of several hosts fleet.py, of several sites sites.py. keys.py has the keys of
their JSON.
"""

from upswitch.basics.value import Value


class View(Value):
    """What every command ends in: its name, its exit code, and its text for people."""

    command: str
    exit: int

    @property
    def text(self) -> str:
        raise NotImplementedError

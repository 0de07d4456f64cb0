"""What commands print: one value each, as text for people and as JSON (docs/json.md). Only this package lays out a result as text.

What one command prints is one file: acted.py (switch, rollback, repair, and every refusal), plan.py (plan, init), status.py
(status, history, drain, lint), diagnose.py, watch.py; of several hosts fleet.py.
"""

from upswitch.basics.value import Value
from upswitch.generations.generation import Live


class View(Value):
    """What every command ends in: its name, its exit code, and its text for people."""

    command: str
    exit: int

    @property
    def text(self) -> str:
        raise NotImplementedError


class Production(Value):
    """What serves, read when the command ended. `proved`: nginx and the live link agree, and no problem was found."""

    pool: str
    running: str
    disk: str
    proved: bool
    text: str


def production(live: Live) -> Production:
    return Production(pool=live.pool, running=live.running, disk=live.disk, proved=live.agrees, text=live.text)

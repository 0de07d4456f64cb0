"""Several commands on a host as one script, so that they cost one round trip over SSH.

Each command runs whatever became of the one before. Both its outputs end with a word that only we and the script know, so a command
can't print that end. The word comes on the script's input: everybody can read arguments in /proc. Nothing is written to a file: to
look at a host must not need a free byte there.
"""

import secrets
from collections.abc import Sequence
from itertools import chain

from upswitch.hosts.host import Host, Ran
from upswitch.hosts.sh import script

Command = Sequence[str]
_KILLED = 128


def run(host: Host, commands: Sequence[Command], *, deadline: float, each: float = 0.0) -> list[Ran]:
    """How each of them ended, in their order; one that did not come to its end in time, or was not begun, has no exit.

    `each`: seconds after which one is killed and the next begun; 0 for never.
    """
    if each:
        commands = [("timeout", "-s", "KILL", f"{each:g}", *command) for command in commands]
    end = secrets.token_hex(16).encode()
    ran = host.run(_program(commands), deadline=deadline, stdin=end + b"\n")
    found = apart(ran.out, ran.err, end=end)
    return [*found, *(Ran(exit=None, reason=ran.words, lost=ran.lost) for _ in commands[len(found) :])]


def _program(commands: Sequence[Command]) -> tuple[str, ...]:
    """It first reads the word that ends each output."""
    lines, place = [script("upswitch.hosts", "batch.sh")], 1
    for command in commands:
        words = " ".join(f'"${{{place + at}}}"' for at in range(len(command)))
        lines.append(f"{words} </dev/null\nend $?\n")
        place += len(command)
    return ("sh", "-c", "".join(lines), "together", *chain.from_iterable(commands))


def apart(out: bytes, err: bytes, *, end: bytes) -> list[Ran]:
    """How each command ended that came to its end."""
    found = []
    errs = err.split(end + b"\n")
    outs = out.split(end + b" ")
    for at, text in enumerate(outs[:-1]):
        code = int(outs[at + 1][:3])
        killed = "killed" if code > _KILLED else ""
        found.append(Ran(exit=None if killed else code, out=text if at == 0 else text[4:], err=errs[at], reason=killed))
    return found

"""Several commands on a host in one go."""

import secrets
from collections.abc import Sequence
from itertools import chain

from upswitch.hosts.host import Host, Ran
from upswitch.hosts.sh import script

# Several commands as one script, so that a host behind SSH costs one round trip for all of them.
#
# Each runs whatever became of the one before, and both its outputs end with a word that nobody else knows: what a command prints
# can't be taken for an end. (It comes on the script's input: arguments are there for everybody to read, in /proc.) Nothing is put
# by: a look at a host must not need a free byte there.

Command = Sequence[str]


def run(host: Host, commands: Sequence[Command], *, deadline: float, each: float = 0.0) -> list[Ran]:
    """How each of them ended, in their order; one that did not come to its end in time, or was not begun, has no exit.

    `each`: seconds after which one is killed and the next begun; 0 for never.
    """
    if each:
        commands = [("timeout", "-s", "KILL", f"{each:g}", *command) for command in commands]
    end = secrets.token_hex(16).encode()
    ran = host.run(program(commands), deadline=deadline, stdin=end + b"\n")
    found = [
        Ran(exit=code, out=out, err=err, reason="killed" if code is None else "")
        for code, out, err in apart(ran.out, ran.err, end=end)
    ]
    return [*found, *(Ran(exit=None, reason=ran.words, lost=ran.lost) for _ in commands[len(found) :])]


_KILLED = 128


def program(commands: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """It reads a line first: a fresh word that no output can hold."""
    lines, place = [script("upswitch.hosts", "batch.sh")], 1
    for command in commands:
        words = " ".join(f'"${{{place + at}}}"' for at in range(len(command)))
        lines.append(f"{words} </dev/null\nend $?\n")
        place += len(command)
    return ("sh", "-c", "".join(lines), "together", *chain.from_iterable(commands))


def apart(out: bytes, err: bytes, *, end: bytes) -> list[tuple[int | None, bytes, bytes]]:
    """Exit, output and error output of each command that came to its end; the exit is None where it was killed."""
    found = []
    errs = err.split(end + b"\n")
    outs = out.split(end + b" ")
    for at, text in enumerate(outs[:-1]):
        code = int(outs[at + 1][:3])
        found.append((None if code > _KILLED else code, text if at == 0 else text[4:], errs[at]))
    return found

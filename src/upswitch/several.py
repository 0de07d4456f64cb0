"""Several commands on a host in one go."""

import secrets
from collections.abc import Sequence

from upswitch.core import together
from upswitch.ports import Host, Ran

Command = Sequence[str]


def run(host: Host, commands: Sequence[Command], *, deadline: float, each: float = 0.0) -> list[Ran]:
    """How each of them ended, in their order; one that did not come to its end in time, or was not begun, has no exit.

    `each`: seconds after which one is killed and the next begun; 0 for never.
    """
    if each:
        commands = [("timeout", "-s", "KILL", f"{each:g}", *command) for command in commands]
    end = secrets.token_hex(16).encode()
    ran = host.run(together.script(commands), deadline=deadline, stdin=end + b"\n")
    found = [
        Ran(exit=code, out=out, err=err, why="killed" if code is None else "")
        for code, out, err in together.apart(ran.out, ran.err, end=end)
    ]
    return [*found, *(Ran(exit=None, why=ran.words) for _ in commands[len(found) :])]

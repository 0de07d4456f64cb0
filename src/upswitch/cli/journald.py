"""A line in systemd's journal for each result of a command that acts, with fields to search by (docs/notices.md)."""

import contextlib
import socket
from collections.abc import Iterator, Sequence

from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View
from upswitch.cli.views.acted import Acted
from upswitch.cli.views.fleet import FleetView

SOCKET = "/run/systemd/journal/socket"
_LONGEST = 4096  # characters of a value: the whole fits into one datagram
_PRIORITIES: dict[int, int] = {
    Exit.DONE: 5,
    Exit.INTERRUPTED: 5,
    Exit.STUCK: 2,
    Exit.HELD: 2,
    Exit.BUG: 2,
}  # of syslog; all others are warnings


def tell(view: View, path: str) -> None:
    """One line for this machine, or one for each host. Never waited for, and silent where nothing listens."""
    lines = [_line(*each) for each in _acted(view)]
    if lines:
        _send(lines, path)


def _send(lines: Sequence[bytes], path: str) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(0)
        for line in lines:
            sender.sendto(line, path)


def hook(name: str, problem: str, output: str, path: str) -> None:
    """One line about a hook, with the end of its output."""
    fields = {
        "MESSAGE": f"hook {name}: {': '.join(filter(None, (problem or 'exit 0', output)))}",
        "PRIORITY": "4" if problem else "6",
        "SYSLOG_IDENTIFIER": "upswitch",
        "UPSWITCH_HOOK": name,
    }
    _send([b"".join(_field(key, value[:_LONGEST]) for key, value in fields.items())], path)


def _acted(view: View) -> Iterator[tuple[str, Acted]]:
    views = view.hosts if isinstance(view, FleetView) else {"": view}
    yield from ((host, each) for host, each in views.items() if isinstance(each, Acted))


def _line(host: str, view: Acted) -> bytes:
    fields = {
        "MESSAGE": f"{host}: {view.said}" if host else view.said,
        "PRIORITY": str(_PRIORITIES.get(view.exit, 4)),
        "SYSLOG_IDENTIFIER": "upswitch",
        "UPSWITCH_COMMAND": view.command,
        "UPSWITCH_OUTCOME": view.outcome,
        "UPSWITCH_EXIT": str(int(view.exit)),
        "UPSWITCH_WHY": view.why,
        "UPSWITCH_RUN": view.run,
        "UPSWITCH_POOL": view.pool,
        "UPSWITCH_FORMER_POOL": view.former_pool,
        "UPSWITCH_GENERATION": view.generation,
        "UPSWITCH_HOST": host,
    }
    return b"".join(_field(key, value[:_LONGEST]) for key, value in fields.items() if value)


def _field(key: str, value: str) -> bytes:
    """With its length before it, so that no newline in a value can begin a field of its own."""
    data = value.encode(errors="backslashreplace")
    return key.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"

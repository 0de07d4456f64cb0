"""The entry points, and the table of commands.

`upswitch --help` must start fast: it imports click and this table. A command's module is imported when the command is typed.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from upswitch import __version__
from upswitch.cli import streams
from upswitch.cli.exit_codes import Exit

if TYPE_CHECKING:
    from upswitch.cli.open import Wiring

COMMANDS = {
    "init": "Put an nginx under upswitch: show every change that this needs, or make it.",
    "leave": "Take an nginx out of upswitch: show the one change, or make it.",
    "lint": "Show what is wrong or dangerous in the site file, in its templates and in nginx.",
    "plan": "Show what `switch --to` would do; change nothing.",
    "switch": "Switch to another pool, and roll back automatically if it fails.",
    "rollback": "Go back to the pool that was live before.",
    "status": "Show which pool is live, and what needs attention.",
    "watch": "Judge live or past traffic by the rollback rule, second by second.",
    "diagnose": "Find out why clients get 502s.",
    "drain": "Show whether the former pool can be stopped.",
    "sites": "List the sites of this machine, and which pool each serves.",
    "drain-lines": "Print the lines by which nginx before 1.27.4 loses no request at a reload.",
    "history": "List past runs, newest first.",
    "repair": "Finish or undo a run that was cut off.",
    "demo": "Show upswitch at work on a private nginx, in under a minute.",
    "help": "Print a page of the manual.",
}
"""Each command and its first line of help. The command is the function of that name in commands/NAME.py, with `_` for `-`."""


class Commands(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"upswitch.cli.commands.{name}"), name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table: no command is imported for it."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code.value), code.meaning) for code in Exit])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="upswitch")
def group() -> None:
    """Switch an nginx upstream from one pool of servers to another without losing a request.

    upswitch checks the new pool before the switch. After it, upswitch watches for 502s and rolls back automatically.
    """


def main(argv: Sequence[str] | None = None, wiring: "Wiring | None" = None) -> NoReturn:
    """`upswitch`. Ends the process with the command's exit code. `wiring` replaces the adapters of this machine."""
    streams.make_safe()
    try:
        code = group.main(
            args=list(sys.argv[1:] if argv is None else argv), prog_name="upswitch", standalone_mode=False, obj=wiring
        )
    except click.UsageError as exc:
        exc.show()
        sys.exit(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(Exit.INTERRUPTED)
    sys.exit(code or Exit.DONE)


def switch_main() -> NoReturn:
    """`switch` is exactly `upswitch switch`."""
    main(["switch", *sys.argv[1:]])

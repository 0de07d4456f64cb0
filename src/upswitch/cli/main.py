"""The entry points, and the table of commands.

`upswitch --help` must start fast: it imports click and this table. A command's module is imported when the command is typed.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from upswitch import __version__
from upswitch.cli import streams
from upswitch.cli.exit_codes import Exit
from upswitch.cli.options import no_color

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from upswitch.cli.open import Wiring

GROUPS = {
    "Switch": {
        "plan": "Show what `switch` would do; change nothing.",
        "switch": "Switch to another pool; roll back automatically if it fails.",
        "rollback": "Go back to the pool that was live before.",
        "repair": "Finish or undo a run that was cut off.",
    },
    "Look": {
        "status": "Show which pool is live, and what needs attention.",
        "watch": "Judge live or past traffic by the rollback rule.",
        "diagnose": "Find out why clients get 502s.",
        "drain": "Show whether the former pool can be stopped.",
        "history": "List past runs, newest first.",
        "report": "Show all about one run, also as a page.",
        "sites": "List the sites of this machine, and which pool each serves.",
        "metrics": "Print metrics of every site for Prometheus.",
    },
    "Set up": {
        "init": "Put an nginx under upswitch: show every change, or make it.",
        "leave": "Take an nginx out of upswitch: show the one change, or make it.",
        "lint": "Show what is wrong or dangerous in the site file and in nginx.",
        "drain-lines": "Print the lines by which a reload loses no request.",
        "schema": "Print the JSON schema of the site file, for editors.",
        "completion": "Print what completes words in bash, zsh or fish.",
        "demo": "Show upswitch at work on a private nginx, in under a minute.",
        "help": "Print a page of the manual, or the help of a command.",
    },
}
"""Each command and its first line of help. The command is the function of that name in commands/NAME.py, with `_` for `-`."""

COMMANDS = {name: says for each in GROUPS.values() for name, says in each.items()}


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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """From the table, too."""
        from click.shell_completion import CompletionItem

        named = [CompletionItem(name, help=says) for name, says in COMMANDS.items() if name.startswith(incomplete)]
        return named or click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table: no command is imported for it."""
        del ctx
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([*commands.items()])
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code.value), code.meaning) for code in Exit])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="upswitch")
@no_color
def group() -> None:
    """Switch an nginx upstream from one pool of servers to another without losing a request.

    upswitch checks the new pool before the switch. After it, upswitch watches for 502s and rolls back automatically.
    `upswitch COMMAND --help` has each command's options and examples. `upswitch help` lists the pages of the manual.
    """


def main(argv: Sequence[str] | None = None, wiring: "Wiring | None" = None) -> NoReturn:
    """`upswitch`. Ends the process with the command's exit code. `wiring` replaces the adapters of this machine."""
    streams.make_safe()
    if words := os.environ.get("_SWITCH_COMPLETE"):
        _complete_switch(words)
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
    # What is printed is written (streams.py). A thread that runs on while Python takes itself apart can crash it: seen, exit 139.
    os._exit(code or Exit.DONE)


def _complete_switch(instruction: str) -> NoReturn:
    """What a shell asks the program `switch` for. click itself does it for `upswitch`."""
    from click.shell_completion import shell_complete

    command = group.get_command(click.Context(group), "switch") or group
    sys.exit(shell_complete(command, {}, "switch", "_SWITCH_COMPLETE", instruction))


def switch_main() -> NoReturn:
    """`switch` is exactly `upswitch switch`."""
    main(["switch", *sys.argv[1:]])

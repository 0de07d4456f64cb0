"""What commands share: the group that finds them, the options of every command on a site, and what is live."""

import functools
import importlib
from collections.abc import Callable

import click

from upswitch import __version__
from upswitch.cli.session import SITE_FILE, Common
from upswitch.generations import survey
from upswitch.generations.generation import Live
from upswitch.switch.session import Session

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout (docs/json.md).")
events_option = click.option("--events", default="", metavar="FILE", help="Append every line of progress to FILE as JSON.")


def on_site(command: Callable[..., int]) -> Callable[..., int]:
    """The options of every command that reads a site file, as one argument `common`."""

    @click.option("-c", "--config", default=SITE_FILE, show_default=True, help="The site file.")
    @json_option
    @click.option("--host", "hosts", multiple=True, metavar="NAME", help="Only this host of the site; may be given again.")
    @functools.wraps(command)
    def packed(*args: object, config: str, as_json: bool, hosts: tuple[str, ...], events: str = "", **words: object) -> int:
        return command(*args, common=Common(config=config, as_json=as_json, hosts=hosts, events=events), **words)

    return packed


COMMANDS = ("demo", "diagnose", "drain", "history", "init", "lint", "plan", "repair", "rollback", "status", "switch", "watch")
"""Each is the function of that name in the module of that name."""


class Commands(click.Group):
    """A command's module is imported when it is asked for: `status` must start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"upswitch.cli.commands.{cmd_name}"), cmd_name)
        return command if isinstance(command, click.Command) else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="upswitch")
def group() -> None:
    """Switch an nginx upstream between pools with no request lost, and take it back by itself when 502s spike.

    Exit codes: 0 as asked; 1 a bug; 2 wrong words or site file; 3 refused, or findings; 4 rolled back; 5 STUCK: look;
    6 locked; 7 held: decide; 130 interrupted before the swap.
    """


def live(session: Session) -> Live:
    return survey.live_now(session.ports.host, session.site.nginx)

"""The options that commands share, and the program that each command gets as its first argument."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from upswitch.cli.invocation import SITE_FILE, Common
from upswitch.switch.session import clean

if TYPE_CHECKING:
    from upswitch.cli.open import Wiring

Command = Callable[..., int]

config_option = click.option(
    "-c", "--config", "--site", "config", default=SITE_FILE, show_default=True, metavar="FILE", help="The site file."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object (see `upswitch help json`).")
host_option = click.option("--host", "hosts", multiple=True, metavar="NAME", help="Only this host of the site. Repeatable.")
events_option = click.option("--events", default="", metavar="FILE", help="Append each line of progress to FILE as JSON.")


class Read(click.ParamType[Any]):
    """An option's type, by the function that reads its text. ValueError with what is wrong is a usage error."""

    def __init__(self, name: str, read: Callable[[str], object]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return self._read(value) if isinstance(value, str) else value
        except ValueError as exc:
            self.fail(f"{clean(str(value))} {exc}", param, ctx)


def on_site(command: Command) -> Command:
    """The options of every command that reads a site file, as one argument `common`."""

    @config_option
    @json_option
    @host_option
    @functools.wraps(command)
    def packed(*args: Any, config: str, as_json: bool, hosts: tuple[str, ...], events: str = "", **options: Any) -> int:
        return command(*args, common=Common(config=config, as_json=as_json, hosts=hosts, events=events), **options)

    return packed


def with_program(command: Command) -> Command:
    """The command's first argument is the Program that runs it. After the command no signal can cost its exit code."""

    @functools.wraps(command)
    @click.pass_obj
    def run(wiring: "Wiring | None", /, **options: Any) -> int:
        from upswitch.cli.program import Program
        from upswitch.hosts.clock import ignore_signals

        code = command(Program(wiring), **options)
        ignore_signals()
        return code

    return run

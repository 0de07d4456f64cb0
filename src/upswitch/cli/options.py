"""What every command's help has in common: its examples, its page of the manual, and `--no-color`. Imports only click."""

import os
from collections.abc import Sequence
from typing import Any

import click


def _no_color(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: FBT001  (click's signature)
    del ctx, param
    if value:
        os.environ["NO_COLOR"] = "1"


no_color = click.option(
    "--no-color",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_no_color,
    help="Print without colors, as with the variable NO_COLOR.",
)


class Documented(click.Command):
    """A command whose help ends with examples (command lines, each with what it does) and with its page of the manual."""

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), page: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = tuple(examples)
        self.page = page
        no_color(self)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Examples"):
            formatter.write_dl(self.examples)
        if self.page:
            with formatter.section("More"):
                formatter.write_dl([(f"upswitch help {self.page}", "Print the page of the manual.")])

"""Where a page goes: into a file, or to stdout."""

from collections.abc import Callable

import click

from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View, acted
from upswitch.switch.session import clean

STDOUT = "-"

html_option = click.option("--html", "page", default="", metavar="FILE", help="Write a page that needs no network; - is stdout.")


class Printed(View):
    """The page itself."""

    said: str

    @property
    def text(self) -> str:
        return self.said


def out(view: View, page: str, path: str, *, named: Callable[[View, str], View]) -> View:
    """What is printed once the page is where it should be: `named` is the view with the file's name.

    A usage error where the file can't be written, and the view as it is where there is no page.
    """
    if not page or not path:
        return view
    if path == STDOUT:
        return Printed(command=view.command, exit=Exit.DONE, said=page)
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(page)
    except (OSError, ValueError) as exc:  # ValueError: a name that no file can have
        why = exc.strerror if isinstance(exc, OSError) else str(exc)
        error = click.BadParameter(f"{clean(path)}: {why}; `--html -` prints the page", param_hint="--html")
        return acted.ended(view.command, error, None)
    return named(view, clean(path))


def refuse_both(path: str, *, as_json: bool) -> None:
    """click.UsageError where the page and JSON are both to go to stdout."""
    if path == STDOUT and as_json:
        raise click.UsageError("--html - and --json both print on stdout: name a file for the page", click.get_current_context())

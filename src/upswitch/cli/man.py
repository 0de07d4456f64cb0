"""The pages for `man`: one for `upswitch` and one for each command, from what `--help` prints. hatch_build.py packs them."""

from collections.abc import Iterable, Iterator

import click

from upswitch import __version__
from upswitch.cli.exit_codes import Exit
from upswitch.cli.main import GROUPS, group
from upswitch.cli.options import Documented

_FILES = (
    ("/etc/upswitch/NAME.toml", "The site file of the site NAME."),
    ("./upswitch.toml", "The site file of the current folder."),
    ("/etc/nginx/upswitch-NAME", "The generations of the site; `live` points to the one that serves."),
    ("/var/lib/upswitch-NAME", "The lock and the journal of the site."),
)


def pages() -> dict[str, str]:
    """Each file of man1, by its name."""
    above = click.Context(group, info_name="upswitch", **group.context_settings)
    found = {"upswitch.1": _main(above), "switch.1": ".so man1/upswitch-switch.1\n"}
    for name in group.list_commands(above):
        command = group.get_command(above, name)
        if command is not None:
            found[f"upswitch-{name}.1"] = _command(click.Context(command, parent=above, info_name=name))
    return found


def _main(ctx: click.Context) -> str:
    rows = [row for title, commands in GROUPS.items() for row in (f".SS {_safe(title)}", *_listed(_named(commands.items())))]
    files = [".SH FILES", *_listed(_FILES)]
    return _page(ctx, "switch an nginx upstream to another pool", [".SH COMMANDS", *rows, *_exits(), *files])


def _named(commands: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((f"upswitch-{name}(1)", says) for name, says in commands)


def _command(ctx: click.Context) -> str:
    command = ctx.command
    first = (command.help or "").partition("\n")[0].rstrip(".")
    examples = command.examples if isinstance(command, Documented) else ()
    rows = [
        ".SH EXAMPLES",
        *(row for line, says in examples for row in (".PP", _safe(says), ".RS 4", ".nf", _safe(line), ".fi", ".RE")),
    ]
    return _page(ctx, f"{first[:1].lower()}{first[1:]}", [*rows, *_exits()])


def _page(ctx: click.Context, says: str, more: list[str]) -> str:
    command, name = ctx.command, ctx.command_path.replace(" ", "-")
    usage = " ".join(command.collect_usage_pieces(ctx))
    paragraphs = [" ".join(each.split()) for each in (command.help or "").split("\n\n")]
    records = (param.get_help_record(ctx) for param in command.get_params(ctx))
    page = "" if not isinstance(command, Documented) or not command.page else f"`upswitch help {command.page}`"
    rows = [
        f'.TH "{name.upper()}" "1" "" "upswitch {__version__}" "upswitch"',
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{_safe(name)} \\- {_safe(says)}",
        ".SH SYNOPSIS",
        f"\\fB{_safe(ctx.command_path)}\\fR {_safe(usage)}",
        ".SH DESCRIPTION",
        *(row for text in paragraphs for row in (".PP", _safe(text))),
        ".SH OPTIONS",
        *_listed(record for record in records if record),
        *more,
        ".SH SEE ALSO",
        _safe(f"upswitch(1), {page or '`upswitch help`'} for the manual, `upswitch help environment` for the variables"),
    ]
    return "\n".join(rows) + "\n"


def _exits() -> list[str]:
    return [".SH EXIT STATUS", *_listed((str(code.value), code.meaning) for code in Exit)]


def _listed(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [line for name, says in rows for line in (".TP", f"\\fB{_safe(name)}\\fR", _safe(says))]


def _safe(text: str) -> str:
    """Text that roff prints as it is: a backslash, a dash that can be copied, and no control line."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + plain if plain[:1] in {".", "'"} else plain

"""Which `log_format` the lines of a file are of."""

from collections.abc import Iterable

from upswitch.core import advice
from upswitch.core.conflogs import COMBINED, LogFormat, format_of
from upswitch.core.logformat import LineReader, compile_format
from upswitch.core.statements import StatementError, statements

_LOOKED_AT = 200  # lines
_FORWARDED = "main"


class FormatError(ValueError):
    """A log_format that can't be used, or can't be guessed."""


def reader_of(name: str, head: bytes, *, given: str, known: Iterable[LogFormat] = ()) -> LineReader:
    """Of the `given` format (parse_format), else of the known or usual one that most of the first lines are of.

    FormatError, with the log's name, where there is none.
    """
    written = parse_format(given) if given else None
    found = compile_format(written.text, written.escape) if written else recognised(head, (*known, *usual_formats()))
    if found is None:
        raise FormatError(f"{name} is of no log_format that we know: give its text with --log-format")
    return found


def parse_format(text: str) -> LogFormat:
    """A whole `log_format` line as it stands in a configuration, or its text alone, maybe after `escape=json `. FormatError."""
    if not text.lstrip().startswith("log_format"):
        escape, space, rest = text.partition(" ")
        return format_of(("", escape, rest) if space and escape.startswith("escape=") else ("", text))
    try:
        found = statements(text if text.rstrip().endswith(";") else f"{text};")
    except StatementError as exc:
        raise FormatError(f"no log_format line: {exc}") from exc
    return format_of(found[0].words[1:])


def usual_formats() -> tuple[LogFormat, ...]:
    """Ours, nginx's own, and the one of nginx.org's packages."""
    return (
        parse_format(advice.log_format_line()),
        LogFormat(name="combined", text=COMBINED),
        LogFormat(name=_FORWARDED, text=f'{COMBINED} "$http_x_forwarded_for"'),
    )


def recognised(head: bytes, formats: Iterable[LogFormat]) -> LineReader | None:
    """The reader of the format that most of the first lines are of; None where none is. Without a line any will do."""
    lines = head.split(b"\n")[:_LOOKED_AT]
    readers = [compile_format(each.text, each.escape) for each in formats]
    read = [sum(reader.read(line) is not None for line in lines) for reader in readers]
    best = max(read, default=0)
    return readers[read.index(best)] if best or not head else None

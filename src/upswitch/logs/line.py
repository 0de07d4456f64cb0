"""nginx's `log_format`: one line of an access log, read into what the watch needs (logshape.py has the theory)."""

import re
from collections.abc import Iterable, Mapping

from upswitch.basics.value import Value
from upswitch.logs.format_regex import Part, exact_pattern, parts_of, quick_pattern
from upswitch.nginx import advice
from upswitch.nginx.conf_logs import COMBINED, LogFormat, format_of
from upswitch.nginx.statements import StatementError, statements

# Which `log_format` the lines of a file are of.

MAX_LINE = 1 << 16
"""Bytes. Longer lines are not read."""

_CAPTURED = (
    "status",
    "request_time",
    "upstream_status",
    "upstream_addr",
    "upstream_header_time",
    "upswitch_generation",
    "time_local",
    "time_iso8601",
    "msec",
)


class Entry(Value):
    """What one line says. None: the format lacks it; "" or "-": nginx had nothing to say. Lists are as written, `A, B : C`.

    `status` is 0 where the format lacks it. `time` is `$msec`, else `$time_iso8601`, else `$time_local`. `request_time` is
    in seconds.
    """

    status: int
    time: str | None = None
    request_time: float | None = None
    generation: str | None = None
    upstream_addr: str | None = None
    upstream_status: str | None = None
    upstream_header_time: str | None = None


class LineReader(Value):
    """A compiled `log_format`. `variables` are those of the captured ones that it has."""

    parts: tuple[Part, ...]
    escape: str
    pattern: re.Pattern[bytes]
    variables: frozenset[str]

    @property
    def has_generation(self) -> bool:
        return "upswitch_generation" in self.variables

    @property
    def has_upstream_addr(self) -> bool:
        return "upstream_addr" in self.variables

    @property
    def has_upstream_status(self) -> bool:
        return "upstream_status" in self.variables

    @property
    def has_request_time(self) -> bool:
        """Without it a hung client can't be told from an impatient one: HUNG is never seen."""
        return "request_time" in self.variables

    def read(self, line: bytes) -> Entry | None:
        """The entry of one line without its newline; None where it is not of this format."""
        match = self.pattern.fullmatch(line) if len(line) <= MAX_LINE else None
        if match is None:
            return None
        found = {name: value.decode("ascii", "backslashreplace") for name, value in match.groupdict(b"").items()}
        return Entry(
            status=int(found.get("status", "0")),
            time=found.get("msec") or found.get("time_iso8601") or found.get("time_local"),
            request_time=float(found["request_time"]) if "request_time" in found else None,
            generation=found.get("upswitch_generation"),
            upstream_addr=found.get("upstream_addr"),
            upstream_status=found.get("upstream_status"),
            upstream_header_time=found.get("upstream_header_time"),
        )

    def blocks(self, wishes: Mapping[str, bytes]) -> re.Pattern[bytes]:
        """For `findall` over blocks of whole lines: the groups of the wished expressions, in the order of the format, then one with
        the line and its newline where the line did not match.

        Fast (logshape.py), and each match is one line only if there are as many of them as newlines (`newlines`).
        """
        quick = quick_pattern(self.parts, self.escape, wishes)
        second_group = b"" if b"(?P<" in quick else b"(?P<nothing>)"  # `findall` gives no tuples for one group
        return re.compile(rb"^(?:%s%s\n|(?P<line>.*\n))" % (quick, second_group), re.MULTILINE)


def newlines(block: bytes) -> int:
    """Two to three times as fast as `bytes.count`, which looks at every byte; `replace` goes from one to the next (memchr)."""
    return len(block) - len(block.replace(b"\n", b""))


def compile_format(text: str, escape: str = "default") -> LineReader:
    """The reader of a `log_format`: its strings joined, without name and `escape=` (that is default, json or none).

    `combined` is built in.
    """
    parts = parts_of(COMBINED if text == "combined" else text)
    names = frozenset(part.variable for part in parts if part.variable in _CAPTURED)
    pattern = exact_pattern(parts, escape, names)
    return LineReader(parts=parts, escape=escape, pattern=re.compile(pattern, re.DOTALL), variables=names)


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


CLIENT_LEFT = 499
HUNG_S = 1.0

ENOUGH_FAILED = 5
BIG_PERCENT = 1

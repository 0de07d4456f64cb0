"""Which `log_format` a log is of: the one that is given, one of the configuration, a well-known one, or one that its lines show."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Protocol

from msgspec.structs import replace

from upswitch.basics.text import printable
from upswitch.basics.value import Value
from upswitch.logs.format_regex import Part, exact_pattern, parts_of
from upswitch.logs.line import LineReader, compile_format
from upswitch.nginx import conf_logs
from upswitch.nginx.build import Build
from upswitch.nginx.conf_logs import COMBINED, LogFormat, format_of
from upswitch.nginx.statements import StatementError, statements
from upswitch.site.names import UNNAMED

_LOOKED_AT = 200  # lines
_SHOWN = 40  # characters
_EXAMPLES = 3
_COMPARED = 20  # lines

_PLAIN = '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent'
_WELL_KNOWN = {
    "combined": COMBINED,
    "main": f'{COMBINED} "$http_x_forwarded_for"',
    "nginx-proxy": f'$host {COMBINED} "$upstream_addr"',
    "ingress-nginx": (
        f"{COMBINED} $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] "
        "$upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id"
    ),
    "common": _PLAIN,
}
"""nginx's own, nginx.org's packages', and those of the two proxies that most containers run."""

_LOOSE = {
    "one that begins as combined": f"{_PLAIN} $rest",
    "one with a time and a request": '$lead [$time_local] "$request" $status $rest',
}
"""Their status is known, and nothing of servers. The last to be tried."""

_CLOCKS = ("msec", "time_iso8601", "time_local")
_KEYS = {
    "status": ("code", "http_status", "response_code", "response_status", "status", "status_code"),
    "request": ("request", "request_line"),
    "request_method": ("http_method", "method", "request_method", "verb"),
    "request_time": ("duration", "reqtime", "request_duration", "request_time", "rt"),
    "request_completion": ("completion", "request_completion"),
    "remote_addr": ("client", "client_ip", "host_ip", "ip", "remote_addr", "remote_ip"),
    "upstream_addr": ("backend", "ua", "upstream", "upstream_addr", "upstream_address", "upstream_host"),
    "upstream_status": ("upstream_code", "upstream_status", "us"),
    "upstream_header_time": ("header_time", "uht", "upstream_header_time"),
    "upstream_connect_time": ("connect_time", "uct", "upstream_connect_time"),
    "upstream_response_time": ("apptime", "upstream_response_time", "urt"),
    "upstream_bytes_sent": ("upstream_bytes_sent",),
    "upswitch_generation": ("generation", "upswitch_generation"),
    **dict.fromkeys(_CLOCKS, ("date", "datetime", "msec", "time", "time_iso8601", "time_local", "timestamp", "ts")),
}
"""How people name what a variable says."""

_JSON_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:\s*)("(?:[^"\\]|\\.)*"|[-\w.]+)')
_TABBED_VALUE = re.compile(r"(?:(?<=\t)|^)([\w-]+)(:)([^\t]*)")
_WRITTEN_VALUE = re.compile(r'(?<= )([\w-]+)(=)("[^"]*"|[^" ]+)')


class FormatError(ValueError):
    """A log_format that can't be used, or can't be guessed."""


class Recognised(Value):
    """The reader of a format, and how to name the format to people."""

    reader: LineReader
    name: str


class Log(Protocol):
    """A log that can be read (source.FileSource)."""

    name: str

    def unwrap(self, count: Callable[[bytes], int]) -> None: ...

    def head(self) -> bytes: ...


def reader_of(source: Log, *, given: str, known: Iterable[LogFormat] = ()) -> Recognised:
    """Of the `given` format (as people paste it), else of the format that most of the first lines are of.

    What surrounds the lines is taken off. FormatError, with the log's name, where there is no such format.
    """
    formats = given_formats(given) if given else (*known, *usual_formats())
    source.unwrap(lambda text: count_read(text, given=given, known=known))
    found = reader_in(source.head(), given=given, known=known)
    if found is None and given:
        raise FormatError(f"{source.name}: {misfit(formats[0], _lines(source.head()))}")
    if found is None:
        raise FormatError(f"{source.name} is of no log_format that we know: give its text with --log-format")
    return found


def reader_in(head: bytes, *, given: str = "", known: Iterable[LogFormat] = ()) -> Recognised | None:
    """The same for the first lines of a log; None where there is no such format."""
    if given:
        return recognised(head, given_formats(given))
    return recognised(head, (*known, *usual_formats())) or recognised(head, _by_example(head)) or recognised(head, _loose())


def count_read(head: bytes, *, given: str = "", known: Iterable[LogFormat] = ()) -> int:
    """How many of the first lines can be read."""
    found = recognised(head, given_formats(given) if given else (*known, *usual_formats(), *_by_example(head)))
    return sum(found.reader.read(line) is not None for line in _lines(head)) if found else 0


def _loose() -> tuple[LogFormat, ...]:
    return tuple(LogFormat(name=name, text=text) for name, text in _LOOSE.items())


def given_formats(text: str) -> tuple[LogFormat, ...]:
    """What was pasted: a whole `log_format` line, its strings alone, or their text, maybe after `escape=json `. FormatError.

    Text without the quotes of a configuration may be meant as it stands, or with the backslashes that stood in them.
    """
    text = text.strip()
    if text.startswith("log_format"):
        return (_of_configuration(text),)
    escape, space, rest = text.partition(" ")
    escape, rest = (escape, rest.strip()) if space and escape.startswith("escape=") else ("escape=default", text)
    if rest[:1] in {"'", '"'} and rest.rstrip(";")[-1:] == rest[0]:
        return (_of_configuration(f"log_format pasted {escape} {rest}"), format_of(("", escape, rest)))
    meant = rest.replace("\\t", "\t").replace('\\"', '"')
    return tuple(format_of(("", escape, each)) for each in dict.fromkeys((rest, meant)))


def _of_configuration(text: str) -> LogFormat:
    try:
        found = statements(text if text.endswith(";") else f"{text};")
    except StatementError as exc:
        raise FormatError(f"no log_format line: {exc}") from exc
    return format_of(found[0].words[1:])


_NEWEST = Build(name="nginx", version=(1, 31, 0))


def usual_formats() -> tuple[LogFormat, ...]:
    """Ours, and the well-known ones."""
    ours = replace(_of_configuration(conf_logs.log_format_line()), name="upswitch")
    own = replace(_of_configuration(conf_logs.own_format_line(UNNAMED, _NEWEST)), name=conf_logs.own_format_name(UNNAMED))
    return (ours, own, *(LogFormat(name=name, text=text) for name, text in _WELL_KNOWN.items()))


def recognised(head: bytes, formats: Iterable[LogFormat]) -> Recognised | None:
    """The format that most of the first lines are of; None where none is. Without a line any will do."""
    lines, found = _lines(head), [Recognised(reader=_compiled(each.text, each.escape), name=each.name) for each in formats]
    read = [sum(each.reader.read(line) is not None for line in lines) for each in found]
    best = max(read, default=0)
    return found[read.index(best)] if found and (best or not head) else None


def misfit(wanted: LogFormat, lines: Iterable[bytes]) -> str:
    """Where the line that fits furthest stops being of the format."""
    parts = parts_of(COMBINED if wanted.text == "combined" else wanted.text)
    fits = ((*_fitting(parts, wanted.escape, line), number, line) for number, line in enumerate(lines, 1) if line)
    end, at, number, line = max(islice(fits, _COMPARED), key=lambda fit: fit[:2], default=(0, 0, 1, b""))
    if end == len(parts):
        return f"the log_format does not fit: line {number} goes on behind its end: {printable(line[at : at + _SHOWN])}"
    if end == 0:
        return f"the log_format does not fit: line {number} does not begin with {printable(parts[0].literal)!r}"
    there = printable(line[at : at + _SHOWN].partition(b"?")[0])
    behind = printable(parts[end].literal)
    part = f"${parts[end].variable}" + (f" and then {behind!r}" if behind else "")
    return f"the log_format does not fit: in line {number} it wants {part} where there is: {there}"


def _fitting(parts: tuple[Part, ...], escape: str, line: bytes) -> tuple[int, int]:
    """How many of the parts the line begins with, and up to where."""
    for end in range(len(parts), 0, -1):
        match = re.compile(exact_pattern(parts[:end], escape, ()), re.DOTALL).match(line)
        if match:
            return end, match.end()
    return 0, 0


def _lines(head: bytes) -> list[bytes]:
    return head.split(b"\n")[:_LOOKED_AT]


def _by_example(head: bytes) -> Iterator[LogFormat]:
    """Formats with a status of which the first lines are examples: JSON, LTSV, or `key=value` behind the usual fields."""
    found = (each for line in _lines(head) for each in _shown_by(line) if "status}" in each.text)
    yield from islice(found, _EXAMPLES)


def _shown_by(line: bytes) -> Iterator[LogFormat]:
    text = line.decode("utf-8", "surrogateescape")
    if text.startswith("{") and text.endswith("}"):
        yield LogFormat(name="JSON, by its keys", text=_by_keys(text, _JSON_VALUE), escape="json")
    elif text.count("\t") > 1 and _TABBED_VALUE.match(text):
        yield LogFormat(name="LTSV, by its labels", text=_by_keys(text, _TABBED_VALUE))
    for usual in (COMBINED, _PLAIN):
        begin = re.compile(exact_pattern(parts_of(usual), "default", ()), re.DOTALL).match(line)
        tail = text[begin.end() :] if begin else ""
        if _WRITTEN_VALUE.search(tail):
            yield LogFormat(name="combined, then key=value", text=usual + _by_keys(tail, _WRITTEN_VALUE))


def _by_keys(line: str, pair: re.Pattern[str]) -> str:
    """The `log_format` that this line is written in, with a variable in the place of each value."""

    def put(found: re.Match[str]) -> str:
        key, _, value = found.groups()
        quote = value[:1] if value[:1] == '"' else ""
        return f"{found[0].removesuffix(value)}{quote}${{{_variable(key, value.strip(quote))}}}{quote}"

    return pair.sub(put, line)


def _variable(key: str, value: str) -> str:
    """What such a key holds, if the value is one of that variable; an address has a port, or is of a socket."""
    name = key.lower().replace("-", "_").lstrip("@$_")
    fitting = (each for each, names in _KEYS.items() if name in names and _reader(each).fullmatch(value.encode()))
    found = next(fitting, "other")
    is_name = found == "upstream_addr" and name != found and not re.fullmatch(r"-?|unix:.*|.*:\d+", value)
    return "other" if is_name else found


@cache
def _compiled(text: str, escape: str) -> LineReader:
    return compile_format(text, escape)


@cache
def _reader(variable: str) -> re.Pattern[bytes]:
    return compile_format(f"${variable}").pattern

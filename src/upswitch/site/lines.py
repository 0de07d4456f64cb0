"""Where a problem stands in a site file. tomllib names a line only for broken TOML, so the file is read a statement at a time."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator

from msgspec.structs import replace

from upswitch.site.model import Problem
from upswitch.site.values import quoted

_LONGEST = 200  # lines of one statement; nothing after a longer one is found
_WIDEST = 160  # characters of a line that is shown
_SECRETIVE = re.compile(
    r"http_send|notify|url|fastcgi_param|probe|http/1|authorization|cookie|bearer|token|secret|passw", re.IGNORECASE
)
_MULTILINE = re.compile(r"\"\"\"|'''")


def located(problems: list[Problem], text: str) -> tuple[Problem, ...]:
    """Each problem with the line of its key, or of the table that should have it, in the order of the file."""
    lines = _split(text)
    places = _places(lines)
    found = [replace(each, line=_line_of(each, places, lines)) for each in problems]
    shown = [replace(each, source=_source(each, lines)) for each in found]
    return tuple(sorted(shown, key=lambda each: each.line))


def broken(message: str, text: str) -> Problem:
    """The problem of a file that is not TOML. What a text of several lines holds is never shown: it may be a secret."""
    lines = _split(text)
    found = re.search(r"\(at line ([0-9]+), column [0-9]+\)$", message)
    number = int(found[1]) if found else len(lines)
    above = [line for line in lines[:number] if line.lstrip().startswith("[")][-1:]
    is_open = not _MULTILINE.search(text) and not any(map(_SECRETIVE.search, (*above, *lines[number - 1 : number])))
    source = _cut(lines[number - 1]) if is_open and number <= len(lines) else ""
    return Problem(key=f"line {number}", value="", allowed=f"must be TOML: {message}", line=number, source=source)


def _split(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")


def _places(lines: list[str]) -> dict[str, range]:
    """The lines, from 1, of each key and table by its whole name."""
    found, table, start, counts = dict[str, range](), "", 0, Counter[str]()
    while start < len(lines):
        end, read = _statement(lines, start)
        names = [*_names(read, "")]
        is_header = lines[start].lstrip().startswith("[")
        if names and lines[start].lstrip().startswith("[["):
            counts[names[-1]] += 1
            names = [f"{names[-1]}[{counts[names[-1]]}]"]
        for name in names:
            found.setdefault(name if is_header or not table else f"{table}.{name}", range(start + 1, end + 1))
        table = names[-1] if is_header and names else table
        start = end
    return found


def _statement(lines: list[str], start: int) -> tuple[int, dict[str, object]]:
    """A statement is as many lines as TOML needs: one more would begin the next. Its end, and what it says."""
    for end in range(start + 1, min(start + _LONGEST, len(lines)) + 1):
        try:
            return end, tomllib.loads("\n".join(lines[start:end]))
        except (ValueError, RecursionError):
            continue
    return len(lines), {}


def _names(table: dict[str, object], above: str) -> Iterator[str]:
    for key, value in table.items():
        name = f"{above}.{quoted(key)}" if above else quoted(key)
        yield name
        if isinstance(value, dict):
            yield from _names(value, name)


def _line_of(problem: Problem, places: dict[str, range], lines: list[str]) -> int:
    """Of a list over several lines, the one with the value. 0 where neither the key nor a table above it is in the file."""
    key = problem.key
    while key and key not in places:
        key = key.rpartition(".")[0]
    within = places.get(key, range(1))
    is_text = problem.value.startswith('"')
    return next((line for line in within if is_text and problem.value in lines[line - 1]), within[0])


def _source(problem: Problem, lines: list[str]) -> str:
    line = lines[problem.line - 1] if problem.line else ""
    is_hidden = problem.value.startswith(("(", "{")) and not line.lstrip().startswith("[")
    return "" if is_hidden or _SECRETIVE.search(line) else _cut(line)


def _cut(line: str) -> str:
    said = "".join(each if " " <= each <= "~" else ascii(each)[1:-1] for each in line.strip())
    return said if len(said) <= _WIDEST else f"{said[:_WIDEST]}..."

"""A file of `upstream` blocks: its names, servers and directives, and its `check` lines as a value."""

import re
from collections.abc import Iterator

from upswitch.core.site import HTTP_CLASSES, Check
from upswitch.core.statements import Statement, StatementError, statement_at, statements, tokens
from upswitch.core.words import CheckType, Value

__all__ = ["UpstreamBlock", "UpstreamFile", "read_upstream_at", "read_upstreams", "tokens", "without_check"]

_BREAKS_OUT = re.compile(r"[\s;{}\"'\\]|^$")
_KNOWN = ("check", "check_http_send", "check_http_expect_alive")
_NUMBERS = {"interval": "interval_ms", "rise": "rise", "fall": "fall", "timeout": "timeout_ms", "port": "port"}


class UpstreamBlock(Value):
    """One `upstream`. `servers` and `directives` are lines without `;`; `start` and `end` are the block's offsets.

    `check` is None without a `check` line. `remarks` say, in sentences, what of the file could not be taken over.
    """

    name: str
    servers: tuple[str, ...]
    directives: tuple[str, ...]
    start: int
    end: int
    check: Check | None = None
    remarks: tuple[str, ...] = ()


class UpstreamFile(Value):
    """What a file holds; `others` are the names of its other top-level directives."""

    upstreams: tuple[UpstreamBlock, ...]
    others: tuple[str, ...] = ()


def read_upstreams(text: str) -> UpstreamFile:
    """Read a whole file. StatementError where quotes or braces don't match."""
    found = statements(text)
    return UpstreamFile(
        upstreams=tuple(_upstream(each) for each in found if _is_upstream(each)),
        others=tuple(each.words[0] for each in found if not _is_upstream(each)),
    )


def read_upstream_at(text: str, start: int) -> UpstreamBlock:
    """Read the one block whose first word stands at `start`."""
    found = statement_at(text, start)
    if found is None or not _is_upstream(found):
        raise StatementError(f"byte {start}: no upstream block begins here")
    return _upstream(found)


def without_check(text: str) -> str:
    """The text without the `check*` statements of its upstreams, every other byte as it was.

    A statement alone on its lines goes with the indentation and the newline; beside something else, only its own bytes go.
    """
    kept, at = [], 0
    for statement in _check_statements(statements(text)):
        start, end = _whole_lines(text, statement)
        kept.append(text[at:start])
        at = end
    return "".join((*kept, text[at:]))


def _is_upstream(statement: Statement) -> bool:
    return statement.words[0] == "upstream" and len(statement.words) > 1 and statement.block is not None


def _is_check(statement: Statement) -> bool:
    return statement.words[0] == "check" or statement.words[0].startswith("check_")


def _check_statements(found: tuple[Statement, ...]) -> list[Statement]:
    return [inner for each in found if _is_upstream(each) for inner in each.block or () if _is_check(inner)]


def _whole_lines(text: str, statement: Statement) -> tuple[int, int]:
    start = text.rfind("\n", 0, statement.start) + 1
    newline = text.find("\n", statement.end)
    end = len(text) if newline < 0 else newline + 1
    is_alone = not text[start : statement.start].strip() and not text[statement.end : end].strip()
    return (start, end) if is_alone else (statement.start, statement.end)


def _upstream(statement: Statement) -> UpstreamBlock:
    inner = statement.block or ()
    checks = tuple(each for each in inner if _is_check(each))
    check, remarks = _check(checks)
    plain = [each for each in inner if not _is_check(each) and each.words[0] != "server"]
    kept = [each for each in plain if each.block is None and not any(map(_BREAKS_OUT.search, each.words))]
    lost = [f"{each.words[0]} was left out: the site file takes plain one-line directives" for each in plain if each not in kept]
    return UpstreamBlock(
        name=statement.words[1],
        servers=tuple(" ".join(each.words[1:]) for each in inner if each.words[0] == "server"),
        directives=tuple(" ".join(each.words) for each in kept),
        start=statement.start,
        end=statement.end,
        check=check,
        remarks=(*remarks, *lost),
    )


def _check(found: tuple[Statement, ...]) -> tuple[Check | None, tuple[str, ...]]:
    """The family of `check` lines as one value. A later `check` line replaces the earlier one, as in the module."""
    lines = [each.words[1:] for each in found if each.words[0] == "check"]
    remarks = [f"{each.words[0]} was left out: upswitch does not know it" for each in found if each.words[0] not in _KNOWN]
    if not lines:
        return None, (*remarks, *(["check_* lines without a check line were left out"] if found else []))
    if len(lines) > 1:
        remarks.append("of several check lines the last one counts, as in the module")
    fields: dict[str, object] = {}
    for parameter in lines[-1]:
        remarks.extend(_parameter(parameter, fields))
    if fields.get("type", CheckType.TCP) == CheckType.HTTP:
        remarks.extend(_http(found, fields))
    elif len(found) > len(lines):
        remarks.append("check_http_* lines were left out: they count for type=http only")
    return Check(**fields), tuple(remarks)  # type: ignore[arg-type]  # each field was given its own type just above


def _parameter(text: str, fields: dict[str, object]) -> tuple[str, ...]:
    """Put one `name=value` into the fields, or say why not: then the module's default stands."""
    name, _, value = text.partition("=")
    if name in _NUMBERS and value.isascii() and value.isdigit():
        fields[_NUMBERS[name]] = int(value)
    elif name == "type" and value in tuple(CheckType):
        fields["type"] = CheckType(value)
    elif name == "default_down" and value in ("true", "false"):
        fields["default_down"] = value == "true"
    else:
        return (f"check {text} was left out: upswitch does not know it",)
    return ()


def _http(found: tuple[Statement, ...], fields: dict[str, object]) -> Iterator[str]:
    """The http lines. Several of expect_alive: yaoweibin's module adds them up, Tengine's takes the last."""
    sends = [each.words[1] for each in found if each.words[0] == "check_http_send" and len(each.words) > 1]
    if sends:
        fields["http_send"] = sends[-1]
    alive = [each.words[1:] for each in found if each.words[0] == "check_http_expect_alive"]
    classes = [word for words in alive for word in words]
    if classes:
        fields["http_expect_alive"] = (
            tuple(dict.fromkeys(word for word in classes if word in HTTP_CLASSES)) or Check().http_expect_alive
        )
    if len(alive) > 1:
        yield "several check_http_expect_alive lines were added up (Tengine takes the last one only)"
    yield from (
        f"check_http_expect_alive {word} was left out: upswitch does not know it" for word in classes if word not in HTTP_CLASSES
    )

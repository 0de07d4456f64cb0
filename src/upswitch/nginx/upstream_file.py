"""A file of `upstream` blocks: their names, servers and directives, and their `check` lines as a value.

`remarks` are sentences about what the site file can't take over.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from upswitch.basics.value import Value
from upswitch.nginx.statements import Statement, StatementError, statement_at, statements
from upswitch.site.model import HTTP_CLASSES, ONLY_FOR, Check, CheckType
from upswitch.site.server_line import LAST_PORT

_BREAKS_OUT = re.compile(r"[\s;{}\"'\\]|^$")
_WHOLE = re.compile(r"0*[1-9][0-9]{0,17}")
_NUMBERS = {"interval": "interval_ms", "rise": "rise", "fall": "fall", "timeout": "timeout_ms", "port": "port"}
_TRUTHS = {"true": True, "false": False}
_KNOWN = {"check", "check_keepalive_requests", *(f"check_{key}" for key in ONLY_FOR)}


class UpstreamBlock(Value):
    """One `upstream`. `servers` and `directives` are lines without `;`; `start` and `end` are the block's offsets.

    `check` is None without a `check` line.
    """

    name: str
    servers: tuple[str, ...]
    directives: tuple[str, ...]
    start: int
    end: int
    check: Check | None = None
    remarks: tuple[str, ...] = ()


class UpstreamFile(Value):
    """What a file holds. `others` are the names of its other top-level directives."""

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
    """Read the one block that begins at `start`."""
    found = statement_at(text, start)
    if found is None or not _is_upstream(found):
        raise StatementError(f"byte {start}: no upstream block begins here")
    return _upstream(found)


def _is_upstream(statement: Statement) -> bool:
    return statement.words[0] == "upstream" and len(statement.words) > 1 and statement.block is not None


def _is_check(statement: Statement) -> bool:
    return statement.words[0] == "check" or statement.words[0].startswith("check_")


def _upstream(statement: Statement) -> UpstreamBlock:
    inner = statement.block or ()
    checks = tuple(each for each in inner if _is_check(each))
    check, remarks = read_check([each.words for each in checks])
    plain = [each for each in inner if not _is_check(each) and each.words[0] != "server"]
    kept = [each for each in plain if each.block is None and not any(map(_BREAKS_OUT.search, each.words))]
    lost = [
        f"{each.words[0]} was left out: the site file takes only plain directives on one line" for each in plain if each not in kept
    ]
    return UpstreamBlock(
        name=statement.words[1],
        servers=tuple(" ".join(each.words[1:]) for each in inner if each.words[0] == "server"),
        directives=tuple(" ".join(each.words) for each in kept),
        start=statement.start,
        end=statement.end,
        check=check,
        remarks=(*remarks, *lost),
    )


def read_check(lines: Sequence[tuple[str, ...]]) -> tuple[Check | None, tuple[str, ...]]:
    """The `check` lines of one upstream (each as its words) as the modules read them, and the remarks.

    A later `check` replaces the earlier one, except for a `type=` that it does not repeat.
    """
    given = [words[1:] for words in lines if words[0] == "check"]
    remarks = [f"{words[0]} was left out: upswitch does not know it" for words in lines if words[0] not in _KNOWN]
    if not given:
        return None, (*remarks, *(["check_* lines without a check line were left out"] if lines else []))
    if len(given) > 1:
        remarks.append("of several check lines the last one counts, as in the module")
    types = [word for words in given[:-1] for word in words if word.startswith("type=")]
    given_words = (*types, *given[-1])
    read = [check_parameter(word) for word in given_words]
    remarks += [f"check {word} was left out: {each}" for word, each in zip(given_words, read, strict=True) if isinstance(each, str)]
    fields = dict(each for each in read if not isinstance(each, str))
    remarks += _belonging(lines, fields)
    return Check(**fields), tuple(remarks)


def check_parameter(text: str) -> tuple[str, Any] | str:
    """One word of a `check` line as a field of Check with its value, or the reason why it is none.

    Numbers are digits alone, above 0, as in ngx_atoi (nginx-facts.md, section 6). The module keeps 16 bits of a port.
    """
    name, _, value = text.partition("=")
    if name in _NUMBERS:
        if not _WHOLE.fullmatch(value):
            return "the module takes whole numbers above 0, without a unit"
        if name == "port" and int(value) > LAST_PORT:
            return f"the module would ask port {int(value) & LAST_PORT}"
        return _NUMBERS[name], int(value)
    if name == "type" and value in tuple(CheckType):
        return "type", CheckType(value)
    if name == "default_down" and value.lower() in _TRUTHS:
        return "default_down", _TRUTHS[value.lower()]
    if name == "unique" and value.lower() in _TRUTHS:
        return "only Tengine knows it (a server in several upstreams is checked once)"
    return "no module knows it"


def _belonging(lines: Sequence[tuple[str, ...]], fields: dict[str, Any]) -> Iterator[str]:
    """Put the other check_* lines into the fields; the remarks about them."""
    kind = fields.get("type", CheckType.TCP)
    own = []
    for words in lines:
        kinds = ONLY_FOR.get(words[0].removeprefix("check_"), (kind,))
        if kind in kinds:
            own.append(words)
        else:
            yield f"{words[0]} was left out: it counts only with {' or '.join(f'type={each}' for each in kinds)}"
    sends = [words[1] for words in own if words[0] == "check_http_send" and words[1:]]
    if sends and sends[-1]:  # the modules ignore an empty one
        fields["http_send"] = sends[-1]
    params = tuple((words[1], words[2]) for words in own if words[0] == "check_fastcgi_param" and words[2:])
    if params:
        fields["fastcgi_param"] = params
    yield from _alive([words[1:] for words in own if words[0] == "check_http_expect_alive"], fields, kind=kind)
    yield from _keepalive([words[1] for words in own if words[0] == "check_keepalive_requests" and words[1:]], fields)


def _alive(lines: list[tuple[str, ...]], fields: dict[str, Any], *, kind: CheckType) -> Iterator[str]:
    """The modules compare without case. yaoweibin's module adds several lines up, Tengine's takes the last one."""
    classes = tuple(dict.fromkeys(word.lower() for words in lines for word in words))
    known = tuple(word for word in classes if word in HTTP_CLASSES)
    if known or kind is CheckType.FASTCGI:
        fields["http_expect_alive"] = known
    if len(lines) > 1:
        yield "several check_http_expect_alive lines were added up (Tengine takes the last one only)"
    yield from (f"check_http_expect_alive {word} was left out: upswitch does not know it" for word in classes if word not in known)


def _keepalive(values: list[str], fields: dict[str, Any]) -> Iterator[str]:
    for value in values:
        if _WHOLE.fullmatch(value):
            fields["keepalive_requests"] = int(value)
        else:
            yield f"check_keepalive_requests {value} was left out: the module takes whole numbers above 0"

"""nginx's own health check in a generation: the `check` lines of its upstreams."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from upswitch.nginx.dump import quoted
from upswitch.nginx.statements import Statement, StatementError, statements
from upswitch.site.model import Check, CheckType, Dialect

_SENDS = ("check_http_send", "check_fastcgi_param")


def check_lines(check: Check | None, dialect: Dialect) -> tuple[str, ...]:
    """The lines without `;`, none where this nginx has no check module.

    Their order and number suit both modules. Tengine's refuses a `check_http_send` before its `check`. Several lines of
    check_http_expect_alive add up in one module and replace each other in the other, so there is one (nginx-facts.md, section 6).
    """
    return () if check is None or dialect is Dialect.NONE else tuple(_lines(rendered_check(check, dialect), dialect))


def rendered_check(check: Check, dialect: Dialect) -> Check:
    """The check as this module gets it: yaoweibin's may hold a healthy server down for ever by type=tcp with a `rise` above 1.

    It counts one success in each worker process, and no other while the connection stands (nginx-facts.md, "The stuck tcp check").
    """
    is_stuck = check.type is CheckType.TCP and dialect is Dialect.YAOWEIBIN
    return msgspec.structs.replace(check, rise=1) if is_stuck else check


def has_lines(data: bytes, upstream: str, lines: tuple[str, ...]) -> bool:
    """Whether `upstream` has these check lines in this file, but for `default_down`. True where it is not in the file."""
    try:
        blocks = [each.block or () for each in statements(data.decode()) if each.words == ("upstream", upstream)]
        wanted = _family(statements("".join(f"{line};" for line in lines)))
    except (UnicodeDecodeError, StatementError):
        return True
    return all(_family(block) == wanted for block in blocks)


def _family(found: Iterable[Statement]) -> list[tuple[str, ...]]:
    family = (each.words for each in found if each.words[0] == "check" or each.words[0].startswith("check_"))
    return [_trusting(words) if words[0] == "check" else words for words in family]


def _lines(check: Check, dialect: Dialect) -> Iterator[str]:
    yield (
        f"check interval={check.interval_ms} rise={check.rise} fall={check.fall} timeout={check.timeout_ms} "
        f"default_down={'true' if check.default_down else 'false'} type={check.type}"
        + (f" port={check.port}" if check.port else "")
    )
    if check.type is CheckType.HTTP:
        yield f"check_http_send {quoted(check.http_send)}"
    if check.type in {CheckType.HTTP, CheckType.FASTCGI} and check.http_expect_alive:
        yield f"check_http_expect_alive {' '.join(check.http_expect_alive)}"
    if check.keepalive_requests > 1 and dialect is Dialect.TENGINE:  # yaoweibin's module never checks again after the first
        yield f"check_keepalive_requests {check.keepalive_requests}"
    if check.type is CheckType.FASTCGI:
        yield from (f"check_fastcgi_param {name} {quoted(value)}" for name, value in check.fastcgi_param)


def trusted(check: Check | None) -> Check | None:
    """The check of servers that serve or have just served: `default_down=false` (see `trusting`)."""
    return msgspec.structs.replace(check, default_down=False) if check is not None else None


def trusting(text: str) -> str:
    """The same upstreams with `default_down=false`, for servers that serve or have just served.

    A module finds a server's state after a reload in the zone of the generation before. A reload that nginx rejects counts that
    generation up, so the next good reload finds no state. With `default_down=true` every server would then be down at once
    (seen on both builds), whoever asks for that reload.
    """
    return _replaced(text, ("check",), _trusting)


def redacted(text: str) -> str:
    """The text without what its checks send: headers and parameters may hold a secret (reliability.md, S10)."""
    try:
        return _replaced(text, _SENDS, lambda words: (*words[:-1], "(not shown)"))
    except StatementError:
        return "(not shown: it can't be read)\n" if any(each in text for each in _SENDS) else text


def has_check(data: bytes) -> bool:
    """Whether an upstream of this file has a check. A file that can't be read counts as one that has."""
    try:
        return bool(_found(data.decode(), ("check",)))
    except (UnicodeDecodeError, StatementError):
        return True


def _trusting(words: tuple[str, ...]) -> tuple[str, ...]:
    """In its place: a switch that would only move a word changes nothing. The last one counts; the module compares without case."""
    given = [word for word in words if word.startswith("default_down=")]
    if given and given[-1].lower() == "default_down=false":
        return words
    at = words.index(given[0]) if given else len(words)
    before, after = words[:at], (word for word in words[at:] if word not in given)
    return (*before, "default_down=false", *after)


def _replaced(text: str, names: tuple[str, ...], change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> str:
    """The text with these statements of its upstreams written anew; one that does not change keeps every byte."""
    kept, at = [], 0
    for found in _found(text, names):
        words = change(found.words)
        if words != found.words:
            kept += [text[at : found.start], " ".join(map(quoted, words)), ";"]
            at = found.end
    return "".join((*kept, text[at:]))


def _found(text: str, names: tuple[str, ...]) -> list[Statement]:
    blocks = (each.block or () for each in statements(text) if each.words[0] == "upstream")
    return [inner for block in blocks for inner in block if inner.words[0] in names]

"""The `check` lines of an upstream, in the order that both modules take: `check` first, then what belongs to it.

yaoweibin's takes any order, Tengine's refuses a `check_http_send` before its `check`; several lines of expect_alive add up in
one and replace each other in the other, so there is one (nginx-facts.md, section 6).
"""

import re
from collections.abc import Iterator

import msgspec

from upswitch.core.dump import quoted
from upswitch.core.site import Check
from upswitch.core.statements import Statement, statements
from upswitch.core.words import CheckType, Dialect

_SENT = re.compile(r"""\b(check_http_send|check_fastcgi_param\s+\S+)\s+("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s;]+)""", re.DOTALL)
_DEFAULT_DOWN = re.compile(r"(?<![^\s])default_down=\w+")


def check_lines(check: Check | None, dialect: Dialect) -> tuple[str, ...]:
    """The lines without `;`, none where this nginx has no check module."""
    return () if check is None or dialect is Dialect.NONE else tuple(_lines(check, dialect))


def trusted(check: Check | None) -> Check | None:
    """The check of servers that serve, or did a moment ago: see `trusting`."""
    return msgspec.structs.replace(check, default_down=False) if check is not None else None


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
    if check.keepalive_requests > 1 and dialect is Dialect.TENGINE:  # yaoweibin's never checks again after the first
        yield f"check_keepalive_requests {check.keepalive_requests}"
    if check.type is CheckType.FASTCGI:
        yield from (f"check_fastcgi_param {name} {quoted(value)}" for name, value in check.fastcgi_param)


def trusting(text: str) -> str:
    """The same upstreams with `default_down=false`: what serves, or did a moment ago, need not be proved again.

    A module carries a server's state over a reload by looking for the zone of the generation before. A reload that nginx
    rejects counts that generation up, so the next good one finds no state at all, and with `default_down=true` every server is
    down at once (seen on both builds). Whoever makes that reload, and whenever: no client may depend on it.
    """
    kept, at = [], 0
    for check in _checks(statements(text)):
        line = text[check.start : check.end - 1]
        changed = _DEFAULT_DOWN.sub("default_down=false", line)
        if changed == line and "default_down=false" not in line:
            changed = f"{line} default_down=false"
        kept += [text[at : check.start], changed]
        at = check.end - 1
    return "".join((*kept, text[at:]))


def redacted(text: str) -> str:
    """The text without what its checks send: headers and parameters may hold a secret (reliability.md, S10)."""
    return _SENT.sub(r"\1 (not shown)", text)


def _checks(found: tuple[Statement, ...]) -> Iterator[Statement]:
    for upstream in found:
        if upstream.words[0] == "upstream":
            yield from (inner for inner in upstream.block or () if inner.words[0] == "check")

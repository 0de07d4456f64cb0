"""The traps in how the lines of a check are written: their order, their number, and words that the modules refuse or bend.

A site file can't have them; what upswitch renders has not (checklines.py).
"""

import re
from collections.abc import Callable, Collection, Iterator

from upswitch.health.module.checked import CheckedUpstream
from upswitch.lint.site_rules import Finding, error, warning
from upswitch.nginx.upstream_file import LAST_PORT, check_parameter
from upswitch.site.words import CheckType, Dialect

_NUMBER = re.compile(r"[0-9]{1,18}")
_SENT_INSTEAD = (CheckType.FASTCGI, CheckType.AJP, CheckType.SSL_HELLO)
_LineRule = Callable[[CheckedUpstream, Collection[Dialect]], Iterator[Finding]]


def _words(upstream: CheckedUpstream, _: Collection[Dialect]) -> Iterator[Finding]:
    """nginx -t would say it too; a file that is only read has not been there. A port too large it lets through."""
    for line in upstream.named("check"):
        for word in line.args:
            port = word.removeprefix("port=")
            if port != word and _NUMBER.fullmatch(port) and int(port) > LAST_PORT:
                what = f"{line.place}: upstream {upstream.name}: {word}: the module keeps 16 bits and asks {int(port) & LAST_PORT}"
                yield error("check_port_truncated", what, f"a port from 1 to {LAST_PORT}")
            elif isinstance(said := check_parameter(word), str) and not word.startswith("unique="):
                what = f"{line.place}: upstream {upstream.name}: {said.replace(' was left out', '')}; nginx refuses the line"
                yield error("check_refused", what, "mend it until `nginx -t` passes")


def _replaced(upstream: CheckedUpstream, _: Collection[Dialect]) -> Iterator[Finding]:
    *former, last = upstream.named("check")
    for line in former:
        what = f"{last.place}: upstream {upstream.name}: this check replaces the one at {line.place}, all but its type"
        yield warning("check_replaced", what, f"take the line at {line.place} out")


def _order(upstream: CheckedUpstream, modules: Collection[Dialect]) -> Iterator[Finding]:
    names = [each.name for each in upstream.lines]
    if Dialect.TENGINE in modules and "check_http_send" in names[: names.index("check")]:
        line = upstream.named("check_http_send")[0]
        what = f"{line.place}: upstream {upstream.name}: check_http_send before check: Tengine's module refuses it"
        yield error("check_send_order", what, "put check first")


def _other_type(upstream: CheckedUpstream, modules: Collection[Dialect]) -> Iterator[Finding]:
    kind = upstream.check.type
    for line in upstream.named("check_http_send") if kind is not CheckType.HTTP else ():
        said = f"{line.place}: upstream {upstream.name}: check_http_send with type={kind}"
        if Dialect.TENGINE in modules:
            yield error("check_send_type", f"{said}: Tengine's module refuses it", "take it out, or write type=http")
        if Dialect.YAOWEIBIN in modules and kind in _SENT_INSTEAD:
            what = f"{said}: yaoweibin's module sends it in place of the {kind} request: the servers never come up"
            yield error("check_send_type", what, "take it out, or write type=http")


def _alive(upstream: CheckedUpstream, modules: Collection[Dialect]) -> Iterator[Finding]:
    lines = upstream.named("check_http_expect_alive")
    if len(lines) > 1:
        ends = {Dialect.YAOWEIBIN: "yaoweibin's module adds them up", Dialect.TENGINE: "Tengine's module takes the last one only"}
        places = " and ".join(each.place for each in lines)
        what = f"{places}: upstream {upstream.name}: {len(lines)} lines of check_http_expect_alive: "
        yield warning("check_alive_lines", what + ", ".join(ends[each] for each in modules), "one line with all its classes")


LINE_RULES: tuple[_LineRule, ...] = (_words, _replaced, _order, _other_type, _alive)

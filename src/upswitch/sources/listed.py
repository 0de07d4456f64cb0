"""The text of a source as servers. Whoever wrote it may be a stranger: each line passes the allow-list of a `server` line."""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from upswitch.basics.errors import Refusal, RefusedError
from upswitch.basics.result import Why
from upswitch.basics.text import printable
from upswitch.site.model import Pool, Server, Site, Upstream
from upswitch.site.server_line import identity, parse_server
from upswitch.site.source import Source
from upswitch.site.values import shown

LARGEST = 1_000_000
"""Bytes of a source."""

_JSON = re.compile(r"\s*(?:\{|\[\s*[\"\]])")  # a line may begin with [ too: that of an IPv6 address
_ALLOWED = 'must be a list of servers in quotes, or a table with such a list named "servers"'


class SourceError(Exception):
    """Why a source gives no servers, in words for people."""


def filled(site: Site, pool: str, read: Callable[[Upstream, Source], tuple[Server, ...] | None]) -> Site:
    """The site with the servers of `pool` that `read` gives for its sources; None leaves one to another reader. RefusedError."""

    def done(upstream: Upstream, each: Pool) -> Pool:
        if each.name != pool or each.source is None or each.servers:
            return each
        try:
            return replace(each, servers=read(upstream, each.source) or ())
        except SourceError as exc:
            what = f"the servers of {upstream.name}.{pool} can't be read from {each.source.text}: {exc}"
            hint = "fix the source, or give the servers with --server"
            raise RefusedError(Refusal(what=what, hint=hint, why=Why.SOURCE)) from exc

    upstreams = (replace(each, pools=tuple(done(each, one) for one in each.pools)) for each in site.upstreams)
    return replace(site, upstreams=tuple(upstreams))


def servers(data: bytes, *, is_toml: bool = False) -> tuple[Server, ...]:
    """One server a line, with empty lines and those that begin with # left out; or JSON; or TOML. SourceError."""
    if len(data) > LARGEST:
        raise SourceError(f"it has more than {LARGEST:,} bytes")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise SourceError(f"line {line}: it must be ASCII, and has the byte {printable(data[exc.start : exc.end])}") from exc
    return parsed(_toml(text) if is_toml else _json(text) if _JSON.match(text) else _lines(text))


def parsed(found: Iterable[tuple[str, str]]) -> tuple[Server, ...]:
    """The servers of (place, line). SourceError for a wrong line, for the same server twice, and where none is left."""
    seen: dict[str, Server] = {}
    for place, line in found:
        try:
            server = parse_server(line)
        except ValueError as exc:
            raise SourceError(f"{place}: {shown(line)} {exc}") from exc
        if identity(server) in seen:
            raise SourceError(f"{place}: {shown(line)} must stand only once in a pool")
        seen[identity(server)] = server
    if all(server.is_down for server in seen.values()):
        raise SourceError("it has no server" if not seen else "it has no server that is not down")
    return tuple(seen.values())


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        plain = line.strip(" \t\r")
        if plain and not plain.startswith("#"):
            yield f"line {number}", plain


def _json(text: str) -> Iterator[tuple[str, str]]:
    try:
        return _items(json.loads(text))
    except (ValueError, RecursionError) as exc:
        raise SourceError(f"it begins as JSON and is none: {str(exc)[:200]!a}") from exc


def _toml(text: str) -> Iterator[tuple[str, str]]:
    try:
        return _items(tomllib.loads(text))
    except (ValueError, RecursionError) as exc:
        raise SourceError(f"it is no TOML: {str(exc)[:200]!a}") from exc


def _items(value: object) -> Iterator[tuple[str, str]]:
    found = value.get("servers") if isinstance(value, dict) else value
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise SourceError(_ALLOWED)
    return ((f"server {number}", each) for number, each in enumerate(found, 1))

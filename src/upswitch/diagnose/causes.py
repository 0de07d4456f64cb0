"""The causes that `diagnose` tells apart, read from causes.toml when the first one is looked up."""

import pkgutil
import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache

import msgspec
from msgspec.structs import replace

from upswitch.basics.value import Value
from upswitch.logs.error_line import ErrorLine

HTTP = "proxy"
"""The family of directives for servers that speak HTTP."""

_FAMILIES = {"fastcgi": "fastcgi", "uwsgi": "uwsgi", "suwsgi": "uwsgi", "scgi": "scgi", "memcached": "memcached"}
_FAMILIES |= {"grpc": "grpc", "grpcs": "grpc"}
_BUFFERING = frozenset({"fastcgi", "uwsgi", "scgi"})
_BUFFERS = re.compile(r" and `[a-z]+_buffers[^`]*`")
_DIRECTIVE = re.compile(
    r"\bproxy_(?=(?:connect_timeout|read_timeout|send_timeout|buffer_size|buffers|next_upstream|bind|temp_path"
    r"|max_temp_file_size|ignore_client_abort|ssl_\w+)\b)"
)


class Code(StrEnum):
    """The causes that the code itself asks for; all others are in causes.toml alone."""

    CLIENT_CLOSED = "client_closed"
    DNS_SERVER_DOWN = "dns_server_down"
    DNS_TIMEOUT = "dns_timeout"
    FASTCGI_PREMATURE_CLOSE = "fastcgi_premature_close"
    HEALTH_CHECK_DOWN = "health_check_down"
    HEALTH_CHECK_NOT_YET_UP = "health_check_not_yet_up"
    INVALID_CHUNKED = "invalid_chunked"
    KEEPALIVE_RACE = "keepalive_race"
    MAX_CONNS = "max_conns"
    NGINX_RETURN = "nginx_return"
    NO_LIVE_ALL_DOWN = "no_live_all_down"
    NOT_HTTP = "not_http"
    TEMP_PATH_PERMISSION = "temp_path_permission"
    UPSTREAM_ANSWERED = "upstream_answered"
    UPSTREAM_PREMATURE_CLOSE = "upstream_premature_close"
    UPSTREAM_RESET = "upstream_reset"
    WORKER_SHUTDOWN_TIMEOUT = "worker_shutdown_timeout"


class Line(Value, forbid_unknown_fields=True):
    """How an error line reads. `message` is a regular expression from its start; any `errno` of these, any beginning of `action`.

    Without `errno`, `action` or `level` any will do. `is_outside`: outside of requests and of what a resolver does, which says an
    action. `status`: what clients got of such lines, where it is not their cause's.
    """

    message: str
    level: tuple[str, ...] = ()
    errno: frozenset[int] = frozenset()
    action: tuple[str, ...] = ()
    is_outside: bool = False
    status: int | None = None

    def fits(self, line: ErrorLine) -> bool:
        return (
            (not self.errno or line.errno in self.errno)
            and (not self.level or line.level in self.level)
            and not (self.is_outside and (line.connection or line.action))
            and (not self.action or line.action.startswith(self.action))
            and re.match(self.message, line.message) is not None
        )


class Cause(Value, forbid_unknown_fields=True):
    """One cause in words that hold nothing from a log.

    `status` is what clients got: None where no access line is written, 0 and 9 where `000` and `009` are. `is_benign`: such a line
    alone says of nobody that he was hurt; `is_noise`: nor does anybody need to read it. `is_of_request` is false where its lines
    are not of requests. `settings`: directives. `beside`: a regular expression for lines of the app itself, where its log stands
    in the same file.
    """

    why: str
    check: str
    fix: str
    status: int | None = None
    is_benign: bool = False
    is_noise: bool = False
    is_of_request: bool = True
    settings: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    beside: str = ""

    def told_of(self, family: str) -> "Cause":
        """The same with the directives' names of this family (`fastcgi`), and with what to ask a server that is no HTTP server."""
        if family == HTTP:
            return self
        why, check, fix = (_family_words(text, family) for text in (self.why, self.check, self.fix))
        return replace(self, why=why, check=catalogue().checks.get(family, check) if "curl" in check else check, fix=fix)


class Catalogue(Value, forbid_unknown_fields=True):
    """The file: causes by code, `words` for findings without a cause, and defaults of directives by where they stand.

    `checks`: what to look at in place of `curl`, by the family of directives.
    """

    causes: Mapping[str, Cause]
    words: Mapping[str, Cause]
    checks: Mapping[str, str]
    directives: Mapping[str, Mapping[str, str]]


@cache
def catalogue() -> Catalogue:
    """The whole file. ValidationError where a key is missing or unknown."""
    return msgspec.toml.decode(pkgutil.get_data("upswitch.diagnose", "causes.toml") or b"", type=Catalogue)


def cause_of(line: ErrorLine) -> str | None:
    """The code of the first cause that has such a line; None where the line is of nothing that `diagnose` knows."""
    return told(line)[0]


def told(line: ErrorLine) -> tuple[str | None, int | None]:
    """The same, and what the client got of it."""
    code, found = next(((code, each) for code, each in _lines() if each.fits(line)), (None, None))
    cause = catalogue().causes[code] if code else catalogue().words["unknown"]
    return code, found.status if found and found.status else cause.status


def said_beside(line: bytes) -> str | None:
    """The code of a cause that an app itself names in such a line, which is none of nginx's."""
    return next((code for code, pattern in _beside() if pattern.search(line)), None)


def family_of(scheme: str) -> str:
    """How the names of the directives begin, by what stands before the server in an error line."""
    return _FAMILIES.get(scheme, HTTP)


def _family_words(text: str, family: str) -> str:
    named = _DIRECTIVE.sub(f"{family}_", text)
    return named if family in _BUFFERING else _BUFFERS.sub("", named)


@cache
def _beside() -> tuple[tuple[str, re.Pattern[bytes]], ...]:
    return tuple((code, re.compile(each.beside.encode())) for code, each in catalogue().causes.items() if each.beside)


@cache
def _lines() -> tuple[tuple[str, Line], ...]:
    return tuple((code, line) for code, cause in catalogue().causes.items() for line in cause.lines)

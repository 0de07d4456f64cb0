"""One line of an access log: its `log_format`, what the line says, its time, and when its request counts as failed."""

import re
from calendar import timegm
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Network

from upswitch.basics.value import Value
from upswitch.logs.format_regex import Part, exact_pattern, parts_of, quick_pattern
from upswitch.nginx.conf_logs import COMBINED

# ---- what counts as a failed request: each value stands here once ----

CLIENT_LEFT = 499
"""What nginx writes for a client that closed its connection before it got an answer."""

HUNG_S = 1
"""Whole seconds. A client that left after as many without an answer counts as a failure of the server.

One that left in the middle of an answer, after as many, counts as given up: by itself that is no failure.
"""

UPGRADED = 101
"""Answers that have no end: nginx logs each of them as given up."""

GATEWAY = (502, 503, 504)
"""Answers that count as a failure of the server, or of nginx in its place."""

OWN_ERROR = 500
"""From here on, whatever is no GATEWAY is an error of the app itself."""

NOT_HTTP = 9
"""What nginx writes as `$status` (009) where the server's answer was no HTTP."""

ENOUGH_FAILED = 5
"""Requests. Fewer failures are no trend."""

BIG_PERCENT = 1
"""Of the requests. A smaller share of failures is left to people."""

GOOD = range(200, 400)
"""What our own requests must be answered with."""

UNREPEATABLE = ("LOCK", "PATCH", "POST")
"""Methods that nginx does not send twice (ngx_http_upstream_next)."""

# ---- the line ----

_MOST_ADDRESSES = 1 << 12

MAX_LINE = 1 << 16
"""Bytes. Longer lines are not read."""

CLOCKS = frozenset({"msec", "time_iso8601", "time_local"})
CAPTURED = CLOCKS.union(
    (
        *("status", "request_time", "request_completion", "request_method", "request"),
        *("upstream_status", "upstream_addr", "upstream_header_time", "upstream_connect_time", "upstream_bytes_sent"),
        *("upswitch_generation", "remote_addr"),
    )
)
"""The variables of a `log_format` that are read."""

METHOD = rb"(?P<%%b>(?:%b)(?![A-Z_-])|[A-Z]?+)" % "|".join(UNREPEATABLE).encode()
"""Of a method that is not UNREPEATABLE only the first letter: a client may make up any number of methods."""
_METHOD = re.compile(METHOD % b"method")


class Entry(Value):
    """What one line says. None: the format lacks it; "" or "-": nginx had nothing to say. Lists are as written, `A, B : C`.

    `time` is `$msec`, else `$time_iso8601`, else `$time_local`. `request_time` is in seconds. `method` is as METHOD takes it.
    `client` is `$remote_addr`, "" where the format lacks it.
    """

    status: int | None = None
    time: str | None = None
    request_time: float | None = None
    request_completion: str | None = None
    method: str | None = None
    generation: str | None = None
    upstream_addr: str | None = None
    upstream_status: str | None = None
    upstream_header_time: str | None = None
    upstream_connect_time: str | None = None
    upstream_bytes_sent: str | None = None
    client: str = ""

    def has_left_unanswered(self, answer: str) -> bool:
        """Whether the client left after HUNG_S or more without an answer. `answer` is the last server's status."""
        return self.is_left(answer) and self.request_time is not None and self.request_time >= HUNG_S

    def is_left(self, answer: str) -> bool:
        """Whether the client left, however soon, before the last server had answered."""
        header_s = elements(self.upstream_header_time)[-1]
        return self.status == CLIENT_LEFT and header_s in {"", "-"} and answer in {"", "-", str(CLIENT_LEFT)}

    def is_given_up(self, answer: str) -> bool:
        """Whether the client left in the middle of the answer, HUNG_S or more after it had asked. `answer` as above.

        nginx logs a 499 here too, where it had sent nothing yet of an answer that had begun (it collects small ones).
        """
        is_answer = answer.isdigit() and int(answer) < OWN_ERROR and int(answer) != UPGRADED
        is_cut = self.request_completion in {"", "-"} and self.request_time is not None
        return is_answer and is_cut and (self.request_time or 0) >= HUNG_S

    @property
    def is_not_http(self) -> bool:
        """Whether a server answered, and not in HTTP."""
        return self.status == NOT_HTTP and self.upstream_addr not in {"", "-"}

    def has_app_failed(self, answer: str) -> bool:
        """Whether the app itself failed. `answer` is the last server's status."""
        is_error = answer.isdigit() and int(answer) >= OWN_ERROR and int(answer) not in GATEWAY
        return is_error or self.is_not_http


def elements(text: str | None) -> list[str]:
    """Of `A, B : C`; [""] where there is nothing."""
    return _SEPARATOR.split(text) if text else [""]


_SEPARATOR = re.compile(r", | : ?")


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
    def has_client(self) -> bool:
        """Without it one client's failures can't be told from everybody's."""
        return "remote_addr" in self.variables

    @property
    def has_completion(self) -> bool:
        """Without it nobody sees that a client left in the middle of an answer."""
        return {"request_completion", "request_time"} <= self.variables

    @property
    def has_request_time(self) -> bool:
        """Without it a hung client can't be told from an impatient one: HUNG is never seen."""
        return "request_time" in self.variables

    def read(self, line: bytes) -> Entry | None:
        """The entry of one line without its newline; None where it is not of this format."""
        match = self.pattern.fullmatch(line) if len(line) <= MAX_LINE else None
        if match is None:
            return None
        return entry_of(match.groupdict(b""))

    def blocks(self, wishes: Mapping[str, bytes]) -> re.Pattern[bytes]:
        """For `findall` over blocks of whole lines: the groups of the wished expressions, in the order of the format, then one with
        the line and its newline where the line did not match.

        Fast (format_regex.py), and each match is one line only if there are as many of them as newlines (`newlines`).
        """
        quick = quick_pattern(self.parts, self.escape, wishes)
        second_group = b"" if b"(?P<" in quick else b"(?P<nothing>)"  # `findall` gives no tuples for one group
        return re.compile(rb"^(?:%s%s\n|(?P<line>.*\n))" % (quick, second_group), re.MULTILINE)


def entry_of(values: Mapping[str, bytes]) -> Entry:
    """Of values by variable. All is ASCII but what stands in the place of an address."""
    found = {name: value.decode("ascii", "backslashreplace") for name, value in values.items()}
    request = values.get("request_method", values.get("request"))
    method = _METHOD.match(request) if request is not None else None
    return Entry(
        status=int(found["status"]) if "status" in found else None,
        time=found.get("msec") or found.get("time_iso8601") or found.get("time_local"),
        request_time=float(found["request_time"] or 0) if "request_time" in found else None,
        request_completion=found.get("request_completion"),
        method=method[0].decode() if method else None,
        generation=found.get("upswitch_generation"),
        upstream_addr=found.get("upstream_addr"),
        upstream_status=found.get("upstream_status"),
        upstream_header_time=found.get("upstream_header_time"),
        upstream_connect_time=found.get("upstream_connect_time"),
        upstream_bytes_sent=found.get("upstream_bytes_sent"),
        client=found.get("remote_addr", ""),
    )


def newlines(block: bytes) -> int:
    """Two to three times as fast as `bytes.count`, which looks at every byte; `replace` goes from one to the next (memchr)."""
    return len(block) - len(block.replace(b"\n", b""))


def compile_format(text: str, escape: str = "default") -> LineReader:
    """The reader of a `log_format`: its strings joined, without name and `escape=` (that is default, json or none).

    `combined` is built in.
    """
    parts = parts_of(COMBINED if text == "combined" else text)
    is_quoted = escape != "none" and any(part.variable == "request" and part.literal.startswith(b'"') for part in parts)
    names = CAPTURED.intersection(part.variable for part in parts) - ({"request"} if not is_quoted else set())
    pattern = exact_pattern(parts, escape, names)
    return LineReader(parts=parts, escape=escape, pattern=re.compile(pattern, re.DOTALL), variables=names)


@lru_cache(maxsize=_MOST_ADDRESSES)
def client_of(address: bytes) -> str:
    """Whose an address is: of IPv6 whoever has one has 2^64 of them."""
    text = address.decode("ascii", "backslashreplace")
    try:
        return str(IPv6Network((text, 64), strict=False)) if ":" in text else text
    except ValueError:
        return text


# ---- times ----

ALWAYS = range(timegm((9999, 12, 31, 23, 59, 60)))
"""Seconds since 1970 up to the last year of four digits: all that a log can name."""

_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LOCAL = re.compile(r"(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d\d)(\d\d)", re.ASCII)
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)([+-]\d\d):(\d\d)", re.ASCII)


def seconds_of(time: str) -> float | None:
    """Unix time of a `$msec` (its fraction may be missing), `$time_iso8601` or `$time_local`; None where it is none of them.

    None too where it is not in ALWAYS: people, and Python, have no date for it.
    """
    if match := _LOCAL.fullmatch(time):
        day, month, year, *clock = match.groups()
        found = _unix((int(year), _MONTHS.index(month), int(day)), clock) if month in _MONTHS else None
    elif match := _ISO.fullmatch(time):
        year, month, day, *clock = match.groups()
        found = _unix((int(year), int(month), int(day)), clock)
    else:
        found = float(time) if re.fullmatch(r"\d{1,12}(\.\d{3})?", time, re.ASCII) else None
    return found if found is not None and int(found) in ALWAYS else None


def _unix(date: tuple[int, int, int], clock: list[str]) -> float | None:
    year, month, day = date
    hour, minute, sec, east_h, east_m = map(int, clock)
    if year == 0 or not 1 <= month < len(_MONTHS):
        return None
    east_s = east_h * 3600 + (-east_m if clock[3].startswith("-") else east_m) * 60
    return float(timegm((year, month, day, hour, minute, sec)) - east_s)


LATE_S = 5
"""Seconds by which a line may stand behind its time."""
HISTORY_S = 600

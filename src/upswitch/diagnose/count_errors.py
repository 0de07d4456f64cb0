"""Error logs counted at full speed: whole blocks of lines, by cause and server.

"no live upstreams" follows from failures just before it: which one that was is noted while counting, by the times of the lines.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from msgspec.structs import asdict, replace

from upswitch.basics.value import Value
from upswitch.diagnose.causes import HTTP, Cause, Code, catalogue, family_of, said_beside, told
from upswitch.diagnose.evidence import MOST_KEPT, OTHERS, UNEXPLAINED, shown
from upswitch.logs.error_line import TIMELESS, clock, failure_of, parse_error
from upswitch.logs.line import UNREPEATABLE

# Theory. A regular expression walks over a block and takes of each line its time, its cause (what stands before `, client: `),
# the method and the upstream, if the line is so plain that parse_error would certainly find the same. (One expression for the
# usual line is twice as fast as one for all plain lines, which walks over the rest.) What was taken is counted by value, and each
# distinct cause is read once, by parse_error and the rules, from a short line that has only the cause. Any other line is read as
# it is. Nothing counts beyond the 2048 bytes that parse_error reads.
#
# On busy sites the cause differs in every line (a path, a size, an excess). Its shape is the cause without these, where no rule
# looks at them.

FAIL_TIMEOUT_S = 10
"""nginx's default of `fail_timeout`."""

FROM_SERVERS = frozenset({502, 504})
"""What clients get where nginx gave up on a server."""

Addresses = Mapping[str, frozenset[str]]
"""Those of upstreams by name, as nginx logs them: resolved, `IP:PORT`, `[IP6]:PORT` or `unix:/path`."""

_NOWHERE: Addresses = {}
_ALWAYS = b"9"
_CHECKED_S = 120  # a check that fails writes a line each time; intervals are shorter
_MOST_REMEMBERED = 1 << 12


class Kind(Value):
    """What a failure is. `code` None: one towards an upstream that is no known cause, told by `words`.

    `server` is `IP:PORT`, `unix:/path`, the name of an upstream, "" where the lines name none, or OTHERS. `family`: how the names
    of its directives begin. `status`: what a client got, as far as the lines tell; a connection of nginx's `stream` has none.
    `is_subrequest`: of a request that nginx made itself, whose answer no client got.
    """

    code: str | None
    words: str
    server: str
    family: str = HTTP
    status: int | None = None
    is_subrequest: bool = False

    @property
    def cause(self) -> Cause:
        return catalogue().causes[self.code] if self.code else catalogue().words["unknown"]


class ErrorCount(Kind, kw_only=True):  # every Value is; mypy does not see it here
    """Lines of one cause at one server. Times are nginx's words, `YYYY/MM/DD HH:MM:SS`, without a zone.

    `evidence` is the first line seen, escaped and cut. `unrepeatable` of them are of requests that nginx does not send twice
    (POST, LOCK, PATCH).
    """

    count: int
    first: str
    last: str
    evidence: str
    unrepeatable: int = 0


class NoLive(Value):
    """Lines "no live upstreams" of upstream `name`. `after`: the code (or UNEXPLAINED) of the last failure just before, or ""."""

    name: str
    after: str
    count: int
    first: str
    last: str


class Errors(Value):
    """What error logs said in the span. `unread` lines are none of nginx's; all other lines are no failure of anything."""

    counts: tuple[ErrorCount, ...] = ()
    no_live: tuple[NoLive, ...] = ()
    lines: int = 0
    unread: int = 0

    def __add__(self, more: "Errors") -> "Errors":
        """Of two hosts, or of two stretches of time."""
        return Errors(
            counts=self.counts + more.counts,
            no_live=self.no_live + more.no_live,
            lines=self.lines + more.lines,
            unread=self.unread + more.unread,
        )


@dataclass
class _Count:
    """A count that grows."""

    first: str
    last: str = ""
    count: int = 0
    evidence: str = ""
    unrepeatable: int = 0

    def add(self, time: str, times: int) -> None:
        self.count += times
        self.first, self.last = min(self.first, time), max(self.last, time)


Values = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
"""Of a plain line its time, level (b"" for an error), cause, method and upstream; of any other the line, without its newline."""


class ErrorCounter:
    """Counts blocks of one or several error logs, the oldest first. Memory is bounded; cost: bench/diagnose.py."""

    def __init__(
        self,
        *,
        since: str = "",
        until: str = "",
        addresses: Addresses = _NOWHERE,
        peers: Collection[str] = (),
        fail_timeout_s: int = FAIL_TIMEOUT_S,
    ) -> None:
        """Only lines from `since` to `until` count, both as nginx writes times, "" for no bound.

        With `addresses` only an upstream's own failures explain its "no live upstreams". Its servers and `peers`, which the access
        log or the configuration knows, are always kept apart: lines that a client forges can't push them out.
        """
        self._since, self._until = since.encode(), until.encode() or _ALWAYS
        self._addresses, self._fail_timeout_s = addresses, fail_timeout_s
        self._peers = frozenset(peers).union(addresses, *addresses.values())
        self._known: dict[tuple[bytes, bytes, bytes], tuple[Kind, _Count] | None] = {}
        self._counts: dict[Kind, _Count] = {}
        self._no_live: dict[tuple[str, str], _Count] = {}
        self._failed_at: dict[tuple[str, str], int] = {}
        self._now = ("", 0)
        self._lines = self._unread = 0

    def count(self, block: bytes) -> None:
        """Whole lines, each with its newline."""
        for values, times in walk(block):
            time = time_of(values)
            if not time and not (values[-1].startswith(TIMELESS) and parse_error(values[-1])):
                self._unread += 0 if self._is_heard(values[-1], times) else times
            elif self._since <= time <= self._until or not time:
                self._lines += times
                found = self._found(values, block)
                if found:
                    kind, counted = found
                    counted.add(time.decode(), times)
                    counted.unrepeatable += times if is_unrepeatable(values) else 0
                    self._relate(kind, time.decode(), times)

    def found(self) -> Errors:
        """All so far, the commonest first."""
        counts = tuple(ErrorCount(**asdict(kind), **vars(count)) for kind, count in self._counts.items())
        return Errors(
            counts=tuple(sorted(counts, key=lambda each: -each.count)),
            no_live=tuple(
                NoLive(name=name, after=after, count=each.count, first=each.first, last=each.last)
                for (name, after), each in self._no_live.items()
            ),
            lines=self._lines,
            unread=self._unread,
        )

    def _is_heard(self, line: bytes, times: int) -> bool:
        """Whether a line, none of nginx's, is an app's own word about itself."""
        code = said_beside(line)
        if code is None:
            return False
        kind = Kind(code=code, words="", server="", status=catalogue().causes[code].status)
        self._counts.setdefault(kind, _Count(first="", evidence=shown(line))).add("", times)
        return True

    def _found(self, values: Values, block: bytes) -> tuple[Kind, _Count] | None:
        """The kind and where it is counted; None for a line that tells of no failure. Only plain lines are remembered."""
        _, level, cause, _, upstream, line = values
        if line:
            return self._kept(values, block)
        key = (level, shape(cause), upstream)
        if key not in self._known:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = self._kept(values, block)
        return self._known[key]

    def _kept(self, values: Values, block: bytes) -> tuple[Kind, _Count] | None:
        kind = kind_of(values)
        if kind is None:
            return None
        is_peer = kind.code is not None and kind.server in self._peers
        if kind not in self._counts and len(self._counts) >= MOST_KEPT and not is_peer:
            kind = replace(kind, words=kind.words and OTHERS, server=OTHERS)
        if kind not in self._counts:
            self._counts[kind] = _Count(first=time_of(values).decode(), evidence=shown(first(block, values)))
        return kind, self._counts[kind]

    def _relate(self, kind: Kind, time: str, times: int) -> None:
        """A failure is remembered; "no live upstreams" is counted by the last failure just before it."""
        if kind.code == Code.NO_LIVE_ALL_DOWN:
            after = self._last_failure(kind.server, self._seconds(time))
            self._no_live.setdefault((kind.server, after), _Count(first=time)).add(time, times)
        elif kind.server and kind.status in FROM_SERVERS:
            failure = (kind.code or UNEXPLAINED, kind.server)
            self._failed_at.pop(failure, None)
            self._failed_at[failure] = self._seconds(time)

    def _last_failure(self, name: str, at: int) -> str:
        addresses = self._addresses.get(name)
        for (code, server), then in reversed(self._failed_at.items()):
            lasts_s = _CHECKED_S if code == Code.HEALTH_CHECK_DOWN else self._fail_timeout_s
            if 0 <= at - then <= lasts_s and (addresses is None or server in addresses):
                return code
        return ""

    def _seconds(self, time: str) -> int:
        """To subtract: of a clock without a zone, so an hour may be a change of summer time. 0 for a line without a time."""
        if not time:
            return 0
        if self._now[0] != time:
            self._now = (time, clock(time))
        return self._now[1]


_STAMP, _PROCESS = rb"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) ", rb" \d{1,20}+#\d{1,20}+: "
_USUAL = re.compile(
    rb"^(?:" + _STAMP + rb"\[(?:error|crit|alert)\]()" + _PROCESS + rb"\*\d{1,20}+ ([^,\n]{0,600}+)"
    rb', client: [^,"\n]{0,100}+, server: [^,"\n]{0,256}+'
    rb', request: "([A-Z]{1,20}+) \S{0,700}+ HTTP/\d\.\d", upstream: "([a-z]{1,10}+://(?!unix:)[^/"\s]{0,120}+)(?=[/"\s]).*|(.*))\n',
    re.MULTILINE,
)
_PLAIN = re.compile(
    rb"^(?:(?=.{0,2000}$)" + _STAMP + rb"\[(?:error|crit|alert|([a-z]{1,10}+))\]" + _PROCESS + rb"\*\d{1,20}+ "
    rb"((?>[^,\n]*(?:,(?! client: )[^,\n]*)*))"
    rb'(?:, client: [^,"\n]*, server: [^,"\n]*'
    rb'(?:, request: "(\S+) \S* HTTP/[\d.]+"'
    rb'(?:, upstream: "((?>(?:[a-z]+://)?)(?!passenger:)(?:unix:[^:"\s]*|[^/"\s]*)).*|(?!, (?:upstream|subrequest): ").*))?)?'
    rb"|(.*))\n",
    re.MULTILINE,
)
_HEAD, _CONTEXT = b"0000/00/00 00:00:00 [%b] 0#0: *1 ", b', client: , server: , request: "G  HTTP/1", upstream: "%s"'
_METHOD = re.compile(rb'[^,"]*, server: [^,"]*, request: "(\S+) ')
_VARIABLE = re.compile(
    rb"((?:limiting|delaying) requests?(?:, dry run)?, excess: )[\d.]+"
    rb"|(client intended to send too large (?:chunked )?body: )\d+"
    rb"|(an? (?:upstream response|client request body) is buffered to a temporary file )[\w./-]+"
    rb'|(open\(\) ")[^"]*(?=" failed \(2: [A-Za-z ]*\)$)'
)
_PEER = re.compile(r"(?:.* with|disable check) peer: (\S+)")
_TIME = 19


def shape(cause: bytes) -> bytes:
    """The cause without what changes from line to line: causes of one shape are of one kind."""
    variable = _VARIABLE.match(cause)
    return variable[variable.lastindex or 0] + cause[variable.end() :] if variable else cause


def kind_of(values: Values) -> Kind | None:
    """None: a line that tells of no failure."""
    _, level, cause, _, upstream, line = values
    return _kind(line or _HEAD % (level or b"error") + cause + (_CONTEXT % upstream if upstream else b""))


def walk(block: bytes) -> list[tuple[Values, int]]:
    """Each distinct line of a block of whole lines, and how often: by time, "no live upstreams" after what failed in its second."""
    found: Counter[Values] = Counter(_USUAL.findall(block))
    others = [values for values in found if values[-1] or not values[0]]
    rest = b"".join([b"%s\n" % values[-1] * found.pop(values) for values in others])
    found.update(_PLAIN.findall(rest))
    return sorted(found.items(), key=_order)


def first(block: bytes, values: Values) -> bytes:
    """The first line that has these values."""
    return next(match[0][:-1] for match in _PLAIN.finditer(block) if match.groups(b"") == values)


def time_of(values: Values) -> bytes:
    """`YYYY/MM/DD HH:MM:SS`; b"" for a line that is none of nginx's."""
    time, *_, line = values
    return time or (line[:_TIME] if not line.startswith(TIMELESS) and parse_error(line) else b"")


def is_unrepeatable(values: Values) -> bool:
    """Of a request that nginx does not send twice."""
    _, _, _, method, _, line = values
    found = _METHOD.match(line.partition(b", client: ")[2]) if line else None
    return (found[1] if found else method).decode("ascii", "replace") in UNREPEATABLE


def _order(item: tuple[Values, int]) -> tuple[bytes, bool]:
    values, _ = item
    return time_of(values), values[2].startswith(b"no live upstreams ")


def _kind(line: bytes) -> Kind | None:
    parsed = parse_error(line)
    if parsed is None:
        return None
    code, status = told(parsed)
    failed = ("", parsed.upstream) if code else failure_of(line)
    if failed is None:
        return None
    checked = _PEER.match(parsed.message) if code == Code.HEALTH_CHECK_DOWN else None
    return Kind(
        code=code,
        words=failed[0],
        server=checked[1] if checked else failed[1],
        family=family_of(parsed.scheme),
        status=None if parsed.is_stream or parsed.is_subrequest else status,
        is_subrequest=parsed.is_subrequest,
    )

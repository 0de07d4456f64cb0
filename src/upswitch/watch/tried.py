"""Our own requests through nginx, tried before the swap: one that fails now would say nothing of the new pool later.

Where the site file has no watch.probe, the health path is tried too. It is used where the log shows that the live pool of its
upstream answered it. Each request has a mark in its query, by which the watch tells it from those of clients.
"""

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress

from upswitch.basics.errors import HostError
from upswitch.basics.result import Failure
from upswitch.basics.value import Value
from upswitch.hosts.count_program import lines_with
from upswitch.hosts.host import MARK, Asking, CountingFollower, Follower, Ports
from upswitch.hosts.wait import until
from upswitch.logs import coverage
from upswitch.logs.line import Entry, LineReader, elements
from upswitch.nginx.conf_logs import AccessLog
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.entrances import entrances
from upswitch.site.model import CheckType, Site, effective_check

_TRIES = 3
_MOST_TRIED, _MOST_USED = 8, 4
_TRY_EVERY, _LOOK_EVERY = 0.2, 0.05  # seconds
_LOGGED_S = 2.0
_PATH = re.compile(r"GET (/[A-Za-z0-9_.~!$&()*+,=:@%/?-]{0,2000}) HTTP/")


class Tried(Value):
    """The requests that a watch makes itself.

    `mark` is what their lines in the log hold, b"" where the log does not show them as the pool's. `told` is for people.
    `refusal` is why watch.probe can't be used.
    """

    asked: tuple[Asking, ...] = ()
    mark: bytes = b""
    told: tuple[str, ...] = ()
    refusal: str = ""


class Live(Value):
    """Who serves now: the pool, its generation, and its addresses by upstream."""

    pool: str
    generation: str
    servers: Mapping[str, Sequence[str]]

    def answers(self, entry: Entry, upstream: str = "") -> bool:
        """Whether a line of the log says so; `upstream` "" is any of them."""
        if entry.upstream_addr is None:
            return bool(self.generation) and entry.generation == self.generation
        ours = self.servers.get(upstream, ()) if upstream else [each for servers in self.servers.values() for each in servers]
        return not set(ours).isdisjoint(elements(entry.upstream_addr))


def tried(ports: Ports, site: Site, live: Live, *, logs: Sequence[AccessLog], conf: NginxConf) -> Tried:
    """What a watch of this site may request itself. It waits for the log some seconds at most."""
    with closing(_Trial(ports, logs, live)) as trial:
        return trial.own(site.watch.probe) if site.watch.probe else trial.by_default(site, conf)


class _Trial:
    """Requests that are made, and looked for in the logs."""

    def __init__(self, ports: Ports, logs: Sequence[AccessLog], live: Live) -> None:
        self._ports, self._live = ports, live
        self._mark = f"{MARK}{secrets.token_hex(8)}"
        self._number = 0
        self._closing = ExitStack()
        opened = [self._follow(log) for log in coverage.distinct(logs) if coverage.can_follow(log)]
        self._logs = [each for each in opened if each]

    def own(self, url: str) -> Tried:
        """watch.probe, with a mark where it is answered as well with one."""
        marked = self._marked(Asking(url=url))
        if self._said(marked):
            said = self._said(Asking(url=url))
            shown = f"watch.probe, {Asking(url=url).shown}, fails now, while {self._live.pool} serves: {said}"
            refusal = f"{shown}. It must be answered with 2xx or 3xx, or the watch would take this for a failure" if said else ""
            return Tried(asked=(Asking(url=url),), refusal=refusal)
        line = self._line()
        if line is None:
            return Tried(asked=(marked,))
        if self._live.answers(line):
            return Tried(asked=(marked,), mark=self._mark.encode())
        return Tried(
            asked=(marked,), told=(f"The log shows that {self._live.pool} does not answer watch.probe: it proves little.",)
        )

    def by_default(self, site: Site, conf: NginxConf) -> Tried:
        """The health path of each upstream, where its live servers answer it through nginx."""
        paths = _health_paths(site)
        used = [found for name, path in paths.items() if (found := self._reaching(name, path, conf))][:_MOST_USED]
        told = [
            f"watch.probe is not set. The watch requests {each.shown} itself, as {self._live.pool} answers it." for each in used
        ]
        return Tried(asked=tuple(used), mark=self._mark.encode() if used else b"", told=tuple(told))

    def _reaching(self, upstream: str, path: str, conf: NginxConf) -> Asking | None:
        for each in entrances(conf, [upstream])[:_MOST_TRIED]:
            asking = self._marked(Asking(url=f"{each.origin}{path}", name=each.name))
            if self._ask(asking):
                continue
            line = self._line()
            if line is None:  # the log does not show health checks
                return None
            if self._live.answers(line, upstream):
                return asking
        return None

    def _marked(self, asking: Asking) -> Asking:
        """With a number behind the mark, so that each has a line of its own."""
        self._number += 1
        joined = "&" if "?" in asking.url else "?"
        return Asking(url=f"{asking.url}{joined}{self._mark}.{self._number}", name=asking.name)

    def _said(self, asking: Asking) -> str:
        """What came instead of a good answer. It is asked again: one lost packet is no reason to refuse."""
        ask, clock = (lambda: self._ask(asking)), self._ports.clock
        return until(lambda said: not said, ask, every=_TRY_EVERY, clock=clock, within=_TRIES * _TRY_EVERY)

    def _ask(self, asking: Asking) -> str:
        with closing(self._ports.through(asking)) as through:
            asked = through.ask()
        return "" if asked.failure is Failure.NONE else asked.said

    # ---- the logs ----

    def _follow(self, log: AccessLog) -> tuple[Follower, LineReader] | None:
        """None where it can't be followed: the watch says so itself."""
        with suppress(HostError):
            follower = self._ports.host.follow(log.followed)
            self._closing.callback(follower.close)
            if isinstance(follower, CountingFollower):
                follower.count(lines_with(self._mark))
            return follower, coverage.reader_of(log)
        return None

    def _line(self) -> Entry | None:
        """The line of the last request. None where it does not come."""
        mark = f"{self._mark}.{self._number}".encode()

        def look() -> Entry | None:
            return next(self._lines(mark), None)

        found = until(bool, look, every=_LOOK_EVERY, clock=self._ports.clock, within=_LOGGED_S if self._logs else 0.0)
        return found or None

    def _lines(self, mark: bytes) -> Iterator[Entry]:
        for follower, reader in self._logs:
            with suppress(HostError):
                while block := follower.read():
                    lines = (line for line in block.split(b"\n") if mark in line)
                    yield from filter(None, map(reader.read, lines))

    def close(self) -> None:
        self._closing.close()


def _health_paths(site: Site) -> dict[str, str]:
    """By upstream, of those that are checked by HTTP."""
    rules = {upstream.name: effective_check(upstream, site.gate) for upstream in site.upstreams}
    found = {name: _PATH.match(rule.http_send) for name, rule in rules.items() if rule.type is CheckType.HTTP}
    return {name: match[1] for name, match in found.items() if match}

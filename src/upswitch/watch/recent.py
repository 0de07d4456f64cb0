"""What the last requests to the live pool came to. A pool may fail for clients while its health checks pass."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

import msgspec

from upswitch.basics.errors import HostError
from upswitch.basics.value import Value
from upswitch.generations.generation import Manifest
from upswitch.hosts.host import Host
from upswitch.hosts.sh import QUICK_S
from upswitch.logs import coverage
from upswitch.logs.line import Entry, LineReader, seconds_of
from upswitch.nginx.conf_logs import AccessLog
from upswitch.site.model import Site
from upswitch.watch.attribution import Attribution, Whose, judged
from upswitch.watch.hang import open_now

_LAST = 200  # requests of each log
_TAIL = 1 << 18  # bytes of each log
ENOUGH = 20  # requests; fewer say nothing
_QUIET_S = 5


class Recent(Value):
    """The last requests that the live generation answered, and those that failed. `at`: when the newest of them was logged.

    `quiet_s`: how many seconds ago that is, by the host's clock. `waiting`: how many connections to its servers are open then: a
    pool that hangs logs nothing.
    """

    pool: str
    failed: int = 0
    total: int = 0
    at: str = ""
    quiet_s: int = 0
    waiting: int = 0

    @property
    def is_failing(self) -> bool:
        return self.total >= ENOUGH and 2 * self.failed >= self.total

    @property
    def text(self) -> str:
        """ "" where the logs show no request."""
        when = f" (the newest at {self.at})" if self.at else ""
        said = f"{self.failed} of the last {self.total} requests to {self.pool} failed{when}" if self.total else ""
        return f"{said}. {self._quiet}" if said and self.quiet_s else said

    @property
    def _quiet(self) -> str:
        still = f", and its servers have {self.waiting} open connections: requests may hang" if self.waiting else ""
        return f"No request has ended for {self.quiet_s} s{still}"


def recent(host: Host, site: Site, logs: Sequence[AccessLog], live: Manifest) -> Recent:
    """By the ends of the logs whose format has our generation. A log that can't be read is left out."""
    attribution = Attribution(
        generation=live.name,
        addresses=frozenset(live.addresses),
        upstreams=frozenset(upstream.name for upstream in site.upstreams),
        ignores_app=site.watch.ignores_app,
    )
    found = Recent(pool=live.pool)
    for log in coverage.distinct(logs):
        if coverage.can_follow(log) and (reader := coverage.reader_of(log)).has_generation:
            ours = (each for each in _newest(host, log.followed, reader) if attribution.classify(each).whose is Whose.NEW)
            entries = tuple(islice(ours, _LAST))
            new = judged(((each, 1) for each in entries), attribution).new
            at = max(found.at, _time(entries[0]) if entries else "")
            found = Recent(pool=live.pool, failed=found.failed + new.failures, total=found.total + new.total, at=at)
    return found


def with_waiting(host: Host, seen: Recent, master: int, addresses: Iterable[str]) -> Recent:
    """With what is still open where no request has ended for some seconds."""
    if not seen.at:
        return seen
    now = host.run(("date", "-u", "+%Y-%m-%d %H:%M:%S"), deadline=QUICK_S).out.decode("ascii", "replace").strip()
    quiet_s = int((_moment(now) - _moment(seen.at)).total_seconds()) if now else 0
    if quiet_s < _QUIET_S:
        return seen
    return msgspec.structs.replace(seen, quiet_s=quiet_s, waiting=open_now(host, master, addresses))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix(" UTC"))


def _newest(host: Host, path: str, reader: LineReader) -> Iterator[Entry]:
    """The entries at the end of a log, the newest first."""
    try:
        end = host.read(path, limit=0)
        tail = host.read(path, offset=max(0, end.size - _TAIL), limit=_TAIL) if end else None
    except HostError:
        return
    lines = tail.data.split(b"\n")[:-1] if tail else []
    yield from filter(None, (reader.read(line) for line in reversed(lines)))


def _time(entry: Entry) -> str:
    at = seconds_of(entry.time or "")
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC" if at is not None else ""

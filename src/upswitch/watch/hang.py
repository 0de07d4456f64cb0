"""Requests that begin and don't end: a pool that hangs behind patient clients writes no line, so its log looks like a quiet site.

Theory. Two things together tell them apart. Requests stopped ending: far fewer than in the quietest stretch of the ten minutes
before. And connections from nginx to the new pool are open that no ended request explains. An idle keepalive connection had at
least one request that ended, and there are no more of them than were open to the former pool; what is open beyond waits.

Long requests (long polls, streams) are no hang. How long one takes is known from before (Little's law: open connections by
requests a second), and three times as long is waited.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from itertools import accumulate
from math import exp, lgamma, log

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.basics.value import Value
from upswitch.hosts import sh
from upswitch.hosts.host import Host
from upswitch.logs.line import ENOUGH_FAILED
from upswitch.watch.attribution import Attribution
from upswitch.watch.probation import Failed, Probation
from upswitch.watch.rule import LUCK

_LONG_TIMES = 3
_MINUTE_S = 60
_STOPPED = 5
"""Requests have stopped where so many times more ended in the quietest stretch before."""

_AT_LEAST = 100
"""One request in so many that should have ended must be open, beyond ENOUGH_FAILED."""

_LOOKS = 2
_LOOK_S = 2.0


class Open(Value):
    """Connections from nginx's host that are open: to the new pool's servers, and to the former one's."""

    new: int = 0
    former: int = 0


class Stopped(Value):
    """Requests that ended in the last `stretch_s` seconds, and at least how many did in as many before."""

    stretch_s: int
    ended: int
    expected: int


def stopped(before: Sequence[int], since: Sequence[int], *, shortest_s: int) -> Stopped | None:
    """Whether requests have stopped ending; None where they go on. Both are requests by second, oldest first."""
    for stretch in sorted({shortest_s, len(since)}):
        if shortest_s <= stretch <= len(since) and stretch <= len(before):
            ended, expected = sum(since[-stretch:]), _least(before, stretch)
            if ended * _STOPPED < expected and _chance(ended, expected) < LUCK:
                return Stopped(stretch_s=stretch, ended=ended, expected=expected)
    return None


def _least(before: Sequence[int], stretch: int) -> int:
    sums = list(accumulate(before, initial=0))
    return min(after - sum_ for sum_, after in zip(sums, sums[stretch:], strict=False))


def _chance(ended: int, expected: int) -> float:
    """Of so few or fewer, where so many are usual (Poisson)."""
    return sum(exp(each * log(expected) - expected - lgamma(each + 1)) for each in range(ended + 1))


def usual_s(before: Sequence[int], open_before: int) -> float:
    """Seconds that a request takes at most, by Little's law; idle connections only make it longer."""
    minute = before[-_MINUTE_S:]
    return open_before * len(minute) / max(1, sum(minute))


class HangGuard:
    """Looks for a hang once a second. It asks the host only while requests have stopped."""

    def __init__(self, host: Host, attribution: Attribution, master: int) -> None:
        """Made before the swap. `master` is nginx's: its network namespace is the one that counts."""
        self._host = host
        self._argv = _count_argv(master, attribution.addresses - attribution.former_addresses, attribution.former_addresses)
        self.before = self._count() if attribution.addresses else None
        self._looks = 0

    def look(self, probation: Probation) -> Failed | None:
        """Why the pool must not stay. None while requests end, or while nothing is open that waits."""
        found = self._hang(probation) if self.before and probation.log_mode and not probation.is_silent else None
        self._looks = self._looks + 1 if found else 0
        return found if self._looks >= _LOOKS else None

    def _hang(self, probation: Probation) -> Failed | None:
        before, since = ([each.total for each in seconds] for seconds in (probation.history.seconds, probation.seconds))
        found = stopped(before, since, shortest_s=int(probation.silent_after))
        if not (found and self.before) or len(since) < _LONG_TIMES * usual_s(before, self.before.former):
            return None
        now = self._count()
        ended = sum(since) + sum(each.total for each in probation.ours)
        begun = (now.new if now else 0) - self.before.new - min(ended, self.before.former)
        if begun < max(ENOUGH_FAILED, found.expected / _AT_LEAST):
            return None
        what = f"{begun} requests to {probation.pool} wait for an answer: {found.ended} ended in the last {found.stretch_s} s"
        details = (f"In the quietest {found.stretch_s} s before the switch, {found.expected} requests ended.",)
        return Failed(why=Why.HANG, at_s=probation.at_s, what=what, details=details)

    def _count(self) -> Open | None:
        """None where the host does not say."""
        try:
            ran = self._host.run(self._argv, deadline=_LOOK_S)
        except HostError:
            return None
        words = ran.out.split()
        is_read = ran.exit == 0 and [word.isdigit() for word in words] == [True, True]
        return Open(new=int(words[0]), former=int(words[1])) if is_read else None


def open_now(host: Host, master: int, addresses: Iterable[str]) -> int:
    """The connections that nginx's host has open to these servers; 0 where it does not say."""
    try:
        words = host.run(_count_argv(master, addresses, ()), deadline=_LOOK_S).out.split()
    except HostError:
        return 0
    return int(words[0]) if words and words[0].isdigit() else 0


def _count_argv(master: int, new: Iterable[str], former: Iterable[str]) -> tuple[str, ...]:
    """Of the tables of nginx's network namespace. Open: established, or not accepted yet (tcp_states.h)."""
    return sh.argv("upswitch.watch", "open.sh", str(master), " ".join(map(_in_proc, new)), " ".join(map(_in_proc, former)))


def _in_proc(address: str) -> str:
    """An address as the kernel's table has it: words of 32 bits in the host's order (little-endian), then the port.

    A name, or another way to write one, is in no table.
    """
    if address.startswith("unix:"):
        return address.removeprefix("unix:")
    host, _, port = address.rpartition(":")
    try:
        packed = ip_address(host.strip("[]")).packed
    except ValueError:
        return "-"
    words = (packed[at : at + 4][::-1].hex().upper() for at in range(0, len(packed), 4))
    return f"{''.join(words)}:{int(port):04X}"

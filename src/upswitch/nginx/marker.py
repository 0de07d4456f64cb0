"""What our own server in nginx, the marker, answers: the live generation, and nginx's own health checks (`check_status`)."""

from collections.abc import Iterable, Mapping

import msgspec

from upswitch.basics.value import Value
from upswitch.site.model import Dialect, parse_name
from upswitch.site.server_line import canonical


def body_of(answer: bytes) -> bytes | None:
    """The body of a whole HTTP answer. None where its status is not 200."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return body if head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")) else None


class Marker(Value):
    """One answer of the marker: the generation, and the worker that gave it (0 in an older format)."""

    generation: str
    pid: int = 0


def parse_marker(body: bytes) -> Marker | None:
    """`000042-B 1234` as a Marker. None where another program answers."""
    words = body.decode("ascii", "replace").split()
    if not words or len(words) > 2 or parse_name(words[0]) is None:  # noqa: PLR2004
        return None
    is_pid = len(words) > 1 and words[1].isascii() and words[1].isdigit() and len(words[1]) < 10  # noqa: PLR2004
    return Marker(generation=words[0], pid=int(words[1]) if is_pid else 0)


class Checked(Value):
    """One server as nginx's own health check sees it. `rise` and `fall` count successes and failures in a row."""

    upstream: str
    address: str = msgspec.field(name="name")
    status: str
    rise: int
    fall: int

    @property
    def is_up(self) -> bool:
        return self.status == "up"

    @property
    def state(self) -> str:
        """`down (3 failures in a row)`."""
        count = f"{self.fall} failures in a row" if self.fall else f"{self.rise} successes in a row"
        return f"{'up' if self.is_up else 'down'} ({count})"

    @property
    def text(self) -> str:
        """`app 127.0.0.1:29110 down (3 failures in a row)`."""
        return f"{self.upstream} {self.address} {self.state}"


class CheckStatus(Value):
    """Every server that nginx checks, in the order of the configuration."""

    servers: tuple[Checked, ...]
    dialect: Dialect = Dialect.YAOWEIBIN

    def find(self, address: str) -> Checked | None:
        """The server whose state a reload carries on. Of several with one address the first counts, as in the module."""
        wanted = canonical(address)
        return next((each for each in self.servers if canonical(each.address) == wanted), None)


def parse_check_status(body: bytes) -> CheckStatus | None:
    """`check_status json` of either module. None where the text is something else."""
    try:
        found = msgspec.json.decode(body, type=_Answer).servers
    except msgspec.MsgspecError:
        return None
    return CheckStatus(servers=found.server, dialect=Dialect.YAOWEIBIN if found.up is None else Dialect.TENGINE)


def unknown(status: CheckStatus | None, wanted: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The addresses of `wanted` (by upstream) that nginx does not check now. After a reload they begin as `default_down` says."""
    addresses = dict.fromkeys(address for each in wanted.values() for address in each)
    return tuple(address for address in addresses if status is None or status.find(address) is None)


def down(status: CheckStatus | None, wanted: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The servers of `wanted` that are not up, each as a line for people."""
    found = ((name, address, status.find(address) if status else None) for name, each in wanted.items() for address in each)
    return tuple(
        f"{name} {address} {seen.state if seen else 'not checked'}"
        for name, address, seen in found
        if seen is None or not seen.is_up
    )


def failing(status: CheckStatus | None, wanted: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Those that are not up because checks of them fail; others may only have begun."""
    seen = (status.find(address) for each in wanted.values() for address in each) if status else ()
    return tuple(each.text for each in seen if each and each.fall and not each.is_up)


def held_down(status: CheckStatus | None, names: Iterable[str]) -> tuple[str, ...]:
    """The upstreams among `names` in which nginx's own health check calls every server down."""
    found = {name: [each.is_up for each in status.servers if each.upstream == name] for name in names} if status else {}
    return tuple(name for name, are_up in found.items() if are_up and not any(are_up))


class _Servers(msgspec.Struct):
    server: tuple[Checked, ...]
    up: int | None = None  # only Tengine's module counts them


class _Answer(msgspec.Struct):
    servers: _Servers

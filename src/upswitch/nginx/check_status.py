"""nginx's own view of its servers: what `check_status json` answers (both modules), read as values."""

from collections.abc import Iterable, Mapping

import msgspec

from upswitch.basics.value import Value
from upswitch.site.server_line import canonical
from upswitch.site.words import Dialect


class Checked(Value):
    """One server that nginx checks. `rise` and `fall` count successes and failures in a row."""

    upstream: str
    address: str
    is_up: bool
    rise: int
    fall: int

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
    """All of them, in the order of the configuration."""

    servers: tuple[Checked, ...]
    dialect: Dialect = Dialect.YAOWEIBIN

    def find(self, address: str) -> Checked | None:
        """The server whose state a reload carries on: of several with one address the first counts, as in the module."""
        wanted = canonical(address)
        return next((each for each in self.servers if canonical(each.address) == wanted), None)


def parse_check_status(body: bytes) -> CheckStatus | None:
    """None where it is not the module's answer."""
    try:
        found = msgspec.json.decode(body, type=_Answer).servers
    except msgspec.MsgspecError:
        return None
    servers = (
        Checked(upstream=each.upstream, address=each.name, is_up=each.status == "up", rise=each.rise, fall=each.fall)
        for each in found.server
    )
    return CheckStatus(servers=tuple(servers), dialect=Dialect.YAOWEIBIN if found.up is None else Dialect.TENGINE)


def unknown(status: CheckStatus | None, wanted: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The addresses of `wanted` (by upstream) that nginx does not check now: after a reload they begin at `default_down`."""
    addresses = dict.fromkeys(address for each in wanted.values() for address in each)
    return tuple(address for address in addresses if status is None or status.find(address) is None)


def down(status: CheckStatus | None, wanted: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Those that nginx does not call up, each as a line."""
    found = ((name, address, status.find(address) if status else None) for name, each in wanted.items() for address in each)
    return tuple(
        f"{name} {address} {seen.state if seen else 'not checked'}"
        for name, address, seen in found
        if seen is None or not seen.is_up
    )


class _Server(msgspec.Struct):
    upstream: str
    name: str
    status: str
    rise: int
    fall: int


class _Servers(msgspec.Struct):
    server: list[_Server]
    up: int | None = None  # Tengine's counts them, yaoweibin's does not


class _Answer(msgspec.Struct):
    servers: _Servers

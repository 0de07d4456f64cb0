"""Where a pool's servers come from, where the site file has no list of them."""

from upswitch.basics.value import Value


class GivenServers(Value):
    """They stand on the command line."""

    @property
    def text(self) -> str:
        return "--server"


class FileSource(Value):
    """A file of the machine that upswitch runs on. `path` is absolute."""

    path: str

    @property
    def text(self) -> str:
        return f"file {self.path}"


class CommandSource(Value):
    """The stdout of a command on the machine that upswitch runs on. `deadline` is in seconds."""

    argv: tuple[str, ...]
    deadline: float = 10.0

    @property
    def text(self) -> str:
        return f"command {self.argv[0]}"


class DnsSource(Value):
    """The addresses of a host name, each with `port`. `resolver` is the name server to ask; "" is nginx's own."""

    name: str
    port: int
    resolver: str = ""

    @property
    def text(self) -> str:
        return f"dns {self.name}"


class SrvSource(Value):
    """The addresses and ports of a service: its SRV records. `resolver` as above."""

    name: str
    resolver: str = ""

    @property
    def text(self) -> str:
        return f"srv {self.name}"


Source = GivenServers | FileSource | CommandSource | DnsSource | SrvSource

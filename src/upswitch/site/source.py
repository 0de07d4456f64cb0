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


class Access(Value):
    """Files of the machine that upswitch runs on, for a registry: who signs its certificate, our own certificate, a token."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    token_file: str = ""


class EtcdSource(Value):
    """The values of the keys under `prefix`. `url` has no slash at its end."""

    url: str
    prefix: str
    access: Access = Access()

    @property
    def text(self) -> str:
        return f"etcd {self.url} {self.prefix}"


class ConsulSource(Value):
    """The healthy instances of a service; `tag` "" is any."""

    service: str
    tag: str
    url: str
    access: Access = Access()

    @property
    def text(self) -> str:
        return f"consul {self.url} {self.service}{f' {self.tag}' if self.tag else ''}"


class ContainersSource(Value):
    """The containers that match a filter of `docker ps`, each at `port` of its address in `network`; "" is its only one."""

    filter: str
    port: int
    network: str = ""

    @property
    def text(self) -> str:
        return f"containers {self.filter}"


Source = GivenServers | FileSource | CommandSource | DnsSource | SrvSource | EtcdSource | ConsulSource | ContainersSource

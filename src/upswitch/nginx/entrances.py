"""Where a client enters an nginx to reach an upstream: the address, and the server name to ask for."""

from collections.abc import Collection, Iterator

from upswitch.basics.value import Value
from upswitch.nginx.configuration import PASSES, http_children, listen_address, passed_upstreams
from upswitch.nginx.dump import Directive, NginxConf, walk

_LOOPBACK = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  (an address that is read, not bound)
_NOT_HTTP = frozenset({"quic", "proxy_protocol"})


class Entrance(Value):
    """`origin` is `http://127.0.0.1:80`. `name` is the server's name, "" where it has none that can be asked for."""

    upstream: str
    origin: str
    name: str = ""


def entrances(conf: NginxConf, upstreams: Collection[str]) -> tuple[Entrance, ...]:
    """Of every server of http that passes requests to one of these upstreams, in the order of the configuration."""
    return tuple(dict.fromkeys(each for server in http_children(conf, "server") for each in _of(conf, server, upstreams)))


def _of(conf: NginxConf, server: Directive, upstreams: Collection[str]) -> Iterator[Entrance]:
    passes = [each for each in walk(server.block or ()) if each.name in PASSES]
    passed = dict.fromkeys(name for each in passes for name in passed_upstreams(conf, each))
    names = [name for each in server.children("server_name") for name in each.args]
    name = next((each for each in names if each and each != "_" and not set(each) & set("*~$")), "")
    for upstream in passed:
        if upstream in upstreams:
            yield from (Entrance(upstream=upstream, origin=origin, name=name) for origin in _origins(server))


def _origins(server: Directive) -> Iterator[str]:
    listens = [each.args for each in server.children("listen") if each.args] or [("*:80",)]
    for address, *params in listens:
        host, _, port = listen_address(address).rpartition(":")
        if not address.startswith("unix:") and port.isdigit() and _NOT_HTTP.isdisjoint(params):
            yield f"{'https' if 'ssl' in params else 'http'}://{_LOOPBACK.get(host, host)}:{port}"

"""Names and services, asked of the name servers that nginx asks, from where nginx stands. One TCP connection a question.

getent on the host is no substitute: it reads /etc/hosts and /etc/resolv.conf, and nginx's `resolver` reads neither.
"""

import struct
from collections.abc import Iterator

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rdtypes.IN.SRV

from upswitch.basics.errors import HostError
from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.hosts.host import Clock, Host, Stream
from upswitch.nginx import configuration
from upswitch.nginx.dump import NginxConf
from upswitch.site.model import Server, Upstream
from upswitch.site.server_line import probe_address
from upswitch.sources.listed import SourceError

_ANSWER_S = 5.0
_PORT = 53
_MOST_TARGETS = 1000


class Resolver(Value):
    """Name servers, each with its port, and the kinds of addresses that are asked for."""

    servers: tuple[str, ...]
    kinds: tuple[str, ...] = ("A", "AAAA")


class Service(Value):
    """One address of a service. The lowest `priority` comes first, the others are its backups."""

    address: str
    priority: int
    weight: int


def of_nginx(conf: NginxConf, upstream: Upstream) -> Resolver:
    """The name servers of the upstream's own `resolver` line, else of that in http. SourceError where there is none."""
    lines = [*configuration.resolvers(conf), *upstream.directives]
    words = next((line.rstrip(";").split() for line in reversed(lines) if line.split()[0] == "resolver"), [])
    servers = tuple(_with_port(word) for word in words[1:] if "=" not in word)
    kinds = tuple(kind for kind, off in (("A", "ipv4=off"), ("AAAA", "ipv6=off")) if off not in words)
    if not servers:
        raise SourceError(
            "nginx's configuration has no `resolver` in http: add one, or name a name server as `resolver` of the source"
        )
    return Resolver(servers=servers, kinds=kinds)


def addresses(host: Host, clock: Clock, resolver: Resolver, name: str) -> tuple[str, ...]:
    """The IP addresses of a name, IPv6 in brackets. SourceError where it has none."""
    found = [record for kind in resolver.kinds for record in _asked(host, clock, resolver, name, kind=kind)]
    if not found:
        raise SourceError(f"{name} has no address")
    return tuple(dict.fromkeys(f"[{text}]" if ":" in text else text for text in map(str, found)))


def services(host: Host, clock: Clock, resolver: Resolver, name: str) -> tuple[Service, ...]:
    """The addresses of a service's SRV records. SourceError where it has none, or where a target has no address."""
    records = [each for each in _asked(host, clock, resolver, name, kind="SRV") if isinstance(each, dns.rdtypes.IN.SRV.SRV)]
    if len(records) > _MOST_TARGETS:
        raise SourceError(f"{name} has {len(records)} records; the most are {_MOST_TARGETS}")
    targets = {str(each.target).rstrip(".") for each in records} - {""}  # the root: the service is not there (RFC 2782)
    found = {target: addresses(host, clock, resolver, target) for target in sorted(targets)}
    return tuple(
        Service(address=f"{address}:{each.port}", priority=each.priority, weight=each.weight)
        for each in sorted(records, key=lambda one: (one.priority, str(one.target), one.port))
        for address in found.get(str(each.target).rstrip("."), ())
    )


def _with_port(word: str) -> str:
    return word if word.rpartition(":")[2].isdigit() and (word.count(":") == 1 or "]:" in word) else f"{word}:{_PORT}"


def _asked(host: Host, clock: Clock, resolver: Resolver, name: str, *, kind: str) -> Iterator[object]:
    """The records of the first name server that answers."""
    said = []
    for server in resolver.servers:
        try:
            answer = _answer(host, clock, server, dns.message.make_query(name, kind))
            return iter(answer.resolve_chaining().answer or ()) if answer.rcode() == dns.rcode.NOERROR else _none(answer, server)
        except (OSError, HostError, dns.exception.DNSException) as exc:
            said.append(f"{server}: {plain(str(exc)) or type(exc).__name__}")
    raise SourceError(f"no name server answers for {name}: {'; '.join(said)}")


def _none(answer: dns.message.Message, server: str) -> Iterator[object]:
    if answer.rcode() == dns.rcode.NXDOMAIN:
        raise SourceError(f"the name server {server} knows no such name")
    raise ConnectionError(dns.rcode.to_text(answer.rcode()))


def _answer(host: Host, clock: Clock, server: str, question: dns.message.Message) -> dns.message.QueryMessage:
    wire = question.to_wire()
    with host.connect(server, timeout=_ANSWER_S) as connection:
        stream = Stream(connection, clock, clock.monotonic() + _ANSWER_S)
        stream.send(struct.pack(">H", len(wire)) + wire)
        data = _receive(stream, struct.unpack(">H", _receive(stream, 2))[0])
    answer = dns.message.from_wire(data)
    if not question.is_response(answer) or not isinstance(answer, dns.message.QueryMessage):
        raise ConnectionError("its answer is to another question")
    return answer


def _receive(stream: Stream, size: int) -> bytes:
    """This many bytes; the name server may send more only of a later answer, which was not asked for."""
    data = b""
    while len(data) < size:
        part = stream.receive(size - len(data))
        if not part:
            raise ConnectionError("it closed the connection before its answer")
        data += part
    return data


def followed(host: Host, clock: Clock, resolver: Resolver, server: Server) -> dict[str, tuple[str, ...]]:
    """The addresses that nginx has for a server with `resolve`; with `service=`, each with its port. SourceError."""
    name = probe_address(server, 0).rpartition(":")[0]
    service = next((each.partition("=")[2] for each in server.params if each.startswith("service=")), "")
    if not service:
        return {name: addresses(host, clock, resolver, name)}
    record = f"{service}.{name}" if "." in service else f"_{service}._tcp.{name}"
    found = services(host, clock, resolver, record)
    if not found:
        raise SourceError(f"{record} has no record")
    return {server.text: tuple(dict.fromkeys(each.address for each in found))}


def lines(services: tuple[Service, ...]) -> Iterator[str]:
    """Each as a `server` line, as nginx makes one of it (`service=`): the weight, and `backup` below the first priority."""
    first = min((each.priority for each in services), default=0)
    for each in services:
        weight = f" weight={each.weight}" if each.weight > 1 else ""
        yield f"{each.address}{weight}{'' if each.priority == first else ' backup'}"

"""Reading a pool that is a table: the source of its servers."""

import re
from collections.abc import Callable

from upswitch.site import values
from upswitch.site.server_line import LAST_PORT, is_address, is_name, parse_server, probe_address
from upswitch.site.source import (
    Access,
    CommandSource,
    ConsulSource,
    ContainersSource,
    DnsSource,
    EtcdSource,
    FileSource,
    Source,
    SrvSource,
)
from upswitch.site.values import Reader

_RESOLVER_SAYS = "must be the IP address of a name server, such as 10.0.0.2 or 127.0.0.1:5353, with an IPv6 address in [ ]"
_WORD = re.compile(r"[^\x00-\x1f\x7f]{1,4000}")


def is_source(value: object) -> bool:
    """Whether a table of an upstream is a pool's source: it has the key of one."""
    return isinstance(value, dict) and not KINDS.keys().isdisjoint(value)


def source(reader: Reader) -> Source | None:
    """The source that the table describes; None, with a problem, where it is none or several."""
    kinds = [kind for kind in KINDS if kind in reader]
    if len(kinds) > 1:
        reader.refuse(kinds[1], "(given)", f"must not stand beside {kinds[0]}: a pool has one source")
    found = [KINDS[kind](reader) for kind in kinds]  # all of them: their keys are known
    return None if any(reader.is_refused(kind) for kind in kinds) else found[0]


def _file(reader: Reader) -> Source:
    return FileSource(path=reader.take("file", "", values.path))


def _command(reader: Reader) -> Source:
    argv = reader.each("command", (), _word)
    return CommandSource(argv=argv, deadline=reader.take("deadline", 10.0, values.some_seconds))


def _word(value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError("must be a list of words, the command first, without control characters")
    return value


def _dns(reader: Reader) -> Source:
    return DnsSource(name=reader.take("dns", "", _name), port=_port(reader), resolver=reader.take("resolver", "", _resolver))


def _srv(reader: Reader) -> Source:
    return SrvSource(name=reader.take("srv", "", _name), resolver=reader.take("resolver", "", _resolver))


def _etcd(reader: Reader) -> Source:
    if "prefix" not in reader:
        reader.refuse("prefix", "(none)", _PREFIX_SAYS)
    prefix = reader.take("prefix", "", values.matching(r"[!-~]{1,400}", _PREFIX_SAYS))
    return EtcdSource(url=reader.take("etcd", "", _url, is_secret=True), prefix=prefix, access=_access(reader))


def _consul(reader: Reader) -> Source:
    return ConsulSource(
        service=reader.take("consul", "", _PLAIN_NAME),
        tag=reader.take("tag", "", _PLAIN_NAME),
        url=reader.take("url", "http://127.0.0.1:8500", _url, is_secret=True),
        access=_access(reader),
    )


def _access(reader: Reader) -> Access:
    found = Access(**{key: reader.take(key, "", values.path) for key in ("ca", "cert", "key", "token_file")})
    if bool(found.cert) != bool(found.key):
        reader.refuse("key" if found.cert else "cert", "(none)", "must stand beside the other one of cert and key")
    return found


def _url(value: object) -> str:
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise ValueError("must be an http:// or https:// URL of a host and a port, without user, password, query or spaces")
    return value.rstrip("/")


def _containers(reader: Reader) -> Source:
    return ContainersSource(
        filter=reader.take("containers", "", _FILTER), port=_port(reader), network=reader.take("network", "", _PLAIN_NAME)
    )


def _port(reader: Reader) -> int:
    if "port" not in reader:
        reader.refuse("port", "(none)", f"must be the servers' port, from 1 to {LAST_PORT}")
    return reader.take("port", 0, values.whole(1, LAST_PORT))


def _name(value: object) -> str:
    """A host name without a port."""
    if not isinstance(value, str) or ":" in value or not is_name(value) or parse_server(value).params:
        raise ValueError("must be a name in the DNS, such as app.example.com or _http._tcp.app.example.com")
    return value


def _resolver(value: object) -> str:
    """The address with its port."""
    try:
        address = probe_address(parse_server(values.text(value)), 0)
    except ValueError as exc:
        raise ValueError(_RESOLVER_SAYS) from exc
    if address.startswith("unix:") or not is_address(address):
        raise ValueError(_RESOLVER_SAYS)
    return address if re.search(r"[\]0-9]:[0-9]+$", str(value)) else f"{address.rpartition(':')[0]}:53"


_URL = re.compile(
    r"https?://(?:[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::[1-9][0-9]{0,4})?(?:/[A-Za-z0-9_.~/-]{0,200})?"
)
_FILTER = values.matching(
    r"(?:label|name)=[A-Za-z0-9_./:=-]{1,200}", "must be a filter as of `docker ps`: label=NAME, label=NAME=VALUE or name=NAME"
)
_PREFIX_SAYS = "must be what the keys of the servers begin with, such as /services/app/blue/"
_PLAIN_NAME = values.matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", "must be a name of letters, digits and _ . -")

KINDS: dict[str, Callable[[Reader], Source]] = {
    "file": _file,
    "command": _command,
    "dns": _dns,
    "srv": _srv,
    "etcd": _etcd,
    "consul": _consul,
    "containers": _containers,
}
"""By the key that names the kind."""

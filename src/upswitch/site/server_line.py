"""One `server` line of an upstream, read by an allow-list.

nginx runs whatever stands in an included file: `1; } server { ... } upstream x { server 1` as an address passes `nginx -t`
(reliability.md, S1). So a line is split here, and only addresses and parameters that nginx knows are accepted. The parameters are
those of open source nginx (nginx-facts.md, section 5). Whether they fit the version is for `nginx -t` to decide.
"""

import ipaddress
import re

from upswitch.site.model import Server

DEFAULT_PORT = 80
LAST_PORT = 65535

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")  # a last label like this is read as an IPv4 address by getaddrinfo
_NO_NAME = re.compile(r"unix:|\[|[0-9.]+(?::|$)")
_SOCKET = re.compile(r"(?:/[A-Za-z0-9_.@+,=-]+)+")
_LONGEST_SOCKET = 107  # sun_path is 108 bytes with its NUL
_LONGEST_HOST = 253

_POSITIVE = (re.compile(r"[1-9][0-9]{0,8}"), "a whole number from 1")
_COUNT = (re.compile(r"0|[1-9][0-9]{0,8}"), "a whole number from 0")
_NAME = (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}"), "letters, digits, _ . -")
_VALUED = {
    "weight": _POSITIVE,
    "max_conns": _COUNT,
    "max_fails": _COUNT,
    # nginx reads it with ngx_parse_time(.., is_sec=1): ms is refused.
    "fail_timeout": (re.compile(r"[0-9]{1,6}[smhdw]?"), "whole seconds, or a number and one of s m h d w (nginx takes no ms here)"),
    "service": _NAME,
    "route": _NAME,
}
_FLAGS = ("backup", "down", "resolve", "drain")


def parse_server(line: str) -> Server:
    """A server from the words between nginx's `server` and `;`. ValueError says what they must be."""
    if not re.fullmatch(r"[ -~]+", line):
        raise ValueError("must be printable ASCII on one line")
    words = line.split()
    if not words or words[0] == "server" or line.endswith(";"):
        raise ValueError("must be an address and its parameters: what nginx has between `server` and `;`")
    address = one_slash(words[0])
    _check_address(address)
    names = [_parameter_name(word) for word in words[1:]]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"must have each parameter at most once, not {', '.join(twice)} again")
    return Server(address=address, params=tuple(words[1:]))


def probe_address(server: Server, port: int) -> str:
    """Where to connect: `IP:PORT`, `[IP6]:PORT`, `name:PORT` or `unix:/path`. nginx logs the same, but for names.

    `port` is the check's, or 0 for the server's own. A `unix:` server has none, as in the check module.
    """
    if server.address.startswith("unix:"):
        return server.address
    host, own = _split(server.address)
    if host.startswith("["):
        host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    return f"{host}:{port or own or DEFAULT_PORT}"


def identity(server: Server) -> str:
    """Equal for two spellings of one address: with the default port, and without regard to the case of a name."""
    address = probe_address(server, 0)
    return address if address.startswith("unix:") else address.lower().replace(".:", ":")


def _check_address(address: str) -> None:
    if address.startswith("unix:"):
        _check_socket(address.removeprefix("unix:"))
        return
    host, _ = _split(address)
    if host.startswith("["):
        _check_ip(ipaddress.IPv6Address, host[1:-1])
    elif _NUMERIC.fullmatch(host.rsplit(".", 1)[-1]):
        _check_ip(ipaddress.IPv4Address, host)
    else:
        _check_name(host)


def _split(address: str) -> tuple[str, int]:
    """Host and port; port 0 where none is written."""
    found = _ADDRESS.fullmatch(address)
    if not found:
        raise ValueError("must begin with an address: IPV4[:PORT], [IPV6][:PORT], NAME[:PORT] or unix:/PATH")
    port = found[2]
    if port is None:
        return found[1], 0
    if not 1 <= int(port) <= LAST_PORT or port.startswith("0"):
        raise ValueError(f"must have a port from 1 to {LAST_PORT}")
    return found[1], int(port)


def _check_socket(path: str) -> None:
    parts = path.split("/")
    if not _SOCKET.fullmatch(path) or "." in parts or ".." in parts:
        raise ValueError("must be unix: and an absolute path of letters, digits and _ . @ + , = - without . or .. as a part")
    if len(path) > _LONGEST_SOCKET:
        raise ValueError(f"must have a socket path of at most {_LONGEST_SOCKET} characters")


def _check_ip(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address], text: str) -> None:
    try:
        kind(text)
    except ValueError as exc:
        raise ValueError(f"must have an IP address, and {text} is not an IP address") from exc


def _check_name(host: str) -> None:
    labels = host.removesuffix(".").split(".")
    if len(host) > _LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            f"must have a host name of letters, digits, - and _ in parts joined by dots, at most {_LONGEST_HOST} characters"
        )


def _parameter_name(word: str) -> str:
    """The parameter's name, where its value is right."""
    name, equals, value = word.partition("=")
    if not equals and name in _FLAGS:
        return name
    if not equals or name not in _VALUED:
        raise ValueError(
            f"must have only these parameters: {', '.join(f'{known}=' for known in _VALUED)}, {', '.join(_FLAGS)}; {word} is none"
        )
    pattern, says = _VALUED[name]
    if not pattern.fullmatch(value):
        raise ValueError(f"must have {says} for {name}")
    return name


def one_slash(text: str) -> str:
    """A socket as the kernel and most programs write it: `unix:///srv/app.sock` is `unix:/srv/app.sock`."""
    return re.sub("^unix:/{2,}", "unix:/", text)


def is_address(text: str) -> bool:
    """Whether `text` is an IP address with a port, or a unix socket, and not a name."""
    return text.startswith("unix:") or canonical(text) != ""


def is_name(text: str) -> bool:
    """Whether the address of a `server` line begins with a host name. The address is one that nginx or the site file takes."""
    return not _NO_NAME.match(text)


def canonical(text: str) -> str:
    """One spelling for one address, whether nginx or the site file writes it. "" for a name."""
    if text.startswith("unix:"):
        return one_slash(text)
    host, _, port = text.rpartition(":")
    try:
        return f"{ipaddress.ip_address(host.strip('[]'))}:{port}"
    except ValueError:
        return ""

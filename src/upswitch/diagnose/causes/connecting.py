"""No connection to the server: what the kernel said to connect() or bind(), by Linux's numbers (ngx_event_connect.c).

What fails at once carries the address (`connect() to A failed`), what fails later does not (`connect() failed`). Rules ask for the
action because lookups of names and OCSP connect too.
"""

from upswitch.diagnose.causes.cause import Cause, Code, Rule

_CONNECTING = "connecting to upstream"
_TO_UNIX = r"connect\(\) to unix:"
_TO_IP = r"connect\(\) (?:to (?!unix:)\S+ )?failed"
_TO_IPV6_LOOPBACK = r"connect\(\) to \[::1\]:"
_EPERM, _ENOENT, _EAGAIN, _EACCES = 1, 2, 11, 13
_EADDRNOTAVAIL, _ENETUNREACH, _ETIMEDOUT, _ECONNREFUSED, _EHOSTUNREACH = 99, 101, 110, 111, 113

CAUSES: tuple[Cause, ...] = (
    Cause(
        code=Code.CONNECT_REFUSED,
        status=502,
        why="nothing listens on that address and port: the server is down, still starting, or bound to another address",
        check="`ss -ltnp 'sport = :PORT'` on the server, `dmesg | grep -i oom`, its log, and whether the address is still its own",
        fix="start the server, or correct `server` or `proxy_pass` (127.0.0.1 instead of localhost, which may be ::1)",
    ),
    Cause(
        code=Code.CONNECT_TIMEOUT,
        status=504,
        why="no answer to the connection: packets dropped, host gone, accept queue full; 504, or 502 when the kernel gives up",
        check="`nc -vz -w 3 HOST PORT` on the nginx host; on the server `ss -lt` (Recv-Q above Send-Q: queue full), firewall",
        fix="open the firewall, replace the host, or raise the server's backlog; lower `proxy_connect_timeout` to try others",
    ),
    Cause(
        code=Code.CONNECT_PERMISSION_DENIED,
        status=502,
        why="the nginx host itself forbids the connection: SELinux, a `prohibit` route, or a filter (eBPF) on the service",
        check="`ausearch -m avc -ts recent` and `ip route get HOST` on the nginx host",
        fix="`setsebool -P httpd_can_network_connect 1` (or label the port with `semanage port`), or mend the route or filter",
    ),
    Cause(
        code=Code.NO_ROUTE_TO_HOST,
        status=502,
        why="the host is off or gone (nobody answers ARP), a firewall rejects the connection, or a route says unreachable",
        check="`ip route get HOST` and `ip neigh show HOST` on the nginx host, `nft list ruleset` on the server",
        fix="start the host or take its address out of the upstream; open the port in its firewall",
    ),
    Cause(
        code=Code.NETWORK_UNREACHABLE,
        status=502,
        why="the nginx host has no route to that network: most often an IPv6 address on a host without IPv6",
        check="`ip route get HOST` and `ip -6 route` on the nginx host",
        fix="add the route, use the IPv4 address (127.0.0.1 for localhost), or `resolver ... ipv6=off`",
    ),
    Cause(
        code=Code.EPHEMERAL_PORTS_EXHAUSTED,
        status=502,
        why="the nginx host has no free source port left towards that server",
        check="`ss -s` and `sysctl net.ipv4.ip_local_port_range net.ipv4.tcp_tw_reuse` on the nginx host",
        fix="`keepalive` in the upstream (before 1.29.7 with `proxy_http_version 1.1` and no Connection header), or more ports",
    ),
    Cause(
        code=Code.LISTEN_BACKLOG_FULL,
        status=502,
        why="the accept queue of the unix socket is full: the server is hung or too slow for the load",
        check="`ss -lx` on the nginx host: Recv-Q above Send-Q; `sysctl net.core.somaxconn`",
        fix="restart a hung server; more workers, or a larger listen backlog (and net.core.somaxconn), on the server",
    ),
    Cause(
        code=Code.UNIX_SOCKET_MISSING,
        status=502,
        why="there is no socket at that path: the server is down, the path is wrong, or nginx can't see it (PrivateTmp, container)",
        check="`ls -l PATH` on the nginx host, then as nginx sees it: `nsenter -t WORKER_PID -m ls -l PATH`",
        fix="start the server, or correct the path in `server`; keep the socket in /run (systemd: RuntimeDirectory=), not in /tmp",
    ),
    Cause(
        code=Code.UNIX_SOCKET_PERMISSION,
        status=502,
        why="nginx's user may not write to the socket, may not enter a folder above it, or SELinux forbids it",
        check="`namei -l PATH`, the worker's user (`ps -o user= -p WORKER_PID`), `ausearch -m avc -ts recent`",
        fix="give the socket nginx's group and mode 0660 (php-fpm: listen.group, systemd: SocketGroup=), and the folders x",
    ),
    Cause(
        code=Code.UNIX_SOCKET_STALE,
        status=502,
        why="the socket file is there and nobody listens on it: the server died and left it behind",
        check="`ss -lx | grep PATH` (no line: nobody listens), and the server's own log",
        fix="restart the server; have it remove the old socket when it starts",
    ),
    Cause(
        code=Code.BIND_ADDRESS_MISSING,
        status=500,
        why="the address of `proxy_bind` is not on this host; clients get 500, not 502",
        check="`ip -br address` on the nginx host",
        fix="correct or remove `proxy_bind` (or fastcgi_bind, grpc_bind, ...), or add the address to the host",
    ),
)


def _connecting(code: Code, message: str, *errno: int) -> Rule:
    return Rule(code=code, message=message, errno=frozenset(errno), action=_CONNECTING)


RULES: tuple[Rule, ...] = (
    _connecting(Code.UNIX_SOCKET_MISSING, _TO_UNIX, _ENOENT),
    _connecting(Code.UNIX_SOCKET_PERMISSION, _TO_UNIX, _EACCES),
    _connecting(Code.UNIX_SOCKET_STALE, _TO_UNIX, _ECONNREFUSED),
    _connecting(Code.LISTEN_BACKLOG_FULL, _TO_UNIX, _EAGAIN),
    _connecting(Code.CONNECT_REFUSED, _TO_IP, _ECONNREFUSED),
    _connecting(Code.CONNECT_TIMEOUT, _TO_IP, _ETIMEDOUT),
    _connecting(Code.CONNECT_TIMEOUT, "upstream timed out"),
    _connecting(Code.CONNECT_PERMISSION_DENIED, _TO_IP, _EACCES, _EPERM),
    _connecting(Code.NO_ROUTE_TO_HOST, _TO_IP, _EHOSTUNREACH),
    _connecting(Code.NETWORK_UNREACHABLE, _TO_IP, _ENETUNREACH),
    _connecting(Code.NETWORK_UNREACHABLE, _TO_IPV6_LOOPBACK, _EADDRNOTAVAIL),  # IPv6 is off: the commonest 99 there
    _connecting(Code.EPHEMERAL_PORTS_EXHAUSTED, _TO_IP, _EADDRNOTAVAIL),
    _connecting(Code.BIND_ADDRESS_MISSING, r"bind\(\S+\) failed", _EADDRNOTAVAIL),
)

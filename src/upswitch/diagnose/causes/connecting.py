"""No connection to the server: its name was not found (ngx_resolver.c), or connect() or bind() failed (ngx_event_connect.c).

Numbers of names are those of a DNS answer (110 is nginx's own), all others are Linux's. What fails at once carries the address
(`connect() to A failed`), what fails later does not (`connect() failed`). Rules ask for the action: name servers and OCSP
responders are connected to as well.
"""

from upswitch.diagnose.causes.cause import Cause, Code, Rule

_UNRESOLVED = r".* could not be resolved$"


_CONNECTING = "connecting to upstream"
_TO_UNIX = r"connect\(\) to unix:"
_TO_IP = r"connect\(\) (?:to (?!unix:)\S+ )?failed"
_TO_IPV6_LOOPBACK = r"connect\(\) to \[::1\]:"
_EPERM, _ENOENT, _EAGAIN, _EACCES = 1, 2, 11, 13
_EADDRNOTAVAIL, _ENETUNREACH, _ETIMEDOUT, _ECONNREFUSED, _EHOSTUNREACH = 99, 101, 110, 111, 113


def _connecting(code: Code, message: str, *errno: int) -> Rule:
    return Rule(code=code, message=message, errno=frozenset(errno), action=_CONNECTING)


CAUSES: tuple[Cause, ...] = (
    Cause(
        code=Code.DNS_NXDOMAIN,
        status=502,
        why="the name server says that the name does not exist, or that it has no address",
        check="`dig NAME A @RESOLVER` with the address of the `resolver` directive: nginx reads no /etc/hosts and no search domain",
        fix="the name in `proxy_pass` (fully qualified), its DNS record, or the `resolver` directive",
    ),
    Cause(
        code=Code.DNS_REFUSED,
        status=502,
        why="the name server refuses to answer this nginx: its rules deny the client or the zone",
        check="`dig NAME @RESOLVER` on the nginx host, and the allow-query and allow-recursion rules of the name server",
        fix="let the name server answer this host, or name another one in `resolver`",
    ),
    Cause(
        code=Code.DNS_SERVFAIL,
        status=502,
        why="the name server failed to answer: its own upstream is unreachable, or DNSSEC validation fails",
        check="`dig NAME @RESOLVER`, then `dig +cd NAME @RESOLVER`: if only the second answers it is DNSSEC",
        fix="mend the name server, or name several in `resolver`",
    ),
    Cause(
        code=Code.DNS_TIMEOUT,
        status=502,
        why="no name server answered within `resolver_timeout` (30 s unless set): requests or answers are dropped on the way",
        check="`dig +time=2 NAME @RESOLVER` on the nginx host, and firewalls on UDP port 53",
        fix="open UDP and TCP 53, name a nearer server in `resolver`, and lower `resolver_timeout`",
    ),
    Cause(
        code=Code.DNS_SERVER_DOWN,
        status=502,
        why="nothing listens at the address of the `resolver`, or no route leads there: requests that wait for a name end in 502",
        check="`dig NAME @RESOLVER` on the nginx host, and `ss -lunp 'sport = :53'` on the host of that address",
        fix="start the name server, correct the address in `resolver`, or name several there",
    ),
    Cause(
        code=Code.NO_RESOLVER,
        status=502,
        why="`proxy_pass` holds a variable whose value is no upstream of the configuration, and no `resolver` is set to look it up",
        check="`nginx -T | grep -n 'upstream \\|resolver '`: a misspelt upstream name looks the same, and `nginx -t` can't see it",
        fix="correct the name of the upstream in the variable, or set `resolver`",
    ),
    Cause(
        code=Code.HOST_NOT_FOUND_CONFIG,
        status=None,
        why="a name in the configuration did not resolve when nginx read it: nginx does not start, a reload changes nothing",
        check="`getent hosts NAME` on the nginx host: the system looks up these names, once, when nginx reads them",
        fix="mend the name or the system's DNS, use addresses, or (1.27.3) `server NAME resolve` with `zone` and `resolver`",
    ),
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

RULES: tuple[Rule, ...] = (
    Rule(code=Code.HOST_NOT_FOUND_CONFIG, message=r"host not found in "),
    Rule(code=Code.NO_RESOLVER, message=r"no resolver defined to resolve "),
    Rule(code=Code.DNS_NXDOMAIN, message=_UNRESOLVED, errno=frozenset({3})),
    Rule(code=Code.DNS_REFUSED, message=_UNRESOLVED, errno=frozenset({5})),
    Rule(code=Code.DNS_SERVFAIL, message=_UNRESOLVED, errno=frozenset({2})),
    Rule(code=Code.DNS_TIMEOUT, message=_UNRESOLVED, errno=frozenset({110})),
    Rule(code=Code.DNS_SERVER_DOWN, message=r"(?:recv|send|connect)\(\) (?:to \S+ )?failed$", action="resolving"),
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

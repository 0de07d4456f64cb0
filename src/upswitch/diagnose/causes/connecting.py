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
        why="The name server says that the name does not exist, or that it has no address.",
        check="Run `dig NAME A @RESOLVER` with the address in the `resolver` directive. nginx reads neither /etc/hosts nor search "
        "domains.",
        fix="Correct the name in `proxy_pass` (fully qualified), its DNS record, or the `resolver` directive.",
    ),
    Cause(
        code=Code.DNS_REFUSED,
        status=502,
        why="The name server refuses to answer this nginx. Its rules deny the client or the zone.",
        check="Run `dig NAME @RESOLVER` on the nginx host, and read the name server's allow-query and allow-recursion rules.",
        fix="Allow this host on the name server, or name another one in `resolver`.",
    ),
    Cause(
        code=Code.DNS_SERVFAIL,
        status=502,
        why="The name server failed to answer. It can't reach its own upstream, or DNSSEC validation fails.",
        check="Run `dig NAME @RESOLVER`, then `dig +cd NAME @RESOLVER`. If only the second one answers, DNSSEC is the cause.",
        fix="Fix the name server, or name several in `resolver`.",
    ),
    Cause(
        code=Code.DNS_TIMEOUT,
        status=502,
        why="No name server answered within `resolver_timeout` (30s unless set). Questions or answers are dropped on the way.",
        check="Run `dig +time=2 NAME @RESOLVER` on the nginx host, and check the firewalls for UDP port 53.",
        fix="Open UDP and TCP port 53, name a nearer server in `resolver`, and lower `resolver_timeout`.",
    ),
    Cause(
        code=Code.DNS_SERVER_DOWN,
        status=502,
        why="Nothing listens at the address of the `resolver`, or no route leads there. Requests that wait for a name get 502.",
        check="Run `dig NAME @RESOLVER` on the nginx host, and `ss -lunp 'sport = :53'` on the host of that address.",
        fix="Start the name server, correct the address in `resolver`, or name several there.",
    ),
    Cause(
        code=Code.NO_RESOLVER,
        status=502,
        why="`proxy_pass` has a variable whose value is no upstream of the configuration, and no `resolver` is set to look it up.",
        check="Run `nginx -T | grep -n 'upstream \\|resolver '`. A misspelt upstream name looks the same, and `nginx -t` can't "
        "find it.",
        fix="Correct the name of the upstream in the variable, or set `resolver`.",
    ),
    Cause(
        code=Code.HOST_NOT_FOUND_CONFIG,
        status=None,
        why="A name in the configuration did not resolve when nginx read it. nginx does not start, and a reload changes nothing.",
        check="Run `getent hosts NAME` on the nginx host. nginx asks the system for these names, once, when it reads them.",
        fix="Fix the name or the system's DNS, use addresses, or (since 1.27.3) `server NAME resolve` with `zone` and `resolver`.",
    ),
    Cause(
        code=Code.CONNECT_REFUSED,
        status=502,
        why="Nothing listens on this address and port. The server is down, is still starting, or listens on another address.",
        check="On the server run `ss -ltnp 'sport = :PORT'` and `dmesg | grep -i oom`, and read its log. Does it still have this "
        "address?",
        fix="Start the server, or correct `server` or `proxy_pass` (127.0.0.1 instead of localhost, which may be ::1).",
    ),
    Cause(
        code=Code.CONNECT_TIMEOUT,
        status=504,
        why="The server did not answer the connection: packets are dropped, the host is gone, or its accept queue is full.",
        check="Run `nc -vz -w 3 HOST PORT` on the nginx host, and `ss -lt` on the server (Recv-Q above Send-Q: the queue is full).",
        fix="Open the firewall, replace the host, or raise the server's backlog. A lower `proxy_connect_timeout` tries other "
        "servers sooner.",
    ),
    Cause(
        code=Code.CONNECT_PERMISSION_DENIED,
        status=502,
        why="The nginx host itself forbids the connection, by SELinux, a `prohibit` route, or a filter (eBPF) on the service.",
        check="Run `ausearch -m avc -ts recent` and `ip route get HOST` on the nginx host.",
        fix="Run `setsebool -P httpd_can_network_connect 1` (or label the port with `semanage port`), or correct the route or "
        "filter.",
    ),
    Cause(
        code=Code.NO_ROUTE_TO_HOST,
        status=502,
        why="The host is off or gone (nobody answers ARP), a firewall rejects the connection, or a route says unreachable.",
        check="Run `ip route get HOST` and `ip neigh show HOST` on the nginx host, and `nft list ruleset` on the server.",
        fix="Start the host, take its address out of the upstream, or open the port in its firewall.",
    ),
    Cause(
        code=Code.NETWORK_UNREACHABLE,
        status=502,
        why="The nginx host has no route to this network. Most often the address is IPv6 and the host has none.",
        check="Run `ip route get HOST` and `ip -6 route` on the nginx host.",
        fix="Add the route, use the IPv4 address (127.0.0.1 for localhost), or set `resolver ... ipv6=off`.",
    ),
    Cause(
        code=Code.EPHEMERAL_PORTS_EXHAUSTED,
        status=502,
        why="The nginx host has no free source port left for connections to this server.",
        check="Run `ss -s` and `sysctl net.ipv4.ip_local_port_range net.ipv4.tcp_tw_reuse` on the nginx host.",
        fix="Set `keepalive` in the upstream (before 1.29.7 with `proxy_http_version 1.1` and no Connection header), or allow "
        "more ports.",
    ),
    Cause(
        code=Code.LISTEN_BACKLOG_FULL,
        status=502,
        why="The accept queue of the unix socket is full. The server hangs, or is too slow for the load.",
        check="Run `ss -lx` on the nginx host (Recv-Q above Send-Q: the queue is full) and `sysctl net.core.somaxconn`.",
        fix="Restart the server if it hangs. Else give it more workers, or a larger listen backlog (and net.core.somaxconn).",
    ),
    Cause(
        code=Code.UNIX_SOCKET_MISSING,
        status=502,
        why="There is no socket at this path. The server is down, the path is wrong, or nginx can't see it (PrivateTmp, "
        "container).",
        check="Run `ls -l PATH` on the nginx host, then as nginx sees it: `nsenter -t WORKER_PID -m ls -l PATH`.",
        fix="Start the server, or correct the path in `server`. Keep the socket in /run (systemd: RuntimeDirectory=), not in /tmp.",
    ),
    Cause(
        code=Code.UNIX_SOCKET_PERMISSION,
        status=502,
        why="nginx's user may not write to the socket or enter a folder above it, or SELinux forbids it.",
        check="Run `namei -l PATH`, `ps -o user= -p WORKER_PID` for the worker's user, and `ausearch -m avc -ts recent`.",
        fix="Give the socket nginx's group and mode 0660 (php-fpm: listen.group, systemd: SocketGroup=), and its folders the x "
        "permission.",
    ),
    Cause(
        code=Code.UNIX_SOCKET_STALE,
        status=502,
        why="The socket file exists, and nothing listens on it. The server died and left the file behind.",
        check="Run `ss -lx | grep PATH` (no line: nothing listens), and read the server's own log.",
        fix="Restart the server, and let it remove the old socket when it starts.",
    ),
    Cause(
        code=Code.BIND_ADDRESS_MISSING,
        status=500,
        why="This host does not have the address of `proxy_bind`. Clients get 500, not 502.",
        check="Run `ip -br address` on the nginx host.",
        fix="Correct or remove `proxy_bind` (or fastcgi_bind, grpc_bind, ...), or add the address to the host.",
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

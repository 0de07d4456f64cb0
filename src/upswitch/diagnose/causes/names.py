"""Names that nginx could not turn into an address (ngx_resolver.c): the numbers are those of a DNS answer, and 110 is its own."""

from upswitch.diagnose.causes.cause import Cause, Code, Rule

_UNRESOLVED = r".* could not be resolved$"

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
)

RULES: tuple[Rule, ...] = (
    Rule(code=Code.HOST_NOT_FOUND_CONFIG, message=r"host not found in "),
    Rule(code=Code.NO_RESOLVER, message=r"no resolver defined to resolve "),
    Rule(code=Code.DNS_NXDOMAIN, message=_UNRESOLVED, errno=frozenset({3})),
    Rule(code=Code.DNS_REFUSED, message=_UNRESOLVED, errno=frozenset({5})),
    Rule(code=Code.DNS_SERVFAIL, message=_UNRESOLVED, errno=frozenset({2})),
    Rule(code=Code.DNS_TIMEOUT, message=_UNRESOLVED, errno=frozenset({110})),
    Rule(code=Code.DNS_SERVER_DOWN, message=r"(?:recv|send|connect)\(\) (?:to \S+ )?failed$", action="resolving"),
)

"""What nginx itself decided: no server of the upstream is left to ask, or the request is refused; and what only looks like a 502.

The check modules write their lines outside of any request (ngx_http_upstream_check_module.c, of yaoweibin and of Tengine).
"""

from upswitch.diagnose.causes.cause import Cause, Code, Rule
from upswitch.logs.error_line import ErrorLine


class _OfNoRequest(Rule):
    """A resolver writes outside of requests too, and says so as its action."""

    def fits(self, line: ErrorLine) -> bool:
        return not line.connection and not line.action and Rule.fits(self, line)


_NO_ADDRESS = (
    r"(?:no|invalid|too long) (?:host|port|port range|IPv6 address|path)(?: in the unix domain socket)? in upstream \".*\"$"
)
"""The reasons of ngx_parse_url. The same in the configuration ends in its file and line, and reaches no client."""


CAUSES: tuple[Cause, ...] = (
    Cause(
        code=Code.NO_LIVE_ALL_DOWN,
        status=502,
        why="Each server of the upstream is marked down, or failed max_fails times in fail_timeout. The failures before it say "
        "why.",
        check="Read the first failures before it in error.log, and look in `nginx -T` for servers marked `down`.",
        fix="Fix the causes of these failures first. Only then raise `max_fails` or lower `fail_timeout` on the `server` lines.",
    ),
    Cause(
        code=Code.HEALTH_CHECK_DOWN,
        status=502,
        why="nginx's own health check failed. After `fall` failures in a row nginx sends the server no request.",
        check="Open the page of `check_status`. From the nginx host, send the server what `check_http_send` says: `curl -i`.",
        fix="Fix the server or its health page. If the check is too strict, change `timeout` and `fall` of `check`.",
    ),
    Cause(
        code=Code.HEALTH_CHECK_NOT_YET_UP,
        status=502,
        why="A server that is new in the configuration begins down (`default_down=true`) until `rise` checks have succeeded.",
        check="Open the page of `check_status` and look at its `rise` count. Find out when nginx was reloaded last.",
        fix="Set `default_down=false` or a shorter `interval` in `check`, or add servers to the configuration before they serve.",
    ),
    Cause(
        code=Code.MAX_CONNS,
        status=502,
        why="Every server of the upstream has as many connections as its `max_conns` allows.",
        check="Compare `ss -tn state established dst ADDRESS | wc -l` on the nginx host with `max_conns` in `nginx -T`.",
        fix="Raise `max_conns` on the `server` lines, add servers, or make the slow answers faster.",
    ),
    Cause(
        code=Code.NONE_TOLERATED,
        is_benign=True,
        status=200,
        why="A server failed max_fails times and gets no request for fail_timeout. Another one answered, so clients saw no error.",
        check="Read the failure beside it in error.log, and check the named server: is it running, is it overloaded?",
        fix="Fix this server. `max_fails` and `fail_timeout` on its `server` line say when nginx takes it out.",
    ),
    Cause(
        code=Code.NGINX_RETURN,
        status=503,
        why="nginx answered by itself, by a `return` or a maintenance page. It asked no server and wrote no error line.",
        check="Run `nginx -T | grep -n 'return 50\\|error_page'`, and check whether the file of a maintenance switch exists.",
        fix="Remove the `return` directive, or the condition that leads to it.",
    ),
    Cause(
        code=Code.LIMIT_REQ,
        status=503,
        why="A client sent more requests than `limit_req` allows (`limit_req_status` sets the status).",
        check="Look at the clients in these lines: is it one address, or everybody behind one proxy whose address is the key of "
        "the zone?",
        fix="Change `rate` of `limit_req_zone`, `burst` and `nodelay` of `limit_req`, or the key (`set_real_ip_from`).",
    ),
    Cause(
        code=Code.LIMIT_CONN,
        status=503,
        why="One key had more requests at the same time than `limit_conn` allows (`limit_conn_status` sets the status).",
        check="Look at the clients in these lines. Did answers get slower? Slow answers fill the limit.",
        fix="Change `limit_conn` or the key of `limit_conn_zone`, or make the slow answers faster.",
    ),
    Cause(
        code=Code.BODY_TOO_LARGE,
        status=413,
        why="A client sent a larger body than `client_max_body_size` allows (1m unless set).",
        check="Run `nginx -T | grep -n client_max_body_size`. Look at the server and the location of the request.",
        fix="Raise `client_max_body_size`, and the app's own limit with it.",
    ),
    Cause(
        code=Code.AUTH_REQUEST_FAILED,
        status=500,
        why="The `auth_request` subrequest got neither 2xx nor 401 nor 403. So a 502 of the auth service gives every request a "
        "500.",
        check="Look at the status in the line and at the failure of the subrequest just before it. Ask the auth service with "
        "`curl -i`.",
        fix="Fix the auth service, or the `auth_request` location.",
    ),
    Cause(
        code=Code.FD_LIMIT,
        status=500,
        why="A worker of nginx has as many files and sockets open as its limit allows.",
        check="Compare `grep 'open files' /proc/WORKER/limits` with `ls /proc/WORKER/fd | wc -l`. For errno 23 check the host's "
        "fs.file-max.",
        fix="Raise `worker_rlimit_nofile` (above twice worker_connections), or LimitNOFILE of the systemd unit.",
    ),
    Cause(
        code=Code.WORKER_CONNECTIONS,
        status=500,
        why="A worker uses all its `worker_connections`. A proxied request takes two, and new clients are closed without an "
        "answer.",
        check="Compare `ss -tnp | grep -c 'pid=WORKER'` with `worker_connections` in `nginx -T`. Slow answers hold connections.",
        fix="Raise `worker_connections` (and `worker_rlimit_nofile`), or make the slow answers faster.",
    ),
    Cause(
        code=Code.WORKER_CRASHED,
        status=None,
        why="A worker of nginx was killed by a signal or could not start. Its requests were cut off and have no line in the "
        "access log.",
        check="Run `dmesg -T | grep -i 'nginx\\|oom'`. Signal 9 is mostly the OOM killer, signal 11 a bug in nginx or in a module.",
        fix="For signal 9 add memory. For 11 use another build of nginx or its modules. For `cannot be respawned` read the "
        "worker's own line.",
    ),
    Cause(
        code=Code.WORKER_SHUTDOWN_TIMEOUT,
        status=0,
        why="After a reload an old worker reached `worker_shutdown_timeout` and cut the requests that it still had.",
        check="Compare the times of reloads with the 000 lines of the access log. WebSockets and long downloads are cut first.",
        fix="Set a `worker_shutdown_timeout` that is longer than the slowest answer, or reload less often.",
    ),
    Cause(
        code=Code.PROXY_PASS_INVALID_URL,
        status=500,
        why="The value of the variable in `proxy_pass` is no URL: it has no `http://`, no host, or a bad port.",
        check="Run `nginx -T | grep -n proxy_pass`. Which value does the variable have for the request in the line? It may be "
        "empty.",
        fix="Give the `map` or `set` of this variable a default.",
    ),
    Cause(
        code=Code.CLIENT_CLOSED,
        is_benign=True,
        status=499,
        why="The client closed its connection before the answer was complete. It gave up, or its timeout ended.",
        check="Read `request_time` of the 499 lines. If all are near one number, a client or a load balancer before nginx has "
        "this timeout.",
        fix="Make slow answers faster. Set `proxy_ignore_client_abort on` only if the server must finish its work all the same.",
    ),
)

RULES: tuple[Rule, ...] = (
    Rule(code=Code.NO_LIVE_ALL_DOWN, message=r"no live upstreams$"),
    Rule(code=Code.NONE_TOLERATED, message=r"upstream server temporarily disabled$"),
    _OfNoRequest(code=Code.HEALTH_CHECK_DOWN, message=r"disable check peer: |check peer closed connection "),
    _OfNoRequest(code=Code.HEALTH_CHECK_DOWN, message=r"(?:check|http|fastcgi) [\w ]+ with peer: ?"),
    _OfNoRequest(code=Code.HEALTH_CHECK_DOWN, message=r"(?:send|recv)\(\) failed$"),
    Rule(code=Code.LIMIT_REQ, message=r"limiting requests, excess: "),
    Rule(code=Code.LIMIT_CONN, message=r"limiting connections by zone "),
    Rule(code=Code.BODY_TOO_LARGE, message=r"client intended to send too large (?:chunked )?body: "),
    Rule(code=Code.AUTH_REQUEST_FAILED, message=r"auth request unexpected status: \d+$"),
    Rule(code=Code.FD_LIMIT, message=r"(?:socket|accept4?)\(\) failed$", errno=frozenset({23, 24})),
    Rule(code=Code.WORKER_CONNECTIONS, message=r"\d+ worker_connections are not enough$"),
    Rule(code=Code.WORKER_CRASHED, message=r"worker process \d+ exited on signal \d+"),
    Rule(code=Code.WORKER_CRASHED, message=r"worker process \d+ exited with fatal code \d+ and cannot be respawned$"),
    Rule(code=Code.PROXY_PASS_INVALID_URL, message=r"invalid URL prefix in \".*\"$"),
    Rule(code=Code.PROXY_PASS_INVALID_URL, message=_NO_ADDRESS),
    Rule(code=Code.CLIENT_CLOSED, message=r"(?:epoll_wait\(\) reported that )?client prematurely closed connection"),
    Rule(code=Code.CLIENT_CLOSED, message=r"\w+\(\) failed$", errno=frozenset({32, 104}), action="sending to client"),
)

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
        why="each server of the upstream is marked down, or failed max_fails times in fail_timeout: the failures before say why",
        check="the first failures before it in error.log, and `nginx -T` for servers marked `down`",
        fix="mend what those failures name; raise `max_fails` or lower `fail_timeout` on the `server` lines only after that",
    ),
    Cause(
        code=Code.HEALTH_CHECK_DOWN,
        status=502,
        why="the health check of nginx failed, and after `fall` failures in a row the server gets no request",
        check="the page of `check_status`, and from the nginx host send the server what `check_http_send` says: `curl -i`",
        fix="mend the server or its health page; where the check is too strict, `timeout` and `fall` of `check`",
    ),
    Cause(
        code=Code.HEALTH_CHECK_NOT_YET_UP,
        status=502,
        why="a server that is new in the configuration begins down (`default_down=true`) until `rise` checks have succeeded",
        check="the page of `check_status`: its `rise` count, and when nginx was reloaded last",
        fix="`default_down=false` or a shorter `interval` in `check`, or have the servers in the configuration before they serve",
    ),
    Cause(
        code=Code.MAX_CONNS,
        status=502,
        why="every server of the upstream has as many connections as its `max_conns` allows",
        check="`ss -tn state established dst ADDRESS | wc -l` on the nginx host, against `max_conns` in `nginx -T`",
        fix="raise `max_conns` on the `server` lines, add servers, or make the slow answers faster",
    ),
    Cause(
        code=Code.NONE_TOLERATED,
        is_benign=True,
        status=200,
        why="a server failed max_fails times and gets no request for fail_timeout; another one answered, so clients saw no error",
        check="the failure beside it in error.log, and the named server: is it running, is it overloaded?",
        fix="mend that server; `max_fails` and `fail_timeout` on its `server` line say when it is taken out",
    ),
    Cause(
        code=Code.NGINX_RETURN,
        status=503,
        why="nginx answered by itself, by a `return` or a maintenance page: no server was asked and no error line written",
        check="`nginx -T | grep -n 'return 50\\|error_page'`, and whether the file of a maintenance switch exists",
        fix="the `return` directive, or the condition that leads to it",
    ),
    Cause(
        code=Code.LIMIT_REQ,
        status=503,
        why="a client sent more requests than `limit_req` allows (status by `limit_req_status`)",
        check="the clients in these lines: one address, or everybody behind one proxy whose address is the key of the zone?",
        fix="`rate` of `limit_req_zone`, `burst` and `nodelay` of `limit_req`, or another key (`set_real_ip_from`)",
    ),
    Cause(
        code=Code.LIMIT_CONN,
        status=503,
        why="more requests at the same time than `limit_conn` allows for one key (status by `limit_conn_status`)",
        check="the clients in these lines, and whether answers got slower: slow answers fill the limit",
        fix="`limit_conn`, the key of `limit_conn_zone`, or the slow answers",
    ),
    Cause(
        code=Code.BODY_TOO_LARGE,
        status=413,
        why="a client sent a larger body than `client_max_body_size` (1m unless set)",
        check="`nginx -T | grep -n client_max_body_size`, in the server and location of the request",
        fix="raise `client_max_body_size`, and the limit of the app with it",
    ),
    Cause(
        code=Code.AUTH_REQUEST_FAILED,
        status=500,
        why="the `auth_request` subrequest got neither 2xx nor 401 nor 403; a 502 of the auth service makes a 500 of every request",
        check="the status in the line, and the failure of the subrequest just before it: `curl -i` the auth service",
        fix="mend the auth service, or the `auth_request` location",
    ),
    Cause(
        code=Code.FD_LIMIT,
        status=500,
        why="a worker of nginx has as many files and sockets open as its limit allows",
        check="`grep 'open files' /proc/WORKER/limits` against `ls /proc/WORKER/fd | wc -l`; for errno 23 the host's fs.file-max",
        fix="`worker_rlimit_nofile` (twice worker_connections and some), or LimitNOFILE of the systemd unit",
    ),
    Cause(
        code=Code.WORKER_CONNECTIONS,
        status=500,
        why="a worker uses all its `worker_connections`: a proxied request takes two; a new client is closed without an answer",
        check="`ss -tnp | grep -c 'pid=WORKER'` against `worker_connections` in `nginx -T`; slow answers hold connections",
        fix="raise `worker_connections` (and `worker_rlimit_nofile`), or make the slow answers faster",
    ),
    Cause(
        code=Code.WORKER_CRASHED,
        status=None,
        why="a worker of nginx was killed by a signal or could not start: its requests were cut off and have no access line",
        check="`dmesg -T | grep -i 'nginx\\|oom'`: signal 9 is mostly the OOM killer, 11 a bug in nginx or a module",
        fix="memory for 9, another build of nginx or its modules for 11; for `cannot be respawned` see the worker's own line",
    ),
    Cause(
        code=Code.WORKER_SHUTDOWN_TIMEOUT,
        status=0,
        why="an old worker reached `worker_shutdown_timeout` after a reload and cut the requests that it still had",
        check="times of reloads against the 000 lines of the access log; websockets and long downloads are cut first",
        fix="a longer `worker_shutdown_timeout` than the slowest answer, or fewer reloads",
    ),
    Cause(
        code=Code.PROXY_PASS_INVALID_URL,
        status=500,
        why="the value of the variable in `proxy_pass` is no URL: no `http://`, no host, or a bad port",
        check="`nginx -T | grep -n proxy_pass`, and which value the variable has for the request of the line (an empty one?)",
        fix="the `map` or `set` of that variable: give it a default",
    ),
    Cause(
        code=Code.CLIENT_CLOSED,
        is_benign=True,
        status=499,
        why="the client closed its connection before the answer was complete: it gave up, or timed out",
        check="`request_time` of the 499 lines: all near one number is the timeout of a client or of a load balancer before nginx",
        fix="slow answers; `proxy_ignore_client_abort on` only where the server must finish its work all the same",
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

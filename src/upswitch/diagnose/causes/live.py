"""Nobody to ask: every server of an upstream is down, full, or taken out by a health check.

The check modules write their lines outside of any request (ngx_http_upstream_check_module.c, of yaoweibin and of Tengine).
"""

from upswitch.diagnose.causes.cause import Cause, Code, Rule
from upswitch.logs.error_line import ErrorLine

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
)


class _OfNoRequest(Rule):
    """A resolver writes outside of requests too, and says so as its action."""

    def fits(self, line: ErrorLine) -> bool:
        return not line.connection and not line.action and Rule.fits(self, line)


RULES: tuple[Rule, ...] = (
    Rule(code=Code.NO_LIVE_ALL_DOWN, message=r"no live upstreams$"),
    Rule(code=Code.NONE_TOLERATED, message=r"upstream server temporarily disabled$"),
    _OfNoRequest(code=Code.HEALTH_CHECK_DOWN, message=r"disable check peer: |check peer closed connection "),
    _OfNoRequest(code=Code.HEALTH_CHECK_DOWN, message=r"(?:check|http|fastcgi) [\w ]+ with peer: ?"),
    _OfNoRequest(code=Code.HEALTH_CHECK_DOWN, message=r"(?:send|recv)\(\) failed$"),
)

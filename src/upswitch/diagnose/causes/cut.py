"""Answers that broke off after nginx had sent their header: clients see 200 and too little, and so does the access log.

The actions of ngx_http_upstream.c and ngx_event_pipe.c tell: the header had been passed on.
"""

from upswitch.diagnose.causes.cause import Cause, Code, Rule

_READING = "reading upstream"
_ACTIONS = (_READING, "sending to client")  # the end of a buffered answer is noticed in either
_RESET = frozenset({104})
_TEMPORARY = r'(?:open|mkdir)\(\) "[^"]*/\d+" failed \(13: [^"]*\) while reading (?:upstream|client request body)$'

CAUSES: tuple[Cause, ...] = (
    Cause(
        code=Code.UPSTREAM_PREMATURE_CLOSE_BODY,
        status=200,
        why="the server closed in the middle of its answer: its worker died or ran into its own timeout; the client has part of it",
        check="the server's own log (worker timeout, fatal error), `dmesg | grep -i oom` there, `curl -v http://ADDRESS/PATH`",
        fix="mend the server; its own timeout must be longer than its slowest answer, and it must finish answers before it stops",
    ),
    Cause(
        code=Code.UPSTREAM_RESET_BODY,
        status=200,
        why="the server reset the connection in the middle of its answer: it crashed or was killed; the client has part of it",
        check="the server's own log, `dmesg | grep -i -e oom -e segfault` there, and when it was last restarted",
        fix="mend the server; on a deploy take it out of the upstream and let it finish before it stops",
    ),
    Cause(
        code=Code.READ_TIMEOUT_BODY,
        status=200,
        why="the server fell silent in the middle of its answer or WebSocket (101) for `proxy_read_timeout` (60s unless set)",
        check="`curl -N http://ADDRESS/PATH` on the nginx host: where does it pause, and for how long?",
        fix="mend the server, have it send something while it waits (WebSocket: pings), or raise `proxy_read_timeout`",
    ),
    Cause(
        code=Code.INVALID_CHUNKED,
        status=200,
        why="the answer says that it is chunked and its body is not: two writers in one connection, or chunks written by hand",
        check="`curl -v --raw http://ADDRESS/PATH` on the nginx host: each chunk begins with its size in hex",
        fix="mend the server: who sets Transfer-Encoding must write the chunks, once",
    ),
    Cause(
        code=Code.TEMP_PATH_PERMISSION,
        status=200,
        why="nginx can't write its temporary files: answers above its buffers are cut short, large requests get 500",
        check="`namei -l PATH` of the path in the error line, and the worker's user (`ps -o user= -p WORKER_PID`)",
        fix="give `proxy_temp_path` (client_body_temp_path, ...) to the worker's user, or `proxy_max_temp_file_size 0`",
    ),
    Cause(
        code=Code.NONE_BUFFERING_NOTICE,
        is_benign=True,
        status=200,
        why="no failure: an answer or a request was larger than the buffers and went through a temporary file",
        check="`df -h` of `proxy_temp_path`, and disk load, where answers are slow",
        fix="nothing; larger `proxy_buffers` or `client_body_buffer_size`, or `proxy_max_temp_file_size 0`, save the disk",
    ),
)

RULES: tuple[Rule, ...] = (
    *(Rule(code=Code.UPSTREAM_PREMATURE_CLOSE_BODY, message="upstream prematurely closed ", action=action) for action in _ACTIONS),
    Rule(code=Code.UPSTREAM_RESET_BODY, message=r"(?:recv|readv|SSL_read)\(\) failed", errno=_RESET, action=_READING),
    Rule(code=Code.UPSTREAM_RESET_BODY, message=r"upstream (?:rejected request|sent goaway) with error ", action=_READING),
    Rule(code=Code.READ_TIMEOUT_BODY, message="upstream timed out", action=_READING),
    Rule(code=Code.READ_TIMEOUT_BODY, message="upstream timed out", action="proxying upgraded connection"),
    Rule(code=Code.INVALID_CHUNKED, message="upstream sent invalid chunked response"),
    Rule(code=Code.TEMP_PATH_PERMISSION, message=_TEMPORARY),
    Rule(code=Code.NONE_BUFFERING_NOTICE, message=r"an? (?:upstream response|client request body) is buffered to a temporary file"),
)

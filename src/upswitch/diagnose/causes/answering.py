"""A connection, and no answer, a bad one, or half of one (ngx_http_upstream.c, ngx_http_{proxy,fastcgi,grpc}_module.c).

The action in the line tells whether nginx had passed the answer's header on (ngx_event_pipe.c). Then clients see 200 and only a
part of the answer, and the access log has 200. The rules of such answers stand first.
"""

from upswitch.diagnose.causes.cause import Cause, Code, Rule

_READING_BODY = "reading upstream"
_ACTIONS = (_READING_BODY, "sending to client")  # the end of a buffered answer is noticed in either
_RESET = frozenset({104})
_TEMPORARY = r'(?:open|mkdir)\(\) "[^"]*/\d+" failed \(13: [^"]*\) while reading (?:upstream|client request body)$'


_SENDING = "sending request to upstream"
_READING = "reading response header from upstream"
_GONE = frozenset({32, 104})  # EPIPE, ECONNRESET
_TOO_BIG = r"upstream sent too (?:big (?:header|early hints)|large http2 header)"
_INVALID = (
    r'upstream sent (?:invalid (?:header|status|:status|encoded header|"Content-Length")|(?:no|duplicate|unexpected) :status'
    r'|unknown "Transfer-Encoding"|"Content-Length" and "Transfer-Encoding"|HTTP/1\.0 response with early hints'
    r'|duplicate header line: "(?i:content-length|transfer-encoding):)'  # of others nginx takes the first and goes on
)
_NOT_FASTCGI = r"upstream sent (?:unsupported|invalid|unexpected) FastCGI "
_NOT_HTTP2 = r"upstream sent (?:(?:too large|too short|unexpected) http2 frame|frame for unknown stream)"
_NO_SCRIPT = r'FastCGI sent in stderr: "(?:Primary script unknown|Unable to open primary script: )'


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
    Cause(
        code=Code.UPSTREAM_RESET,
        status=502,
        why="the server reset the connection before it answered: it crashed, was killed, or closed with the request unread",
        check="the server's own log, `dmesg | grep -i -e oom -e segfault` there, and when it was last restarted",
        fix="mend or restart the server; on a deploy take it out of the upstream before it stops",
    ),
    Cause(
        code=Code.UPSTREAM_PREMATURE_CLOSE,
        status=502,
        why="the server closed the connection without an answer: its worker died, its own timeout struck, or it speaks otherwise",
        check="the server's own log (worker timeout, fatal error), `dmesg | grep -i oom` there, `curl -v http://ADDRESS/`",
        fix="mend the server; its own timeout (gunicorn --timeout, php max_execution_time) must be longer than its slowest answer",
    ),
    Cause(
        code=Code.UPSTREAM_CLOSED_DURING_SEND,
        status=502,
        why="the server closed while nginx was still sending the request: most often its limit of the body's size",
        check="`curl -v -F file=@BIGFILE http://ADDRESS/PATH` on the nginx host, and the server's own limit of the body",
        fix="raise the server's limit, or set `client_max_body_size` no higher than it",
    ),
    Cause(
        code=Code.KEEPALIVE_RACE,
        status=502,
        why="nginx sent a request on a kept connection just as the server closed it; a POST is not tried again",
        check="the server's keep-alive timeout against `keepalive_timeout` of the upstream (60s unless set)",
        fix="a longer keep-alive timeout on the server, or a shorter `keepalive_timeout` in the upstream (`keepalive 0`: none)",
    ),
    Cause(
        code=Code.HEADER_TOO_BIG,
        status=502,
        why="the answer's header is larger than `proxy_buffer_size` (4k or 8k unless set): large cookies or many headers",
        check="`curl -sD- -o /dev/null http://ADDRESS/PATH | wc -c` on the nginx host",
        fix="`proxy_buffer_size 16k` (with `proxy_buffers` to fit; fastcgi_buffer_size, ...), or fewer and smaller cookies",
    ),
    Cause(
        code=Code.HEADER_INVALID,
        status=502,
        why="the answer's header breaks HTTP; since 1.23.0 nginx refuses doubled lengths and unknown encodings",
        check="`curl -v --raw http://ADDRESS/PATH` on the nginx host: Content-Length, Transfer-Encoding, control characters",
        fix="mend the header in the server or in a proxy between; no directive lets it through",
    ),
    Cause(
        code=Code.FASTCGI_PREMATURE_CLOSE,
        status=502,
        why="the FastCGI server ended the request without a whole answer: the script died, or ended before it wrote a header",
        check="the FastCGI server's own log (php-fpm: error_log, catch_workers_output), `dmesg | grep -i -e oom -e segfault`",
        fix="mend the script, or its limits of memory and time (memory_limit, request_terminate_timeout)",
    ),
    Cause(
        code=Code.PROTOCOL_MISMATCH_FASTCGI,
        status=502,
        why="what answers on that port is not FastCGI: most often an HTTP server behind `fastcgi_pass`",
        check="`curl -i http://ADDRESS/` on the nginx host: an answer proves that it speaks HTTP",
        fix="`proxy_pass http://` instead of `fastcgi_pass`, or the port of the FastCGI server",
    ),
    Cause(
        code=Code.PROTOCOL_MISMATCH_GRPC,
        status=502,
        why="what answers on that port is not HTTP/2: an HTTP/1 server or a TLS port behind `grpc_pass grpc://`",
        check="`curl -i --http2-prior-knowledge http://ADDRESS/` on the nginx host, and `curl -i http://ADDRESS/`",
        fix="the gRPC server's port, `grpcs://` where it speaks TLS, or `proxy_pass` for HTTP/1",
    ),
    Cause(
        code=Code.READ_TIMEOUT,
        status=504,
        why="the server took the request and did not begin to answer within `proxy_read_timeout` (60s unless set)",
        check="`time curl -so /dev/null http://ADDRESS/PATH` on the nginx host; what the server waits for (database, cold start)",
        fix="mend or warm up the server; `proxy_read_timeout` only where so slow an answer is right",
    ),
    Cause(
        code=Code.SEND_TIMEOUT,
        status=504,
        why="the server stopped reading the request for `proxy_send_timeout` (60s unless set): it hangs",
        check="`ss -tn 'sport = :PORT'` on the server: a Recv-Q that stays high is a request that it does not read",
        fix="mend the server; `proxy_send_timeout` only where it reads that slowly by design",
    ),
    Cause(
        code=Code.NOT_HTTP,
        status=9,
        why="what answers on that port is not HTTP (Redis, SSH, HTTP/2 only, TLS): nginx passes the bytes on and logs status 009",
        check="`curl -v http://ADDRESS/` and `openssl s_client -connect ADDRESS` on the nginx host",
        fix="the right port in `server`, or the right directive (`proxy_pass https://`, `grpc_pass`, `fastcgi_pass`)",
    ),
    Cause(
        code=Code.FASTCGI_SCRIPT_UNKNOWN,
        status=404,
        why="the FastCGI server does not find the script that SCRIPT_FILENAME names, or may not open it (403)",
        check="`nginx -T | grep SCRIPT_FILENAME`, and `namei -l FILE` on the FastCGI server (its user, its chroot, its container)",
        fix="`root` or `fastcgi_param SCRIPT_FILENAME` with the path as the FastCGI server sees it",
    ),
    Cause(
        code=Code.UPSTREAM_ANSWERED,
        status=502,
        why="the server itself, or a proxy behind it, answered 502, 503 or 504: nginx passed it on and wrote no error line",
        check="the server's own log at that time, and `curl -i http://ADDRESS/PATH` on the nginx host",
        fix="mend the server; `proxy_next_upstream error timeout http_502 http_503 http_504` tries another one meanwhile",
    ),
)

RULES: tuple[Rule, ...] = (
    *(Rule(code=Code.UPSTREAM_PREMATURE_CLOSE_BODY, message="upstream prematurely closed ", action=action) for action in _ACTIONS),
    Rule(code=Code.UPSTREAM_RESET_BODY, message=r"(?:recv|readv|SSL_read)\(\) failed", errno=_RESET, action=_READING_BODY),
    Rule(code=Code.UPSTREAM_RESET_BODY, message=r"upstream (?:rejected request|sent goaway) with error ", action=_READING_BODY),
    Rule(code=Code.READ_TIMEOUT_BODY, message="upstream timed out", action=_READING_BODY),
    Rule(code=Code.READ_TIMEOUT_BODY, message="upstream timed out", action="proxying upgraded connection"),
    Rule(code=Code.INVALID_CHUNKED, message="upstream sent invalid chunked response"),
    Rule(code=Code.TEMP_PATH_PERMISSION, message=_TEMPORARY),
    Rule(code=Code.NONE_BUFFERING_NOTICE, message=r"an? (?:upstream response|client request body) is buffered to a temporary file"),
    Rule(code=Code.UPSTREAM_RESET, message=r"connect\(\) (?:to \S+ )?failed", errno=_GONE, action="connecting to upstream"),
    Rule(code=Code.UPSTREAM_RESET, message=r"(?:recv|SSL_read)\(\) failed", errno=_GONE, action=_READING),
    Rule(code=Code.UPSTREAM_RESET, message=r"upstream (?:rejected request|sent goaway) with error "),
    Rule(code=Code.UPSTREAM_PREMATURE_CLOSE, message=r"upstream prematurely closed (?:connection|stream)"),
    Rule(code=Code.UPSTREAM_CLOSED_DURING_SEND, message=r"\w+\(\) failed", errno=_GONE, action=_SENDING),
    Rule(code=Code.HEADER_TOO_BIG, message=_TOO_BIG),
    Rule(code=Code.HEADER_INVALID, message=_INVALID),
    Rule(code=Code.FASTCGI_PREMATURE_CLOSE, message=r"upstream prematurely closed FastCGI "),
    Rule(code=Code.FASTCGI_PREMATURE_CLOSE, message=r"upstream sent unexpected FastCGI record: 3$"),  # the end, before a header
    Rule(code=Code.PROTOCOL_MISMATCH_FASTCGI, message=_NOT_FASTCGI),
    Rule(code=Code.PROTOCOL_MISMATCH_GRPC, message=_NOT_HTTP2),
    Rule(code=Code.READ_TIMEOUT, message="upstream timed out", action=_READING),
    Rule(code=Code.SEND_TIMEOUT, message="upstream timed out", action=_SENDING),
    Rule(code=Code.NOT_HTTP, message=r"upstream sent no valid HTTP/1\.0 header"),
    Rule(code=Code.FASTCGI_SCRIPT_UNKNOWN, message=_NO_SCRIPT),
)

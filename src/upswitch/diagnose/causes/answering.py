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
        why="The server closed the connection in the middle of its answer. Its worker died or ran into its own timeout.",
        check="Read the server's own log (worker timeout, fatal error). Run `dmesg | grep -i oom` there and `curl -v "
        "http://ADDRESS/PATH` here.",
        fix="Fix the server. Its own timeout must be longer than its slowest answer, and it must finish answers before it stops.",
    ),
    Cause(
        code=Code.UPSTREAM_RESET_BODY,
        status=200,
        why="The server reset the connection in the middle of its answer. It crashed or was killed.",
        check="Read the server's own log. Run `dmesg | grep -i -e oom -e segfault` there, and find out when it was last restarted.",
        fix="Fix the server. On a deploy, take it out of the upstream and let it finish its answers before it stops.",
    ),
    Cause(
        code=Code.READ_TIMEOUT_BODY,
        status=200,
        why="The server stopped in the middle of its answer, or of a WebSocket (101), for `proxy_read_timeout` (60s unless set).",
        check="Run `curl -N http://ADDRESS/PATH` on the nginx host: where does the answer pause, and for how long?",
        fix="Fix the server, let it send something while it waits (WebSocket: pings), or raise `proxy_read_timeout`.",
    ),
    Cause(
        code=Code.INVALID_CHUNKED,
        status=200,
        why="The answer's header says that its body is chunked, and the body is not. Often two parts of the program write to one "
        "connection.",
        check="Run `curl -v --raw http://ADDRESS/PATH` on the nginx host. Each chunk must begin with its size in hex.",
        fix="Fix the server: the part that sets Transfer-Encoding must also write the chunks, once.",
    ),
    Cause(
        code=Code.TEMP_PATH_PERMISSION,
        status=200,
        why="nginx can't write its temporary files. Answers that are larger than its buffers are cut short, and large requests "
        "get 500.",
        check="Run `namei -l PATH` for the path in the error line, and `ps -o user= -p WORKER_PID` for the worker's user.",
        fix="Give `proxy_temp_path` (client_body_temp_path, ...) to the worker's user, or set `proxy_max_temp_file_size 0`.",
    ),
    Cause(
        code=Code.NONE_BUFFERING_NOTICE,
        is_benign=True,
        status=200,
        why="This is no failure: an answer or a request was larger than the buffers, so nginx wrote it to a temporary file.",
        check="Where answers are slow, check the disk: run `df -h` for `proxy_temp_path`, and look at the disk's load.",
        fix="Nothing must be fixed. Larger `proxy_buffers` or `client_body_buffer_size`, or `proxy_max_temp_file_size 0`, spare "
        "the disk.",
    ),
    Cause(
        code=Code.UPSTREAM_RESET,
        status=502,
        why="The server reset the connection before it answered. It crashed, was killed, or closed before it had read the request.",
        check="Read the server's own log. Run `dmesg | grep -i -e oom -e segfault` there, and find out when it was last restarted.",
        fix="Fix or restart the server. On a deploy, take it out of the upstream before it stops.",
    ),
    Cause(
        code=Code.UPSTREAM_PREMATURE_CLOSE,
        status=502,
        why="The server closed the connection without an answer. Its worker died, ran into its own timeout, or expects another "
        "protocol.",
        check="Read the server's own log (worker timeout, fatal error). Run `dmesg | grep -i oom` there and `curl -v "
        "http://ADDRESS/` here.",
        fix="Fix the server. Its own timeout (gunicorn --timeout, php max_execution_time) must be longer than its slowest answer.",
    ),
    Cause(
        code=Code.UPSTREAM_CLOSED_DURING_SEND,
        status=502,
        why="The server closed the connection while nginx was still sending the request. Most often the body is over the server's "
        "limit.",
        check="Run `curl -v -F file=@BIGFILE http://ADDRESS/PATH` on the nginx host, and look up the server's own limit of the "
        "body.",
        fix="Raise the server's limit, or set `client_max_body_size` no higher than this limit.",
    ),
    Cause(
        code=Code.KEEPALIVE_RACE,
        status=502,
        why="nginx sent a request on a kept connection just as the server closed it. nginx does not send a POST a second time.",
        check="Compare the server's keep-alive timeout with `keepalive_timeout` of the upstream (60s unless set).",
        fix="Set a longer keep-alive timeout on the server, or a shorter `keepalive_timeout` in the upstream (`keepalive 0` keeps "
        "none).",
    ),
    Cause(
        code=Code.HEADER_TOO_BIG,
        status=502,
        why="The header of the answer is larger than `proxy_buffer_size` (4k or 8k unless set). It has large cookies or many "
        "lines.",
        check="Run `curl -sD- -o /dev/null http://ADDRESS/PATH | wc -c` on the nginx host.",
        fix="Set `proxy_buffer_size 16k` and `proxy_buffers` to match (fastcgi_buffer_size, ...), or send fewer and smaller "
        "cookies.",
    ),
    Cause(
        code=Code.HEADER_INVALID,
        status=502,
        why="The header of the answer is not valid HTTP. Since 1.23.0 nginx refuses doubled lengths and unknown encodings.",
        check="Run `curl -v --raw http://ADDRESS/PATH` on the nginx host. Look at Content-Length, Transfer-Encoding and control "
        "characters.",
        fix="Fix the header in the server, or in a proxy between nginx and the server. No directive makes nginx accept it.",
    ),
    Cause(
        code=Code.FASTCGI_PREMATURE_CLOSE,
        status=502,
        why="The FastCGI server ended the request without a whole answer. The script died, or ended before it wrote a header.",
        check="Read the FastCGI server's log (php-fpm: error_log, catch_workers_output). Run `dmesg | grep -i -e oom -e segfault` "
        "there.",
        fix="Fix the script, or raise its limits of memory and time (memory_limit, request_terminate_timeout).",
    ),
    Cause(
        code=Code.PROTOCOL_MISMATCH_FASTCGI,
        status=502,
        why="The program on this port does not speak FastCGI. Most often it is an HTTP server behind `fastcgi_pass`.",
        check="Run `curl -i http://ADDRESS/` on the nginx host. An answer proves that the program speaks HTTP.",
        fix="Write `proxy_pass http://` instead of `fastcgi_pass`, or use the port of the FastCGI server.",
    ),
    Cause(
        code=Code.PROTOCOL_MISMATCH_GRPC,
        status=502,
        why="The program on this port does not speak HTTP/2. It is an HTTP/1 server, or expects TLS, behind `grpc_pass grpc://`.",
        check="Run `curl -i --http2-prior-knowledge http://ADDRESS/` on the nginx host, then `curl -i http://ADDRESS/`.",
        fix="Use the port of the gRPC server, `grpcs://` if it speaks TLS, or `proxy_pass` for HTTP/1.",
    ),
    Cause(
        code=Code.READ_TIMEOUT,
        status=504,
        why="The server took the request and did not begin to answer within `proxy_read_timeout` (60s unless set).",
        check="Run `time curl -so /dev/null http://ADDRESS/PATH` on the nginx host. Find out what the server waits for (database, "
        "cold start).",
        fix="Fix the server, or warm it up. Raise `proxy_read_timeout` only if such slow answers are right.",
    ),
    Cause(
        code=Code.SEND_TIMEOUT,
        status=504,
        why="The server stopped reading the request for `proxy_send_timeout` (60s unless set). It hangs.",
        check="Run `ss -tn 'sport = :PORT'` on the server. A Recv-Q that stays high is a request that the server does not read.",
        fix="Fix the server. Raise `proxy_send_timeout` only if the server reads that slowly by design.",
    ),
    Cause(
        code=Code.NOT_HTTP,
        status=9,
        why="The program on this port does not speak HTTP (Redis, SSH, HTTP/2 only, TLS). nginx passes its bytes on and logs "
        "status 009.",
        check="Run `curl -v http://ADDRESS/` and `openssl s_client -connect ADDRESS` on the nginx host.",
        fix="Correct the port in `server`, or use the right directive (`proxy_pass https://`, `grpc_pass`, `fastcgi_pass`).",
    ),
    Cause(
        code=Code.FASTCGI_SCRIPT_UNKNOWN,
        status=404,
        why="The FastCGI server does not find the script that SCRIPT_FILENAME names, or may not open it (403).",
        check="Run `nginx -T | grep SCRIPT_FILENAME`, and `namei -l FILE` on the FastCGI server (as its user, in its chroot or "
        "container).",
        fix="Set `root` or `fastcgi_param SCRIPT_FILENAME` to the path as the FastCGI server sees it.",
    ),
    Cause(
        code=Code.UPSTREAM_ANSWERED,
        status=502,
        why="The server itself, or a proxy behind it, answered 502, 503 or 504. nginx passed the answer on and wrote no error "
        "line.",
        check="Read the server's own log of that time, and run `curl -i http://ADDRESS/PATH` on the nginx host.",
        fix="Fix the server. Until then `proxy_next_upstream error timeout http_502 http_503 http_504` makes nginx try another "
        "server.",
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

"""Locations of every kind that passes requests on, requests to each, and servers behind them that keep what they are asked."""

import select
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from servers import END, STDOUT, Server, certificate, record

UPSTREAMS = ("app", "tls", "rpc", "php", "sock", "uw", "sc", "mem")


@dataclass(frozen=True)
class Request:
    """What a client sends. `times`: in a row."""

    path: str
    headers: str = ""
    method: str = "GET"
    body: bytes = b""
    times: int = 1


@dataclass(frozen=True)
class Kind:
    """`conf` stands in a server: that of all kinds, or one of its own with the lines `around`.

    `closes` are the requests (by number) whose connection the flag must close. `warm` are sent once before. `server_name`
    is a regex, in which HOST stands for the name that is asked for.
    """

    name: str
    conf: str
    requests: Sequence[Request]
    closes: Sequence[int] = (0,)
    no_cure: str = ""
    around: str = ""
    warm: Sequence[Request] = field(default=())
    server_name: str = ""

    @property
    def has_server(self) -> bool:
        """Whether its server is its own."""
        return bool(self.around or self.server_name)


def _get(*paths: str, headers: str = "") -> tuple[Request, ...]:
    return tuple(Request(path, headers) for path in paths)


_PASSWORD = "Authorization: Basic dTpwdw==\r\n"  # u:p
_BASIC = "auth_basic realm; auth_basic_user_file FOLDER/passwords;"
_UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"
_FAST = (
    "fastcgi_param QUERY_STRING $query_string; fastcgi_param SCRIPT_NAME $fastcgi_script_name; "
    "fastcgi_param REQUEST_URI $request_uri;"
)

KINDS = (
    Kind(
        "prefix without a URI part",
        "location /plain/ { proxy_pass http://app; }",
        _get(
            "/plain/a?b=%20c", "/plain/a%20b", "/plain//a/../b", "/plain/%D0%BA", "/plain/x?", "/plain/a%2Fb%0a", "/plain/\xd0\xba"
        ),
    ),
    Kind(
        "auth_basic",
        f"location /basic/ {{ {_BASIC} proxy_pass http://app; }}",
        _get("/basic/") + _get("/basic/", headers=_PASSWORD),
        (0, 1),
    ),
    Kind("deny", "location /deny/ { allow 10.0.0.0/8; deny all; proxy_pass http://app; }", _get("/deny/x")),
    Kind(
        "auth_request",
        "location = /asked { internal; proxy_pass http://app/ask; proxy_pass_request_body off; "
        "proxy_set_header Content-Length ''; }"
        " location /asking/ { auth_request /asked; auth_request_set $who $upstream_http_x_who; "
        "proxy_set_header X-Who $who; proxy_pass http://app; }",
        _get("/asking/x") + _get("/asking/x", headers="X-Ok: yes\r\n"),
        (0, 1),
    ),
    Kind(
        "satisfy any",
        f"location /any/ {{ satisfy any; deny all; {_BASIC} proxy_pass http://app; }}",
        _get("/any/") + _get("/any/", headers=_PASSWORD),
        (0, 1),
    ),
    Kind(
        "limit_req",
        "location /slow/ { limit_req zone=requests burst=1 nodelay; proxy_set_header X-Key ''; proxy_pass http://app; }",
        (Request("/slow/x", "X-Key: KEY\r\n", times=4),),
    ),
    Kind(
        "limit_conn",
        "location /few/ { limit_conn connections 1; proxy_buffering off; proxy_set_header X-Key ''; proxy_pass http://app; }",
        (Request("/few/hold", "X-Key: KEY\r\n", times=2),),
    ),
    Kind(
        "Host and other headers",
        "location /head/ { proxy_set_header Host $host; proxy_set_header X-Uri $uri; proxy_set_header X-Real-IP $remote_addr;"
        " proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header Connection ''; "
        "proxy_http_version 1.1; proxy_pass http://app; }",
        _get("/head/x"),
    ),
    Kind(
        "URI part",
        "location /part/ { proxy_pass http://app/v1/; }",
        _get("/part/x?y=1", "/part/a%20b", "/part//x", "/part/redirect", "/part/\xd0", "/part/a%3Fb%23%25"),
        (0, 3),
    ),
    Kind(
        "regex with captures and anchors",
        r"location ~ ^/item/([0-9]+)$ { proxy_set_header X-Item $1; proxy_pass http://app/items/$1$is_args$args; }",
        _get("/item/42?q=1"),
    ),
    Kind(
        "regex with a named capture",
        r"location ~* /named/(?<id>[a-z]+) { proxy_set_header X-Id $id; proxy_pass http://app; }",
        _get("/x/Named/abc/d", "/x/named/a%20b"),
    ),
    Kind(
        "rewrite, set and if",
        "location /strip/ { set $way plain; if ($arg_way) { set $way $arg_way; } if ($arg_way = forbidden) { return 403; }"
        " proxy_set_header X-Way $way; rewrite ^/strip/(.*)$ /$1 break; proxy_pass http://app; }"
        " location /old/ { rewrite ^/old/(.*)$ /strip/new/$1?old=1 last; }",
        _get("/strip/a/b?way=up", "/strip/x?way=forbidden", "/strip/a%20b", "/old/x?y=1"),
        (0, 1, 3),
    ),
    Kind(
        "if that passes elsewhere",
        "location /either/ { proxy_set_header X-Arg $arg_x; if ($arg_x) { proxy_pass http://app; } proxy_pass http://app/other/; }",
        _get("/either/a?x=1", "/either/a"),
        (0, 1),
    ),
    Kind(
        "https with verify and SNI",
        "location /tls/ { proxy_ssl_verify on; proxy_ssl_trusted_certificate CERTIFICATE; proxy_ssl_server_name on;"
        " proxy_ssl_name localhost; proxy_pass https://tls; }"
        " location /tlsbad/ { proxy_ssl_verify on; proxy_ssl_trusted_certificate CERTIFICATE; "
        "proxy_ssl_name other; proxy_pass https://tls; }",
        _get("/tls/x", "/tlsbad/x"),
        (0, 1),
    ),
    Kind("grpc", "location /pkg.Service/ { grpc_set_header X-Uri $uri; grpc_pass grpc://rpc; }", _get("/pkg.Service/Method")),
    Kind(
        "fastcgi",
        rf"location ~ \.php$ {{ root /srv; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; "
        rf"{_FAST} fastcgi_pass php; }}",
        _get("/a/b.php?c=1", "/a%20b.php"),
        (0, 1),
    ),
    Kind(
        "fastcgi with path info, on a socket",
        rf"location ~ ^/app\.php(/|$) {{ fastcgi_split_path_info ^(.+\.php)(/.*)$; "
        rf"fastcgi_param PATH_INFO $fastcgi_path_info; {_FAST} fastcgi_pass sock; }}",
        _get("/app.php/x/y?z=1"),
    ),
    Kind(
        "fastcgi behind try_files",
        rf"location /blog/ {{ try_files $uri /blog.php?$args; }} location = /blog.php {{ {_FAST} fastcgi_pass php; }}",
        _get("/blog/a%20post/?p=1"),
    ),
    Kind(
        "uwsgi",
        "location /uw/ { uwsgi_param PATH_INFO $document_uri; uwsgi_param REQUEST_URI $request_uri; uwsgi_pass uw; }",
        _get("/uw/a%20b?c=1"),
    ),
    Kind(
        "scgi",
        "location /sc/ { scgi_param PATH_INFO $document_uri; scgi_param REQUEST_URI $request_uri; scgi_pass sc; }",
        _get("/sc/a%20b?c=1"),
    ),
    Kind("memcached", "location /mem/ { set $memcached_key $uri?$args; memcached_pass mem; }", _get("/mem/a?b=1")),
    Kind(
        "websocket",
        "location /ws/ { proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
        "proxy_set_header Connection $upgraded; proxy_pass http://app; }",
        _get("/ws/x", headers=_UPGRADE) + _get("/ws/plain"),
        (1,),
    ),
    Kind(
        "error_page",
        "location /wrong/ { proxy_intercept_errors on; error_page 500 = /sorry; "
        "error_page 404 =200 @nothing; proxy_pass http://app; }"
        " location @nothing { proxy_set_header X-Status $status; proxy_pass http://app; }"
        ' location = /sorry { internal; return 500 "sorry $uri"; }',
        _get("/wrong/500", "/wrong/404", "/wrong/fine"),
        (1, 2),
    ),
    Kind(
        "sub_filter",
        "location /sub/ { sub_filter fine $uri; sub_filter_types *; sub_filter_once off; proxy_pass http://app; }",
        _get("/sub/x"),
    ),
    Kind(
        "internal",
        "location /inside/ { internal; proxy_pass http://app; } location /outside/ { rewrite ^/outside/(.*)$ /inside/$1 last; }"
        " location /accel/ { proxy_pass http://app; }",
        _get("/outside/x?y=1", "/inside/x", "/accel/x"),
        (0,),
    ),
    Kind(
        "nested",
        f"location /nest/ {{ {_BASIC} add_header X-Nest $uri; location /nest/in/ {{ proxy_pass http://app; "
        f"}} location ~ [.]b$ {{ proxy_pass http://app; }} }}",
        _get("/nest/in/x", "/nest/x.b") + _get("/nest/in/x", "/nest/x.b", headers=_PASSWORD),
        (0, 1, 2, 3),
    ),
    Kind(
        "try_files to a named location",
        "location /files/ { root FOLDER; try_files $uri @app; } location @app { proxy_set_header X-At app; proxy_pass http://app; }"
        " location /gone/ { root FOLDER; error_page 404 = @app; } location /kept/ { root FOLDER; error_page 404 @app; }",
        _get("/files/x?y=1", "/files/a%20b", "/files/500", "/gone/x", "/kept/x"),
        (0, 2, 3, 4),
    ),
    Kind(
        "limit_except",
        "location /only/ { limit_except GET { deny all; } proxy_pass http://app; }",
        (*_get("/only/x"), Request("/only/x", method="POST", body=b"hello")),
    ),
    Kind(
        "add_header",
        "location /add/ { add_header X-Uri $uri always; expires 1h; proxy_pass http://app; }",
        _get("/add/x", "/add/404"),
        (0, 1),
    ),
    Kind(
        "client_max_body_size",
        "location /big/ { client_max_body_size 2m; proxy_pass http://app; "
        "} location /small/ { client_max_body_size 1k; proxy_pass http://app; }",
        (
            Request("/big/x", method="POST", body=b"x" * 1_500_000),
            Request("/small/x", method="POST", body=b"x" * 1000),
            Request("/small/x", method="POST", body=b"x" * 3000),
        ),
        (0, 1),
    ),
    Kind(
        "proxy_cache",
        "location /cached/ { proxy_cache store; proxy_cache_valid 200 1h; "
        "add_header X-Cache $upstream_cache_status; proxy_pass http://app; }"
        " location /keyed/ { proxy_cache store; proxy_cache_valid 200 1h; proxy_cache_key $scheme$uri; "
        "add_header X-Cache $upstream_cache_status;"
        " proxy_pass http://app/v2/; }",
        _get("/cached/x?y=1", "/keyed/x?y=1", "/cached/a%20b"),
        (0, 1),
        warm=_get("/cached/x?y=1", "/keyed/x?y=1", "/cached/a%20b"),
    ),
    Kind("exact", "location = /exact { proxy_pass http://app; }", _get("/exact?x=1")),
    Kind("exact with a URI part", "location = /exact2 { proxy_pass http://app/elsewhere; }", _get("/exact2?x=1")),
    Kind("^~", "location ^~ /no.php { proxy_pass http://app; }", _get("/no.php")),
    Kind(
        "pass with variables", "location /var/ { proxy_pass http://app$request_uri; }", _get("/var/x%20y?z", "/var/x?y=%20"), (1,)
    ),
    Kind(
        "pass with a variable that may be empty",
        'location /empty/ { set $more ""; proxy_pass http://app$more; }',
        _get("/empty/x?y=1", "/empty/a%2Fb", "/empty//x"),
        (0,),
    ),
    Kind(
        "a query changed by set",
        'location /query/ { set $args "b=2"; proxy_pass http://app; }'
        ' location /query2/ { set $args "b=2"; proxy_pass http://app/v1/; }',
        _get("/query/x?a=1", "/query2/x?a=1"),
        (0, 1),
    ),
    Kind(
        "mirror",
        "location /copied/ { mirror /copy; proxy_pass http://app; } location = /copy { internal; return 204; }",
        _get("/copied/x"),
    ),
    Kind(
        "a capture from outside",
        r"location ~ ^/outer/(.*)$ { try_files /none @outer; } location @outer { proxy_pass http://app/$1; }",
        _get("/outer/x"),
        (),
        no_cure="uses a capture of a regex outside of it",
    ),
    Kind(
        "a limit of a named location and of its server",
        "location / { try_files /none @limited; } location @limited { limit_req zone=own burst=9 nodelay; proxy_pass http://app; }",
        _get("/x"),
        (),
        no_cure="would come after the limits of its server while the flag is up",
        around="limit_req zone=own burst=99 nodelay;",
    ),
    Kind(
        "limits of the server around a named location",
        "location / { try_files /none @counted; } location @counted { proxy_set_header X-Key ''; proxy_pass http://app; }",
        (Request("/x", "X-Key: KEY\r\n", times=4),),
        around="limit_req zone=around burst=1 nodelay;",
    ),
    Kind(
        "a named location without the password of its server",
        "location / { auth_basic off; try_files /none @open; } location @open { auth_basic off; proxy_pass http://app; }"
        " location /closed/ { proxy_pass http://app; }",
        _get("/x", "/closed/x"),
        (0, 1),
        around=_BASIC,
    ),
    Kind(
        "a server name with a named group, used here and in http",
        "location / { proxy_set_header X-Tenant $tenant; proxy_set_header X-Shard $shard; proxy_pass http://app; }",
        _get("/x", "/a%20b"),
        server_name="~^(?<tenant>HOST)$",
    ),
    Kind(
        "an error page that leads past a password",
        f"location / {{ {_BASIC} proxy_pass http://app; }} location @gone {{ proxy_pass http://app; }}",
        _get("/x") + _get("/x", headers=_PASSWORD),
        (0, 1),
        around="error_page 404 = @gone;",
    ),
)


def nginx_conf(folder: Path, port: int, addresses: Mapping[str, str]) -> dict[str, str]:
    """The owner's configuration without drain lines: a server with most kinds, half of them in an included file."""
    temps = "".join(f"{kind}_temp_path {folder}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    upstreams = "".join(f"upstream {name} {{ server {address}; }}\n" for name, address in addresses.items())
    zones = (
        "limit_req_zone $http_x_key zone=requests:1m rate=1r/m; limit_req_zone $http_x_key zone=own:1m rate=9r/m;"
        " limit_req_zone $http_x_key zone=around:1m rate=1r/m;"
        f" limit_conn_zone $http_x_key zone=connections:1m; proxy_cache_path {folder}/cache keys_zone=store:1m;"
        " map $http_upgrade $upgraded { default upgrade; '' close; }"
        " map $tenant $shard { default of-$tenant; ~^(kind)(.*) $1-of-$2; }"
    )
    plain = [kind.conf for kind in KINDS if not kind.has_server]
    own = [
        f"server {{ listen 127.0.0.1:{port}; server_name {kind.server_name.replace('HOST', host(kind)) or host(kind)};\n"
        f"{kind.around}\n{kind.conf}\n}}\n"
        for kind in KINDS
        if kind.has_server
    ]
    main = (
        f"user root root; daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log warn; events {{}}\n"
        f"http {{ {temps} {zones} access_log {folder}/access.log;\n{upstreams}"
        f"server {{\n    listen 127.0.0.1:{port};\n    rewrite ^/moved$ /plain/moved;\n    include more.conf;\n"
        + "\n".join(plain[::2])
        + f"\n}}\n{''.join(own)}}}\n"
    )
    more = "\n".join(plain[1::2]) + "\n"
    names = {"FOLDER": str(folder), "CERTIFICATE": f"{folder}/certificate.pem"}
    for word, text in names.items():
        main, more = main.replace(word, text), more.replace(word, text)
    return {"nginx.conf": main, "more.conf": more}


# ---- what stands behind it ----


@contextmanager
def backends(folder: Path) -> Iterator[tuple[dict[str, str], list[bytes]]]:
    """Their addresses by upstream, and what they were asked so far, byte for byte."""
    got: list[bytes] = []
    certificate_file = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file)
    context.sni_callback = lambda _stream, name, _context: got.append(f"SNI {name}".encode())

    def secure(stream: socket.socket) -> None:
        with context.wrap_socket(stream, server_side=True) as inner:
            _http(inner, got)

    fast = record(STDOUT, b"Status: 200\r\nContent-Type: text/plain\r\n\r\nfine") + record(STDOUT, b"") + END
    answers = {
        "app": lambda stream: _http(stream, got),
        "tls": secure,
        "rpc": lambda stream: _grpc(stream, got),
        "php": _says(fast, got),
        "sock": _says(fast, got),
        "uw": _says(b"HTTP/1.0 200 OK\r\n\r\nfine", got),
        "sc": _says(b"Status: 200 OK\r\n\r\nfine", got),
        "mem": _says(b"VALUE /mem/a?b=1 0 4\r\nfine\r\nEND\r\n", got),
    }
    with ExitStack() as closing:
        addresses = {}
        for name, answer in answers.items():
            family, bound = (socket.AF_UNIX, f"{folder}/{name}") if name == "sock" else (socket.AF_INET, ("127.0.0.1", 0))
            server = Server(family, bound, answer)
            closing.callback(server.close)
            addresses[name] = f"unix:{folder}/{name}" if name == "sock" else server.address
        yield addresses, got


def _says(answer: bytes, got: list[bytes]):
    def say(stream: socket.socket) -> None:
        got.append(stream.recv(65536))
        stream.sendall(answer)

    return say


def _http(stream: socket.socket, got: list[bytes]) -> None:
    """Its answer depends on the last part of the path."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        more = stream.recv(65536)
        if not more:
            return
        asked += more
    head, _, body = asked.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += stream.recv(65536)
    got.append(head + b"\r\n\r\n" + body)
    stream.sendall(_answer(head))
    if b"/hold" in head:
        select.select([stream], [], [], 20)  # until nginx, and so its client, has gone


def _answer(head: bytes) -> bytes:
    path = head.split(b" ")[1].partition(b"?")[0]
    if path == b"/ask":
        return _text(b"200 OK" if b"X-Ok: yes" in head else b"401 No", b"", b"X-Who: me\r\n")
    if b"/redirect" in path:
        return _text(b"302 Found", b"", b"Location: http://app/v1/there\r\n")
    if path == b"/accel/x":
        return _text(b"200 OK", b"", b"X-Accel-Redirect: /inside/from\r\n")
    if b"Upgrade: websocket" in head:
        return b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfine"
    if b"/hold" in path:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi"
    if path.endswith((b"/404", b"/500")):
        return _text(path[-3:] + b" Wrong", b"wrong")
    return _text(b"200 OK", b"fine")


def _text(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: text/html\r\nContent-Length: %d\r\n%bConnection: close\r\n\r\n%b" % (
        status,
        len(body),
        headers,
        body,
    )


def _grpc(stream: socket.socket, got: list[bytes]) -> None:
    """HTTP/2 as far as it takes: SETTINGS, and `:status: 200` on the first stream (RFC 9113)."""
    asked = stream.recv(65536)
    got.append(asked)
    stream.sendall(struct.pack(">BHBBI", 0, 0, 4, 0, 0) + struct.pack(">BHBBI", 0, 1, 1, 5, 1) + b"\x88")
    select.select([stream], [], [], 5)


# ---- what the client gets ----


def host(kind: Kind) -> str:
    """The name that its requests are sent to."""
    return f"kind{KINDS.index(kind)}.example" if kind.has_server else "shop.example"


def ask(port: int, request: Request, host: str, key: str) -> list[tuple[bytes, bytes]]:
    """The answers, head and body, of the same request sent `times` times. For `/hold` all are under way at once."""
    holding = "/hold" in request.path
    with ExitStack() as closing:
        found = []
        for _ in range(request.times):
            stream = closing.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            length = f"Content-Length: {len(request.body)}\r\n" if request.body else ""
            head = f"{request.method} {request.path} HTTP/1.1\r\nHost: {host}\r\n{request.headers.replace('KEY', key)}{length}\r\n"
            stream.sendall(head.encode("latin-1") + request.body)
            found.append(_read(stream, is_whole=not holding))
        return found


def _read(stream: socket.socket, *, is_whole: bool) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data and (more := stream.recv(65536)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
    length = 4 if b" 101 " in lines[0] else length
    is_chunked = b"transfer-encoding: chunked" in lines
    while is_whole and not (body.endswith(b"0\r\n\r\n") if is_chunked else length is not None and len(body) >= length):
        if not (more := stream.recv(65536)):
            break
        body += more
    return head, body if is_whole else b""

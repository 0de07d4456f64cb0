"""What `diagnose` tells apart: one code a cause, what a client got for it, and what to say to a person.

The codes are those of the JSON and never change their meaning. Texts are for whoever is woken by it: `why` is the likely reason
in a sentence, `check` what to look at on the server or host itself (a command where there is one), `fix` what to change, nginx's
directive named. No text holds anything that came out of a log.
"""

import re
from enum import StrEnum

from upswitch.basics.value import Value
from upswitch.logs.error_line import ErrorLine


class Code(StrEnum):
    """Every cause, by family."""

    # 502 of nginx's own making: no connection
    CONNECT_REFUSED = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECT_PERMISSION_DENIED = "connect_permission_denied"
    NO_ROUTE_TO_HOST = "no_route_to_host"
    NETWORK_UNREACHABLE = "network_unreachable"
    EPHEMERAL_PORTS_EXHAUSTED = "ephemeral_ports_exhausted"
    LISTEN_BACKLOG_FULL = "listen_backlog_full"
    UNIX_SOCKET_MISSING = "unix_socket_missing"
    UNIX_SOCKET_PERMISSION = "unix_socket_permission"
    UNIX_SOCKET_STALE = "unix_socket_stale"
    # no answer, or none that can be read
    UPSTREAM_RESET = "upstream_reset"
    UPSTREAM_PREMATURE_CLOSE = "upstream_premature_close"
    UPSTREAM_CLOSED_DURING_SEND = "upstream_closed_during_send"
    KEEPALIVE_RACE = "keepalive_race"
    HEADER_TOO_BIG = "header_too_big"
    HEADER_INVALID = "header_invalid"
    FASTCGI_PREMATURE_CLOSE = "fastcgi_premature_close"
    PROTOCOL_MISMATCH_FASTCGI = "protocol_mismatch_fastcgi"
    PROTOCOL_MISMATCH_GRPC = "protocol_mismatch_grpc"
    # nobody to ask
    NO_LIVE_ALL_DOWN = "no_live_all_down"
    HEALTH_CHECK_DOWN = "health_check_down"
    HEALTH_CHECK_NOT_YET_UP = "health_check_not_yet_up"
    MAX_CONNS = "max_conns"
    # names
    DNS_NXDOMAIN = "dns_nxdomain"
    DNS_REFUSED = "dns_refused"
    DNS_SERVFAIL = "dns_servfail"
    DNS_TIMEOUT = "dns_timeout"
    DNS_SERVER_DOWN = "dns_server_down"
    NO_RESOLVER = "no_resolver"
    # TLS to the upstream
    TLS_VERIFY_FAILED = "tls_verify_failed"
    TLS_NAME_MISMATCH = "tls_name_mismatch"
    TLS_CLIENT_CERT_REQUIRED = "tls_client_cert_required"
    TLS_PROTOCOL_MISMATCH = "tls_protocol_mismatch"
    TLS_CIPHER_MISMATCH = "tls_cipher_mismatch"
    TLS_SNI_REQUIRED = "tls_sni_required"
    TLS_HANDSHAKE_CLOSED = "tls_handshake_closed"
    TLS_TO_PLAIN_PORT = "tls_to_plain_port"
    # 504
    READ_TIMEOUT = "read_timeout"
    SEND_TIMEOUT = "send_timeout"
    TLS_HANDSHAKE_TIMEOUT = "tls_handshake_timeout"
    # somebody else's words
    UPSTREAM_ANSWERED = "upstream_answered"
    NGINX_RETURN = "nginx_return"
    LIMIT_REQ = "limit_req"
    LIMIT_CONN = "limit_conn"
    BODY_TOO_LARGE = "body_too_large"
    # taken for a 502
    AUTH_REQUEST_FAILED = "auth_request_failed"
    BIND_ADDRESS_MISSING = "bind_address_missing"
    FD_LIMIT = "fd_limit"
    WORKER_CONNECTIONS = "worker_connections"
    WORKER_CRASHED = "worker_crashed"
    WORKER_SHUTDOWN_TIMEOUT = "worker_shutdown_timeout"
    PROXY_PASS_INVALID_URL = "proxy_pass_invalid_url"  # noqa: S105  (nginx's word; no password)
    NOT_HTTP = "not_http"
    PLAIN_TO_TLS_PORT = "plain_to_tls_port"
    FASTCGI_SCRIPT_UNKNOWN = "fastcgi_script_unknown"
    # answers cut short
    UPSTREAM_PREMATURE_CLOSE_BODY = "upstream_premature_close_body"
    UPSTREAM_RESET_BODY = "upstream_reset_body"
    READ_TIMEOUT_BODY = "read_timeout_body"
    INVALID_CHUNKED = "invalid_chunked"
    TEMP_PATH_PERMISSION = "temp_path_permission"
    # tolerated
    NONE_TOLERATED = "none_tolerated"
    NONE_BUFFERING_NOTICE = "none_buffering_notice"
    CLIENT_CLOSED = "client_closed"
    # never came to serve
    HOST_NOT_FOUND_CONFIG = "host_not_found_config"


class Cause(Value):
    """One cause in words. `status` is what clients got: None where no access line is written, 0 and 9 where `000` and `009` are.

    `is_benign`: such a line alone says of nobody that he was hurt.
    """

    code: Code
    status: int | None
    why: str
    check: str
    fix: str
    is_benign: bool = False


class Rule(Value):
    """An error line that has this cause. Empty conditions ask for nothing.

    `message` is a regular expression from the start of `ErrorLine.message`, `errno` any of Linux's numbers, `action` and
    `upstream` how those begin. Never by level: TLS alerts were `[crit]` before 1.31.0 and are `[error]` since.
    """

    code: Code
    message: str = ""
    errno: frozenset[int] = frozenset()
    action: str = ""
    upstream: str = ""

    def fits(self, line: ErrorLine) -> bool:
        return (
            (not self.errno or line.errno in self.errno)
            and line.action.startswith(self.action)
            and line.upstream.startswith(self.upstream)
            and re.match(self.message, line.message) is not None
        )

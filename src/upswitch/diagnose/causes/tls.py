"""TLS towards an upstream.

Alerts are known by their numbers (RFC 8446, section 6.2): OpenSSL changed its words for them. Its other reasons are known by
their words: there it changed the numbers. Rules ask for an action towards the upstream: a client's own failures read the same.

PLAIN_TO_TLS_PORT has no rule: the server closes, resets or answers 400, and nginx writes what it writes about any such server.
"""

from upswitch.diagnose.causes.cause import Cause, Code, Rule

_HANDSHAKE = "SSL handshaking to upstream"
_OF_OUR_CERTIFICATE = (42, 43, 44, 45, 46, 48, 49, 116)
"""bad, unsupported, revoked, expired, unknown; unknown CA; access denied; required."""


def _alert(*numbers: int) -> str:
    return rf"SSL alert number (?:{'|'.join(map(str, numbers))})\)"


def _failed(code: Code, *reasons: str) -> Rule:
    """A handshake that failed for one of these reasons."""
    return Rule(code=code, message=rf"SSL_do_handshake\(\) failed \(SSL: .*(?:{'|'.join(reasons)})", action=_HANDSHAKE)


CAUSES: tuple[Cause, ...] = (
    Cause(
        code=Code.TLS_VERIFY_FAILED,
        status=502,
        why="`proxy_ssl_verify` is on and the server's certificate is not trusted, has expired, or is not yet valid",
        check="`openssl s_client -connect ADDRESS -servername NAME -CAfile FILE </dev/null`: its `Verify return code`",
        fix="renew the certificate, have the server send its intermediates, or correct `proxy_ssl_trusted_certificate`",
    ),
    Cause(
        code=Code.TLS_NAME_MISMATCH,
        status=502,
        why="the server's certificate is not for the name that nginx expects: without `proxy_ssl_name` that is the upstream's",
        check="`openssl s_client -connect ADDRESS -servername NAME </dev/null | openssl x509 -noout -ext subjectAltName`",
        fix="`proxy_ssl_name` with a name that the certificate has; it must not change when an upstream is renamed",
    ),
    Cause(
        code=Code.TLS_CLIENT_CERT_REQUIRED,
        status=502,
        why="the server asks for a client certificate, and nginx sent none, or one that the server does not accept",
        check="`openssl s_client -connect ADDRESS -servername NAME -cert FILE -key FILE`: `Acceptable client certificate CA names`",
        fix="`proxy_ssl_certificate` and `proxy_ssl_certificate_key` with a certificate that the server's CA has signed",
    ),
    Cause(
        code=Code.TLS_PROTOCOL_MISMATCH,
        status=502,
        why="nginx and the server have no version of TLS in common",
        check="`openssl s_client -connect ADDRESS -tls1_2`, then `-tls1_3`: which does the server take?",
        fix="`proxy_ssl_protocols` with a version that the server takes, or a newer TLS on the server",
    ),
    Cause(
        code=Code.TLS_CIPHER_MISMATCH,
        status=502,
        why="the server gave alert 40: no cipher in common, or before TLS 1.3 it misses a client certificate or a server name",
        check="`openssl s_client -connect ADDRESS -servername NAME -cipher LIST` with the list of `proxy_ssl_ciphers`",
        fix="`proxy_ssl_ciphers`; `proxy_ssl_server_name on` if only -servername helps, `proxy_ssl_certificate` if only -cert does",
    ),
    Cause(
        code=Code.TLS_SNI_REQUIRED,
        status=502,
        why="the server has no certificate for the name it was asked for; nginx sends none unless `proxy_ssl_server_name` is on",
        check="`openssl s_client -connect ADDRESS -noservername`, then with `-servername NAME`: which one succeeds? "
        "Neither: try `-tls1_2` (alert 80 is also what OpenSSL sends to a version it forbids)",
        fix="`proxy_ssl_server_name on`, and `proxy_ssl_name` with a name that the server knows",
    ),
    Cause(
        code=Code.TLS_HANDSHAKE_CLOSED,
        status=502,
        why="the server closed the connection during the TLS handshake: it misses a server name, denies us, or speaks no TLS",
        check="`openssl s_client -connect ADDRESS -servername NAME` from the nginx host, and the server's own log",
        fix="`proxy_ssl_server_name on`, the server's access rules, or `proxy_pass http://` where it speaks no TLS",
    ),
    Cause(
        code=Code.TLS_TO_PLAIN_PORT,
        status=502,
        why="what the server answered to the TLS handshake is not TLS: the port speaks plain text",
        check="`curl -i http://ADDRESS/` on the nginx host: a plain answer proves it",
        fix="`proxy_pass http://`, or the server's TLS port",
    ),
    Cause(
        code=Code.TLS_HANDSHAKE_TIMEOUT,
        status=504,
        why="the server took the connection and did not finish the TLS handshake within `proxy_connect_timeout`",
        check="`time openssl s_client -connect ADDRESS </dev/null` on the nginx host; the server's CPU and accept queue (`ss -lt`)",
        fix="the server's load or worker count, or `proxy_pass http://` where a plain server waits for the client's request",
    ),
    Cause(
        code=Code.PLAIN_TO_TLS_PORT,
        status=9,
        why="the port speaks TLS and got plain HTTP: it closes (502), answers 400 itself, or its TLS alert goes to clients (009)",
        check="`openssl s_client -connect ADDRESS </dev/null` on the nginx host: a certificate proves it",
        fix="`proxy_pass https://`, or the server's plain port",
    ),
)


RULES: tuple[Rule, ...] = (
    Rule(code=Code.TLS_HANDSHAKE_TIMEOUT, message=r"upstream timed out$", action=_HANDSHAKE),
    Rule(code=Code.TLS_VERIFY_FAILED, message=r"upstream SSL certificate verify error: "),
    Rule(code=Code.TLS_NAME_MISMATCH, message=r"upstream SSL certificate does not match "),
    Rule(code=Code.TLS_HANDSHAKE_CLOSED, message=r"peer closed connection in SSL handshake$", action=_HANDSHAKE),
    _failed(Code.TLS_HANDSHAKE_CLOSED, "unexpected eof while reading"),  # before 1.21.2, with OpenSSL 3
    _failed(Code.TLS_TO_PLAIN_PORT, "wrong version number", "unknown protocol"),
    _failed(Code.TLS_PROTOCOL_MISMATCH, _alert(70), "unsupported protocol", "no protocols available"),
    _failed(Code.TLS_CIPHER_MISMATCH, _alert(40, 71), "no ciphers available"),
    _failed(Code.TLS_SNI_REQUIRED, _alert(80, 112)),
    _failed(Code.TLS_CLIENT_CERT_REQUIRED, _alert(*_OF_OUR_CERTIFICATE)),
    *(
        Rule(
            code=Code.TLS_CLIENT_CERT_REQUIRED,
            message=rf"SSL_\w+\(\) failed \(SSL: .*{_alert(*_OF_OUR_CERTIFICATE)}",
            action=action,
        )
        for action in ("sending request to upstream", "reading response header from upstream")  # TLS 1.3: after its handshake
    ),
)

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
        why="`proxy_ssl_verify` is on, and the server's certificate is not trusted, has expired, or is not yet valid.",
        check="Run `openssl s_client -connect ADDRESS -servername NAME -CAfile FILE </dev/null` and read its `Verify return code`.",
        fix="Renew the certificate, let the server send its intermediates, or correct `proxy_ssl_trusted_certificate`.",
    ),
    Cause(
        code=Code.TLS_NAME_MISMATCH,
        status=502,
        why="The server's certificate is not for the name that nginx expects. Without `proxy_ssl_name` this is the upstream's "
        "name.",
        check="Run `openssl s_client -connect ADDRESS -servername NAME </dev/null | openssl x509 -noout -ext subjectAltName`.",
        fix="Set `proxy_ssl_name` to a name in the certificate. Then renaming the upstream changes nothing.",
    ),
    Cause(
        code=Code.TLS_CLIENT_CERT_REQUIRED,
        status=502,
        why="The server asks for a client certificate. nginx sent none, or one that the server does not accept.",
        check="Run `openssl s_client -connect ADDRESS -servername NAME -cert FILE -key FILE`: read `Acceptable client certificate "
        "CA names`.",
        fix="Set `proxy_ssl_certificate` and `proxy_ssl_certificate_key` to a certificate that the server's CA has signed.",
    ),
    Cause(
        code=Code.TLS_PROTOCOL_MISMATCH,
        status=502,
        why="nginx and the server have no version of TLS in common.",
        check="Run `openssl s_client -connect ADDRESS -tls1_2`, then with `-tls1_3`: which one does the server accept?",
        fix="Set `proxy_ssl_protocols` to a version that the server accepts, or give the server a newer TLS.",
    ),
    Cause(
        code=Code.TLS_CIPHER_MISMATCH,
        status=502,
        why="The server sent alert 40: no cipher in common, or (before TLS 1.3) no client certificate or server name.",
        check="Run `openssl s_client -connect ADDRESS -servername NAME -cipher LIST` with the list of `proxy_ssl_ciphers`.",
        fix="Change `proxy_ssl_ciphers`. If only -servername helps, set `proxy_ssl_server_name on`; if only -cert, "
        "`proxy_ssl_certificate`.",
    ),
    Cause(
        code=Code.TLS_SNI_REQUIRED,
        status=502,
        why="The server has no certificate for the requested name. nginx sends a name only with `proxy_ssl_server_name on`.",
        check="Run `openssl s_client -connect ADDRESS -noservername`, then with `-servername NAME`: which one succeeds? If "
        "neither does, try `-tls1_2` (OpenSSL sends alert 80 also for a version that it forbids).",
        fix="Set `proxy_ssl_server_name on`, and `proxy_ssl_name` to a name that the server knows.",
    ),
    Cause(
        code=Code.TLS_HANDSHAKE_CLOSED,
        status=502,
        why="The server closed the connection during the TLS handshake. It wants a server name, denies nginx, or does not speak "
        "TLS.",
        check="Run `openssl s_client -connect ADDRESS -servername NAME` on the nginx host, and read the server's own log.",
        fix="Set `proxy_ssl_server_name on`, change the server's access rules, or write `proxy_pass http://` if it does not speak "
        "TLS.",
    ),
    Cause(
        code=Code.TLS_TO_PLAIN_PORT,
        status=502,
        why="The server answered the TLS handshake with something else than TLS. The port speaks plain text.",
        check="Run `curl -i http://ADDRESS/` on the nginx host. A plain answer proves it.",
        fix="Write `proxy_pass http://`, or use the server's TLS port.",
    ),
    Cause(
        code=Code.TLS_HANDSHAKE_TIMEOUT,
        status=504,
        why="The server accepted the connection and did not finish the TLS handshake within `proxy_connect_timeout`.",
        check="Run `time openssl s_client -connect ADDRESS </dev/null` on the nginx host. Check the server's CPU and accept queue "
        "(`ss -lt`).",
        fix="Reduce the server's load or add workers. If a plain server waits for the request, write `proxy_pass http://`.",
    ),
    Cause(
        code=Code.PLAIN_TO_TLS_PORT,
        status=9,
        why="The port speaks TLS and got plain HTTP. The server closes (502), answers 400, or its TLS alert reaches clients (009).",
        check="Run `openssl s_client -connect ADDRESS </dev/null` on the nginx host. A certificate proves it.",
        fix="Write `proxy_pass https://`, or use the server's plain port.",
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

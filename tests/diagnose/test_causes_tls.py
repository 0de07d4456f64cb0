"""The causes of tls.py, each made to happen with real TLS: the line that a real nginx then wrote has that cause."""

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from failing import EACH_NGINX, Case, answers, happened, nobody
from frontend import frontend
from servers import Answer, asked_then, reset, serving, wait_for_close
from upswitch.diagnose.causes import catalogue, cause_of
from upswitch.logs.error_line import ErrorLine, parse_error

PASS = "proxy_pass https://UPSTREAM;"
OURS = "proxy_ssl_certificate FOLDER/cert.pem; proxy_ssl_certificate_key FOLDER/key.pem;"
HTTP_400 = b"HTTP/1.1 400 Bad Request\r\n\r\n"
FATAL_ALERT = b"\x15\x03\x01\x00\x02\x02\x28"

Setup = Callable[[ssl.SSLContext], None]


def certificate(folder: Path) -> tuple[str, str]:
    """A self-signed certificate for `localhost`, and its key."""
    paths = f"{folder}/cert.pem", f"{folder}/key.pem"
    made = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost")
    subprocess.run(("openssl", "req", *made, "-out", paths[0], "-keyout", paths[1]), capture_output=True, check=True, timeout=20)
    return paths


def talks(context: ssl.SSLContext) -> Answer:
    """TLS by Python's OpenSSL, which lets its alert arrive: who closes with something unread sends a reset after it."""

    def talk(stream: socket.socket) -> None:
        came, said = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = context.wrap_bio(came, said, server_side=True)
        while got := stream.recv(65536):
            came.write(got)
            try:
                secure.do_handshake()
                secure.read()
            except ssl.SSLWantReadError:
                stream.sendall(said.read())
            except ssl.SSLError:
                stream.sendall(said.read())
                stream.shutdown(socket.SHUT_WR)

    return talk


def secured(setup: Setup = lambda _: None):
    """A TLS server with a certificate of its own."""

    @contextmanager
    def start(folder: Path):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(folder))
        setup(context)
        with serving(talks(context)) as server:
            yield server.address

    return start


@contextmanager
def with_a_certificate(folder: Path):
    """Nobody yet: a case's own `server` listens there."""
    certificate(folder)
    with nobody(folder) as address:
        yield address


@contextmanager
def another_trusted(folder: Path):
    (folder / "ca").mkdir()
    certificate(folder / "ca")
    with secured()(folder) as address:
        yield address


def only(version: ssl.TLSVersion) -> Setup:
    def setup(context: ssl.SSLContext) -> None:
        with (
            pytest.warns(DeprecationWarning, match="is deprecated")
            if version < ssl.TLSVersion.TLSv1_2
            else contextlib.nullcontext()
        ):
            context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")

    return setup


def one_cipher(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")


def wants_a_certificate(context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_REQUIRED


def wants_a_name(alert: ssl.AlertDescription) -> Setup:
    def setup(context: ssl.SSLContext) -> None:
        context.sni_callback = lambda _, name, __: None if name else alert

    return setup


def case(code, *, status="502", **words):
    return Case(codes=frozenset({code} if code else ()), status=status, **{"location": PASS, **words})


def versions(text):
    return f"{PASS} proxy_ssl_protocols {text};"


CASES = {
    "unknown_issuer": case(
        "tls_verify_failed",
        upstream=another_trusted,
        location=PASS + "proxy_ssl_verify on; proxy_ssl_trusted_certificate FOLDER/ca/cert.pem;",
    ),
    "name_of_the_upstream": case(
        "tls_name_mismatch",
        upstream=secured(),
        http="upstream NAME { server UPSTREAM; }",
        location="proxy_pass https://NAME; proxy_ssl_verify on; proxy_ssl_trusted_certificate FOLDER/cert.pem;",
    ),
    "no_client_certificate": case("tls_client_cert_required", upstream=secured(wants_a_certificate), location=versions("TLSv1.3")),
    "no_client_certificate_before_1_3": case(  # the same alert as for ciphers: nobody can tell
        "tls_cipher_mismatch", upstream=secured(wants_a_certificate), location=versions("TLSv1.2")
    ),
    "unknown_client_certificate": case(
        "tls_client_cert_required", upstream=secured(wants_a_certificate), location=versions("TLSv1.3") + OURS
    ),
    "unknown_client_certificate_before_1_3": case(
        "tls_client_cert_required", upstream=secured(wants_a_certificate), location=versions("TLSv1.2") + OURS
    ),
    "server_is_newer": case("tls_protocol_mismatch", upstream=secured(only(ssl.TLSVersion.TLSv1_3)), location=versions("TLSv1.2")),
    "server_is_older": case("tls_protocol_mismatch", upstream=secured(only(ssl.TLSVersion.TLSv1_1)), location=versions("TLSv1.2")),
    "server_is_much_older": case(
        "tls_protocol_mismatch", upstream=secured(only(ssl.TLSVersion.TLSv1_2)), location=versions("TLSv1.3")
    ),
    "other_ciphers": case(
        "tls_cipher_mismatch",
        upstream=secured(one_cipher),
        location=versions("TLSv1.2") + "proxy_ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;",
    ),
    "no_ciphers_at_all": case(
        "tls_cipher_mismatch",
        upstream=secured(),
        location=versions("TLSv1.2") + 'proxy_ssl_ciphers "AES128-SHA:@SECLEVEL=5";',
    ),
    "no_server_name": case(
        "tls_sni_required", upstream=secured(wants_a_name(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME))
    ),
    "no_server_name_and_an_internal_error": case(
        "tls_sni_required", upstream=secured(wants_a_name(ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR))
    ),
    "closed": case("tls_handshake_closed", upstream=answers(asked_then())),
    "reset": case("tls_handshake_closed", upstream=answers(asked_then(reset))),
    "plain_http": case("tls_to_plain_port", upstream=answers(HTTP_400)),
    "plain_ssh": case("tls_to_plain_port", upstream=answers(b"SSH-2.0-OpenSSH_9.2\r\n")),
    "silent": case(
        "tls_handshake_timeout",
        status="504",
        upstream=answers(wait_for_close),
        location=PASS + "proxy_connect_timeout 200ms;",
    ),
    # what PLAIN_TO_TLS_PORT looks like: as its server pleases
    "tls_closes": case("upstream_premature_close", upstream=secured(), location="proxy_pass http://UPSTREAM;"),
    "tls_alerts": case(
        "not_http", status="009", upstream=answers(FATAL_ALERT), location="proxy_pass http://UPSTREAM; proxy_http_version 1.0;"
    ),
    "tls_answers": case(
        None,
        status="400",
        upstream=with_a_certificate,
        http="""server {
            listen UPSTREAM ssl; access_log off; ssl_certificate FOLDER/cert.pem; ssl_certificate_key FOLDER/key.pem;
        }""",
        location="proxy_pass http://UPSTREAM;",
    ),
}


@pytest.fixture(scope="module", params=EACH_NGINX)
def seen(request, tmp_path_factory):
    return happened(request.param, tmp_path_factory.mktemp("seen"), CASES)


@pytest.mark.parametrize("name", CASES)
def test_what_nginx_wrote_about_tls_has_its_cause(seen, name):
    assert seen[name].codes == CASES[name].codes, seen[name].raw
    assert seen[name].statuses == [CASES[name].status]


def test_every_cause_in_tls_was_made_to_happen():
    of_tls = {code for code, cause in catalogue().causes.items() if code.startswith("tls_")}
    assert of_tls <= {code for case in CASES.values() for code in case.codes}


def test_a_closed_handshake_in_the_words_of_older_nginx_with_openssl_3_has_its_cause():
    message = "SSL_do_handshake() failed (SSL: error:0A000126:SSL routines::unexpected eof while reading)"
    line = ErrorLine(level="error", pid=1, connection=1, message=message, action="SSL handshaking to upstream")
    assert cause_of(line) == "tls_handshake_closed"


def hello(port: int, context: ssl.SSLContext) -> None:
    with socket.create_connection(("127.0.0.1", port)) as stream, contextlib.suppress(ssl.SSLError):
        context.wrap_socket(stream, server_hostname="localhost")


def test_what_clients_get_wrong_in_tls_is_no_cause(nginx, tmp_path):
    certificate(tmp_path)
    server = "listen 127.0.0.1:PORT ssl; ssl_certificate FOLDER/cert.pem; ssl_certificate_key FOLDER/key.pem;"
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    only(ssl.TLSVersion.TLSv1_1)(old)
    http = f"access_log off; error_log FOLDER/clients.log info; server {{ {server} ssl_protocols TLSv1.2; }}"
    with frontend(nginx, tmp_path, http) as front:
        front.send(b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x05hello", FATAL_ALERT)
        hello(front.port, ssl.create_default_context())
        hello(front.port, old)
        lines = [parse_error(line) for line in front.lines("clients.log", 6)]
    assert {cause_of(line) for line in lines} == {None}
    assert {"alert number 48" in line.message for line in lines} == {True, False}

"""Servers to probe: sockets that answer as a test says, and real ones of every probe type.

MariaDB and PHP are Debian's, in .lab (scripts/setup test); TLS is Python's own.
"""

import contextlib
import datetime as dt
import ipaddress
import os
import select
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from upswitch.site.model import CheckType, GateRule
from upswitch_lab.process import Process, free_port, is_listening, until

HTTP = GateRule(
    type=CheckType.HTTP,
    rise=1,
    fall=1,
    default_down=True,
    timeout=5.0,
    interval=1.0,
    deadline=10.0,
    port=0,
    http_send="GET /healthz HTTP/1.0\r\n\r\n",
    http_expect_alive=("http_2xx", "http_3xx"),
    expect_body="",
)

Answer = Callable[[socket.socket], None]

NOT_IN_LAB = "is not in .lab: run scripts/setup test on a Debian, with a network"
_DEBIAN = Path(__file__).parents[2] / ".lab/debian"
MARIADB = _DEBIAN / "usr/sbin/mariadbd"
PHP = next(iter(sorted(_DEBIAN.glob("usr/bin/php-cgi*"))), _DEBIAN / "usr/bin/php-cgi")


class Server:
    """Answers each connection in a thread of its own with `answer`, and keeps what each client sent first."""

    def __init__(self, family: socket.AddressFamily, bound: object, answer: Answer) -> None:
        self.got: list[bytes] = []
        self._answer = answer
        self._socket = socket.socket(family)
        self._socket.bind(bound)
        self._socket.listen(512)
        self.name = self._socket.getsockname()
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.name[1]}"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._socket.accept()
                thread = threading.Thread(target=self._talk, args=(stream,))
                self._threads.append(thread)
                thread.start()

    def _talk(self, stream: socket.socket) -> None:
        with stream, contextlib.suppress(OSError):
            stream.settimeout(20)
            self._answer(stream)

    def asked(self, stream: socket.socket) -> bytes:
        self.got.append(stream.recv(65536))
        return self.got[-1]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()


@contextmanager
def serving(answer: Answer | bytes, *, family: socket.AddressFamily = socket.AF_INET, bound: object = ("127.0.0.1", 0)):
    """`answer` talks on the stream; bytes are sent after the request has come, and then the stream is closed."""

    def say(stream: socket.socket) -> None:
        server.asked(stream)
        stream.sendall(answer)

    server = Server(family, bound, say if isinstance(answer, bytes) else answer)
    try:
        yield server
    finally:
        server.close()


# ---- answers ----


def wait_for_close(stream: socket.socket) -> None:
    while stream.recv(65536):
        pass


def close(_: socket.socket) -> None:
    """Close at once."""


def reset(stream: socket.socket) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def asked_then(*answers: Answer) -> Answer:
    """Wait for the request, then one after the other."""

    def say(stream: socket.socket) -> None:
        stream.recv(65536)
        for answer in answers:
            answer(stream)

    return say


def pieces(*parts: bytes) -> Answer:
    """Send the parts so that each is read on its own, then wait for the client to close."""

    def say(stream: socket.socket) -> None:
        for part in parts:
            stream.sendall(part)
            if select.select([stream], [], [], 0.06)[0]:
                return
        wait_for_close(stream)

    return say


def greets(*parts: bytes) -> Answer:
    """Speak first, a moment after the connection: nginx misses a greeting that comes in the same instant."""
    say = pieces(b"", *parts)
    return lambda stream: None if select.select([stream], [], [], 0.03)[0] else say(stream)


def record(kind: int, content: bytes, *, request: int = 1, padding: int = 0) -> bytes:
    """One FastCGI record; its sixth to eighth byte say the padding."""
    return struct.pack(">BBHHBx", 1, kind, request, len(content), padding) + content + bytes(padding)


STDOUT, STDERR, END = 6, 7, record(3, bytes(8))


def ajp(stream: socket.socket) -> None:
    """An AJP13 server with nothing behind it: CPong to each CPing, and the connection closed at anything else."""
    with stream.makefile("rb") as packets:
        while (head := packets.read(4))[:2] == b"\x12\x34":
            if packets.read(int.from_bytes(head[2:])) != b"\x0a":
                return
            stream.sendall(b"AB\x00\x01\x09")


# ---- real ones ----


@contextmanager
def tls(folder: Path, versions: tuple[ssl.TLSVersion, ssl.TLSVersion]) -> Iterator[str]:
    """Python's ssl from the oldest to the newest version, with a certificate of its own. The address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = versions
    context.load_cert_chain(certificate(folder))

    def handshake(stream: socket.socket) -> None:
        with context.wrap_socket(stream, server_side=True) as secure:
            wait_for_close(secure)

    with serving(handshake) as server:
        yield server.address


@contextmanager
def mariadb(folder: Path) -> Iterator[str]:
    """A MariaDB without users, privileges or InnoDB: it starts in an empty folder in a tenth of a second. The address."""
    port = free_port("127.0.0.1")
    messages = _DEBIAN / "usr/share/mysql"
    data = folder / "mariadb"
    data.mkdir()
    options = {
        "datadir": data,
        "socket": f"mariadb-{port}.sock",  # in the data folder: a longer path is too long for a socket
        "pid-file": data / "pid",
        "bind-address": "127.0.0.1",
        "port": port,
        "lc-messages-dir": messages,
        "character-sets-dir": messages / "charsets",
        "default-storage-engine": "Aria",
        "skip-networking": 0,
        **({"user": "root"} if os.geteuid() == 0 else {}),
    }
    argv = (f"{MARIADB}", "--no-defaults", "--skip-grant-tables", "--skip-innodb")
    yield from started((*argv, *(f"--{key}={value}" for key, value in options.items())), folder, port)


@contextmanager
def php(folder: Path) -> Iterator[str]:
    """php-cgi as a FastCGI server of any script that it is asked for. The address."""
    port = free_port("127.0.0.1")
    yield from started((f"{PHP}", "-n", "-b", f"127.0.0.1:{port}"), folder, port)


def runs(program: Path) -> bool:
    """Whether it is here, with all its libraries."""
    return (
        subprocess.run(_with_libraries((f"{program}", "--version")), capture_output=True, check=False, timeout=20).returncode == 0
    )


def started(argv: tuple[str, ...], folder: Path, port: int) -> Iterator[str]:
    """One of Debian's servers, as soon as it listens. Its address."""
    log = folder / f"{Path(argv[0]).name}.log"
    with log.open("wb") as out:
        process = Process(_with_libraries(argv), out=out)
    try:
        until(lambda: is_listening(f"127.0.0.1:{port}") or not process.is_alive, what=argv[0])
        assert process.is_alive, log.read_text()
        yield f"127.0.0.1:{port}"
    finally:
        process.end()


def _with_libraries(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Debian's libraries that this machine lacks lie in .lab too."""
    folders = ":".join(map(str, _DEBIAN.glob("**/lib/*-linux-gnu*")))
    return ("env", f"LD_LIBRARY_PATH={folders}", *argv)


def certificate(folder: Path) -> Path:
    """A key and a self-signed certificate in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path

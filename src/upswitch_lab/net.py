"""Loopback, as the laboratory uses it. Addresses are HOST:PORT."""

import http.client
import secrets
import socket


def free_port(host: str) -> int:
    """A port nobody listens on, below the kernel's ephemeral range: there an outgoing connection of a load could take it."""
    while True:
        port = 12000 + secrets.randbelow(18000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port


def is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, int(port))) == 0


def ask(address: str, path: str, *, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET" if body is None else "POST", path, body, {"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()

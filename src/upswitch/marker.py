"""Asking our own server in nginx, the marker, from where the host stands."""

import time

from upswitch.core.confirm import Marker, parse_marker
from upswitch.core.site import Nginx
from upswitch.ports import Host

_PART = 65536  # bytes
_LARGEST = 1 << 22


def ask_marker(host: Host, nginx: Nginx, *, path: str = "/", timeout: float = 1.0) -> Marker | None:
    """The generation that nginx answers with on the marker address; None where nothing of ours answers."""
    body = ask(host, nginx, path=path, timeout=timeout)
    return parse_marker(body) if body is not None else None


def ask(host: Host, nginx: Nginx, *, path: str, timeout: float = 1.0) -> bytes | None:
    """The body of one GET on the marker server; None for no answer within `timeout` seconds, or one that is not 200.

    A dozen lines instead of httpx: our own server is asked for one short line, up to a hundred times a second during a
    confirm, from where the host stands; and httpx takes 120 ms to import, which is all that `status` may take.
    """
    until = time.monotonic() + timeout  # over all of it: whoever drips bytes in nginx's place is not waited for
    try:
        with host.connect(nginx.marker, timeout=timeout) as stream:
            stream.settimeout(timeout)
            stream.sendall(f"GET {path} HTTP/1.0\r\nHost: upswitch\r\n\r\n".encode())
            answer = b""
            while len(answer) < _LARGEST and (data := stream.recv(_PART)):
                answer += data
                stream.settimeout(max(0.001, until - time.monotonic()))
    except OSError:
        return None
    return body_of(answer)


def body_of(answer: bytes) -> bytes | None:
    """None where the answer is not 200."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return body if head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")) else None

"""Asking our own server in nginx, the marker, from where the host stands."""

from upswitch.basics.value import Value
from upswitch.site.words import parse_name


def body_of(answer: bytes) -> bytes | None:
    """None where the answer is not 200."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return body if head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")) else None


class Marker(Value):
    """One answer of the marker server: the generation, and the worker that gave it (0: an older format)."""

    generation: str
    pid: int = 0


def parse_marker(body: bytes) -> Marker | None:
    """`000042-B 1234` -> Marker; None where it is not our marker that answers."""
    words = body.decode("ascii", "replace").split()
    if not words or len(words) > 2 or parse_name(words[0]) is None:  # noqa: PLR2004
        return None
    is_pid = len(words) > 1 and words[1].isascii() and words[1].isdigit() and len(words[1]) < 10  # noqa: PLR2004
    return Marker(generation=words[0], pid=int(words[1]) if is_pid else 0)

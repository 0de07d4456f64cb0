"""A name server that answers every question in one way: a real DNS message over UDP (RFC 1035, section 4.1)."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED, REFUSED = range(6)
_ANSWER, _RECURSION = 0x8000, 0x0180
_HEAD = 12


@contextmanager
def answering(code: int | None) -> Iterator[str]:
    """Says `code` without any record to each question, and nothing at all where it is None. The address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        address = server.getsockname()
        thread = threading.Thread(target=_serve, args=(server, code))
        thread.start()
        try:
            yield f"127.0.0.1:{address[1]}"
        finally:
            server.sendto(b"", address)
            thread.join()


def _serve(server: socket.socket, code: int | None) -> None:
    """Until an empty datagram comes."""
    while (got := server.recvfrom(512))[0]:
        question, client = got
        if code is not None:
            with contextlib.suppress(OSError):
                server.sendto(_answer(question, code), client)


def _answer(question: bytes, code: int) -> bytes:
    flags = _ANSWER | _RECURSION | code
    return question[:2] + struct.pack(">HHHHH", flags, 1, 0, 0, 0) + question[_HEAD:]

"""A real terminal, for what is drawn on one."""

import os
import pty
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def terminal(typed: bytes = b"") -> Iterator[tuple[int, bytearray]]:
    """The descriptor that a program gets, and what it was sent: all of it after the context. `typed`: what a person types."""
    master, slave = pty.openpty()
    os.write(master, typed)
    seen = bytearray()

    def read() -> None:
        try:
            while data := os.read(master, 65536):
                seen.extend(data)
        except OSError:  # the other side is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield slave, seen
    finally:
        os.close(slave)
        reader.join()
        os.close(master)

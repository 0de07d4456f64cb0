"""Clients that ask a laboratory's nginx for the same path over and over, each from an address of its own."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

CROWD = tuple(f"127.0.1.{number}" for number in range(1, 9))


@contextmanager
def repeated(act: Callable[[threading.Event], object], *, every: float) -> Iterator[None]:
    """Again and again in a thread for as long as the context. `act` gets the event that ends it."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(every):
            act(over)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def client(server: str, path: str = "/", *, rate: float, address: str = "127.0.0.1") -> Iterator[None]:
    """A client at this address, which asks a server for a path so many times a second."""

    def ask(_: threading.Event) -> None:
        connection = http.client.HTTPConnection(server, timeout=10, source_address=(address, 0))
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()

    with repeated(ask, every=1 / rate):
        yield


@contextmanager
def crowd(server: str, *, rate: float) -> Iterator[None]:
    """Eight clients, each at this rate."""
    with ExitStack() as stack:
        for address in CROWD:
            stack.enter_context(client(server, rate=rate, address=address))
        yield

"""A private nginx with an http block of the test's own, and raw requests to it: for what it writes into its logs."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upswitch_lab.process import Process, free_port, is_listening, until

_TEMPS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Frontend:
    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def send(self, *requests: bytes) -> None:
        """Each on a connection of its own, read to its end."""
        for request in requests:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as stream:
                stream.sendall(request)
                while stream.recv(1 << 16):
                    pass

    def lines(self, name: str, count: int) -> list[bytes]:
        """The lines of a log as soon as there are `count`."""
        path = self.folder / name
        until(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, what=f"{count} lines in {name}")
        return path.read_bytes().split(b"\n")[:-1]


@contextmanager
def frontend(binary: str, folder: Path, http: str) -> Iterator[Frontend]:
    """`http` may use PORT, the port that it has to listen on, and FOLDER."""
    port = free_port("127.0.0.1")
    temps = "".join(f"{kind}_temp_path {folder}/temp;" for kind in _TEMPS)
    user = "user root root;" if os.geteuid() == 0 else ""
    inner = temps + http.replace("PORT", str(port)).replace("FOLDER", str(folder))
    conf = f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} http {{ {inner} }}"
    (folder / "nginx.conf").write_text(conf)
    with (folder / "out").open("wb") as out:
        nginx = Process((binary, "-p", f"{folder}", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"), out=out)
    try:
        until(lambda: is_listening(f"127.0.0.1:{port}") or not nginx.is_alive, what="nginx")
        assert nginx.is_alive, (folder / "error.log").read_text()
        yield Frontend(folder, port)
    finally:
        nginx.end()

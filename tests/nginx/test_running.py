"""Asking our own server in nginx: whoever answers in its place can't hold us up."""

import socket
import threading

import pytest

from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.nginx.running import ask, ask_marker
from upswitch.site.model import Nginx


@pytest.fixture
def answering():
    """A server that gives each client these bytes, a byte at a time; it ends with the test."""
    over = threading.Event()
    served = []

    def serve(server, data):
        while not over.is_set():
            try:
                stream, _ = server.accept()
            except OSError:
                return
            with stream:
                for byte in data * 1000:
                    if over.wait(0.02):
                        break
                    try:
                        stream.sendall(bytes([byte]))
                    except OSError:
                        break

    def start(data):
        server = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=serve, args=(server, data))
        thread.start()
        served.append((server, thread))
        return Nginx(marker=f"127.0.0.1:{server.getsockname()[1]}")

    yield start
    over.set()
    for server, thread in served:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def test_an_answer_that_comes_byte_by_byte_ends_at_the_deadline(answering):
    nginx = answering(b"HTTP/1.0 200 OK\r\n\r\n000001-A 12\n")
    assert ask(LocalHost(SystemClock()), nginx, path="/", timeout=0.3) is None


def test_the_marker_of_a_running_nginx_is_read_whole(lab):
    assert ask_marker(LocalHost(SystemClock()), lab.site.nginx).generation == "000001-A"

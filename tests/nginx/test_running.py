"""Asking our own server in nginx: whoever answers in its place can't hold us up."""

import socket
import threading
import time

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

    def serve(server, data, times):
        while not over.is_set():
            try:
                stream, _ = server.accept()
            except OSError:
                return
            with stream:
                stream.recv(1 << 10)  # else its end would be a reset
                for byte in data * times:
                    if over.wait(0.02):
                        break
                    try:
                        stream.sendall(bytes([byte]))
                    except OSError:
                        break

    def start(data, *, times=1000):
        server = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=serve, args=(server, data, times))
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


class SlowToConnect(LocalHost):
    """As in a container on a busy machine, where a program must start before there is a connection."""

    def connect(self, address, *, timeout):
        began = time.monotonic()
        while time.monotonic() - began <= timeout:
            pass
        return super().connect(address, timeout=timeout)


def test_the_time_to_connect_is_not_taken_from_the_answer(answering):
    """Whose parts come 20 ms apart, also here."""
    nginx = answering(b"HTTP/1.0 200 OK\r\n\r\n000001-A 12\n", times=1)
    assert ask(SlowToConnect(SystemClock()), nginx, path="/", timeout=2.0) == b"000001-A 12\n"


def test_the_marker_of_a_running_nginx_is_read_whole(lab):
    assert ask_marker(LocalHost(SystemClock()), lab.site.nginx).generation == "000001-A"

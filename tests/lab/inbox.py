"""A real HTTP server that takes notices: it keeps each body and header, and answers with a status, or never."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Inbox(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, statuses, *, is_silent=False):
        super().__init__(("127.0.0.1", 0), _Taking)
        self.statuses = list(statuses)
        self.is_silent = is_silent
        self.over = threading.Event()
        self.bodies, self.headers, self.paths = [], [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/T0/SECRET"


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self):
        inbox = self.server
        inbox.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        inbox.headers.append(self.headers)
        inbox.paths.append(self.path)
        if inbox.is_silent:
            inbox.over.wait(30)
            return
        self.send_response(inbox.statuses.pop(0) if len(inbox.statuses) > 1 else inbox.statuses[0])
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@contextmanager
def inbox(*statuses, is_silent=False):
    server = Inbox(statuses or (200,), is_silent=is_silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()

"""Failures made to happen with a real nginx: one location a case, all asked at once, and what nginx wrote about each.

`happened` runs nginx as it is; `happened_walled` in a network namespace of its own, where routes, ports and timeouts are ours.
"""

import os
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from frontend import frontend
from servers import Answer, serving
from skips import NONE_HERE
from upswitch.diagnose.causes import cause_of
from upswitch.logs.error_line import ErrorLine, parse_error
from upswitch_lab.find import find_nginx
from upswitch_lab.process import Process, free_port, until

EACH_NGINX = [pytest.param(path, id=version) for version, path in find_nginx()] or [NONE_HERE]
"""Parameters of a module's fixture: the `nginx` of conftest.py is one test's."""

HAPPENS_IN_OWN = {
    *("auth_request_failed", "body_too_large", "client_closed", "fd_limit", "health_check_down", "host_not_found_config"),
    *("limit_conn", "limit_req", "no_live_all_down", "no_resolver", "none_tolerated", "proxy_pass_invalid_url"),
    *("certificate_unusable", "config_refused", "disk_full", "listen_failed", "rewrite_cycle"),
    *("worker_connections", "worker_crashed"),
    *("dns_nxdomain", "dns_refused", "dns_server_down", "dns_servfail", "dns_timeout"),
}
"""Causes that test_causes_own.py makes happen. test_causes_tls.py has all that begin with `tls_`, test_causes.py all others."""

Upstream = Callable[[Path], AbstractContextManager[str]]
"""Given the case's folder, what stands for UPSTREAM in its location while the server lives."""

_Connect = Callable[[], AbstractContextManager[socket.socket]]
_UNSHARE = ("unshare", "--net", "--map-root-user", "sh", "-ec")
_NO_OVERRIDE = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
_LOGS = "log_format cases '$connection $status $http_x_case'; access_log FOLDER/access.log cases; error_log FOLDER/error.log info;"
_TEMPS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def nobody(_: Path) -> AbstractContextManager[str]:
    """An address where nobody listens."""
    return nullcontext(f"127.0.0.1:{free_port('127.0.0.1')}")


def answers(answer: Answer | bytes) -> Upstream:
    """A server of `serving`, by its address."""

    @contextmanager
    def start(_: Path) -> Iterator[str]:
        with serving(answer) as server:
            yield server.address

    return start


@contextmanager
def full(_: Path):
    """A port whose accept queue is full: the kernel drops what else would connect."""
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        for _ in range(4):
            stream = stack.enter_context(socket.socket())
            stream.settimeout(0)
            stream.connect_ex(server.getsockname())
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def full_unix(folder: Path):
    with ExitStack() as stack:
        server = stack.enter_context(_bound(folder))
        server.listen(0)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(server.getsockname())
        yield server.getsockname()


@contextmanager
def stale_unix(folder: Path):
    with _bound(folder) as server:
        path = server.getsockname()
    yield path


@contextmanager
def missing_unix(folder: Path):
    yield f"{folder}/socket"


@contextmanager
def forbidden_unix(folder: Path):
    with _bound(folder) as server:
        server.listen()
        os.chmod(server.getsockname(), 0)
        yield server.getsockname()


def _bound(folder: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{folder}/socket")
    return server


@contextmanager
def much_and_nowhere_to_put_it(folder: Path):
    """A socket with an answer larger than the buffers, and a folder for temporary files in which nobody may write."""
    folders = [folder / f"temp/{digit}" for digit in range(10)]
    for path in folders:
        path.mkdir(parents=True)
        path.chmod(0)
    try:
        with serving(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(2 << 20), family=socket.AF_UNIX, bound=f"{folder}/socket") as server:
            yield server.name
    finally:
        for path in folders:
            path.chmod(0o700)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What happens in `location /NAME`. NAME, UPSTREAM and FOLDER (the case's own) stand for themselves in `location` and `http`.

    `requests` go out one after the other, each on a connection of its own; NAME stands for the case's name. `status` is that of the
    last one in the access log. `codes` are the causes of all lines that the case wrote; None for a line that has none.
    """

    codes: frozenset[str | None]
    status: str
    location: str = "proxy_pass http://UPSTREAM;"
    upstream: Upstream = nobody
    requests: tuple[bytes, ...] = (b"GET /NAME HTTP/1.0\r\n\r\n",)
    http: str = ""


@dataclass(frozen=True)
class Seen:
    """What nginx wrote: `statuses` in the access log, and the lines of these connections in the error log."""

    statuses: list[str]
    raw: list[bytes]

    @property
    def lines(self) -> list[ErrorLine]:
        return [line for raw in self.raw if (line := parse_error(raw))]

    @property
    def codes(self) -> frozenset[str | None]:
        return frozenset(map(cause_of, self.lines))


def happened(binary: str, folder: Path, cases: Mapping[str, Case]) -> dict[str, Seen]:
    """All cases at one nginx."""
    with ExitStack() as stack:
        http = _http(stack, folder, cases)
        front = stack.enter_context(frontend(binary, folder, http.replace("LISTEN", "127.0.0.1:PORT")))
        return _ask_all(folder, cases, lambda: socket.create_connection(("127.0.0.1", front.port), timeout=10))


def happened_walled(binary: str, folder: Path, cases: Mapping[str, Case], setup: str) -> dict[str, Seen]:
    """All cases at one nginx in a network namespace of its own; `setup` is a shell script that runs there first.

    This nginx has no right to pass over the permissions of files, not even where the tests run as root.
    """
    with ExitStack() as stack:
        http = _http(stack, folder, cases)
        front = stack.enter_context(_walled(binary, folder, http, setup))
        return _ask_all(folder, cases, lambda: _connected(front))


def why_no_wall(setup: str) -> str:
    """Why `setup` can't run in a network namespace of its own; "" where it can."""
    ran = subprocess.run((*_UNSHARE, setup), capture_output=True, text=True, check=False, timeout=20)
    return f"no network namespace here: {ran.stderr.strip()}" if ran.returncode else ""


def _http(stack: ExitStack, folder: Path, cases: Mapping[str, Case]) -> str:
    """Starts every case's server. The http block, which listens on LISTEN."""
    https, locations = [_LOGS], []
    for name, case in cases.items():
        (folder / name).mkdir()
        words = {"NAME": name, "UPSTREAM": stack.enter_context(case.upstream(folder / name)), "FOLDER": f"{folder / name}"}
        https.append(_said(case.http, words))
        locations.append(_said(f"location /NAME {{ {case.location} }}", words))
    return f"{' '.join(https)} server {{ listen LISTEN; {' '.join(locations)} }}"


def _said(text: str, words: Mapping[str, str]) -> str:
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


@contextmanager
def _walled(binary: str, folder: Path, http: str, setup: str) -> Iterator[Path]:
    """The path of the socket where nginx listens: those of files are seen through network namespaces."""
    front, log = folder / "front", folder / "error.log"
    temps = "".join(f"{kind}_temp_path {folder}/temp;" for kind in _TEMPS)
    inner = temps + http.replace("LISTEN", f"unix:{front}").replace("FOLDER", f"{folder}")
    conf = f"user root root; daemon off; master_process off; pid {folder}/pid; error_log {log}; events {{}} http {{ {inner} }}"
    (folder / "nginx.conf").write_text(conf)
    run = shlex.join((*_NO_OVERRIDE, binary, "-p", f"{folder}", "-c", f"{folder}/nginx.conf", "-e", f"{log}"))
    with (folder / "out").open("wb") as out:
        nginx = Process((*_UNSHARE, f"{setup}\nexec {run}"), out=out)
    try:
        until(lambda: _listens(front) or not nginx.is_alive, what="nginx")
        assert nginx.is_alive, (folder / "out").read_text()
        yield front
    finally:
        nginx.end()


def _listens(path: Path) -> bool:
    with suppress(OSError), _connected(path):
        return True
    return False


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(10)
        stream.connect(f"{path}")
        yield stream


def _ask_all(folder: Path, cases: Mapping[str, Case], connect: _Connect) -> dict[str, Seen]:
    with ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(lambda name: _ask(folder, connect, name, cases[name]), cases), strict=True))


def _ask(folder: Path, connect: _Connect, name: str, case: Case) -> Seen:
    for request in case.requests:
        with connect() as stream:
            _say(stream, request.replace(b"\r\n", b"\r\nX-Case: NAME\r\n", 1).replace(b"NAME", name.encode()))
    until(lambda: len(_access(folder, name)) >= len(case.requests), what=f"the access lines of {name}")
    connections, statuses = zip(*_access(folder, name), strict=True)
    lines = (folder / "error.log").read_bytes().splitlines()
    marks = [f": *{connection} ".encode() for connection in connections]
    return Seen(list(statuses), [line for line in lines if any(mark in line[:80] for mark in marks)])


def _say(stream: socket.socket, request: bytes) -> None:
    """To the end of the answer, or of nginx's patience."""
    with suppress(ConnectionError):
        stream.sendall(request)
        while stream.recv(1 << 16):
            pass


def _access(folder: Path, name: str) -> list[tuple[str, str]]:
    """(connection, status) of each request of the case that has ended."""
    found = (line.split(" ") for line in (folder / "access.log").read_text().splitlines())
    return [(connection, status) for connection, status, case in found if case == name]

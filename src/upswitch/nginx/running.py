"""Questions to an nginx on a host: its binary, its configuration, its processes, its marker and its health checks."""

import time
from collections.abc import Mapping

from upswitch.basics.errors import HostError, NginxBrokenError
from upswitch.basics.result import is_own_limit
from upswitch.basics.text import told
from upswitch.basics.value import Value
from upswitch.hosts.host import Host, Ran
from upswitch.hosts.sh import QUICK_S
from upswitch.nginx import commands, conf_logs, configuration, dump, processes
from upswitch.nginx.build import Build, BuildError, parse_build, parse_dialect
from upswitch.nginx.marker import CheckStatus, Marker, body_of, parse_check_status, parse_marker
from upswitch.nginx.processes import Family, OldWorkers, Process
from upswitch.site.model import Dialect, Nginx, Site
from upswitch.site.server_line import is_name, probe_address

NGINX_S = 15.0
"""Seconds for `nginx -V`, `-T` or `-t`: a name that does not resolve takes nginx 10 s."""

MARKER_S = 1.0
"""Seconds for a connection to the marker, on loopback."""

_RESOLVE_S = 15.0  # for all names together
_PART = 65536  # bytes
_LARGEST = 1 << 22
_NO_PID_FILE = "the pid file does not exist: nginx is not running, or it runs elsewhere"


class Running(Value):
    """What runs. `problem` says why the master must not be signalled, or "". `marker` is nginx's own answer.

    `upgrade` is the pid of the old master while a new binary takes over, else 0. `old` are the workers of former reloads.
    `checked` is what nginx's own health check says, None where it has none or does not answer.
    """

    pid_file: str = ""
    pid: int = 0
    family: Family | None = None
    problem: str = ""
    marker: Marker | None = None
    upgrade: int = 0
    old: OldWorkers = OldWorkers()
    checked: CheckStatus | None = None

    @property
    def master(self) -> Process | None:
        """None where the pid file names no master of an nginx: its process may be anybody's."""
        process = self.family.master if self.family else None
        return process if process and process.is_master else None

    @property
    def is_stopped(self) -> bool:
        return self.master is not None and self.master.is_stopped


# ---- the marker ----


def ask_marker(host: Host, nginx: Nginx, *, path: str = "/", timeout: float = MARKER_S) -> Marker | None:
    """The generation that nginx reports on the marker address. None where our marker does not answer."""
    body = ask(host, nginx, path=path, timeout=timeout)
    return parse_marker(body) if body is not None else None


def ask(host: Host, nginx: Nginx, *, path: str, timeout: float = MARKER_S) -> bytes | None:
    """The body of one GET on the marker. None without an answer of status 200 within `timeout` seconds of the connection.

    A byte-exact question, not an httpx.Client: a confirm asks for one short line up to a hundred times a second. Measured on
    loopback, the median of 300: 0.35 ms so and 0.80 ms by a client, which also takes 120 ms to import, more than `status` may.
    """
    try:
        with host.connect(nginx.marker, timeout=timeout) as stream:
            # Not the time to connect, which in a container has a program to start: on a busy machine that alone can take a second.
            until = time.monotonic() + timeout  # for the whole answer: another program in nginx's place may send byte by byte
            stream.settimeout(timeout)
            stream.sendall(f"GET {path} HTTP/1.0\r\nHost: upswitch\r\n\r\n".encode())
            answer = b""
            while len(answer) < _LARGEST and (data := stream.recv(_PART)):
                answer += data
                stream.settimeout(max(0.001, until - time.monotonic()))
    except OSError as exc:
        if is_own_limit(exc):
            raise HostError(f"ask {nginx.marker}", exc.strerror or str(exc)) from exc
        return None
    return body_of(answer)


# ---- processes ----


def read_running(host: Host, nginx: Nginx, pid_file: str) -> Running:
    """The master, verified in /proc, its children, and what the marker reports."""
    if not pid_file:
        return Running(problem=_NO_PID_FILE, marker=ask_marker(host, nginx), checked=ask_status(host, nginx))
    return running_from(host, nginx, host.run(processes.look(nginx.dir, nginx.marker, pid_file=pid_file), deadline=QUICK_S))


def running_from(host: Host, nginx: Nginx, ran: Ran) -> Running:
    if ran.exit != 0:
        raise HostError("look at nginx's processes", ran.words, why=ran.why)
    seen = processes.parse_look(ran.out)
    body = body_of(seen.reply)
    marker = parse_marker(body) if body is not None else ask_marker(host, nginx)
    checked = _checked(host, nginx, seen.checks) if marker else None
    if seen.family is None:
        problem = f"{seen.pid_file} {seen.fault}: nginx is not running, or it runs elsewhere" if seen.pid_file else _NO_PID_FILE
        return Running(pid_file=seen.pid_file, problem=problem, marker=marker, checked=checked)
    problem = processes.problem(seen)
    return Running(
        pid_file=seen.pid_file,
        pid=seen.pid,
        family=seen.family,
        problem=problem,
        marker=marker,
        upgrade=seen.upgrade,
        old=seen.old,
        checked=checked,
    )


def _checked(host: Host, nginx: Nginx, answer: bytes) -> CheckStatus | None:
    """From an answer that was read already; nginx is only asked where there was none."""
    body = body_of(answer)
    return parse_check_status(body) if body is not None else None if answer else ask_status(host, nginx)


def read_family(host: Host, pid: int) -> Family:
    """A master and its children. HostError where /proc could not be read in time."""
    ran = host.run(("sh", "-c", processes.SCRIPT, "family", str(pid)), deadline=QUICK_S)
    if ran.exit != 0:
        raise HostError(f"read /proc of {pid}", ran.words, why=ran.why)
    return processes.parse_family(ran.out, master=pid)


# ---- binary and configuration ----


def read_build(host: Host, nginx: Nginx) -> Build:
    return build_from(nginx, host.run(commands.nginx_version(nginx), deadline=NGINX_S))


def build_from(nginx: Nginx, ran: Ran) -> Build:
    if ran.exit != 0:
        raise NginxBrokenError(f"{nginx.binary} -V: {ran.words}" if ran.reason else ran.words)
    try:
        return parse_build(ran.err.decode("utf-8", "replace"), prefix=nginx.prefix)
    except BuildError as exc:
        raise NginxBrokenError(f"{nginx.binary} -V: {exc}") from exc


def read_conf(host: Host, nginx: Nginx, build: Build) -> dump.NginxConf:
    """The whole configuration as nginx reads it. NginxBrokenError where it does not pass."""
    return conf_from(host.run(commands.nginx_argv(nginx, build, "-T"), deadline=NGINX_S))


def conf_from(ran: Ran) -> dump.NginxConf:
    if ran.exit is None:
        raise NginxBrokenError(f"nginx -T did not end within {NGINX_S:g} s (a name that does not resolve?): {ran.words}")
    if ran.exit != 0:
        raise NginxBrokenError(ran.words)
    try:
        return dump.parse_dump(ran.out.decode("utf-8", "replace"))
    except dump.DumpError as exc:
        raise NginxBrokenError(f"nginx -T passes, but upswitch can't read what it prints: {exc}") from exc


def error_log_paths(nginx: Nginx, build: Build, conf: dump.NginxConf) -> tuple[str, ...]:
    """Those that may be files, the master's first."""
    if nginx.error_log != "auto":
        return (nginx.error_log,)
    return tuple(log.opened_as for log in conf_logs.error_logs(conf, build) if log.opened_as)


# ---- names ----


def resolve_names(host: Host, site: Site, pool: str, *, without: str = "") -> Mapping[str, tuple[str, ...]]:
    """The addresses of the servers of `pool` that are host names, as the host resolves them. HostError: one does not resolve.

    Servers with the parameter `without` are left out.
    """
    servers = [server for upstream in site.upstreams for server in upstream.servers(pool)]
    addresses = {probe_address(server, 0) for server in servers if is_name(server.address) and without not in server.params}
    return {name: resolve(host, name) for name in sorted({address.rpartition(":")[0] for address in addresses})}


def resolve(host: Host, name: str) -> tuple[str, ...]:
    """The addresses of a host name, IPv6 in brackets. HostError where it has none."""
    ran = host.run(("getent", "ahosts", name), deadline=_RESOLVE_S)
    found = [line.split()[0] for line in ran.out.decode("ascii", "replace").splitlines() if line.strip()]
    if not found:
        raise HostError(f"resolve {name}", told(ran.err) or "no address")
    return tuple(dict.fromkeys(f"[{address}]" if ":" in address else address for address in found))


# ---- nginx's own health checks ----


def read_dialect(host: Host, nginx: Nginx, conf: dump.NginxConf, *, seen: Ran | None = None) -> Dialect:
    """Which check module it has, found by a test: a module may be linked in or loaded, and `nginx -V` may not name it.

    `seen` is the result of such a test without `load_module` lines.
    """
    modules = configuration.load_modules(conf)
    ran = seen if seen and not modules else host.run(commands.probe_check(nginx, modules=modules), deadline=NGINX_S)
    found = parse_dialect(ran.err)
    if found is None:
        raise NginxBrokenError(f"upswitch can't find out whether this nginx has a check module: {ran.words}")
    return found


def ask_status(host: Host, nginx: Nginx) -> CheckStatus | None:
    """What `check_status` reports on the marker. None where the live generation has no check_status: without a module, or older."""
    body = ask(host, nginx, path="/check", timeout=QUICK_S)
    return parse_check_status(body) if body is not None else None

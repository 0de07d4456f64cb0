"""The commands with which nginx is asked, tested and reloaded, as argv. commands.sh has the programs around nginx."""

import shlex

from upswitch.hosts.sh import SH, script
from upswitch.nginx import build
from upswitch.nginx.build import Build
from upswitch.site.model import Nginx


def _program(function: str, *words: str) -> tuple[str, ...]:
    return (*SH, script("upswitch.nginx", "commands.sh"), function, *words)


def can_mount() -> tuple[str, ...]:
    return ("unshare", "-m", "--propagation", "private", "true")


def raise_flag(flag: str, token: str, *, tenths: int) -> tuple[str, ...]:
    return _program("raise_flag", flag, token, str(tenths))


def lower_flag(flag: str, token: str) -> tuple[str, ...]:
    """For every token that begins with this one. The flag stays up where another run wants it."""
    return _program("lower_flag", flag, token)


def nginx_version(nginx: Nginx) -> tuple[str, ...]:
    return (nginx.binary, "-V")


def nginx_argv(nginx: Nginx, build: Build, *options: str) -> tuple[str, ...]:
    """nginx with its own configuration. `-e stderr`, because a failing test would write into the live error log."""
    return _nginx(nginx, ("-e", "stderr") if build.takes_error_log_flag else (), *options)


def test_line(nginx: Nginx) -> str:
    """What a person types to test this configuration: a bare `nginx -t` tests what the program was built with."""
    return shlex.join(_nginx(nginx, (), "-t"))


def dump_argv(nginx: Nginx, *, seconds: float) -> tuple[str, ...]:
    """`nginx -T` of an nginx whose version is not known yet. It is killed after so many seconds."""
    return _program("dump", "timeout", "-s", "KILL", f"{seconds:g}", *_nginx(nginx, ("-e", "stderr"), "-T"))


def _nginx(nginx: Nginx, errors: tuple[str, ...], *options: str) -> tuple[str, ...]:
    prefix = ("-p", nginx.prefix) if nginx.prefix else ()
    return (nginx.binary, *prefix, *errors, "-c", nginx.conf, *options)


def reload(nginx: Nginx, build: Build) -> tuple[str, ...]:
    return nginx.reload or nginx_argv(nginx, build, "-s", "reload")


def test_mounted(nginx: Nginx, build: Build, *, candidate: str, master: int) -> tuple[str, ...]:
    """Test the real configuration with the candidate in place of the live generation, in a mount namespace."""
    folder = f"{nginx.dir}/generations/{candidate}"
    return _program("test_mounted", folder, nginx.live, str(master), *nginx_argv(nginx, build, "-t"))


def test_swapped(nginx: Nginx, build: Build, *, live: str, candidate: str) -> tuple[str, ...]:
    """The same where no mount is allowed: it swaps the live link, tests, and swaps back."""
    return _program("test_swapped", nginx.dir, live, candidate, *nginx_argv(nginx, build, "-t"))


def probe_check(nginx: Nginx, *, modules: tuple[str, ...]) -> tuple[str, ...]:
    """Test a `check` that only Tengine's module accepts, for build.parse_dialect. It never passes."""
    return _program("probe_check", _check_probe(modules), nginx.binary, "-t", "-e", "stderr")


def test_alone(nginx: Nginx, build: Build, conf: str) -> tuple[str, ...]:
    """Test a candidate alone in a `wrapper` configuration. It needs no rights and touches nothing."""
    errors = ("-e", "stderr") if build.takes_error_log_flag else ()
    return _program("test_alone", conf, nginx.binary, "-t", *errors)


def started(ticks: int) -> tuple[str, ...]:
    """Print the start of a process and now, as nginx writes times into its error log."""
    return _program("started", str(ticks))


def wrapper(folder: str, build: Build, *, modules: tuple[str, ...], http: tuple[str, ...]) -> str:
    """A configuration around the generation in `folder`, with the real one's modules and resolvers, and temp folders of its own."""
    optional = [kind for kind in ("fastcgi", "uwsgi", "scgi") if f"--without-http_{kind}_module" not in build.arguments]
    lines = [*modules, "pid pid;", "error_log stderr;", "events {}", "http {", "access_log off;"]
    lines += [f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", *optional)]
    lines += [*http, f"include {folder}/*.conf;", "}"]
    return "\n".join(lines) + "\n"


def _check_probe(modules: tuple[str, ...]) -> str:
    upstream = "upstream upswitch { server 127.0.0.1:9; check interval=1000 unique=false; }"
    return "\n".join((*modules, "events {}", "http {", upstream, f"{build.END};", "}", ""))

"""An nginx binary: its version, modules and compiled paths by `nginx -V`, and its check module by a test."""

import posixpath
import re
import shlex

from upswitch.basics.value import Value
from upswitch.site.model import Dialect

_VERSION = re.compile(r"version: ([\w-]+)/(\d+)\.(\d+)\.(\d+)")
_ARGUMENTS = re.compile(r"configure arguments:([^\r\n]*)")


END = "upswitch_end"
"""A directive that no nginx knows. Where nginx complains of it, everything before it passed."""

_UNKNOWN_DIRECTIVE = b'unknown directive "check"'
_UNKNOWN_PARAMETER = b'invalid parameter "unique=false"'


class BuildError(ValueError):
    """The text is not the output of `nginx -V`."""


class Build(Value):
    """One binary. `version` is nginx's own, also for Tengine and OpenResty. `prefix_option` is the `-p` it runs with, or ""."""

    name: str
    version: tuple[int, int, int]
    arguments: tuple[str, ...] = ()
    prefix_option: str = ""

    @property
    def has_stub_status(self) -> bool:
        return "--with-http_stub_status_module" in self.arguments

    @property
    def has_min_timeout(self) -> bool:
        """`keepalive_min_timeout`, with which no request is lost at a reload (nginx CHANGES 1.27.4)."""
        return self.version >= (1, 27, 4)

    @property
    def needs_drain_flag(self) -> bool:
        """Older versions need the drain flag for that."""
        return not self.has_min_timeout

    @property
    def keeps_upstream_connections(self) -> bool:
        """Without `keepalive`, `proxy_http_version 1.1` and an empty `Connection` (nginx CHANGES 1.29.7)."""
        return self.version >= (1, 29, 7)

    @property
    def has_upstream_bytes_sent(self) -> bool:
        """The variable for log formats (nginx CHANGES 1.15.8)."""
        return self.version >= (1, 15, 8)

    @property
    def takes_error_log_flag(self) -> bool:
        """`-e FILE` (nginx CHANGES 1.19.5); without it a failing `-t` writes into the live error log."""
        return self.version >= (1, 19, 5)

    @property
    def truncates_on_reload(self) -> bool:
        """A reload may cut a proxied answer in flight (nginx CHANGES 1.23.1: "had appeared in 1.17.5")."""
        return (1, 17, 5) <= self.version <= (1, 23, 0)

    @property
    def prefix(self) -> str:
        return self.prefix_option or self._option("prefix") or "/usr/local/nginx"

    @property
    def conf_path(self) -> str:
        return self._compiled("conf-path", "conf/nginx.conf")

    @property
    def pid_path(self) -> str:
        return self._compiled("pid-path", "logs/nginx.pid")

    @property
    def error_log_path(self) -> str:
        """A path, or the word `stderr` (Debian's build)."""
        return "stderr" if self._option("error-log-path") == "stderr" else self._compiled("error-log-path", "logs/error.log")

    @property
    def http_log_path(self) -> str:
        return self._compiled("http-log-path", "logs/access.log")

    @property
    def user(self) -> str:
        """The workers' user where the configuration names none."""
        return self._option("user") or "nobody"

    def resolve(self, path: str) -> str:
        """A path of the configuration that nginx takes from its prefix (logs, pid, temp files; not includes)."""
        return posixpath.normpath(posixpath.join(self.prefix, path))

    def _option(self, name: str) -> str:
        """The last one counts, as in configure."""
        start = f"--{name}="
        return next((each.removeprefix(start) for each in reversed(self.arguments) if each.startswith(start)), "")

    def _compiled(self, name: str, default: str) -> str:
        """A given relative path is joined to the compiled prefix by configure (auto/options); the defaults move with `-p`."""
        given = self._option(name)
        return self.resolve(posixpath.join(self._option("prefix"), given) if given else default)


def parse_build(text: str, *, prefix: str = "") -> Build:
    """What `nginx -V` wrote to stderr. BuildError where it has no version.

    Tengine prints its own version first and nginx's after it. OpenResty's version begins with nginx's three numbers.
    """
    found = _VERSION.findall(text)
    if not found:
        raise BuildError(f"nginx -V prints no version: {text[:200]!r}")
    major, minor, patch = found[-1][1:]
    return Build(
        name=found[0][0],
        version=(int(major), int(minor), int(patch)),
        arguments=_arguments(text),
        prefix_option=prefix,
    )


def _arguments(text: str) -> tuple[str, ...]:
    found = _ARGUMENTS.search(text)
    if found is None:
        return ()
    try:
        return tuple(shlex.split(found[1]))
    except ValueError:  # an unbalanced quote: nginx prints the arguments as configure got them
        return tuple(found[1].split())


def parse_dialect(err: bytes) -> Dialect | None:
    """The check module, by nginx's words on commands.probe_check: only Tengine's knows `unique=`. None: unclear."""
    if f'unknown directive "{END}"'.encode() in err:
        return Dialect.TENGINE
    if _UNKNOWN_DIRECTIVE in err:
        return Dialect.NONE
    return Dialect.YAOWEIBIN if _UNKNOWN_PARAMETER in err else None

